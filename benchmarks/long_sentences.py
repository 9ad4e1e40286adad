"""The checker on long sentences with several claims: errors of ten kinds caught, and true sentences touched.

python benchmarks/long_sentences.py [--half first|kept] [--missed]

The sentences and the patient that they are about are in long_sentences.yaml, written by one hand. Those of
"first" were used while the checker was mended, those of "kept" were not. ``--missed`` prints what went wrong.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from medfuse.bundles.bundle import load_bundle
from medfuse.case import Case
from medfuse.drafting.check import check_sentence, checked_report
from medfuse.drafting.labeller import task_lexicon
from medfuse.drafting.sections import split_sentences
from medfuse.evaluation.planted_errors import HEADINGS
from medfuse.prediction import (
    FindingRecord,
    ImageRecord,
    LesionMatch,
    LesionRecord,
    Place,
    Prediction,
)
from medfuse.task import Task, load_task

FUSED = {
    **{"focal_lesion": 0.98, "simple_cyst": 0.96, "solid_lesion": 0.95, "hcc_like": 0.93},
    **{"ascites": 0.96, "gallstone": 0.97, "cirrhosis": 0.55, "dilated_ducts": 0.25},
}
BOTH = {"focal_lesion": 0.97, "simple_cyst": 0.95, "solid_lesion": 0.94, "hcc_like": 0.92}
ALONE = {
    "CT": {**BOTH, "ascites": 0.95, "gallstone": 0.05, "cirrhosis": 0.5},
    "MR": {**BOTH, "ascites": 0.04, "gallstone": 0.4, "cirrhosis": 0.5},
    "US": {"focal_lesion": 0.1, "solid_lesion": 0.1, "ascites": 0.95, "gallstone": 0.97, "cirrhosis": 0.4},
}


def patient(task: Task) -> Prediction:
    """The patient that the sentences are about."""
    images = [
        ImageRecord(path="x", modality=m, role=r, in_domain=True, why="", code="inside")
        for m, r in (
            ("US", "cine"),
            ("CT", "portal"),
            ("CT", "arterial"),
            ("MR", "t2"),
            ("MR", "t1_arterial"),
        )
    ]
    findings = [
        FindingRecord(
            id=f.id,
            name=f.label("en"),
            group=f.group,
            probability=FUSED.get(f.id, 0.03),
            calibrated=True,
            assessed=f.id != "iron",
            assessed_by=[] if f.id == "iron" else ["US", "CT", "MR"],
            why_not={"MR": "lacks t1_opposed"} if f.id == "iron" else {},
        )
        for f in task.findings
    ]
    return Prediction(
        case_id="c",
        simulated=True,
        in_domain=True,
        modalities={"US": "present", "CT": "present", "MR": "present"},
        images=images,
        findings=findings,
        lesions=[
            _lesion("CT-1", "simple_cyst", "right", 30.0, 26.0),
            _lesion("MR-1", "simple_cyst", "right", 29.0, 26.0),
            _lesion("CT-2", "hcc_like", "left", 18.0, 15.0),
            _lesion("MR-2", "hcc_like", "left", 18.5, 15.0),
        ],
        matches=[
            LesionMatch(lesions=["CT-1", "MR-1"], certainty="same", by="frame", distance_mm=2.0),
            LesionMatch(lesions=["CT-2", "MR-2"], certainty="same", by="frame", distance_mm=2.0),
        ],
        subset_probability={m: {f.id: p.get(f.id, 0.02) for f in task.findings} for m, p in ALONE.items()},
        bundle="b",
        bundle_hash="h" * 64,
    )


def _lesion(name: str, finding: str, side: str, long: float, short: float) -> LesionRecord:
    return LesionRecord(
        id=name,
        modality=name[:2],
        finding=finding,
        probability=0.95,
        side=side,
        long_axis_mm=long,
        short_axis_mm=short,
        volume_ml=3.0,
        place=Place(image=1 if name[:2] == "CT" else 3, slice=12, series_uid="1.2", centre_mm=[0, 0, 0]),
    )


def scored(half: str, missed: bool) -> dict[str, list[int]]:
    """By kind: how many of a half were caught (for "true": touched), and how many there are."""
    task = load_task(load_bundle("upper-abdomen-simulated").task.name)
    made = patient(task)
    path = Path(__file__).with_suffix(".yaml")
    out: dict[str, list[int]] = {}
    for language, kinds in yaml.safe_load(path.read_text(encoding="utf-8"))[half].items():
        for kind, rows in kinds.items():
            for row in rows:
                hit, why = _hit(kind, row, made, task, language)
                count = out.setdefault(kind, [0, 0])
                count[0] += hit
                count[1] += 1
                if missed and hit == (kind == "true"):
                    print(f"{kind} | {row} | {why}")
    return out


def _hit(kind: str, row: Any, made: Prediction, task: Task, language: str) -> tuple[bool, str]:
    """Whether the checker does not let a sentence stand as it is, and why."""
    if kind == "missing":
        words = f"{HEADINGS[language][0]}: {row['text']}\n{HEADINGS[language][1]}: {row['text']}"
        report = checked_report(words, made, Case("c"), task, language, writer="learned")
        findings = report.section("findings")
        said = [x.text for x in findings.sentences if x.finding == row["left_out"]] if findings else []
        return bool(said), "; ".join(c.why for c in report.provenance)
    lexicon = task_lexicon(task)
    assert lexicon is not None
    verdicts = [check_sentence(x, made, task, lexicon) for x in split_sentences(row)]
    return any(v.action != "kept" for v in verdicts), "; ".join(v.why for v in verdicts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=("first", "kept"), default="kept")
    parser.add_argument("--missed", action="store_true")
    options = parser.parse_args()
    found = scored(options.half, options.missed)
    errors = {k: v for k, v in found.items() if k != "true"}
    for kind, (caught, n) in errors.items():
        print(f"{kind}: {caught} of {n}")
    print(f"caught: {sum(c for c, _ in errors.values())} of {sum(n for _, n in errors.values())}")
    touched, n = found["true"]
    print(f"true sentences touched: {touched} of {n}")


if __name__ == "__main__":
    main()
