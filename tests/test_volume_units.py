"""Units of length, names in capital letters, sidecars of Windows and colours stored as bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medfuse.errors import UnreadableError
from medfuse.io import beside
from medfuse.io.manifest import read_manifest
from medfuse.io.nifti import read_nifti
from medfuse.io.scan import scan
from medfuse.io.sidecar import sidecar_path
from medfuse.io.volume_files import header_of

VOXELS = np.arange(60, dtype=np.int16)  # 5 × 4 × 3
SPACE = "space: {space}\nspace directions: (0,250,0) (250,0,0) (0,0,500)\nspace origin: (1000,2000,3000)\n"
NO_SPACE = "spacings: 250 250 500\n"


def nrrd(path: Path, lines: str) -> Path:
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nendian: little\nencoding: raw\n{lines}\n"
    path.write_bytes(head.encode() + VOXELS.tobytes())
    return path


def meta(path: Path, unit: str, *, voxels: str = "LOCAL", spacing: str = "250 250 500") -> Path:
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"Offset = 1000 2000 3000\n{unit}ElementSpacing = {spacing}\nDimSize = 5 4 3\n"
        f"ElementType = MET_SHORT\nElementDataFile = {voxels}\n"
    )
    path.write_bytes(head.encode() + (VOXELS.tobytes() if voxels == "LOCAL" else b""))
    return path


@pytest.mark.parametrize(
    ("unit", "mm"),
    [
        ("um", 1e-3),
        ("µm", 1e-3),
        ("\N{GREEK SMALL LETTER MU}m", 1e-3),
        ("microns", 1e-3),
        ("mm", 1),
        ("cm", 10),
    ],
)
@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS"])
def test_units_of_a_nrrd_become_mm(tmp_path, unit, mm, space):
    lines = SPACE.format(space=space) + f'space units: "{unit}" "{unit}" "{unit}"\n'
    image = read_nifti(nrrd(tmp_path / "a.nrrd", lines), "CT")
    assert image.spacing == pytest.approx((250 * mm, 250 * mm, 500 * mm))
    assert np.abs(image.affine[:3, 3]) == pytest.approx((1000 * mm, 2000 * mm, 3000 * mm))
    assert bool(image.warnings) == (mm != 1)


def test_units_that_differ_along_the_axes_of_space(tmp_path):
    lines = SPACE.format(space="RAS") + 'space units: "um" "um" "mm"\n'
    image = read_nifti(nrrd(tmp_path / "a.nrrd", lines), "CT")
    assert image.spacing == pytest.approx((0.25, 0.25, 500))


def test_units_of_axes_where_a_nrrd_names_no_space(tmp_path):
    image = read_nifti(nrrd(tmp_path / "a.nrrd", NO_SPACE + 'units: "um" "um" ""\n'), "US")
    assert image.spacing == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize(("unit", "mm"), [("um", 1e-3), ("mm", 1), ("cm", 10)])
def test_units_of_a_metaimage_become_mm(tmp_path, unit, mm):
    image = read_nifti(meta(tmp_path / "a.mha", f"DistanceUnits = {unit}\n"), "CT")
    assert image.spacing == pytest.approx((250 * mm, 250 * mm, 500 * mm))
    assert image.affine[2, 3] == pytest.approx(3000 * mm)


def test_a_unit_that_is_none_and_mm_that_cannot_be_meant_are_refused(tmp_path):
    lines = SPACE.format(space="RAS") + 'space units: "furlong" "furlong" "furlong"\n'
    with pytest.raises(UnreadableError, match="'furlong', which is none that"):
        read_nifti(nrrd(tmp_path / "a.nrrd", lines), "CT")
    nib.save(nib.Nifti1Image(VOXELS.reshape(5, 4, 3), np.diag([250.0, 250, 500, 1])), tmp_path / "a.nii")
    for path in (
        nrrd(tmp_path / "b.nrrd", SPACE.format(space="RAS")),
        meta(tmp_path / "a.mha", ""),
        meta(tmp_path / "b.mha", "DistanceUnits = ?\n"),
        tmp_path / "a.nii",
    ):
        with pytest.raises(UnreadableError, match=r"states no unit of length.*250 mm long"):
            read_nifti(path, "CT")
    assert read_nifti(meta(tmp_path / "c.mha", "", spacing="0.5 0.5 2"), "CT").spacing == (0.5, 0.5, 2.0)


def volumes(folder: Path) -> None:
    image = sitk.GetImageFromArray(VOXELS.reshape(3, 4, 5))
    for name in ("a.mha", "b.mhd", "c.nrrd", "d.nhdr", "e.hdr"):
        sitk.WriteImage(image, str(folder / name))
        (folder / f"{name[0]}.json").write_text('{"Modality": "US"}')


def test_names_in_capital_letters_are_the_same_names(tmp_path):
    """A copy from a disk that knows capital letters only: headers still name their voxels in small ones."""
    volumes(tmp_path)
    for file in list(tmp_path.iterdir()):
        file.rename(tmp_path / file.name.upper())
    found = scan(tmp_path)
    images = found.read_all()
    assert not found.refused
    assert sorted(Path(i.source.path).name for i in images) == ["A.MHA", "B.MHD", "C.NRRD", "D.NHDR", "E.HDR"]
    assert all(i.pixels.shape == (3, 4, 5) for i in images)
    assert found.ledger["set_aside"] == 3 + 5  # voxels and sidecars
    assert found.ledger["not_dicom"] == 0


@pytest.mark.parametrize("name", ["M\xfc.raw".encode(), b"M\xfc.raw"])
def test_voxels_whose_name_is_no_ascii(tmp_path, name):
    """As the disk spells it, whatever its bytes are."""
    header = meta(tmp_path / "a.mhd", "", voxels="NAME", spacing="1 1 1")
    header.write_bytes(header.read_bytes().replace(b"NAME", name))
    (tmp_path / os.fsdecode(name)).write_bytes(VOXELS.tobytes())
    assert read_nifti(header, "CT").pixels.shape == (5, 4, 3)


def test_small_voxels_without_a_unit_are_said_to_be_taken_for_mm(tmp_path):
    image = read_nifti(meta(tmp_path / "a.mha", "", spacing="0.005 0.005 0.005"), "CT")
    assert image.warnings == ("states no unit of length: its 0.005 are taken for mm",)
    nib.save(
        nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.diag([1e-3, 1e-3, 2e-3, 1])), tmp_path / "a.nii"
    )
    assert "taken for mm" in read_nifti(tmp_path / "a.nii", "CT").warnings[0]


def test_voxels_in_another_case_are_never_a_link(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(VOXELS.tobytes())
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "A.RAW").symlink_to(secret)
    with pytest.raises(UnreadableError, match="is a link"):
        read_nifti(meta(folder / "a.mhd", "", voxels="a.raw", spacing="1 1 1"), "CT")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_sidecars_in_the_encodings_of_windows(tmp_path, encoding):
    meta(tmp_path / "a.mha", "", spacing="1 1 1")
    said = json.dumps({"Modality": "MR", "SeriesDescription": "Schädel"}, ensure_ascii=False)
    (tmp_path / "a.json").write_bytes(said.encode(encoding))
    image = read_nifti(tmp_path / "a.mha")
    assert (image.modality, image.source.description) == ("MR", "Schädel")


def test_a_folder_of_many_volumes_is_listed_once(tmp_path, monkeypatch):
    for n in range(50):
        (tmp_path / f"{n}.nii").touch()
        (tmp_path / f"{n}.JSON").touch()
    os.utime(tmp_path, (1, 1))  # long ago
    listed = []
    monkeypatch.setattr(
        beside.os, "listdir", lambda folder: listed.append(folder) or [f"{n}.JSON" for n in range(50)]
    )
    assert all(sidecar_path(tmp_path / f"{n}.nii") == tmp_path / f"{n}.JSON" for n in range(50))
    assert all(header_of(tmp_path / f"{n}.img") is None for n in range(50))
    assert len(listed) == 1


PICTURE = np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)


def stored(path: Path, data: np.ndarray, side: dict | None = None, **header: object) -> Path:
    image = nib.Nifti1Image(data, None)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    if side is not None:
        path.with_suffix(".json").write_text(json.dumps(side))
    return path


@pytest.mark.parametrize("shape", [(24, 20, 3), (24, 20, 1, 3)])
def test_three_planes_of_numbers_are_no_cine_by_themselves(tmp_path, shape):
    with pytest.raises(UnreadableError, match="nothing says which"):
        read_nifti(stored(tmp_path / "a.nii", PICTURE.reshape(shape).astype(np.float32)), "US")


@pytest.mark.parametrize("shape", [(24, 20, 3), (24, 20, 1, 3)])
def test_three_planes_of_bytes_are_frames_or_colours_only_where_something_says_so(tmp_path, shape):
    data = PICTURE.reshape(shape)
    with pytest.raises(UnreadableError, match="frames in time or colours, nothing says which"):
        read_nifti(stored(tmp_path / "a.nii", data), "US")
    colour = {"PhotometricInterpretation": "RGB"}
    for path in (
        stored(tmp_path / "b.nii", data, colour),
        stored(tmp_path / "c.nii", data, intent_code=2003),
        stored(tmp_path / "d.nii", np.concatenate([data, np.full_like(data[..., :1], 255)], -1), colour),
    ):
        assert np.array_equal(read_nifti(path, "US").pixels[0], PICTURE.transpose(1, 0, 2))
    for path in (
        stored(tmp_path / "e.nii", data, {"FrameTime": 40}),
        stored(tmp_path / "f.nii", data, {"PhotometricInterpretation": "MONOCHROME2"}),
    ):
        assert np.array_equal(read_nifti(path, "US").pixels, PICTURE.transpose(2, 1, 0))


def test_a_cine_of_three_frames_goes_out_and_comes_back(tmp_path):
    from medfuse.io.export import write_nifti

    path = stored(tmp_path / "a.nii", PICTURE, {"FrameTime": 40})
    again = write_nifti(read_nifti(path, "US"), tmp_path / "b.nii.gz")
    (tmp_path / "b.json").unlink()
    assert np.array_equal(read_nifti(again, "US").pixels, PICTURE.transpose(2, 1, 0))


@pytest.mark.parametrize("shape", [(24, 20, 3), (3, 24, 20)])
def test_a_colour_picture_is_no_volume_of_three_slices(tmp_path, shape):
    data = np.moveaxis(PICTURE, -1, 0) if shape[0] == 3 else PICTURE
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UnreadableError, match="slices or colours, nothing says which"):
        read_nifti(tmp_path / "a.nii", "MR")
    nib.save(nib.Nifti1Image(data, np.diag([0.5, 0.5, 5, 1])), tmp_path / "b.nii")
    assert read_nifti(tmp_path / "b.nii", "MR").pixels.shape == shape  # somebody measured its steps


@pytest.mark.parametrize("frames", [4, 12])
def test_other_numbers_of_frames_are_frames(tmp_path, frames):
    data = np.random.default_rng(0).integers(0, 255, (24, 20, frames), np.uint8)
    assert read_nifti(stored(tmp_path / "a.nii", data), "US").frames == frames


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_manifests_in_the_encodings_of_windows(tmp_path, encoding):
    (tmp_path / "m.csv").write_bytes("case_id,path,modality\nSchädel,a.nii,CT\n".encode(encoding))
    line = json.dumps({"case_id": "Schädel", "images": []}, ensure_ascii=False)
    (tmp_path / "m.jsonl").write_bytes(f"{line}\n".encode(encoding))
    for name in ("m.csv", "m.jsonl"):
        assert [row.case_id for row in read_manifest(tmp_path / name)] == ["Schädel"]


def test_units_of_a_cine_are_said(tmp_path):
    image = read_nifti(nrrd(tmp_path / "a.nrrd", NO_SPACE + 'units: "um" "um" "um"\n'), "US")
    assert "units of 0.001 mm" in image.warnings[0]
