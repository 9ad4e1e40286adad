"""Masks that a segmenter left on disk: as the dense teacher of a cohort, and as what is whole in view."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import yaml
from test_cli import run
from test_masks import SHAPE, ct, save, truth, write_seg

from medfuse.cohort.masks import build_masks, view_of
from medfuse.errors import UserError
from medfuse.io.manifest import read_manifest
from medfuse.io.rows import labelled
from medfuse.task import load_task
from medfuse.workflows.schemas import schemas_json

__all__ = ["ct"]
TASK = load_task("upper-abdomen")


def cohort(folder: Path, mask: str) -> Path:
    """A manifest of one CT with a mask."""
    row = {
        "case_id": "a",
        "split": "train",
        "images": [{"path": "ct", "modality": "CT", "role": "portal", "mask": mask}],
    }
    (folder / "manifest.jsonl").write_text(json.dumps(row))
    return folder / "manifest.jsonl"


def labels(folder: Path, **said: object) -> Path:
    path = folder / "labels.yaml"
    data = {"segmenter": "TotalSegmentator 2.4", "licence": "Apache-2.0", "classes": {}, **said}
    path.write_text(yaml.safe_dump(data))
    return path


def taught(manifest: Path, yaml_file: Path, out: Path) -> np.ndarray:
    """The label map that training would read."""
    found = build_masks(manifest, TASK, yaml_file, out)
    jsonschema.validate(found.model_dump(mode="json"), schemas_json()["masks"])
    (row,) = read_manifest(out / "manifest.jsonl")
    (mask,) = labelled(row).masks.values()
    return mask


def wanted() -> np.ndarray:
    t = truth()
    return np.where(t == 1, TASK.dense.index("liver"), np.where(t == 2, TASK.dense.index("spleen"), 0))


def test_numbers_of_a_label_map(ct, tmp_path):
    save(tmp_path / "m.nii.gz", truth(), ct.affine)
    path = labels(tmp_path, classes={"liver": 1, "spleen": [2]})
    np.testing.assert_array_equal(taught(cohort(tmp_path, "m.nii.gz"), path, tmp_path / "out"), wanted())
    found = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert found["segmenter"] == "TotalSegmentator 2.4"
    assert found["images"][0]["ml"]["liver"] == pytest.approx((truth() == 1).sum() * 3 / 1000, abs=0.01)
    assert found["images"][0]["view"] == {"liver": "whole", "spleen": "whole"}


def test_names_of_a_folder_a_seg_and_a_dataset_of_nnunet(ct, tmp_path):
    (tmp_path / "total").mkdir()
    for name, n in (("liver", 1), ("spleen", 2)):
        save(tmp_path / "total" / f"{name}.nii.gz", (truth() == n).astype(np.uint8), ct.affine)
    named = labels(tmp_path, classes={"liver": "liver", "spleen": "spleen"})
    np.testing.assert_array_equal(taught(cohort(tmp_path, "total"), named, tmp_path / "a"), wanted())
    write_seg(tmp_path / "seg.dcm", tmp_path / "ct", truth())
    segments = labels(tmp_path, classes={"liver": "class 1", "spleen": "class 2"})
    np.testing.assert_array_equal(taught(cohort(tmp_path, "seg.dcm"), segments, tmp_path / "b"), wanted())
    save(tmp_path / "m.nii.gz", truth(), ct.affine)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "spleen": 2}}))
    both = labels(tmp_path, names="dataset.json", classes={"liver": "liver", "spleen": "spleen"})
    np.testing.assert_array_equal(taught(cohort(tmp_path, "m.nii.gz"), both, tmp_path / "c"), wanted())


def test_a_folder_as_nnunet_leaves_it(ct, tmp_path, monkeypatch, capsys):
    """Regions that hold others are lists in nnU-Net's dataset.json, and were not found by their name."""
    folder = tmp_path / "predicted"
    folder.mkdir()
    save(folder / "a.nii.gz", truth(), ct.affine)
    said = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "whole liver": [1, 2], "lesion": [2]},
        "regions_class_order": [1, 2],
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    for name in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):
        (folder / name).write_text(json.dumps(said if name == "dataset.json" else {}))
    (tmp_path / "dataset.json").write_bytes((folder / "dataset.json").read_bytes())
    path = labels(tmp_path, names="dataset.json", classes={"liver": "whole liver", "simple_cyst": "lesion"})
    manifest = cohort(tmp_path, "predicted/a.nii.gz")
    command = ("cohort", "masks", manifest, "--task", "upper-abdomen", "--labels", path)
    assert run(monkeypatch, capsys, *command, "--out", tmp_path / "out")[0] == 0
    (row,) = read_manifest(tmp_path / "out" / "manifest.jsonl")
    (mask,) = labelled(row).masks.values()
    liver, cyst = (TASK.dense.index(n) for n in ("liver", "simple_cyst"))
    np.testing.assert_array_equal(mask, np.where(truth() == 2, cyst, np.where(truth() == 1, liver, 0)))


def test_later_classes_lie_over_earlier_ones(ct, tmp_path):
    (tmp_path / "total").mkdir()
    save(tmp_path / "total" / "liver.nii.gz", (truth() > 0).astype(np.uint8), ct.affine)
    save(tmp_path / "total" / "cyst.nii.gz", (truth() == 2).astype(np.uint8), ct.affine)
    path = labels(tmp_path, classes={"liver": "liver", "simple_cyst": "cyst"})
    found = taught(cohort(tmp_path, "total"), path, tmp_path / "out")
    assert set(np.unique(found)) == {0, TASK.dense.index("liver"), TASK.dense.index("simple_cyst")}


@pytest.mark.parametrize(("axis", "view"), [(2, "cut"), (0, "whole")])
def test_what_ends_at_the_first_or_last_slice_is_cut(axis, view):
    mask = np.zeros(SHAPE, bool)
    at = [slice(4, 5)] * 3
    at[axis] = slice(0, 4)
    mask[tuple(at)] = True
    assert view_of(mask, np.diag([1.0, 1, 3, 1])) == view
    assert view_of(mask & False, np.eye(4)) == "absent"
    turned = np.array(
        [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]
    )  # the first axis runs to the head
    assert view_of(mask, turned) == ("cut" if axis == 0 else "whole")


def test_what_cannot_teach_is_one_sentence(ct, tmp_path):
    save(tmp_path / "m.nii.gz", truth(), ct.affine)
    manifest = cohort(tmp_path, "m.nii.gz")
    (tmp_path / "bad.yaml").write_text("classes: [")

    def fault(path: Path, task=TASK, given=manifest) -> str:
        with pytest.raises(UserError) as raised:
            build_masks(given, task, path, tmp_path / "out")
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "bad.yaml" in fault(tmp_path / "bad.yaml")
    assert "no such" in fault(tmp_path / "none.yaml").lower() or "none.yaml" in fault(tmp_path / "none.yaml")
    assert "class livr is not in dense" in fault(labels(tmp_path, classes={"livr": 1}))
    assert "none of the structures" in fault(labels(tmp_path, classes={"liver": 7}))
    assert "names no labels" in fault(labels(tmp_path, names="dataset.json", classes={"liver": "x"}))
    good = labels(tmp_path, classes={"liver": 1})
    assert "has no label maps" in fault(good, load_task("breast-ultrasound"))
    assert "no image names a mask" in fault(good, given=cohort(tmp_path, ""))
    far = ct.affine.copy()
    far[:3, 3] += 900
    nib.save(nib.Nifti1Image(truth(), far), tmp_path / "far.nii.gz")
    assert "lies elsewhere" in fault(good, given=cohort(tmp_path, "far.nii.gz"))
