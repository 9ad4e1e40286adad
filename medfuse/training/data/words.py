"""Faults that the words of a manifest show: misspelt names, values that mean nothing, one image twice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from math import isfinite
from pathlib import Path

import numpy as np
from rapidfuzz import fuzz, process

from ...bundles.persons import ids_in, telling
from ...io.manifest import ManifestImage, ManifestRow
from ...modalities import MODALITIES, is_cine
from ...task import Task

SPLITS = ("train", "val", "test")
FIELDS = tuple(
    f for f in (*ManifestRow.model_fields, *ManifestImage.model_fields) if f not in ("root", "line")
)
LIKE = 70.0  # rapidfuzz's ratio from which a name is taken for a misspelt one


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that a word is most like, "" where none is like it."""
    folded = {k.casefold().replace("_", ""): k for k in known}
    key = word.casefold().replace("_", "").removesuffix(":").split(":")[0]
    found = process.extractOne(key, list(folded), scorer=fuzz.ratio, score_cutoff=LIKE)
    return folded[found[0]] if found else ""


def unknown_to(task: Task, row: ManifestRow) -> Iterator[str]:
    """Modalities and labels of a case that the task does not have: no training begins with them."""
    for image in row.images:
        if image.modality and image.modality not in task.modalities:
            yield f"modality {image.modality} is not in the task"
    unknown = set(row.labels) - {f.id for f in task.findings}
    if unknown:
        yield f"label(s) {', '.join(sorted(unknown))} are not findings of the task"


def names_its_patient(row: ManifestRow) -> str:
    """What is wrong with a case whose report holds the patient's id; "" where none does."""
    ids = telling((row.patient_id, row.case_id))
    if ids and any(ids_in(text, ids) for text in (row.report, *row.reports.values())):
        return (
            "its report holds the id of its patient or case, which the bundle would carry on; take it out "
            "(medfuse cohort export does)"
        )
    return ""


def word_faults(task: Task, row: ManifestRow) -> Iterator[str]:
    """One clause a fault of one case, each with what to do."""
    yield from _split_faults(row)
    yield from _label_faults(task, row)
    yield from _exclusive_faults(task, row)
    if not row.images and not task.further:
        yield "has no image; name its images, or leave the case out"
    yield from _further_faults(task, row)
    seen: set[tuple[str, int | None]] = set()
    for image in row.images:
        if (image.path, image.volume) in seen:
            yield f"{image.path} stands twice in the case; name each image once"
        seen.add((image.path, image.volume))
        yield from _image_faults(task, image)


def _meant(name: str, row: ManifestRow) -> str:
    """The field that an unknown name was meant for, "" where none is like it, or it stands there too."""
    if ":" in name:
        return "label:FINDING" if nearest(name, ("label",)) else ""
    meant = nearest(name, FIELDS)
    return "" if meant in row.model_fields_set else meant


def misread(task: Task, rows: list[ManifestRow]) -> list[str]:
    """Names that were meant for a field or a finding: one sentence a name, with its first line."""
    out = []
    for name, at in _unknown_names(rows).items():
        many = f" (in {len(at)} cases)" if len(at) > 1 else ""
        if name in (f.id for f in task.findings):
            how = f"is not read; write the finding into labels (in a CSV as label:{name})"
            out.append(f"{at[0].at}: the field {name} {how}{many}")
        elif meant := next((m for row in at if (m := _meant(name, row))), ""):
            what = f"the field {name} is not known and is not read; did you mean {meant}?"
            out.append(f"{at[0].at}: {what}{many}")
    return out


def not_read(task: Task, rows: list[ManifestRow]) -> list[str]:
    """Names that no field has or is like: one sentence a name, with its first line."""
    findings = [f.id for f in task.findings]
    return [
        f"{at[0].at}: the field {name} is not known and is not read (in {len(at)} case(s))"
        for name, at in _unknown_names(rows).items()
        if name not in findings and not any(_meant(name, row) for row in at)
    ]


def _unknown_names(rows: list[ManifestRow]) -> dict[str, list[ManifestRow]]:
    """Names that no field has → the cases that say them."""
    out: dict[str, list[ManifestRow]] = {}
    for row in rows:
        for name in row.unknown:
            out.setdefault(name, []).append(row)
    return out


def _split_faults(row: ManifestRow) -> Iterator[str]:
    if row.split in SPLITS:
        return
    if not row.split:
        yield "has no split, so nothing uses it; write train, val or test"
        return
    meant = nearest(row.split, (*SPLITS, "validation", "training", "testing"))
    hint = {"validation": "val", "training": "train", "testing": "test"}.get(meant, meant)
    yield f"split {row.split!r} is none, so nothing uses the case; write {hint or 'train, val or test'}"


def _label_faults(task: Task, row: ManifestRow) -> Iterator[str]:
    ids = [f.id for f in task.findings]
    unknown = sorted(set(row.labels) - set(ids))
    if unknown:
        hints = [f" (did you mean {m}?)" if (m := nearest(u, ids)) else "" for u in unknown]
        named = ", ".join(u + h for u, h in zip(unknown, hints, strict=True))
        yield f"label(s) {named} are not findings of the task"
    for finding, value in row.labels.items():
        if value is not None and not 0 <= value <= 1:
            yield f"label {finding} is {value}; write 1 present, 0 absent, between them likely, null unknown"


def _exclusive_faults(task: Task, row: ManifestRow) -> Iterator[str]:
    """Of findings that exclude each other exactly one holds."""
    values = [row.labels.get(f) for f in task.exclusive]
    present = [f for f, v in zip(task.exclusive, values, strict=True) if v == 1]
    if len(present) > 1:
        yield f"{' and '.join(present)} are both present; exactly one of {', '.join(task.exclusive)} holds"
    elif sum(v or 0 for v in values) > 1 + 1e-6:
        yield f"the labels of {', '.join(task.exclusive)} add up to more than 1; exactly one holds"
    elif values and not present and all(v == 0 for v in values):
        yield f"none of {', '.join(task.exclusive)} is present, and exactly one of them holds"


LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
MISSING = (-99, -999, -9999, 9999, 99999)  # what stands for no value in many tables


def _further_faults(task: Task, row: ManifestRow) -> Iterator[str]:
    """Sounds that are not there, laboratory values that are none, reports that are none or of no language,
    unknown lesions."""
    for name in row.sounds:
        if not (Path(row.root) / name).is_file():
            yield f"the sound {name} does not exist"
    yield from _lab_faults(row)
    for language in (name for name in row.reports if not LANGUAGE.fullmatch(name)):
        yield f"reports has the language {language!r}; write its code, such as en or zh-TW"
    if A_FILE.fullmatch(row.report):
        yield f"its report is the name of a file, {row.report}; write the words of the report themselves"
    yield from _lesion_faults(task, row)


A_FILE = re.compile(r"\S+\.(txt|pdf|docx?|rtf|xml|json|html?)", re.IGNORECASE)
LOINC = re.compile(r"[0-9]{1,7}-[0-9]")


def _lab_faults(row: ManifestRow) -> Iterator[str]:
    """Of laboratory values: no number, no code, no unit, no date, or two of one day."""
    known: dict[tuple[str, str, str], float] = {}
    for lab in row.labs:
        named = f"the laboratory value {lab.loinc}"
        if not isfinite(lab.value) or lab.value in MISSING:
            yield f"{named} is {lab.value:g}; leave out what was not measured"
        if not LOINC.fullmatch(lab.loinc.strip()):
            yield f"{named} has no LOINC code; write one, such as 1742-6"
        if not lab.unit.strip():
            yield f"{named} has no unit; write it in UCUM, such as U/L"
        if lab.date and not _is_date(lab.date):
            yield f"{named} is of the day {lab.date!r}; write it as 2024-01-31"
        key = (lab.loinc.strip(), lab.unit.strip(), lab.date)
        if known.setdefault(key, lab.value) != lab.value:
            when = f"on {lab.date}" if lab.date else "without a date"
            yield f"{named} is {known[key]:g} and {lab.value:g} {when}, and one of them is used; date them"


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _lesion_faults(task: Task, row: ManifestRow) -> Iterator[str]:
    ids = [f.id for f in task.findings]
    for kind in dict.fromkeys(lesion.kind for lesion in row.lesions):
        if kind and kind not in ids:
            hint = nearest(kind, ids)
            yield f"a lesion is a {kind}, no finding of the task" + (
                f"; did you mean {hint}?" if hint else ""
            )
    for lesion in row.lesions:
        places = [x for centre in lesion.centre_mm.values() for x in centre]
        if not (isfinite(lesion.diameter_mm) and lesion.diameter_mm >= 0 and all(map(isfinite, places))):
            yield f"a lesion has the diameter {lesion.diameter_mm:g} mm or a centre that is none; correct it"


def _image_faults(task: Task, image: ManifestImage) -> Iterator[str]:
    if not image.path:
        yield "an image has no path"
    if not image.modality:
        yield f"{image.path} has no modality; write {' or '.join(task.modalities)}"
    elif image.modality not in task.modalities:
        hint = nearest(image.modality, task.modalities)
        yield f"modality {image.modality} is not in the task" + (f"; did you mean {hint}?" if hint else "")
    else:
        roles = task.modalities[image.modality].roles
        near = nearest(image.role, roles) if image.role and image.role not in roles else ""
        if near:
            yield f"{image.path} has the role {image.role!r}, which the task lacks; did you mean {near}?"


def ids_alike(rows: list[ManifestRow]) -> list[str]:
    """Cases whose ids differ in capitals or blanks alone: one may be meant, and their folders are one where
    a disk does not tell capitals."""
    first: dict[str, ManifestRow] = {}
    out = []
    for row in rows:
        other = first.setdefault(row.case_id.strip().casefold(), row)
        if other is not row:
            out.append(f"{row.at}: its id differs from that of {other.at} in capitals or blanks alone")
    return out


def shared_images(rows: list[ManifestRow]) -> Iterator[str]:
    """The same path in two cases, worst where they stand in two splits; and a frame of reference of two
    patients."""
    first: dict[Path, ManifestRow] = {}
    frames: dict[str, ManifestRow] = {}
    for row in rows:
        for image in row.images:
            path = (Path(row.root) / image.path).absolute()
            other = first.setdefault(path, row)
            if other is not row:
                leak = f", one in {other.split} and one in {row.split}" if other.split != row.split else ""
                yield f"{row.at}: {image.path} is an image of case {other.case_id} too{leak}; name it once"
            frame = image.frame_of_reference
            owner = frames.setdefault(frame, row) if frame else row
            if (owner.patient_id or owner.case_id) != (row.patient_id or row.case_id):
                yield (
                    f"{row.at}: frame_of_reference {frame} is that of case {owner.case_id}, another patient; "
                    "give each patient a frame of its own"
                )


def unplaced_roles(task: Task, rows: list[ManifestRow]) -> list[str]:
    """Stated roles of volumes that the task has no place for: no training uses those images. One sentence a
    role, with its first line."""
    first: dict[tuple[str, str], list[ManifestRow]] = {}
    for row in rows:
        for image in row.images:
            spec = task.modalities.get(image.modality)
            if spec is None or image.modality not in MODALITIES or is_cine(image.modality) or not image.role:
                continue
            if not {image.role, "unknown"} & set(spec.roles) and not nearest(image.role, spec.roles):
                first.setdefault((image.modality, image.role), []).append(row)
    return [
        f"{at[0].at}: the task takes no {modality} of the role {role!r}, so nothing uses it (in {len(at)} "
        f"image(s)); it takes {', '.join(task.modalities[modality].roles)}"
        for (modality, role), at in first.items()
    ]


def one_sided(task: Task, labels: np.ndarray, splits: list[str]) -> list[str]:
    """Findings that a training cannot learn or a validation cannot show. labels (B, F), -1 is unknown."""
    out = []
    train, val = (np.array([s == name for s in splits]) for name in ("train", "val"))
    for i, finding in enumerate(task.findings):
        column = labels[:, i]
        if not (column >= 0).any():
            out.append(f"finding {finding.id}: no case has a label of it, so nothing of it is learned")
            continue
        for value, what, how in ((1, "present", "with it 1"), (0, "absent", "without it 0")):
            there = column == value
            if not there.any():
                out.append(
                    f"finding {finding.id}: no case is labelled {what}; label those {how}, or leave the "
                    "finding out"
                )
            elif not there[train].any() and there[val].any():
                out.append(
                    f"finding {finding.id}: is {what} in validation cases alone; move some to train, or it "
                    "cannot be learned"
                )
            elif there[train].any() and not there[val].any():
                out.append(
                    f"finding {finding.id}: is {what} in no validation case; move some to val, or nothing "
                    "shows how well it is told"
                )
    return out
