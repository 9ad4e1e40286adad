"""summary.csv and summary.html of a batch: every case with its outcome, and where the time went."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import jinja2

from ..io.cells import harmless_row
from .ledger import Entry, Ledger
from .plan import Plan

STAGES = ("read", "preprocess", "network", "lesions", "draft", "write", "whole")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>medfuse batch</title>
<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;color:#1b262c;background:#fff}
h1{font-size:1.4rem;color:#0f6c7a}table{border-collapse:collapse;width:100%}th,td{text-align:left;
padding:.3rem .6rem;border-bottom:1px solid #dde5e8}
.n{text-align:right;font-variant-numeric:tabular-nums}.done{color:#11703c}
.refused{color:#8a4b00}.failed{color:#a3122a;font-weight:600}
.tiles{display:flex;gap:1rem;margin:1rem 0}.tile{background:#eef4f5;border-radius:.5rem;padding:.6rem 1rem}
.tile b{display:block;font-size:1.5rem}
.banner{background:#fff4e0;color:#8a4b00;padding:.5rem 1rem;border-radius:.4rem}</style>
<h1>medfuse batch</h1>
<p class="banner">Research drafts, not for clinical use. To be read and signed by a radiologist.</p>
<div class="tiles">{% for k, v in summary.items() %}
<div class="tile"><b>{{ v }}</b>{{ k }}</div>{% endfor %}</div>
<h2>Where the time goes</h2><table><tr>{% for s in stages %}<th class="n">{{ s }}</th>{% endfor %}</tr>
<tr>{% for s in stages %}<td class="n">{{ '%.1f'|format(total[s]) }} s</td>{% endfor %}</tr></table>
<h2>Cases</h2><table>
<tr><th>case</th><th>outcome</th><th class="n">tries</th><th class="n">seconds</th><th>remark</th></tr>
{% for e in entries %}
<tr><td>{{ e.case_id }}</td><td class="{{ e.state }}">{{ e.state }}</td><td class="n">{{ e.tries }}</td>
<td class="n">{{ '%.1f'|format(e.seconds.get('whole', 0)) }}</td>
<td>{{ e.reason }}</td></tr>{% endfor %}</table></html>"""


def write_summary(out: Path, ledger: Ledger, plan: Plan, summary: dict) -> None:
    """Both files whole, by rename."""
    wanted = {j.case_id for j in plan.jobs}
    entries = [e for e in ledger.entries().values() if e.case_id in wanted]
    entries += [Entry(r.path, "refused", 0, r.reason, ("", "", ""), "", {}) for r in plan.refused]
    total = {s: sum(e.seconds.get(s, 0.0) for e in entries) for s in STAGES}
    with (out / ".summary.csv").open("w", newline="", encoding="utf-8") as f:
        rows = csv.writer(f)
        rows.writerow(["case_id", "state", "tries", "worker", *STAGES, "reason"])
        rows.writerows(
            harmless_row(
                [e.case_id, e.state, e.tries, e.worker, *(e.seconds.get(s, "") for s in STAGES), e.reason]
            )
            for e in entries
        )
    page = jinja2.Environment(autoescape=True).from_string(PAGE)
    (out / ".summary.html").write_text(
        page.render(summary=summary, entries=entries, total=total, stages=STAGES), encoding="utf-8"
    )
    for name in ("summary.csv", "summary.html"):
        os.replace(out / f".{name}", out / name)
