"""Each fault that researchers put into a manifest of their own, planted one by one: `train --check` names it
with its line and what to do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture
from slices import write_stack
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError
from medfuse.io.manifest import read_manifest
from medfuse.task import load_task
from medfuse.training.data.tensors import has_labels, preprocess_manifest

TASK = """
name: own
title: {en: Own}
body_part: liver
dense: [background, liver, lesion]
organ: liver
lesion_classes: [lesion]
modalities:
  US: {roles: [cine], intensity: {kind: byte}}
  CT: {roles: [portal, unknown], intensity: {kind: hu}}
  MR: {roles: [t1_in, t2], intensity: {kind: robust}}
findings:
  - {id: mass, name: {en: Mass}, group: focal, modalities: [CT, MR, US], lesion_class: lesion}
  - {id: one, name: {en: One}, group: other, modalities: [CT]}
  - {id: two, name: {en: Two}, group: other, modalities: [CT]}
exclusive: [one, two]
"""
POSITIONS = [(0, 0, 2.5 * k) for k in range(4)]


def volume(path: Path, seed: int, *, low=-1000, affine=None, shape=(6, 5, 4)) -> None:
    values = np.random.default_rng(seed).integers(low, 300, shape).astype(np.int16)
    image = nib.Nifti1Image(values, np.diag([2.0, 2, 3, 1]) if affine is None else affine)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    nib.save(image, path)


@pytest.fixture
def cohort(tmp_path):
    """Eight cases without a fault: CT as NIfTI with a label map, of one MR too; one CT is DICOM."""
    (tmp_path / "task.yaml").write_text(TASK)
    rows = []
    for i in range(8):
        volume(tmp_path / f"ct{i}.nii.gz", i)
        mask = np.random.default_rng(i).integers(0, 2 + i % 2, (6, 5, 4)).astype(np.uint8)
        nib.save(nib.Nifti1Image(mask, np.diag([2.0, 2, 3, 1])), tmp_path / f"mask{i}.nii.gz")
        rows.append(
            {
                "case_id": f"c{i}",
                "patient_id": f"p{i}",
                "split": "train" if i < 5 else "val",
                "images": [
                    {
                        "path": f"ct{i}.nii.gz",
                        "modality": "CT",
                        "role": "portal",
                        "mask": f"mask{i}.nii.gz",
                        "frame_of_reference": f"f{i}",
                    },
                    {
                        "path": f"mr{i}.nii.gz",
                        "modality": "MR",
                        "role": "t2",
                        "frame_of_reference": f"f{i}",
                    },
                ],
                "labels": {"mass": i % 2, "one": i % 2, "two": 1 - i % 2},
            }
        )
        if i:
            rows[i]["images"].pop()
    volume(tmp_path / "mr0.nii.gz", 100, low=0)
    write_stack(tmp_path / "dicom", POSITIONS, intercept=-1200.0)
    rows[7]["images"] = [{"path": "dicom", "modality": "CT", "role": "portal"}]
    return tmp_path, rows


def check(folder: Path, rows: list[dict]):
    (folder / "m.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    asked = ["train", str(folder / "task.yaml"), "--manifest", str(folder / "m.jsonl"), "--check"]
    return CliRunner().invoke(app, asked)


def test_a_cohort_without_a_fault_passes(cohort):
    done = check(*cohort)
    assert done.exit_code == 0, done.output


def rewrite(folder, name, change):
    image = nib.load(folder / name)
    values = np.asarray(image.dataobj)
    nib.save(change(values, image.affine), folder / name)


def gone(folder, rows):
    rows[0]["images"][0]["path"] = "gone.nii.gz"


def rename(old, new, inside=None):
    def plant(folder, rows):
        target = rows[0] if inside is None else rows[0][inside][0]
        target[new] = target.pop(old)

    return plant


def label(name, value):
    return lambda folder, rows: rows[0]["labels"].update({name: value})


def image(**change):
    return lambda folder, rows: rows[0]["images"][0].update(change)


def two_series(folder, rows):
    write_stack(folder / "dicom", [(50, 0, 2.5 * k) for k in range(4)], series="1.2.4")
    for n, path in enumerate(sorted((folder / "dicom").iterdir())):
        path.rename(path.with_name(f"b{n}.dcm"))
    write_stack(folder / "dicom", POSITIONS)


def capture(folder, rows):
    write_stack(folder / "capture", POSITIONS[:1], SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    rows[7]["images"][0]["path"] = "capture"


def jpeg(folder, rows):
    Picture.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "a.jpg")
    rows[0]["images"][0] = {"path": "a.jpg", "modality": "CT"}


def text_file(folder, rows):
    (folder / "a.txt").write_text("not an image")
    rows[0]["images"][0] = {"path": "a.txt", "modality": "CT"}


def cut_dicom(folder, rows):
    path = folder / "dicom" / "002.dcm"
    path.write_bytes(path.read_bytes()[:-30])


def missing_slice(folder, rows):
    write_stack(folder / "gap", [(0, 0, 2.5 * k) for k in (0, 1, 2, 4, 5, 6)], series="1.2.8")
    rows[7]["images"][0]["path"] = "gap"


def cut_nifti(folder, rows):
    path = folder / "ct0.nii.gz"
    path.write_bytes(path.read_bytes()[:-60])


def no_orientation(folder, rows):
    loaded = nib.load(folder / "ct0.nii.gz")
    bare = nib.Nifti1Image(np.asarray(loaded.dataobj), None)
    bare.set_sform(None, 0)
    bare.set_qform(None, 0)
    nib.save(bare, folder / "ct0.nii.gz")


def zero(folder, rows):
    rewrite(folder, "ct0.nii.gz", lambda v, a: nib.Nifti1Image(np.zeros_like(v), a))


def not_a_number(folder, rows):
    rewrite(folder, "mr0.nii.gz", lambda v, a: nib.Nifti1Image(np.where(v > 200, np.nan, v), a))


def two_forms(folder, rows):
    def change(values, affine):
        out = nib.Nifti1Image(values, affine)
        out.set_sform(affine, 1)
        out.set_qform(np.diag([2.0, 2, 9, 1]), 1)
        return out

    rewrite(folder, "ct0.nii.gz", change)


def apart(folder, rows):
    volume(
        folder / "mr0.nii.gz",
        3,
        low=0,
        affine=np.array([[2.0, 0, 0, 900], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]),
    )


def borrowed_frame(folder, rows):
    rows[1]["images"][0]["frame_of_reference"] = "f0"


def series_twice(folder, rows):
    rows[0]["images"].append(dict(rows[0]["images"][0]))


def copy_twice(folder, rows):
    (folder / "copy.nii.gz").write_bytes((folder / "ct0.nii.gz").read_bytes())
    rows[0]["images"].append({"path": "copy.nii.gz", "modality": "CT"})


def only_in_validation(folder, rows):
    for row in rows:
        row["labels"]["mass"] = int(row["case_id"] in ("c5", "c6"))


def without_negatives(folder, rows):
    for row in rows:
        row["labels"]["mass"] = 1


def same_in_two_splits(folder, rows):
    (folder / "copy.nii.gz").write_bytes((folder / "ct0.nii.gz").read_bytes())
    rows[6]["images"][0] = {"path": "copy.nii.gz", "modality": "CT", "role": "portal"}


def same_path_in_two_splits(folder, rows):
    rows[6]["images"][0]["path"] = "ct0.nii.gz"


def empty_folder(folder, rows):
    (folder / "nothing").mkdir()
    rows[7]["images"][0]["path"] = "nothing"


def mask_elsewhere(folder, rows):
    nib.save(nib.Nifti1Image(np.ones((6, 5, 4), np.uint8), np.diag([1.0, 1, 1, 1])), folder / "m.nii.gz")
    rows[7]["images"][0]["mask"] = "m.nii.gz"


def many_classes(folder, rows):
    rewrite(folder, "mask0.nii.gz", lambda v, a: nib.Nifti1Image((v + 4).astype(np.uint8), a))


def mask_of_another_grid(folder, rows):
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.diag([2.0, 2, 3, 1])), folder / "mask0.nii.gz")


def cine_without_mask(folder, rows):
    frames = np.random.default_rng(0).integers(0, 255, (16, 16, 5)).astype(np.uint8)
    nib.save(nib.Nifti1Image(frames, np.eye(4)), folder / "us.nii.gz")
    rows[0]["images"].append({"path": "us.nii.gz", "modality": "US"})


def two_people(folder, rows):
    rows[5]["patient_id"] = "p0"


def no_validation(folder, rows):
    for row in rows:
        row["split"] = "train"


def own_id(folder, rows):
    rows[0] |= {"patient_id": "MRN-0042", "report": "Compared with the CT of MRN-0042: no mass."}


def label_in_all(value_of):
    def plant(folder, rows):
        for row in rows:
            value = value_of(row["case_id"])
            row["labels"].pop("mass") if value is None else row["labels"].update(mass=value)

    return plant


def copied(change):
    """The CT of the first case, changed, as that of a case of another split."""

    def plant(folder, rows):
        loaded = nib.load(folder / "ct0.nii.gz")
        nib.save(nib.Nifti1Image(change(np.asarray(loaded.dataobj)), loaded.affine), folder / "copy.nii.gz")
        rows[6]["images"] = [{"path": "copy.nii.gz", "modality": "CT", "role": "portal"}]

    return plant


def one_group(folder, rows):
    rows[0]["group"] = rows[6]["group"] = "twins"


def one_slice(folder, rows):
    volume(folder / "ct0.nii.gz", 0, shape=(6, 5, 1))
    del rows[0]["images"][0]["mask"]


def in_metres(folder, rows):
    metres = np.diag([0.002, 0.002, 0.003, 1])
    for name in ("ct0.nii.gz", "mask0.nii.gz"):
        rewrite(folder, name, lambda v, a: nib.Nifti1Image(v, metres))


def study_of_two(folder, rows):
    write_stack(folder / "other", [(0, 0, 2.5 * k) for k in range(5)], series="1.2.5", slope=2)
    rows[1]["images"] = [{"path": "other", "modality": "CT", "role": "portal"}]


def no_lesion_outlined(folder, rows):
    rewrite(folder, "mask1.nii.gz", lambda v, a: nib.Nifti1Image(np.minimum(v, 1).astype(np.uint8), a))


def lesion_outlined(folder, rows):
    rewrite(folder, "mask2.nii.gz", lambda v, a: nib.Nifti1Image((v * 2).astype(np.uint8), a))


def empty_slice(folder, rows):
    (folder / "dicom" / "001.dcm").write_bytes(b"")


def lab(value):
    return lambda f, r: r[0].update(labs=[{"loinc": "1742-6", "value": value, "unit": "U/L"}])


def empty_labels_of_mr(folder, rows):
    volume(folder / "mr0.nii.gz", 3, low=0)
    rewrite(folder, "mr0.nii.gz", lambda v, a: nib.Nifti1Image((v % 3).astype(np.uint8), a))


def normalised(folder, rows):
    rewrite(folder, "ct0.nii.gz", lambda v, a: nib.Nifti1Image((v / 300).astype(np.float32), a))


def follow_up(folder, rows):
    write_stack(folder / "later", [(0, 0, 2.5 * k) for k in range(5)], series="1.2.5", study="1.2.6")
    rows[1]["images"] = [{"path": "later", "modality": "CT", "role": "portal"}]


def without_intercept(folder, rows):
    write_stack(folder / "raw", POSITIONS, series="1.2.7", intercept=0.0)
    rows[7]["images"][0]["path"] = "raw"


def cut_mask(folder, rows):
    path = folder / "mask0.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])


def text_as_sound(folder, rows):
    (folder / "s.wav").write_text("no sound")
    rows[0]["sounds"] = ["s.wav"]


def labs(*values, loinc="1742-6", unit="U/L", date=""):
    said = [{"loinc": loinc, "value": v, "unit": unit, "date": date} for v in values]
    return lambda f, r: r[0].update(labs=said)


def lesion(diameter, *centre):
    said = {"kind": "mass", "diameter_mm": diameter, "centre_mm": {"CT": centre}}
    return lambda f, r: r[0].update(lesions=[said])


FAULTS = {
    "an id in capitals": (
        lambda f, r: r[1].update(case_id="C0"),
        "line 2, case C0: its id differs from that of line 1, case c0 in capitals or blanks alone",
    ),
    "no id": (lambda f, r: r[0].update(case_id=" "), "line 1: case_id is empty"),
    "a quotation mark that is open": (
        lambda f, r: r[0].update(case_id="c0\nc1"),
        "line 1: case_id holds a line break or a tab",
    ),
    "a label map as MR": (
        empty_labels_of_mr,
        "mr0.nii.gz: holds 3 whole numbers alone, from 0 to 2, like a label map",
    ),
    "normalised CT": (normalised, "alone, so its values are no HU; name the image before"),
    "one person under two ids": (
        follow_up,
        "has the PatientID of case c1, another patient of the manifest, in several splits",
    ),
    "a lost intercept": (without_intercept, "raw: never goes below 0, as HU of a body in air do"),
    "a cut mask": (cut_mask, "has the mask mask0.nii.gz, which is no readable NIfTI file"),
    "a sound that is none": (text_as_sound, "line 1, case c0: the sound s.wav: not a WAV file"),
    "a value without a code": (labs(61, loinc="ALT"), "the laboratory value ALT has no LOINC code"),
    "a value without a unit": (labs(61, unit=""), "1742-6 has no unit; write it in UCUM"),
    "a value of no day": (labs(61, date="soon"), "1742-6 is of the day 'soon'; write it as 2024-01-31"),
    "two values at once": (labs(61, 600), "1742-6 is 61 and 600 without a date"),
    "a report elsewhere": (
        lambda f, r: r[0].update(report="reports/c0.txt"),
        "line 1, case c0: its report is the name of a file, reports/c0.txt",
    ),
    "a lesion of no size": (lesion(-3, 1, 1, 1), "a lesion has the diameter -3 mm"),
    "a lesion outside": (lesion(3, 900, 1, 1), "a lesion's centre (900, 1, 1) lies in no CT of the case"),
    "a finding beside labels": (
        lambda f, r: [row.update(mass=1) for row in r],
        "line 1, case c0: the field mass is not read; write the finding into labels (in a CSV as label:mass) "
        "(in 8 cases)",
    ),
    "a report that holds its patient's id": (
        own_id,
        "line 1, case c0: its report holds the id of its patient",
    ),
    "a file that is not there": (gone, "line 1, case c0: gone.nii.gz does not exist"),
    "lables": (
        rename("labels", "lables"),
        "line 1, case c0: the field lables is not known and is not read; did you mean labels?",
    ),
    "patientid": (
        rename("patient_id", "patientid"),
        "patientid is not known and is not read; did you mean patient_id?",
    ),
    "splits": (rename("split", "splits"), "splits is not known and is not read; did you mean split?"),
    "modalty": (
        rename("modality", "modalty", "images"),
        "modalty is not known and is not read; did you mean modality?",
    ),
    "label -1": (label("mass", -1), "label mass is -1; write 1 present, 0 absent"),
    "label 2": (label("mass", 2), "label mass is 2; write 1 present, 0 absent"),
    "label typo": (label("mas", 1), "label(s) mas (did you mean mass?) are not findings of the task"),
    "label in words": (label("mass", "yes"), "line 1: labels.mass"),
    "two exclusive": (lambda f, r: r[0]["labels"].update(one=1, two=1), "one and two are both present"),
    "no exclusive": (lambda f, r: r[0]["labels"].update(one=0, two=0), "none of one, two is present"),
    "empty modality": (image(modality=""), "ct0.nii.gz has no modality; write"),
    "modality typo": (image(modality="ct"), "modality ct is not in the task; did you mean CT?"),
    "two series in a folder": (two_series, "dicom: holds 2 series; give each series a folder"),
    "secondary capture": (capture, "capture cannot be used as CT"),
    "jpeg as CT": (jpeg, "a.jpg cannot be used as CT: a picture of CT has no HU"),
    "text as CT": (text_file, "a.txt cannot be used as CT"),
    "cut DICOM": (cut_dicom, "line 8, case c7: dicom"),
    "missing slice": (missing_slice, "line 8, case c7: gap"),
    "cut NIfTI": (cut_nifti, "line 1, case c0: ct0.nii.gz"),
    "no orientation": (no_orientation, "has no orientation"),
    "all zero": (zero, "holds the value 0 alone"),
    "NaN": (not_a_number, "holds NaN or infinite values; clean it"),
    "sform against qform": (two_forms, "sform and"),
    "apart in one frame": (apart, "have one frame of reference and do not meet in space"),
    "a frame of another patient": (
        borrowed_frame,
        "frame_of_reference f0 is that of case c0, another patient",
    ),
    "a series twice": (series_twice, "ct0.nii.gz stands twice in the case"),
    "a copy of a series": (copy_twice, "has the same pixels as ct0.nii.gz of the same case"),
    "no images": (lambda f, r: r[0].update(images=[]), "line 1, case c0: has no image"),
    "positives in validation alone": (
        only_in_validation,
        "finding mass: is present in validation cases alone",
    ),
    "no negatives": (without_negatives, "finding mass: no case is labelled absent"),
    "MR that is CT": (lambda f, r: r[0]["images"][1].update(path="ct0.nii.gz", role="t2"), "like HU of CT"),
    "DICOM CT as MR": (
        lambda f, r: r[7]["images"][0].update(modality="MR", role="t2"),
        "is CT by its header, MR in the manifest",
    ),
    "CT that is none": (
        lambda f, r: (
            r[0]["images"].append({"path": "x.nii.gz", "modality": "CT"}) or volume(f / "x.nii.gz", 55, low=0)
        ),
        "never goes below 0",
    ),
    "Train": (
        lambda f, r: r[0].update(split="Train"),
        "split 'Train' is none, so nothing uses the case; write train",
    ),
    "validation": (
        lambda f, r: r[6].update(split="validation"),
        "split 'validation' is none, so nothing uses the case; write val",
    ),
    "no split": (lambda f, r: r[0].update(split=""), "has no split, so nothing uses it"),
    "role typo": (
        image(role="portl"),
        "has the role 'portl', which the task lacks; did you mean portal?",
    ),
    "same pixels in two splits": (
        same_in_two_splits,
        "of case c0 in train, this one in val; keep them in one split",
    ),
    "same path in two splits": (
        same_path_in_two_splits,
        "is an image of case c0 too, one in train and one in val",
    ),
    "empty folder": (empty_folder, "nothing cannot be used as CT"),
    "mask elsewhere": (mask_elsewhere, "line 8, case c7: dicom: "),
    "too many classes": (
        many_classes,
        "its mask mask0.nii.gz holds the class(es) 4, 5, and dense of the task has 3",
    ),
    "mask of another grid": (mask_of_another_grid, "lie on different grids"),
    "a cine without a mask": (cine_without_mask, "us.nii.gz: is a cine without a label map"),
    "a patient in two splits": (two_people, "patient p0 stands in more than one split"),
    "no positives": (label_in_all(lambda c: 0), "finding mass: no case is labelled present"),
    "positives in training alone": (
        label_in_all(lambda c: int(c in ("c1", "c2"))),
        "finding mass: is present in no validation case; move some to val",
    ),
    "no label at all": (label_in_all(lambda c: None), "finding mass: no case has a label of it"),
    "a group in two splits": (
        one_group,
        "group twins stands in more than one split: train (line 1, case c0) and val (line 7, case c6)",
    ),
    "a mirrored copy": (copied(lambda v: v[::-1]), "has the same pixels as ct0.nii.gz of case c0 in train"),
    "a turned copy": (
        copied(lambda v: np.moveaxis(v, 0, 2).astype(np.float32)),
        "has the same pixels as ct0.nii.gz of case c0 in train",
    ),
    "one slice": (one_slice, "line 1, case c0: ct0.nii.gz: is one slice, no volume; name the folder"),
    "a mask of DICOM that is gone": (
        lambda f, r: r[7]["images"][0].update(mask="gone.nii.gz"),
        "line 8, case c7: dicom has the mask gone.nii.gz, which does not exist",
    ),
    "a role of another task": (
        lambda f, r: r[0]["images"][1].update(role="dwi"),
        "line 1, case c0: the task takes no MR of the role 'dwi', so nothing uses it",
    ),
    "a sound that is gone": (
        lambda f, r: r[0].update(sounds=["gone.wav"]),
        "line 1, case c0: the sound gone.wav does not exist",
    ),
    "a value for none": (lab(-99), "the laboratory value 1742-6 is -99; leave out what was not measured"),
    "a value that is no number": (lab(float("nan")), "the laboratory value 1742-6 is nan"),
    "a lesion of another name": (
        lambda f, r: r[0].update(lesions=[{"kind": "mas"}]),
        "a lesion is a mas, no finding of the task; did you mean mass?",
    ),
    "a patient in capitals": (
        lambda f, r: r[6].update(patient_id="P0 "),
        "patient p0 stands in more than one split: train (line 1, case c0) and val (line 7, case c6)",
    ),
    "some without a patient": (
        lambda f, r: r[3].pop("patient_id"),
        "line 4, case c3: has no patient_id, as 1 of 8 cases",
    ),
    "voxels in metres": (in_metres, "ct0.nii.gz has voxels of 0.002 × 0.002 × 0.003 mm"),
    "a study of two patients": (study_of_two, "is of the study of case c1, another patient"),
    "present and not outlined": (
        no_lesion_outlined,
        "line 2, case c1: mass is labelled present, and no label map holds its class lesion",
    ),
    "absent and outlined": (
        lesion_outlined,
        "line 3, case c2: mass is labelled absent, and a label map holds its class lesion",
    ),
    "exclusive and both likely": (
        lambda f, r: r[0]["labels"].update(one=0.8, two=0.8),
        "the labels of one, two add up to more than 1",
    ),
    "a language in words": (
        lambda f, r: r[0].update(reports={"english": "No mass."}),
        "reports has the language 'english'; write its code",
    ),
    "label for labels": (
        rename("labels", "label"),
        "label is not known and is not read; did you mean labels?",
    ),
    "a field of nobody": (
        lambda f, r: r[0].update(smoker=1),
        "line 1, case c0: the field smoker is not known and is not read (in 1 case(s))",
    ),
    "an empty slice": (empty_slice, "line 8, case c7: dicom: holds 1 empty file(s), such as 001.dcm"),
    "a case twice": (
        lambda f, r: r[1].update(case_id="c0"),
        "line 2: case_id c0 appears twice, first in line 1",
    ),
    "no validation": (no_validation, "no case has split val"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_line_and_what_to_do(cohort, fault):
    folder, rows = cohort
    plant, words = FAULTS[fault]
    plant(folder, rows)
    done = check(folder, rows)
    assert done.exit_code in (1, 3), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit) or words in str(done.exception)
    assert words in done.output + str(done.exception)


def test_a_likely_label_is_legal(cohort):
    folder, rows = cohort
    rows[0]["labels"]["mass"] = 0.5
    done = check(folder, rows)
    assert done.exit_code == 0, done.output


def test_columns_of_a_csv_are_checked_too(cohort):
    folder, _ = cohort
    lines = ["case_id,path,modality,splt,lable:mass"]
    lines += [f"c{i},ct{i}.nii.gz,CT,train,1" for i in range(3)]
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    asked = ["train", str(folder / "task.yaml"), "--manifest", str(folder / "m.csv"), "--check"]
    done = CliRunner().invoke(app, asked)
    assert "line 2, case c0: the field splt is not known and is not read; did you mean split?" in done.output
    assert "lable:mass is not known and is not read; did you mean label" in done.output


ROWS = [["case_id", "path", "modality", "split"]] + [
    [f"c{i}", f"ct{i}.nii.gz", "CT", "train"] for i in (0, 1)
]
TABLES = {
    "semicolons": ("\n".join(";".join(r) for r in ROWS), "write the table with commas between its columns"),
    "a column twice": ("\n".join(",".join([*r, r[-1]]) for r in ROWS), "the column split stands there twice"),
    "too few cells": ("\n".join(",".join(r) for r in ROWS) + "\nc2,x", "line 4: has fewer cells than the"),
    "too many cells": ("\n".join(",".join(r) for r in ROWS) + ",7", "line 3: has more cells than the"),
    "an empty line of commas": ("\n".join(",".join(r) for r in ROWS) + "\n,,,", "line 4: case_id is empty"),
    "capitals": (
        "\n".join(",".join(r) for r in ROWS).replace("case_id", "Case_ID"),
        "write case_id where it",
    ),
    "damage": ("\n".join(",".join(r) for r in ROWS).replace("c1", "c\0"), "line 3: holds a zero byte"),
    "a workbook": ("PK\3\4", "is a workbook or an archive, no text; save the table as CSV"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_that_is_none_is_refused_in_one_sentence(tmp_path, kind):
    text, words = TABLES[kind]
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(UserError, match=re.escape(words)):
        read_manifest(tmp_path / "m.csv")


def test_a_field_that_stands_twice_in_a_line_is_named(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"case_id": "a", "labels": {"x": 1}, "labels": {"x": 0}}\n')
    with pytest.raises(UserError, match=r"line 1: labels stands twice"):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize("second", ["p0,val,1", "p1,train,1", "p0,train,0"])
def test_lines_of_one_case_that_differ_are_named(cohort, second):
    folder, _ = cohort
    lines = ["case_id,path,modality,patient_id,split,label:mass", "c0,ct0.nii.gz,CT,p0,train,1"]
    (folder / "m.csv").write_text("\n".join([*lines, f"c0,mr0.nii.gz,MR,{second}"]) + "\n")
    with pytest.raises(UserError, match=r"line 3: .* of case c0 is another than in line 2"):
        read_manifest(folder / "m.csv")


def test_training_names_a_label_map_with_more_classes_than_the_task(cohort, tmp_path):
    folder, rows = cohort
    many_classes(folder, rows)
    (folder / "m.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(UserError, match=r"line 1, case c0: the label map of .* holds class 5, and dense"):
        preprocess_manifest(
            load_task(folder / "task.yaml"), read_manifest(folder / "m.jsonl"), tmp_path / "t", workers=1
        )


def test_an_image_without_a_label_map_teaches_no_encoder(cohort, tmp_path):
    folder, rows = cohort
    (folder / "m.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    made, entries = preprocess_manifest(
        load_task(folder / "task.yaml"), read_manifest(folder / "m.jsonl"), tmp_path / "t", workers=1
    )
    names = [n for e in entries for n in e["files"].get("CT", [])]
    assert [has_labels(made, n) for n in names] == [True] * 7 + [False]


def test_a_script_that_trains_needs_no_guard(tmp_path):
    """Its lines are not run again in the processes beside it."""
    script = tmp_path / "mine.py"
    script.write_text(
        "from medfuse.training.pool import spawned\n"
        "print('once')\n"
        "with spawned(2) as pool:\n"
        "    print(sum(pool.map(len, ['abc', 'de'])))\n"
        "print(__file__)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["once", "5", str(script)], done.stderr
