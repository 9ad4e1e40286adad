"""Sentences of a draft beside those of the layout of before, from the same predictions: one sentence for each
outline of each modality, each pair of them, each finding asked, each limit, and the scope.

python benchmarks/draft_length.py --manifest M [--bundle B] [--cases 60] [--json]

Both drafts must affirm the same findings by the task's lexicon, else a shorter one only says less: the share
of cases where they do, and the findings that differ, are printed with the counts.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TypedDict

import numpy as np

from medfuse.bundles.bundle import load_bundle
from medfuse.drafting.claims import certainty_of, hidden
from medfuse.drafting.compose import compose, telling
from medfuse.drafting.findings import why_not_assessed
from medfuse.drafting.labeller import task_lexicon
from medfuse.drafting.lesions import covering, possible_lesions, size_words
from medfuse.drafting.scale import DENIED, POSSIBLE
from medfuse.drafting.sections import split_sentences
from medfuse.drafting.telling import Telling
from medfuse.drafting.witness_words import place_words
from medfuse.evaluation.clinical import said_of, widen
from medfuse.inference.predictor import Predictor
from medfuse.io.manifest import read_manifest
from medfuse.io.read import open_case
from medfuse.prediction import FindingRecord, LesionRecord

MOST = 4  # outlines told of each modality
SCOPE = "Only these questions were asked: {}. Everything else is outside the task and was not looked at."


class Length(TypedDict):
    """What is printed. before, after: mean sentences of findings and impression; less: share by which the
    draft is shorter; equal: share of cases where both affirm the same findings."""

    cases: int
    before: float
    before_without_scope: float
    after: float
    less: float
    less_without_scope: float
    equal: float
    differ: dict[str, int]


def _outline(lesion: LesionRecord, t: Telling) -> str:
    where = ", ".join(filter(None, [t.s.modality(lesion.modality), t.s.side(lesion.side)]))
    seen = t.s.features(lesion.finding, lesion.modality)
    words = [w for w in (seen, size_words(lesion, t), place_words(lesion, t)) if w]
    return f"{where}: {', '.join(words)}; pattern of {t.name(lesion.finding)}."


def _finding(record: FindingRecord, t: Telling) -> str:
    said = t.said(certainty_of(record), t.name(record.id))
    asked = ", ".join(t.s.modality(m) for m in record.assessed_by)
    return f"{said} ({asked}; probability {record.probability or 0.0:.2f})."


def _outlines(t: Telling) -> list[str]:
    """Each modality by itself, then which two outlines may be one lesion."""
    rows = []
    lesions = possible_lesions(t.prediction, t.task)
    for modality in t.prediction.modalities:
        mine = [x for x in lesions if x.modality == modality]
        mine.sort(key=lambda x: -x.probability * (x.long_axis_mm or 1.0))
        rows += [_outline(x, t) for x in mine[:MOST]]
        if len(mine) > MOST:
            rows.append(f"{len(mine) - MOST} further lesions on {t.s.modality(modality)}.")
    drafted = {x.id for x in lesions}
    for match in t.prediction.matches:
        if set(match.lesions) <= drafted:
            places = [
                f"{t.s.modality(t.records[i].modality)}, {place_words(t.records[i], t)}"
                for i in match.lesions
            ]
            rows.append(f"Probably one lesion in two modalities: {'; '.join(places)}.")
    return rows


def _absence(t: Telling) -> list[str]:
    focal = [t.prediction.finding(f.id) for f in t.task.findings if f.group == "focal"]
    if not focal or any((f.probability or 0.0) >= 2 * DENIED and f.assessed for f in focal):
        return []
    return [
        "No focal liver lesion." if covering(t.prediction) else "Absence of a focal lesion: not assessed."
    ]


def before(t: Telling) -> tuple[list[str], list[str]]:
    """Findings without the scope, and impression, in the layout of before."""
    limits = [
        f"{t.s.modality(m)}: {state}."
        for m, state in t.prediction.modalities.items()
        if state in ("absent", "failed", "limited")
    ]
    rows = [*limits, *_outlines(t), *_absence(t)]
    impression = []
    for record in t.prediction.findings:
        finding = t.task.finding(record.id)
        if not record.assessed:
            rows.append(f"{t.name(record.id)}: not assessed ({why_not_assessed(record, t.s)}).")
            continue
        shown = (record.probability or 0.0) >= POSSIBLE and not hidden(
            t.findings[record.id], t.findings, t.task
        )
        if finding.group != "focal" or shown:
            rows.append(_finding(record, t))
        if shown:
            impression.append((finding.rank, _finding(record, t)))
    lines = [text for _, text in sorted(impression)]
    return rows, lines or ["None of the findings of this task is supported by the images."]


def _count(rows: list[str]) -> int:
    return sum(len(split_sentences(x)) for x in rows)


def measure(manifest: Path, bundle_name: str | None, cases: int) -> Length:
    """Predict the first cases of a manifest and count both drafts."""
    bundle = load_bundle(bundle_name)
    task = bundle.task
    lexicon = task_lexicon(task)
    assert lexicon is not None
    scope = _count([SCOPE.format(", ".join(f.label("en") for f in task.findings))])
    predictor = Predictor(bundle)
    old, new, equal = [], [], []
    differ: Counter[str] = Counter()
    for row in read_manifest(manifest)[:cases]:
        case = open_case(row, allow_empty=True)
        prediction = predictor(case)
        if not prediction.in_domain:
            continue
        report = compose(prediction, case, task)
        parts = [s for s in report.sections if s.id in ("findings", "impression")]
        ours = [x.text for s in parts for x in s.sentences]
        theirs = [x for part in before(telling(prediction, case, task, "en")) for x in part]
        said = [widen(said_of(" ".join(x), lexicon), task) for x in (theirs, ours)]
        apart = [f for f in said[0] if said[0][f] != said[1][f]]
        differ.update(apart)
        equal.append(not apart)
        old.append(_count(theirs))
        new.append(_count(ours))
    then, now = float(np.mean(old)), float(np.mean(new))
    return Length(
        cases=len(old),
        before=round(then + scope, 2),
        before_without_scope=round(then, 2),
        after=round(now, 2),
        less=round(1 - now / (then + scope), 3),
        less_without_scope=round(1 - now / then, 3),
        equal=round(float(np.mean(equal)), 3),
        differ=dict(differ.most_common()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--bundle", help="default: the shipped one")
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    found = measure(a.manifest, a.bundle, a.cases)
    if a.json:
        print(json.dumps(found))
        return
    for k, v in found.items():
        print(f"{k:<22} {v}")


if __name__ == "__main__":
    main()
