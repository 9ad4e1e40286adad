"""The real files under MEDFUSE_SHARED: codecs, vendors, geometry against references, cine, and what must be
refused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from medfuse.errors import UnreadableError
from medfuse.io.cases import find_cases
from medfuse.io.child import Child, ChildFailed
from medfuse.io.decode import decode, read_pixels
from medfuse.io.headers import read_header
from medfuse.io.roles import role_of

pytestmark = pytest.mark.shared


def images_of(path):
    found = find_cases(path)
    return [i for c in found.cases for i in c.images], found


@pytest.mark.parametrize("name", ["CT1", "MR1", "US1"])
@pytest.mark.parametrize("codec", ["RLE", "JPLL", "JLSL", "J2KR"])
def test_lossless_codecs_equal_the_reference(shared, name, codec):
    root = shared / "dicom" / "nema_wg04"
    path = root / codec / f"{name}_{codec}.dcm"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the set")
    reference = root / "REF" / f"{name}_UNC.dcm"
    a = read_header(path)
    b = read_header(reference)
    assert np.array_equal(read_pixels(path, a.header), read_pixels(reference, b.header))


def test_real_mr_series_has_its_geometry(shared):
    (image,), found = images_of(shared / "dicom" / "tcia_vs_seg_001_t1")
    assert image.pixels.shape == (512, 512, 12)
    assert image.geometry.outcome == "exact"
    assert image.spacing == pytest.approx((0.4102, 0.4102, 1.5), abs=1e-3)
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(shared / "dicom" / "tcia_vs_seg_001_t1")))
    other = reader.Execute()
    for index in ((0, 0, 0), (511, 0, 11), (100, 400, 5)):
        lps = np.array(other.TransformIndexToPhysicalPoint(index))
        assert np.abs((image.affine @ [*index, 1])[:3] - lps * [-1, -1, 1]).max() < 1e-3
        assert image.pixels[index] == other[index]


def test_gantry_tilt_and_steps_are_reported(shared):
    images, found = images_of(shared / "dicom" / "dcm_qa_ct")
    assert len(images) == 2
    for image in images:
        assert image.geometry.outcome == "tilted"
        assert "18.50°" in image.geometry.measured
    assert sorted(i.geometry.measured.split("step ")[1][:4] for i in images) == ["4.00", "7.00"]
    assert sum(found.scan.ledger.values()) == len(
        [p for p in (shared / "dicom" / "dcm_qa_ct").rglob("*") if p.is_file()]
    )


def canonical(array, affine):
    """Voxel axes in one order and direction: the reference flips some, which moves no voxel in the
    patient."""
    return nib.as_closest_canonical(nib.Nifti1Image(np.ascontiguousarray(array), affine))


def assert_same_volume(image, array, affine, where):
    ours = canonical(image.pixels, image.affine)
    theirs = canonical(array, affine)
    corner = np.array([*np.array(ours.shape) - 1, 1])
    assert ours.shape == theirs.shape, where
    assert np.abs(ours.affine @ corner - theirs.affine @ corner).max() < 2e-3, where
    assert np.abs(ours.affine[:3, 3] - theirs.affine[:3, 3]).max() < 2e-3, where
    a = np.asarray(ours.dataobj, float)
    b = np.asarray(theirs.dataobj, float)
    assert np.abs(a - b).max() <= 2e-5 * np.abs(b).max(), where


def test_vendor_volumes_equal_the_reference_nifti(shared):
    """GE, Philips, Siemens, Hitachi, classic and enhanced, four codings: places in mm and values, volume by
    volume."""
    root = shared / "dicom" / "dicom2nifti"
    compared = 0
    for path in sorted(root.rglob("001_ground_truth.nii.gz")):
        reference = nib.load(path)
        if reference.get_data_dtype().names:  # a colour MR is set aside
            continue
        images, _ = images_of(path.parent / "001")
        volumes = np.asarray(reference.dataobj)
        volumes = volumes[..., None] if volumes.ndim == 3 else volumes
        assert len(images) == volumes.shape[3], path
        for n, image in enumerate(images):
            assert_same_volume(image, volumes[..., n], reference.affine, path)
            compared += 1
    assert compared >= 17


def test_enhanced_mr_equals_the_reference_conversion(shared):
    """Siemens XA10 time points, and a Philips field map whose two parts are scaled apart (private scale
    slope)."""
    root = shared / "dicom" / "dcm_qa_enh"
    siemens, _ = images_of(root / "In" / "Siemens")
    reference = nib.load(root / "Ref" / "Siemens_REST1_w_SMS_PF7-8_6.nii")
    volumes = np.asarray(reference.dataobj)
    assert len(siemens) == volumes.shape[3] == 4
    for n, image in enumerate(siemens):
        assert_same_volume(image, volumes[..., n], reference.affine, n)
    philips, _ = images_of(root / "In" / "Philips")
    names = ("Philips_WIP_B0_NS_801_e1.nii", "Philips_WIP_B0_NS_801_e2_fieldmaphz.nii")
    for image, name in zip(philips, names, strict=True):
        reference = nib.load(root / "Ref" / name)
        assert_same_volume(image, np.asarray(reference.dataobj), reference.affine, name)
        assert "private scale slope" in image.warnings[0]


def test_what_others_refuse_is_flagged(shared):
    root = shared / "dicom" / "dicom2nifti" / "failing"
    (tilted,), _ = images_of(root / "gantrytilting" / "001")
    assert (tilted.geometry.outcome, tilted.geometry.measured) == (
        "tilted",
        "gantry tilt 14.00°, step 4.85 mm along the normal",
    )
    (short,), _ = images_of(root / "slicecount" / "001")
    assert "too few to check" in short.warnings[0]


def test_cine_ultrasound(shared):
    (image,), _ = images_of(
        shared / "dicom" / "orthanc_tests" / "US_HP_cine_34frames_jpegbaseline_Issue16.dcm"
    )
    assert image.pixels.shape == (34, 430, 480, 3)
    assert image.frame_ms == pytest.approx(30)
    assert image.region_2d is not None
    assert image.grey.shape == (34, 430, 480)
    (image,), _ = images_of(shared / "dicom" / "fo_dicom" / "US_Acuson_Sequoia_cine_65frames_DIRW0007.dcm")
    assert image.pixels.shape[0] == 65


@pytest.mark.parametrize(
    "name",
    [
        "US_GE_LOGIQ700_bigendian",
        "US_Philips_ClearVue650_palette_implicit",
        "US_ATL_HDI5000_YBR_FULL_Issue19",
    ],
)
def test_ultrasound_colour_spaces(shared, name):
    (image,), _ = images_of(shared / "dicom" / "orthanc_tests" / f"{name}.dcm")
    assert image.pixels.dtype == np.uint8
    assert image.pixels.std() > 5


@pytest.mark.parametrize(
    "name", ["emri_small", "emri_small_RLE", "emri_small_jpeg_2k_lossless", "emri_small_jpeg_ls_lossless"]
)
def test_multi_frame_codings_agree(shared, name):
    root = shared / "dicom" / "pydicom_data"
    paths = [root / "emri_small_big_endian.dcm", root / f"{name}.dcm"]
    base, got = (read_pixels(p, read_header(p).header) for p in paths)
    assert base.shape[0] == 10
    assert np.array_equal(base, got)


def test_a_truncated_multi_frame_file_is_refused(shared):
    path = shared / "dicom" / "pydicom_data" / "emri_small_jpeg_2k_lossless_too_short.dcm"
    with pytest.raises(UnreadableError, match="holds no pixel data"):
        read_pixels(path, read_header(path).header)
    images, found = images_of(path)
    assert not images
    assert found.scan.refused[0].path == str(path)


def test_whole_dicom_folder_is_accounted_for(shared):
    images, found = images_of(shared / "dicom")
    files = [p for p in (shared / "dicom").rglob("*") if p.is_file()]
    assert sum(found.scan.ledger.values()) == len(files)
    assert len(found.scan.entries) == len(files)
    assert found.scan.ledger["damaged"] < 20
    for entry in found.scan.entries:
        assert entry.status == "read" or entry.reason


def test_roles_of_real_headers_are_not_invented(shared):
    entry = read_header(next((shared / "dicom" / "tcia_vs_seg_001_t1").glob("*.dcm")))
    assert role_of(entry.header, "MR")[0] in ("unknown", "t1_portal")


def test_a_child_that_hangs_or_dies_is_replaced(shared):
    child = Child()
    path = shared / "dicom" / "nema_wg04" / "J2KR" / "CT1_J2KR.dcm"
    with pytest.raises(ChildFailed, match="was stopped"):
        child.call(decode, path, limit=1e-6)
    assert child.call(decode, path, limit=60).shape == (1, 512, 512)
    child._process.kill()
    child._process.wait()
    assert child.call(decode, path, limit=60).shape == (1, 512, 512)
    child.stop()
