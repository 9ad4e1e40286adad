"""Other readers see the same voxels at the same places: SimpleITK, nibabel, highdicom."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from slices import write_stack

from medfuse.io.cases import find_cases
from medfuse.io.export import write_nifti
from medfuse.io.nifti import read_nifti

POSITIONS = [(-30, 12, 7 + 2.5 * k) for k in range(5)]


@pytest.fixture
def image(tmp_path):
    write_stack(tmp_path / "in", POSITIONS, size=(9, 7))
    (case,) = find_cases(tmp_path / "in").cases
    return case.images[0]


def test_simpleitk_reads_what_was_written_and_back(tmp_path, image):
    written = sitk.ReadImage(str(write_nifti(image, tmp_path / "a.nii.gz")))
    assert np.array_equal(sitk.GetArrayFromImage(written).T, image.pixels)
    for index in ((0, 0, 0), (6, 8, 4), (3, 2, 1)):
        lps = np.array(written.TransformIndexToPhysicalPoint(index))
        assert np.allclose(image.affine @ [*index, 1], [*lps * [-1, -1, 1], 1], atol=1e-3)
    sitk.WriteImage(written, str(tmp_path / "b.mha"))
    back = read_nifti(tmp_path / "b.mha", "CT")
    assert np.array_equal(back.pixels, image.pixels)
    assert np.allclose(back.affine, image.affine, atol=1e-4)


def test_simpleitk_reads_the_dicom_to_the_same_place(tmp_path, image):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "in")))
    other = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(other).T, image.pixels)
    lps = np.array(other.TransformIndexToPhysicalPoint((6, 8, 4)))
    assert np.allclose((image.affine @ [6, 8, 4, 1])[:3], lps * [-1, -1, 1], atol=1e-3)


def test_nibabel_round_trip(tmp_path, image):
    path = write_nifti(image, tmp_path / "a.nii.gz")
    loaded = nib.load(path)
    assert np.array_equal(loaded.get_fdata(dtype=np.float32), image.pixels)
    assert np.allclose(loaded.affine, image.affine, atol=1e-5)
    back = read_nifti(path)  # modality and frame of reference come from the sidecar
    assert (back.modality, back.frame_of_reference) == ("CT", image.frame_of_reference)
    assert np.array_equal(back.pixels, image.pixels)


def test_highdicom_enhanced_copy_is_the_same_volume(tmp_path, image):
    """highdicom converts the slices to one enhanced multi-frame CT; it must come out as the slices did."""
    import highdicom as hd
    import pydicom
    from pydicom.uid import generate_uid

    classic = [pydicom.dcmread(p) for p in sorted((tmp_path / "in").iterdir())]
    for ds in classic:
        ds.PatientName = "X^"
        ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.StudyID = ds.ReferringPhysicianName = ""
        ds.StudyDate = "20240101"
        ds.StudyTime = "000000"
        ds.SeriesNumber = 1
        ds.PositionReferenceIndicator = ""
        ds.PatientPosition = "HFS"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.AcquisitionNumber = 1
        ds.KVP = 120
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(classic, generate_uid(), 2, generate_uid(), 1)
    (tmp_path / "enhanced").mkdir()
    enhanced.save_as(tmp_path / "enhanced" / "e.dcm")
    (case,) = find_cases(tmp_path / "enhanced").cases
    (back,) = case.images
    assert back.geometry.outcome == "exact"
    assert np.array_equal(back.pixels, image.pixels)
    assert np.allclose(back.affine, image.affine, atol=1e-4)
