"""Volume files as people have them: axes of length one, other units, colours, names that lie, masks on other
grids."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset

from medfuse.errors import UnreadableError
from medfuse.io.export import write_nifti
from medfuse.io.masks import read_mask
from medfuse.io.nifti import read_nifti
from medfuse.io.roles import role_of, traits
from medfuse.io.scan import scan
from medfuse.io.sidecar import read_sidecar

REPORTED = Path(os.environ.get("MEDFUSE_SHARED", "../shared")) / "data" / "reports_of_others"
AFFINE = np.array([[0.0, 0, 5, -30], [1.2, 0, 0, -20], [0, 1.2, 0, 10], [0, 0, 0, 1]])


def write(path: Path, data: np.ndarray, affine: np.ndarray | None = AFFINE, units: str = "mm") -> Path:
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units(units, "msec")
    nib.save(image, path)
    return path


def lies(image, value: float) -> np.ndarray:
    """(3,) RAS+ mm of the first voxel of a value."""
    at = np.argwhere(image.pixels == value)[0]
    return image.affine[:3, :3] @ at + image.affine[:3, 3]


@pytest.mark.parametrize("shape", [(1, 7, 5), (7, 1, 5), (7, 5, 1), (1, 1, 5), (1, 7, 1), (7, 5, 1, 1)])
def test_an_axis_of_length_one_stays_where_it_is(tmp_path, shape):
    data = np.zeros(shape, np.float32)
    at = tuple(n - 1 for n in shape[:3])
    data[at] = 900
    image = read_nifti(write(tmp_path / "a.nii", data), "MR")
    assert image.pixels.shape == shape[:3]
    assert np.allclose(lies(image, 900), AFFINE[:3, :3] @ at + AFFINE[:3, 3])


@pytest.mark.parametrize("shape", [(4, 5, 1, 3), (4, 5, 6, 3), (4, 5, 1, 1, 3)])
def test_time_and_vectors_are_no_third_axis(tmp_path, shape):
    path = write(tmp_path / "a.nii", np.zeros(shape, np.float32))
    with pytest.raises(UnreadableError, match=r"is 4D|holds colours|vectors or tensors"):
        read_nifti(path, "CT")


@pytest.mark.parametrize(("units", "mm"), [("micron", 1e-3), ("meter", 1e3), ("mm", 1.0)])
def test_units_of_space_become_mm_and_are_said(tmp_path, units, mm):
    affine = np.diag([250.0, 250, 500, 1])
    image = read_nifti(write(tmp_path / "a.nii", np.zeros((3, 3, 3), np.int16), affine, units), "CT")
    assert image.spacing == pytest.approx((250 * mm, 250 * mm, 500 * mm))
    assert bool(image.warnings) == (mm != 1.0)


def test_micrometres_are_a_place(tmp_path):
    image = read_nifti(
        write(tmp_path / "a.nii", np.zeros((3, 3, 3), np.int16), np.diag([0.0009] * 3 + [1])), "CT"
    )
    assert image.spacing == pytest.approx((0.0009,) * 3)


def test_colour_frames_by_rgb_voxels_and_by_a_fifth_axis(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 5, 1, 4, 3), np.uint8)  # W, H, 1, T, colour
    fifth = read_nifti(write(tmp_path / "a.nii", pixels, None), "US")
    assert fifth.pixels.shape == (4, 5, 6, 3)
    assert np.array_equal(fifth.pixels, pixels[:, :, 0].transpose(2, 1, 0, 3))
    rgb = np.ascontiguousarray(pixels).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    assert np.array_equal(read_nifti(write(tmp_path / "b.nii", rgb, None), "US").pixels, fifth.pixels)
    again = read_nifti(write_nifti(fifth, tmp_path / "out.nii.gz"))
    assert np.array_equal(again.pixels, fifth.pixels)
    with pytest.raises(UnreadableError, match="holds colours"):
        read_nifti(tmp_path / "b.nii", "CT")


def test_what_a_volume_was_acquired_with_goes_through_a_sidecar(tmp_path):
    image = read_nifti(write(tmp_path / "a.nii", np.zeros((3, 3, 3), np.float32)), "MR")
    image.traits = {"echo_ms": ("4.6", 1.0), "b_value": ("800", 1.0), "phase": ("portal", 0.5)}
    path = write_nifti(image, tmp_path / "out.nii.gz")
    side = json.loads((tmp_path / "out.json").read_text())
    assert side["EchoTime"] == pytest.approx(0.0046)  # BIDS: seconds
    assert side["DiffusionBValue"] == 800
    assert read_nifti(path).traits == {"echo_ms": ("4.6", 1.0), "b_value": ("800", 1.0)}


@pytest.mark.parametrize(
    ("volume", "side"), [("CT.NII.GZ", "CT.json"), ("a.nii.gz", "A.JSON"), ("a.nii", "a.Json")]
)
def test_a_sidecar_is_found_in_any_case_and_with_a_mark_before_it(tmp_path, volume, side):
    write(tmp_path / "x.nii.gz", np.zeros((2, 2, 2), np.int16))
    data = (tmp_path / "x.nii.gz").read_bytes()
    (tmp_path / volume).write_bytes(data if volume.lower().endswith(".gz") else gzip.decompress(data))
    (tmp_path / side).write_text(json.dumps({"Modality": "CT", "EchoTime": [1, 2]}), encoding="utf-8-sig")
    assert read_nifti(tmp_path / volume).modality == "CT"
    (tmp_path / side).write_text('{"Modality": ["CT"]}')
    with pytest.raises(UnreadableError, match="Modality"):
        read_sidecar(tmp_path / volume)


def test_a_name_that_lies_about_gzip(tmp_path):
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    plain = write(tmp_path / "a.nii", data)
    packed = write(tmp_path / "b.nii.gz", data)
    shutil.copy(packed, tmp_path / "packed.nii")
    shutil.copy(plain, tmp_path / "plain.nii.gz")
    for name in ("packed.nii", "plain.nii.gz"):
        assert np.array_equal(read_nifti(tmp_path / name, "CT").pixels, data)


@pytest.mark.parametrize("suffix", [".mhd", ".nrrd", ".nhdr", ".hdr"])
def test_other_containers_lie_where_the_nifti_lies(tmp_path, suffix):
    import SimpleITK as sitk

    data = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    write(tmp_path / "a.nii", data)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / f"b{suffix}"))
    a = read_nifti(tmp_path / "a.nii", "MR")
    b = read_nifti(tmp_path / f"b{suffix}", "MR")
    assert np.allclose(a.pixels, b.pixels)
    assert np.allclose(a.affine, b.affine, atol=1e-4)


def test_other_containers_are_kept_in_the_library_as_what_they_are(tmp_path, home):
    import SimpleITK as sitk

    from medfuse.library import Library, store

    write(tmp_path / "a.nii", np.arange(60, dtype=np.int16).reshape(5, 4, 3))
    for name in ("b.mha", "c.NRRD", "d.mhd"):
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / name.lower()))
    (tmp_path / "c.nrrd").rename(tmp_path / "c.NRRD")
    for name in ("b.mha", "c.NRRD"):
        case = store.load_case(Library(), store.add_nifti(Library(), [(tmp_path / name, "CT")]))
        assert np.array_equal(case.images[0].pixels, read_nifti(tmp_path / "a.nii", "CT").pixels)
    with pytest.raises(UnreadableError, match="voxels in another file"):
        store.add_nifti(Library(), [(tmp_path / "d.mhd", "CT")])


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.raw", "LIST", "%d.raw"])
def test_a_header_opens_no_other_file_of_this_machine(tmp_path, name):
    (tmp_path / "secret.raw").write_bytes(bytes(8))
    inner = tmp_path / "study"
    inner.mkdir()
    (inner / "a.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
        f"ElementSpacing = 1 1 1\nElementDataFile = {name}\n"
    )
    with pytest.raises(UnreadableError, match="only one file beside it is read"):
        read_nifti(inner / "a.mhd", "CT")


def test_a_mask_is_placed_by_its_affine_and_not_by_its_shape(tmp_path):
    """The same anatomy stored the other way round, finer, and of another image."""
    image = read_nifti(
        write(tmp_path / "i.nii", np.zeros((10, 8, 6), np.float32), np.diag([2.0, 2, 3, 1])), "CT"
    )
    truth = np.zeros((10, 8, 6), np.uint8)
    truth[6:9, 1:3, 4:6] = 2
    flip = np.array([[-2.0, 0, 0, 18], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    flipped = write(tmp_path / "flipped.nii", np.ascontiguousarray(truth[::-1]), flip)
    assert np.array_equal(read_mask(flipped, image), truth)
    turned = write(
        tmp_path / "turned.nii",
        np.ascontiguousarray(truth.transpose(2, 0, 1)),
        np.array([[0.0, 2, 0, 0], [0, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 1]]),
    )
    assert np.array_equal(read_mask(turned, image), truth)
    fine = write(
        tmp_path / "fine.nii",
        truth.repeat(2, 0),
        np.array([[1.0, 0, 0, -0.5], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]),
    )
    assert np.array_equal(read_mask(fine, image), truth)
    away = write(
        tmp_path / "away.nii", truth, np.array([[2.0, 0, 0, 500], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    )
    with pytest.raises(UnreadableError, match="lies elsewhere"):
        read_mask(away, image)
    with pytest.raises(UnreadableError, match="no orientation"):
        read_mask(write(tmp_path / "none.nii", truth, None), image)
    with pytest.raises(UnreadableError, match="class numbers"):
        read_mask(write(tmp_path / "half.nii", truth * np.float32(0.25), np.diag([2.0, 2, 3, 1])), image)


@pytest.mark.parametrize(
    ("modality", "words", "role"),
    [
        ("MR", "Liver biopsy T2 op plan", "t2"),
        ("CT", "Abdomen, intravenous", "unknown"),
        ("CT", "Abdomen venous 5.0", "portal"),
        ("CT", "abd_venous_1mm", "portal"),
        ("CT", "3D_art", "arterial"),
        ("CT", "Alternative recon", "unknown"),
        ("MR", "difficult breathing", "unknown"),
        ("MR", "diffusion b800", "dwi"),
        ("MR", "Apparent Diffusion Coefficient (mm2/s)", "unknown"),
        ("MR", "ep2d_diff_b800_ADC", "unknown"),
        ("MR", "T2 map", "unknown"),
        ("MR", "t1_vibe_opposed", "t1_opposed"),
    ],
)
def test_roles_come_from_whole_words(modality, words, role):
    ds = Dataset()
    ds.SeriesDescription = words
    assert role_of(ds, modality)[0] == role


def test_an_agent_given_intravenously_names_no_phase():
    ds = Dataset()
    ds.SeriesDescription = "Abdomen"
    ds.ContrastBolusAgent = "Iohexol intravenous"
    found = traits(ds, "CT")
    assert found["phase"][0] == "unknown"
    assert found["contrast"][0] == "yes"


def reported(name: str) -> Path:
    path = REPORTED / name / "input"
    if not path.is_dir():
        pytest.skip(f"no reported input {name} (MEDFUSE_SHARED)")
    return path


def test_the_reported_files_are_right():
    image = read_nifti(reported("nifti-micron") / "ct.nii.gz")
    assert image.spacing == pytest.approx((0.25, 0.25, 0.5))
    image = read_nifti(reported("nifti-sagittal-slice") / "sag.nii.gz")
    assert image.pixels.shape == (1, 40, 30)
    assert lies(image, 900) == pytest.approx((10.0, -14.0, 35.6), abs=0.01)
    image = read_nifti(reported("us-colour-nifti") / "us.nii.gz")
    assert image.pixels.shape == (4, 32, 24, 3)  # 24 wide, 32 high
    assert image.frame_ms == pytest.approx(40)
    assert read_nifti(reported("sidecar-uppercase") / "CT.NII.GZ").modality == "CT"
    assert read_nifti(reported("microct-nifti") / "ct.nii.gz").spacing == pytest.approx((0.009,) * 3)


def nrrd(path: Path, sizes: str, directions: str, kinds: str) -> Path:
    numbers = np.arange(np.prod([int(n) for n in sizes.split()]), dtype=np.float32)
    head = f"NRRD0004\ntype: float\ndimension: 4\nspace: left-posterior-superior\nsizes: {sizes}\n"
    head += f"space directions: {directions}\nkinds: {kinds}\nendian: little\nencoding: raw\n"
    path.write_bytes(f"{head}space origin: (0,0,0)\n\n".encode() + numbers.tobytes())
    return path


@pytest.mark.parametrize("first", [True, False])
def test_a_volume_of_a_nrrd_that_lists_several(tmp_path, first):
    axes = "(1,0,0) (0,2,0) (0,0,3)"
    if first:
        path = nrrd(tmp_path / "a.nrrd", "3 6 5 4", f"none {axes}", "list domain domain domain")
        right = np.arange(360, dtype=np.float32).reshape(4, 5, 6, 3)[..., 1].T
    else:
        path = nrrd(tmp_path / "a.nrrd", "6 5 4 3", f"{axes} none", "domain domain domain list")
        right = np.arange(360, dtype=np.float32).reshape(3, 4, 5, 6)[1].T
    with pytest.raises(UnreadableError, match=r"is 4D \(6, 5, 4, 3\); split it, or name each volume"):
        read_nifti(path, "MR")
    image = read_nifti(path, "MR", volume=1)
    assert np.array_equal(image.pixels, right)
    assert image.spacing == (1, 2, 3)


def test_vectors_in_a_nrrd_are_named(tmp_path):
    axes = "none (1,0,0) (0,1,0) (0,0,1)"
    path = nrrd(tmp_path / "a.nrrd", "3 6 5 4", axes, "vector domain domain domain")
    with pytest.raises(
        UnreadableError, match=r"3 values of float32 a voxel \(6 × 5 × 4 voxels\), so vectors"
    ):
        read_nifti(path, "MR")


def test_a_volume_of_a_4d_metaimage(tmp_path):
    import SimpleITK as sitk

    numbers = np.random.default_rng(0).random((3, 4, 5, 6), np.float32)
    image = sitk.GetImageFromArray(numbers, isVector=False)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    assert np.array_equal(read_nifti(tmp_path / "a.mha", "MR", volume=2).pixels, numbers[2].T)
    with pytest.raises(UnreadableError, match=r"is 4D \(6, 5, 4, 3\)"):
        read_nifti(tmp_path / "a.mha", "MR")


def test_halves_of_a_pair_that_are_packed(tmp_path):
    data = np.random.default_rng(0).random((5, 6, 7), np.float32)
    nib.save(nib.Nifti1Pair(data, AFFINE), tmp_path / "a.hdr")
    for half in ("hdr", "img"):
        packed = gzip.compress((tmp_path / f"a.{half}").read_bytes())
        (tmp_path / f"b.{half}.gz").write_bytes(packed)
    (tmp_path / "a.img").unlink()
    (tmp_path / "b.img.gz").rename(tmp_path / "a.img.gz")
    assert np.array_equal(read_nifti(tmp_path / "a.hdr", "MR").pixels, data)
    entries = {e.path.name: e for e in scan(tmp_path).entries}
    assert entries["a.img.gz"].reason == "the voxels of a.hdr, read with it"
    assert entries["b.hdr.gz"].status == "unsupported"
    assert "unpack .hdr.gz and .img.gz side by side" in entries["b.hdr.gz"].reason
