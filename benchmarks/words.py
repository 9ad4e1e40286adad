"""Section parser and labeller on real reports: CT-RATE (18 given labels) and Open-i (columns, problem list).
Prints tables and JSON.

    python benchmarks/words.py --data ../shared/data/reports [--half all|first|second]

CT-RATE rows with an even number were looked at while the patterns were written, odd ones were not: ``second``
is the fair half.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

import medfuse
from medfuse.drafting.labeller import label, load_lexicon
from medfuse.drafting.sections import parse_sections

DRAWS = 1000  # of reports with replacement
CHEST = Path(medfuse.__file__).parent / "lexicons" / "chest.yaml"
# Open-i problem terms that mean what a CT-RATE label means
OPENI = {
    "cardiomegaly": ("Cardiomegaly",),
    "pleural_effusion": ("Pleural Effusion",),
    "atelectasis": ("Pulmonary Atelectasis", "Atelectasis"),
    "emphysema": ("Emphysema", "Pulmonary Emphysema"),
    "consolidation": ("Consolidation",),
    "hiatal_hernia": ("Hernia, Hiatal",),
}


def f1(pairs: list[list[tuple[bool, bool]]]) -> dict:
    """Of (true, said), a list of them a report: counts over all, and the interval of F1 over reports."""
    counts = np.array([[[t and p, p, t] for t, p in one] for one in pairs], float).sum(1)  # (reports, 3)
    tp, said, true = counts.sum(0)
    draws = np.random.default_rng(0).integers(0, len(counts), (DRAWS, len(counts)))
    drawn = counts[draws].sum(1)
    low, high = np.percentile(2 * drawn[:, 0] / np.maximum(drawn[:, 1] + drawn[:, 2], 1), [2.5, 97.5])
    return {
        "n": int(true),
        "precision": round(tp / said, 3) if said else 0.0,
        "recall": round(tp / true, 3) if true else 0.0,
        "f1": round(2 * tp / (said + true), 3) if tp else 0.0,
        "ci95": [round(float(low), 3), round(float(high), 3)],
    }


def per_label(pairs: dict[str, list]) -> dict:
    """Each label by itself, and all together."""
    return {
        "labels": {k: f1([[one] for one in v]) for k, v in pairs.items()},
        "micro": f1([list(one) for one in zip(*pairs.values(), strict=True)]),
    }


def ct_rate(folder: Path, half: str) -> dict:
    lexicon = load_lexicon(CHEST)
    rows = list(csv.DictReader((folder / "train.csv").open()))
    rows = [r for n, r in enumerate(rows) if half == "all" or n % 2 == (half == "second")]
    names = {k: k.lower().replace(" ", "_") for k in rows[0] if k not in ("AccessionNo", "report_text")}
    pairs: dict[str, list] = {k: [] for k in names.values()}
    for r in rows:
        said = label(r["report_text"], lexicon)
        for column, k in names.items():
            pairs[k].append((r[column] == "1", said[k] in ("present", "possible")))
    found = per_label(pairs)
    macro = sum(v["f1"] for v in found["labels"].values()) / len(pairs)
    return {"reports": len(rows), **found, "macro_f1": round(macro, 3)}


def openi(folder: Path) -> dict:
    lexicon = load_lexicon(CHEST)
    rows = list(csv.DictReader((folder / "indiana_reports.csv").open()))
    exact = of = 0
    pairs: dict[str, list] = {k: [] for k in OPENI}
    for r in rows:
        parts = {
            k: r[k].strip() for k in ("indication", "comparison", "findings", "impression") if r[k].strip()
        }
        found = parse_sections("\n".join(f"{k.upper()}: {v}" for k, v in parts.items()))
        exact += sum(found.get(k) == v for k, v in parts.items())
        of += len(parts)
        problems = {p.strip() for p in r["Problems"].split(";")}
        said = label(f"{r['findings']}\n{r['impression']}", lexicon)
        for k, terms in OPENI.items():
            pairs[k].append((bool(problems & set(terms)), said[k] in ("present", "possible")))
    return {
        "reports": len(rows),
        "sections_exact": f"{exact} of {of}",
        **per_label(pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--half", choices=("all", "first", "second"), default="second")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    result = {"ct_rate": ct_rate(a.data / "ct_rate_text", a.half), "openi": openi(a.data / "openi_indiana")}
    if a.json:
        print(json.dumps(result))
        return
    for name, table in result.items():
        print(
            f"\n{name}: {table['reports']} reports {table.get('sections_exact', '')}\n| label | n | "
            "precision | recall | F1 | 95 % of F1 |\n|---|---|---|---|---|---|"
        )
        for k, v in {**table["labels"], "micro": table["micro"]}.items():
            low, high = v["ci95"]
            print(
                f"| {k} | {v['n']} | {v['precision']} | {v['recall']} | {v['f1']} | {low:.3f} to {high:.3f} |"
            )
        if "macro_f1" in table:
            print(f"macro F1 {table['macro_f1']}")


if __name__ == "__main__":
    main()
