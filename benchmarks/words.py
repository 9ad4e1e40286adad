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

import medfuse
from medfuse.drafting.labeller import label, load_lexicon
from medfuse.drafting.sections import parse_sections

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


def f1(pairs: list[tuple[bool, bool]]) -> dict:
    tp = sum(t and p for t, p in pairs)
    said = sum(p for _, p in pairs)
    true = sum(t for t, _ in pairs)
    precision = tp / said if said else 0.0
    recall = tp / true if true else 0.0
    both = 2 * precision * recall / (precision + recall) if tp else 0.0
    return {"n": true, "precision": round(precision, 3), "recall": round(recall, 3), "f1": round(both, 3)}


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
    per = {k: f1(v) for k, v in pairs.items()}
    return {
        "reports": len(rows),
        "labels": per,
        "micro": f1([p for v in pairs.values() for p in v]),
        "macro_f1": round(sum(v["f1"] for v in per.values()) / len(per), 3),
    }


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
        "labels": {k: f1(v) for k, v in pairs.items()},
        "micro": f1([p for v in pairs.values() for p in v]),
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
            "precision | recall | F1 |\n|---|---|---|---|---|"
        )
        for k, v in {**table["labels"], "micro": table["micro"]}.items():
            print(f"| {k} | {v['n']} | {v['precision']} | {v['recall']} | {v['f1']} |")
        if "macro_f1" in table:
            print(f"macro F1 {table['macro_f1']}")


if __name__ == "__main__":
    main()
