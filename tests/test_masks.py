"""Masks are laid on their image by both affines: a mirrored one of equal shape is turned, never taken as it
is."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from slices import write_slice

from medfuse.errors import UnreadableError
from medfuse.io.manifest import ManifestImage, ManifestRow
from medfuse.io.masks import read_mask
from medfuse.io.read import open_case
from medfuse.io.rows import labelled

SHAPE = (20, 16, 6)


@pytest.fixture
def ct(tmp_path):
    """A DICOM CT of 20 × 16 × 6 voxels of 1 × 1 × 3 mm: its RAS+ axes run left and back."""
    folder = tmp_path / "ct"
    folder.mkdir()
    for n in range(SHAPE[2]):
        pixels = np.zeros((SHAPE[1], SHAPE[0]), np.uint16).tobytes()
        write_slice(
            folder / f"{n}.dcm",
            position=(0, 0, 3.0 * n),
            number=n + 1,
            size=(SHAPE[1], SHAPE[0]),
            spacing=(1.0, 1.0),
            PixelData=pixels,
        )
    (image,) = open_case(folder).images
    assert image.pixels.shape == SHAPE
    return image


def truth() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 3:8, 1:3] = 1
    labels[15:18, 10:14, 4] = 2
    return labels


def save(path, labels, affine):
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


def mirrored(labels, affine, axes):
    """The same voxels at the same places, stored the other way round along some axes."""
    turn = np.eye(4)
    for axis in axes:
        turn[axis, axis] = -1
        turn[axis, 3] = labels.shape[axis] - 1
    return np.flip(labels, axes).copy(), affine @ turn


@pytest.mark.parametrize("axes", [(), (0,), (1,), (0, 1), (0, 1, 2)])
def test_a_mirrored_mask_of_equal_shape_is_turned(ct, tmp_path, axes):
    path = save(tmp_path / "m.nii.gz", *mirrored(truth(), ct.affine, axes))
    np.testing.assert_array_equal(read_mask(path, ct), truth())
    row = ManifestRow(
        case_id="a", images=[ManifestImage(path="ct", mask="m.nii.gz", modality="CT")], root=str(tmp_path)
    )
    np.testing.assert_array_equal(labelled(row).masks[0], truth())


def test_permuted_cropped_and_finer_masks_lie_where_they_lie(ct, tmp_path):
    labels = truth()
    swap = np.eye(4)[[2, 0, 1, 3]]
    path = save(tmp_path / "p.nii", labels.transpose(1, 2, 0).copy(), ct.affine @ swap)
    np.testing.assert_array_equal(read_mask(path, ct), labels)
    shift = np.eye(4)
    shift[:3, 3] = (1, 2, 1)
    path = save(tmp_path / "c.nii", labels[1:19, 2:15, 1:5].copy(), ct.affine @ shift)
    np.testing.assert_array_equal(read_mask(path, ct), labels)
    fine = np.repeat(labels, 2, axis=2)  # two thinner slices for each
    half = np.diag([1.0, 1.0, 0.5, 1.0])
    half[2, 3] = -0.25
    np.testing.assert_array_equal(read_mask(save(tmp_path / "f.nii", fine, ct.affine @ half), ct), labels)


def test_metaimage_and_nrrd_masks_too(ct, tmp_path):
    import SimpleITK as sitk

    save(tmp_path / "m.nii", *mirrored(truth(), ct.affine, (0, 1)))
    for name in ("m.mha", "m.nrrd", "m.mhd"):
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "m.nii")), str(tmp_path / name))
        np.testing.assert_array_equal(read_mask(tmp_path / name, ct), truth())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m, a: (m, a + np.array([[0, 0, 0, 500.0]] + [[0] * 4] * 3)), "lies elsewhere"),
        (lambda m, a: (m * 0.5, a), "other values than class numbers"),
        (lambda m, a: (m.astype(np.int16) * 256, a), "other values than class numbers"),
        (lambda m, a: (m.astype(np.int16) - 3, a), "other values than class numbers"),
        (lambda m, a: (m, None), "no orientation"),
        (lambda m, a: (np.stack([m, m], -1), a), "4D"),
    ],
)
def test_a_mask_that_is_none_is_refused_by_name(ct, tmp_path, change, words):
    labels, affine = change(truth(), ct.affine)
    image = nib.Nifti1Image(labels, affine)
    if affine is None:
        image.header["sform_code"] = 0
        image.header["qform_code"] = 0
    nib.save(image, tmp_path / "m.nii")
    with pytest.raises(UnreadableError, match=words) as e:
        read_mask(tmp_path / "m.nii", ct)
    assert "m.nii" in str(e.value)


def write_seg(path, folder, labels):
    """A DICOM SEG of the slices of a folder; labels (I, J, K) in the order of its slices."""
    import highdicom as hd
    import pydicom
    from pydicom.sr.codedict import codes

    sources = [pydicom.dcmread(f) for f in sorted(folder.iterdir())]
    for source in sources:
        for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
            setattr(source, name, source.get(name, ""))
        source.PatientName = "X^Y"
        source.AccessionNumber = source.ReferringPhysicianName = ""
    described = [
        hd.seg.SegmentDescription(
            segment_number=n,
            segment_label=f"class {n}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for n in (1, 2)
    ]
    hd.seg.Segmentation(
        source_images=sources,
        pixel_array=labels.transpose(2, 1, 0),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)


def test_a_dicom_seg_is_laid_by_its_affine(ct, tmp_path):
    path = tmp_path / "seg.dcm"
    write_seg(path, tmp_path / "ct", truth())
    np.testing.assert_array_equal(read_mask(path, ct), truth())
    ct.frame_of_reference = "9.9"
    with pytest.raises(UnreadableError, match="another frame of reference"):
        read_mask(path, ct)


def test_another_dicom_or_damaged_file_is_no_mask(ct, tmp_path):
    with pytest.raises(UnreadableError, match="neither a DICOM SEG nor an RTSTRUCT"):
        read_mask(tmp_path / "ct" / "0.dcm", ct)
    (tmp_path / "x.dcm").write_bytes(b"nothing")
    with pytest.raises(UnreadableError, match=r"x\.dcm"):
        read_mask(tmp_path / "x.dcm", ct)


def test_every_class_must_land_on_the_image(ct, tmp_path):
    """A small class beyond the last slice is not lost beside a large one that fits."""
    taller = np.zeros((*SHAPE[:2], 8), np.uint8)
    taller[..., :6] = truth()
    taller[3, 3, 7] = 5
    with pytest.raises(UnreadableError, match="class 5 has no voxel"):
        read_mask(save(tmp_path / "m.nii", taller, ct.affine), ct)


def test_border_slices_of_an_oblique_mask_stay(tmp_path):
    """Rounding puts border voxels a hair outside the map; they are on it."""
    turn = np.array([[0.8, -0.36, 0.48], [0.6, 0.48, -0.64], [0.0, 0.8, 0.6]]) * (0.7, 0.7, 3.3)
    affine = np.eye(4)
    affine[:3, :3] = turn
    affine[:3, 3] = (-101.3, 77.7, 13.1)
    image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), affine)
    nib.save(image, tmp_path / "ct.nii")
    (whole,) = open_case(tmp_path / "ct.nii", modality="CT").images
    full = np.ones(SHAPE, np.uint8)
    path = save(tmp_path / "m.nii", *mirrored(full, affine, (0, 1, 2)))
    np.testing.assert_array_equal(read_mask(path, whole), full)
