"""Names burned into the voxels of NIfTI files: gone, whichever way the axes run."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from burned import letters, patient, written_on

from medfuse.deidentify import lettering, nifti_words
from medfuse.deidentify.folder import Deidentified, deidentify_folder
from medfuse.deidentify.profile import Options

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(not lettering.available(), reason="the extra ocr is not installed"),
]
NAME = "DOE^JANE 12.3.1960"
PLAIN = patient((160, 224), top=1500)
NAMED = written_on(PLAIN, NAME, at=(20, 120), height=14, value=1500)
TURNS = {
    "as displayed": lambda v: v,
    "upside down": lambda v: v[:, ::-1],
    "mirrored": lambda v: v[::-1],
    "both": lambda v: v[::-1, ::-1],
    "columns first": lambda v: v.transpose(1, 0, 2),
    "slices first": lambda v: v.transpose(2, 0, 1),
    "columns first, mirrored": lambda v: v[::-1].transpose(1, 0, 2),
}


def volume(slices: list[np.ndarray], kind: str) -> np.ndarray:
    """(I, J, K) of the slices (H, W), as one kind of voxel."""
    stacked = np.stack([s.T for s in slices], -1)
    if kind == "rgb":
        grey = (stacked * 255 // 1500).astype(np.uint8)
        return np.stack([grey] * 3, -1).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    if kind == "times":
        return np.stack([stacked.astype(np.int16)] * 3, -1)
    out = stacked.astype(kind)
    if out.dtype.kind == "f":
        out[0, 0, 0] = np.nan
    return out


def copied(tmp_path: Path, voxels: np.ndarray, zooms: tuple[float, ...]) -> tuple[np.ndarray, Deidentified]:
    """The voxels of a de-identified copy."""
    (tmp_path / "in").mkdir()
    image = nib.Nifti1Image(voxels, np.diag([*zooms, 1.0]), dtype=voxels.dtype)
    nib.save(image, tmp_path / "in" / "a.nii.gz")
    done = deidentify_folder(tmp_path / "in", tmp_path / "out", key=b"k" * 32, options=Options())
    (copy,) = (tmp_path / "out" / "nifti").iterdir()
    assert b"DOE" not in gzip.decompress(copy.read_bytes())
    return np.asarray(nib.load(copy).dataobj), done


def grey(voxels: np.ndarray) -> np.ndarray:
    return voxels["R"].astype(float) if voxels.dtype.names else np.nan_to_num(voxels.astype(float))


def check(before: np.ndarray, after: np.ndarray, done: Deidentified, spelt: np.ndarray) -> None:
    (file,) = done.report.files
    assert file.words
    assert done.report.masked == 1
    assert "DOE" not in done.report.model_dump_json()
    assert (grey(after)[spelt] == 0).mean() > 0.98
    changed = grey(before) != grey(after)
    assert changed.mean() < 0.15
    assert any("words" in u for u in file.unjudged)


@pytest.mark.parametrize(
    "turn", [t if t == "both" else pytest.param(t, marks=pytest.mark.slow) for t in TURNS]
)
def test_a_name_goes_whichever_way_the_axes_run(tmp_path, turn):
    voxels = np.ascontiguousarray(TURNS[turn](volume([NAMED], "int16")))
    clean = TURNS[turn](volume([PLAIN], "int16"))
    zooms = (5.0, 1.0, 1.0) if turn == "slices first" else (1.0, 1.0, 5.0)
    after, done = copied(tmp_path, voxels, zooms)
    check(voxels, after, done, voxels != clean)


@pytest.mark.parametrize(
    "kind", ["times", *(pytest.param(k, marks=pytest.mark.slow) for k in ("rgb", "uint8", ">i2", "float32"))]
)
def test_a_name_goes_from_voxels_of_each_kind(tmp_path, kind):
    scale = 6 if kind == "uint8" else 1
    named, plain = (volume([p // scale], kind) for p in (NAMED, PLAIN))
    after, done = copied(tmp_path, named, (1.0, 1.0, 5.0))
    check(named, after, done, grey(named) != grey(plain))


def test_without_a_name_nothing_changes_and_without_the_reader_it_is_said(tmp_path, monkeypatch):
    voxels = volume([PLAIN], "int16")
    after, done = copied(tmp_path, voxels, (1.0, 1.0, 5.0))
    assert np.array_equal(after, voxels)
    assert not done.report.files[0].words
    monkeypatch.setattr(lettering, "available", lambda: False)
    (tmp_path / "other").mkdir()
    after, done = copied(tmp_path / "other", volume([NAMED], "int16"), (1.0, 1.0, 5.0))
    assert nifti_words.NOT_LOOKED in done.report.files[0].unjudged


def test_the_letters_of_these_tests_are_some():
    assert letters(PLAIN, NAMED).sum() > 200
