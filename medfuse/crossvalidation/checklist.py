"""checklist.md: the items of TRIPOD+AI and CLAIM, filled with what a cross-validation knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict

from ..io.manifest import ManifestRow
from ..task import Task
from .fold import FoldSettings
from .results import CrossValidation

OPEN = "*for the author*"


class Item(BaseModel):
    """One item of a guideline.

    item: its number. asks: what it asks for. known: what is known of it, with names in braces; "" where the
    author must write.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    item: str
    asks: str
    known: str = ""


@cache
def guidelines() -> dict[str, list[Item]]:
    """The shipped guidelines by name."""
    text = files("medfuse.crossvalidation").joinpath("checklist.yaml").read_text("utf-8")
    return {name: [Item(**i) for i in items] for name, items in yaml.safe_load(text).items()}


def checklist(facts: Mapping[str, str]) -> str:
    """Both guidelines as tables in Markdown."""
    lines = [
        "# Reporting checklists",
        "",
        "Filled with what the cross-validation knows; other items, and every judgement, are the author's.",
        "The wording is short: read the guidelines themselves (TRIPOD+AI, BMJ 2024; CLAIM, 2024 update).",
    ]
    for name, items in guidelines().items():
        filled = sum(bool(i.known) for i in items)
        lines += [
            "",
            f"## {name}: {filled} of {len(items)} items filled",
            "",
            "| Item | Asks | Here |",
            "|---|---|---|",
        ]
        lines += [f"| {i.item} | {i.asks} | {_cell(i.known.format_map(facts)) or OPEN} |" for i in items]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text of a manifest as one cell: no line ends, bars or markup."""
    plain = " ".join(text.split())
    return "".join(f"\\{c}" if c in "|<>`[]*_" else c for c in plain)


def facts_of(
    task: Task, rows: list[ManifestRow], found: CrossValidation, how: FoldSettings, funnel: str
) -> dict[str, str]:
    """What the checklists quote."""
    events = ", ".join(f"{name} {f.positives}" for name, f in found.per_finding.items())
    options = how.options
    return {
        "task": task.name,
        "title": task.title.get("en", task.name),
        "n": str(found.n),
        "patients": str(found.patients),
        "folds": str(found.folds),
        "repeats": str(found.repeats),
        "seed": str(found.seed),
        "version": found.version,
        "kind": "simulated patients" if found.simulated else "not marked as simulated",
        "sites": _sites(rows),
        "funnel": funnel or "not known: the manifest was not made by medfuse cohort build",
        "refused": str(len(found.refused)),
        "findings": ", ".join(f.id for f in task.findings),
        "labels": _labels(rows),
        "senses": ", ".join(task.senses),
        "events": f"cases with each finding: {events}",
        "cases": ", ".join(f"{s} {n}" for s, n in found.cases.items()),
        "fusions": _fusions(found, how),
        "result": _result(found),
        "limits": "; ".join(found.cannot_tell) or "see the intervals",
        "start": f"encoders from {options.start}" if options.start else "random weights",
        "training": f"{options.minutes:g} minutes a training"
        + (f", {options.encoder_steps} encoder steps" if options.encoder_steps else "")
        + (f", {options.fusion_steps} fusion steps" if options.fusion_steps else ""),
    }


def _sites(rows: list[ManifestRow]) -> str:
    sites = sorted({r.site for r in rows if r.site})
    return f"{len(sites)} site(s): {', '.join(sites)}" if sites else "the manifest names no site"


def _labels(rows: list[ManifestRow]) -> str:
    """Where the labels come from."""
    said = Counter(s.said for r in rows for s in r.label_source.values() if s.said)
    if not said:
        return "as the manifest states them; it does not say by whom"
    return "from the words of reports: " + ", ".join(f"{k} {n}" for k, n in said.most_common())


def _fusions(found: CrossValidation, how: FoldSettings) -> str:
    """Which fusion each fold took, and how it was chosen."""
    names = ", ".join(f"{name} in {n} fold(s)" for name, n in found.chosen.items())
    chosen = "chosen on validation cases of each fold" if len(how.fusions) > 1 else "given"
    return f"fusion {names}, {chosen}"


def _result(found: CrossValidation) -> str:
    """The figure of the largest subset, with its interval."""
    last = list(found.subsets)[-1] if found.subsets else ""
    macro = found.subsets[last]["macro_auroc"] if last else None
    if macro is None:
        return "nothing could be measured"
    return f"macro AUROC of {last}: {macro.mean} (95 % interval {macro.ci95}); every row in table.csv"
