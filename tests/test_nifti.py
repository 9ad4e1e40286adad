"""NIfTI, MetaImage, pictures and manifests: read exactly, or refused with one sentence."""

from __future__ import annotations

import json
import struct

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

from medfuse.errors import UnreadableError, UserError
from medfuse.io.manifest import ManifestImage, ManifestRow, read_manifest
from medfuse.io.nifti import read_nifti
from medfuse.io.picture import read_picture
from medfuse.io.read import open_case
from medfuse.io.rows import read_row
from medfuse.io.volume_files import checked_affine
from medfuse.training.data.check import file_problem

AFFINE = np.array([[-2.0, 0.1, 0, 30], [0.1, 2.0, 0, -40], [0, 0, 3.0, 5], [0, 0, 0, 1]])


def write(path, data=None, affine=AFFINE, **header):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4) if data is None else data, affine)
    for k, v in header.items():
        image.header[k] = v
    nib.save(image, path)
    return path


def singular(path):
    """A header whose sform has an empty row; nibabel would mend it on saving, so the bytes are written by
    hand."""
    raw = bytearray(write(path).read_bytes())
    raw[312:328] = bytes(16)  # srow_z
    path.write_bytes(raw)


def test_affine_and_values_are_kept(tmp_path):
    image = read_nifti(write(tmp_path / "a.nii.gz"), "CT", "portal")
    assert np.allclose(image.affine, AFFINE, atol=1e-5)
    assert image.pixels[1, 2, 3] == 23
    assert image.role == "portal"
    assert image.frame_of_reference.startswith("file:")


def test_slope_is_applied(tmp_path):
    """scl_slope and scl_inter are written into the header by hand (offsets 112 and 116 of NIfTI-1)."""
    path = write(tmp_path / "a.nii", np.full((3, 3, 3), 10, np.int16))
    raw = bytearray(path.read_bytes())
    raw[112:120] = struct.pack("<ff", 2.0, -5.0)
    path.write_bytes(raw)
    assert np.allclose(read_nifti(path, "CT").pixels, 15.0)


def test_nifti_2_and_metaimage_agree(tmp_path):
    import SimpleITK as sitk

    data = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    nib.save(nib.Nifti2Image(data, np.diag([1.5, 2, 3, 1])), tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(data, np.diag([1.5, 2, 3, 1])), tmp_path / "b.nii")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "b.nii")), str(tmp_path / "a.mha"))
    a = read_nifti(tmp_path / "a.nii", "MR")
    b = read_nifti(tmp_path / "a.mha", "MR")
    assert np.allclose(a.pixels, b.pixels)
    assert np.allclose(a.affine, b.affine, atol=1e-4)


def test_sidecar_states_the_modality(tmp_path):
    path = write(tmp_path / "a.nii.gz")
    (tmp_path / "a.json").write_text(json.dumps({"Modality": "MR", "medfuse_role": "t2"}))
    assert read_nifti(path).role == "t2"
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UnreadableError, match="not valid JSON"):
        read_nifti(path)


@pytest.mark.parametrize(
    ("make", "modality", "words"),
    [
        (lambda p: write(p), "", "modality is stated nowhere"),
        (lambda p: write(p), "XA", "modality XA is not known; medfuse reads US, CT, MR and PT"),
        (singular, "CT", "singular"),
        (lambda p: write(p, np.zeros((2, 2, 2, 3), np.int16)), "CT", "4D"),
        (lambda p: write(p, np.full((2, 2, 2), np.nan, np.float32)), "CT", "NaN"),
        (lambda p: p.write_bytes(b"nothing like it"), "CT", "not a readable NIfTI"),
        (lambda p: p.write_bytes(write(p).read_bytes()[:380]), "CT", "not a readable NIfTI"),
    ],
)
def test_refusals_name_what_is_wrong(tmp_path, make, modality, words):
    path = tmp_path / "bad.nii"
    make(path)
    with pytest.raises(UnreadableError, match=words) as e:
        read_nifti(path, modality)
    assert "bad.nii" in str(e.value)


def test_no_orientation_and_conflicting_forms(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), None)
    image.header["sform_code"] = 0
    image.header["qform_code"] = 0
    nib.save(image, tmp_path / "none.nii")
    with pytest.raises(UnreadableError, match="no orientation"):
        read_nifti(tmp_path / "none.nii", "CT")
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4))
    image.set_sform(np.eye(4), 1)
    image.set_qform(np.diag([1.0, 1, 1, 1]) + np.array([[0, 0, 0, 9], [0] * 4, [0] * 4, [0] * 4]), 1)
    nib.save(image, tmp_path / "two.nii")
    with pytest.raises(UnreadableError, match=r"disagree by 9\.0 mm"):
        read_nifti(tmp_path / "two.nii", "CT")


def test_ultrasound_nifti_and_picture(tmp_path):
    data = np.zeros((8, 6, 1, 3), np.uint8)
    data[5, 2, 0, 1] = 200
    image = nib.Nifti1Image(data, None)
    image.header.set_zooms((0.4, 0.4, 1, 0.05))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "u.nii")
    us = read_nifti(tmp_path / "u.nii", "US")
    assert us.pixels.shape == (3, 6, 8)
    assert us.pixels[1, 2, 5] == 200
    assert us.spacing == pytest.approx((0.4, 0.4))
    assert us.frame_ms == pytest.approx(50)
    Picture.fromarray(np.full((5, 7), 9, np.uint8)).save(tmp_path / "u.png")
    still = read_picture(tmp_path / "u.png", "US")
    assert still.pixels.shape == (1, 5, 7)
    assert still.spacing is None
    with pytest.raises(UnreadableError, match="no HU"):
        read_picture(tmp_path / "u.png", "CT")
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(UnreadableError, match="not a readable picture"):
        read_picture(tmp_path / "bad.png", "US")


def test_manifest_jsonl_and_csv_say_the_same(tmp_path):
    write(tmp_path / "a.nii")
    write(tmp_path / "b.nii")
    images = [
        {"path": "a.nii", "modality": "CT", "role": "portal"},
        {"path": "b.nii", "modality": "MR", "role": "t2"},
    ]
    (tmp_path / "m.jsonl").write_text(
        json.dumps({"case_id": "1", "split": "test", "images": images, "labels": {"x": 1}}) + "\n"
    )
    (tmp_path / "m.csv").write_text(
        "case_id,path,modality,role,split,label:x\n1,a.nii,CT,portal,test,1\n1,b.nii,MR,t2,test,1\n"
    )
    rows = [read_manifest(tmp_path / n)[0] for n in ("m.jsonl", "m.csv")]
    assert rows[0].labels == rows[1].labels == {"x": 1}
    cases = [open_case(r, allow_empty=True) for r in rows]
    assert [[(i.modality, i.role) for i in c.images] for c in cases] == [[("CT", "portal"), ("MR", "t2")]] * 2


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.jsonl", "", "is empty"),
        ("m.jsonl", "{broken\n", "line 1"),
        ("m.jsonl", '{"case_id": "a"}\n{"case_id": "a"}\n', "appears twice"),
        ("m.csv", "case_id,path\n1,a.nii\n", "lacks the column"),
        ("m.csv", "case_id,path,modality,label:x\n1,a.nii,CT,maybe\n", "labels are from 0 to 1, or empty"),
    ],
)
def test_bad_manifests(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        read_manifest(tmp_path / name)


def test_a_vanished_path_is_refused_by_name(tmp_path):
    (tmp_path / "m.jsonl").write_text(
        json.dumps({"case_id": "1", "images": [{"path": "gone.nii", "modality": "CT"}]}) + "\n"
    )
    case = open_case(read_manifest(tmp_path / "m.jsonl")[0], allow_empty=True)
    assert case.refused[0].path.endswith("gone.nii")
    assert case.state("CT") == "failed"
    with pytest.raises(UserError, match="no such manifest"):
        read_manifest(tmp_path / "none.jsonl")


def test_a_volume_of_a_4d_file_is_chosen(tmp_path):
    """Once a role in a manifest; without a choice the file is refused with the way out."""
    data = np.arange(4 * 5 * 6 * 3, dtype=np.float32).reshape(4, 5, 6, 3)
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), tmp_path / "dce.nii.gz")
    images = [
        ManifestImage(path="dce.nii.gz", modality="MR", role=role, volume=n)
        for n, role in enumerate(("t1_native", "t1_arterial", "t1_portal_venous"))
    ]
    row = ManifestRow(case_id="a", images=images)
    row.root = str(tmp_path)
    case, _ = read_row(row)
    assert not case.refused
    assert [i.role for i in case.images] == [i.role for i in images]
    for n, image in enumerate(case.images):
        np.testing.assert_array_equal(image.pixels, data[..., n])
    with pytest.raises(UnreadableError, match='name each volume in a manifest: "volume": N'):
        read_nifti(tmp_path / "dce.nii.gz", "MR")
    with pytest.raises(UnreadableError, match="holds 3 volumes, from 0 on; there is no 3"):
        read_nifti(tmp_path / "dce.nii.gz", "MR", volume=3)
    assert file_problem(tmp_path, images[2]) == ""
    assert '"volume" names one of a 4D file' in file_problem(
        tmp_path, ManifestImage(path="dce.nii.gz", modality="MR")
    )
    nib.save(nib.Nifti1Image(data[..., 0], np.diag([2.0, 2, 2, 1])), tmp_path / "one.nii.gz")
    with pytest.raises(UnreadableError, match="is no 4D file"):
        read_nifti(tmp_path / "one.nii.gz", "MR", volume=0)


def test_a_volume_that_is_no_number_is_named_with_its_line(tmp_path):
    (tmp_path / "m.csv").write_text("case_id,path,modality,volume\na,x.nii,MR,1\nb,y.nii,MR,two\n")
    with pytest.raises(UserError, match=r"m.csv line 3: volume: Input should be a valid integer"):
        read_manifest(tmp_path / "m.csv")


def test_a_small_tilt_beside_half_a_turn_survives_being_written(tmp_path):
    """A volume in LPS, tilted by less than a degree: the quaternion loses it, the image must not."""
    from scipy.spatial.transform import Rotation

    from medfuse.io.export import set_place

    for k in range(40):
        tilt = Rotation.from_euler("xyz", [0.02 * k, -0.013 * k, 0.007 * k], degrees=True).as_matrix()
        affine = np.eye(4)
        affine[:3, :3] = tilt @ np.diag([-1, -1, 1]) @ np.diag([0.8, 0.8, 2.5])
        affine[:3, 3] = [180, 150, -300]
        nifti = nib.Nifti1Image(np.zeros((400, 400, 100), np.int16), None)
        nifti.header.set_xyzt_units("mm")
        set_place(nifti, affine)
        if nifti.header["qform_code"]:
            corner = np.array([399, 399, 99, 1])
            assert np.allclose(nifti.get_qform() @ corner, affine @ corner, atol=0.05)
        assert np.allclose(checked_affine(tmp_path, nifti.header), affine, atol=1e-4)
