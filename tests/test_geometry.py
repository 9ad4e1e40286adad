"""Odd series: the true geometry, or a named outcome. Never a silent change."""

from __future__ import annotations

import numpy as np
import pytest
from slices import AXIAL, write_slice, write_stack

from medfuse.io.cases import find_cases
from medfuse.library import Library
from medfuse.preprocess.irregular import regularise
from medfuse.simulation.grid import rotation

STEP = 2.5


def one_image(folder):
    found = find_cases(folder)
    assert not found.scan.refused, found.scan.refused
    (case,) = found.cases
    (image,) = case.images
    return image


def corner_error(image, positions, orientation, spacing=(0.8, 0.7)):
    """Largest distance in mm between where the affine puts each slice's corners and where it was
    constructed."""
    worst = 0.0
    rows = image.pixels.shape[1] - 1
    columns = image.pixels.shape[0] - 1
    row = np.array(orientation[:3])
    column = np.array(orientation[3:])
    normal = np.cross(row, column)
    for k, p in enumerate(sorted(positions, key=lambda p: np.dot(p, normal))):
        for i, j in ((0, 0), (columns, 0), (0, rows), (columns, rows)):
            lps = np.array(p) + row * spacing[1] * i + column * spacing[0] * j
            ras = image.affine @ [i, j, k, 1]
            worst = max(worst, np.abs(ras[:3] - lps * [-1, -1, 1]).max())
    return worst


ORIENTATIONS = {
    "axial": AXIAL,
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": tuple(np.concatenate([rotation(np.array([20, 10, -15])) @ v for v in ([1, 0, 0], [0, 1, 0])])),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_regular_stack_is_exact(tmp_path, name):
    orientation = ORIENTATIONS[name]
    normal = np.cross(orientation[:3], orientation[3:])
    positions = [np.array([-30.0, 12, 7]) + normal * STEP * k for k in range(7)]
    write_stack(tmp_path, positions, orientation=orientation)
    image = one_image(tmp_path)
    assert image.geometry.outcome == "exact"
    assert corner_error(image, positions, orientation) < 1e-3
    assert image.frame_of_reference == "1.2.77"


@pytest.mark.parametrize("numbers", ["reversed", "missing", "shuffled"])
def test_instance_numbers_do_not_matter(tmp_path, numbers):
    positions = [(0, 0, STEP * k) for k in range(6)]
    for k, p in enumerate(positions):
        number = {"reversed": 6 - k, "missing": None, "shuffled": (k * 5) % 6}[numbers]
        write_slice(tmp_path / f"{k}.dcm", position=p, number=number, value=100 * k)
    image = one_image(tmp_path)
    assert corner_error(image, positions, AXIAL) < 1e-3
    assert np.allclose(np.diff(image.pixels[0, 0]), 100)  # slices rise with z, as constructed


def test_missing_slice_is_irregular_and_keeps_true_positions(tmp_path):
    heights = [0, 2.5, 5, 10, 12.5, 15]
    write_stack(tmp_path, [(0, 0, z) for z in heights])
    image = one_image(tmp_path)
    assert image.geometry.outcome == "irregular"
    assert "1 slice(s) missing" in image.geometry.measured
    assert image.affine is None
    assert np.allclose(np.diff(image.geometry.slice_positions_mm), np.diff(heights))
    regular = regularise(image)
    assert regular.pixels.shape[2] == 7
    assert np.allclose(np.linalg.norm(regular.affine[:3, 2]), 2.5)
    # halfway, by construction
    assert np.allclose(regular.pixels[0, 0, 3], (image.pixels[0, 0, 2] + image.pixels[0, 0, 3]) / 2)
    assert regularise(regular) is regular


def test_unequal_steps_are_irregular(tmp_path):
    write_stack(tmp_path, [(0, 0, z) for z in (0, 2.5, 5, 8.1, 10)])
    image = one_image(tmp_path)
    assert image.geometry.outcome == "irregular"
    assert "unequal" in image.geometry.measured


def test_gantry_tilt_is_sheared_exactly(tmp_path):
    tilt = np.deg2rad(15)
    orientation = (1, 0, 0, 0, np.cos(tilt), -np.sin(tilt))
    positions = [(0, 0, STEP * k) for k in range(6)]
    write_stack(tmp_path, positions, orientation=orientation)
    image = one_image(tmp_path)
    assert image.geometry.outcome == "tilted"
    assert "15.00°" in image.geometry.measured
    assert corner_error(image, positions, orientation) < 1e-3


def test_duplicate_position_is_refused_by_name(tmp_path):
    write_stack(tmp_path, [(0, 0, z) for z in (0, 2.5, 2.5, 5, 7.5)])
    found = find_cases(tmp_path)
    assert not found.cases
    (refusal,) = found.scan.refused
    assert "1 of 4 slice places hold up to 2 slices" in refusal.reason


def test_a_stack_acquired_twice_is_split(tmp_path):
    for n in range(2):
        for k in range(4):
            write_slice(
                tmp_path / f"{n}{k}.dcm",
                position=(0, 0, STEP * k),
                number=n * 4 + k,
                value=1000 * n,
                AcquisitionNumber=n + 1,
            )
    (case,) = find_cases(tmp_path).cases
    assert [i.geometry.outcome for i in case.images] == ["split", "split"]
    assert np.allclose(case.images[1].pixels - case.images[0].pixels, 1000)


def test_mixed_orientation_is_split(tmp_path):
    write_stack(tmp_path / "a", [(0, 0, STEP * k) for k in range(4)])
    write_stack(tmp_path / "b", [(STEP * k, 0, 0) for k in range(4)], orientation=ORIENTATIONS["sagittal"])
    (case,) = find_cases(tmp_path).cases
    assert sorted(i.geometry.outcome for i in case.images) == ["split", "split"]


def test_slope_of_each_slice_is_its_own(tmp_path):
    for k, slope in enumerate((1.0, 0.5, 2.0)):
        write_slice(tmp_path / f"{k}.dcm", position=(0, 0, STEP * k), slope=slope, intercept=0)
    image = one_image(tmp_path)
    assert np.allclose(image.pixels[0, 0], [1000, 500, 2000])


def test_two_series_in_one_folder_are_two_images(tmp_path):
    write_stack(tmp_path / "a", [(0, 0, STEP * k) for k in range(4)], series="1.2.3")
    write_stack(tmp_path / "b", [(0, 0, 5 * k) for k in range(3)], series="1.2.4")
    (case,) = find_cases(tmp_path).cases
    assert sorted(round(i.spacing[2], 3) for i in case.images) == [2.5, 5.0]


def test_single_slice_uses_its_thickness(tmp_path):
    write_stack(tmp_path, [(0, 0, 0)])
    image = one_image(tmp_path)
    assert image.pixels.shape[2] == 1
    assert image.spacing[2] == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not perpendicular"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "unit vectors"),
        ({"PixelSpacing": [0, 0.7]}, "not positive"),
        ({"ImagePositionPatient": None}, "no ImagePositionPatient"),
    ],
)
def test_impossible_geometry_is_refused_by_name(tmp_path, change, words):
    write_slice(tmp_path / "a.dcm", position=(0, 0, 0), **change)
    found = find_cases(tmp_path)
    assert not found.cases
    assert words in found.scan.refused[0].reason


def test_truncated_slice_costs_its_series_and_is_named(tmp_path):
    write_stack(tmp_path, [(0, 0, STEP * k) for k in range(4)], size=(64, 64))
    bad = tmp_path / "002.dcm"
    bad.write_bytes(bad.read_bytes()[:-5000])
    found = find_cases(tmp_path)
    assert not found.cases
    assert found.scan.refused[0].path.endswith("002.dcm")
    assert "because of its slice 002.dcm" in found.scan.refused[1].reason
    assert found.scan.ledger["damaged"] == 1
    assert found.scan.ledger["unsupported"] == 3
    assert found.scan.ledger["damaged"] == 1
    assert sum(found.scan.ledger.values()) == 4


def test_philips_slices_scaled_apart_compare_after_reading(tmp_path):
    """Stored 1000 everywhere, each slice displayed by another slope: what was measured is the same
    everywhere."""
    for k, slope in enumerate((1.0, 2.0, 4.0)):
        ds = write_slice(tmp_path / f"{k}.dcm", position=(0, 0, STEP * k), slope=slope, intercept=0.0)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        ds.Manufacturer = "Philips Medical Systems"
        ds.add_new(0x20050010, "LO", "Philips MR Imaging DD 001")
        ds.add_new(0x2005100D, "FL", 0.0)
        ds.add_new(0x2005100E, "FL", 0.5)
        ds.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    image = one_image(tmp_path)
    assert "scale slope" in image.warnings[0]
    for k in range(3):
        assert np.allclose(image.pixels[..., k], image.pixels[..., 0])
    assert image.pixels[0, 0, 0] == 1000 / 0.5


def test_one_philips_scaling_for_all_is_left_alone(tmp_path):
    for k in range(3):
        ds = write_slice(tmp_path / f"{k}.dcm", position=(0, 0, STEP * k), slope=2.0, intercept=0.0)
        ds.Manufacturer = "Philips"
        ds.add_new(0x20050010, "LO", "Philips MR Imaging DD 001")
        ds.add_new(0x2005100E, "FL", 0.5)
        ds.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    assert one_image(tmp_path).pixels[0, 0, 0] == 2000


def test_two_slices_are_flagged(tmp_path):
    write_stack(tmp_path, [(0, 0, 0), (0, 0, STEP)])
    assert "too few to check" in one_image(tmp_path).warnings[0]


def test_a_refused_series_is_described_with_what_was_measured(tmp_path):
    from medfuse.library.ingest import ingest

    write_stack(tmp_path, [(0, 0, 0), (0, 0, STEP), (0, 0, STEP), (0, 0, 2 * STEP)])
    done = ingest(Library(), tmp_path)
    (row,) = done.images
    assert row["geometry"]["outcome"] == "refused"
    assert "1 of 3 slice places" in row["geometry"]["measured"]
    assert row["nifti"] is None
    assert done.ledger["unsupported"] == 4


def test_one_undecodable_acquisition_does_not_cost_the_other(tmp_path):
    write_stack(tmp_path / "a", [(0, 0, STEP * k) for k in range(3)], AcquisitionNumber=1)
    write_stack(tmp_path / "b", [(0, 0, STEP * k) for k in range(3)], AcquisitionNumber=2)
    bad = tmp_path / "b" / "002.dcm"
    bad.write_bytes(bad.read_bytes()[:-40])
    found = find_cases(tmp_path)
    assert len(found.cases[0].images) == 1
    assert found.scan.ledger["read"] == 3


@pytest.mark.parametrize("change", ["as written", "trailing padding", "overlay bits", "big endian"])
def test_plain_pixels_equal_pydicom(tmp_path, change):
    """What is read without decoding is what pydicom decodes; what is not plain is left to pydicom."""
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian

    from medfuse.io.decode import plain_tail, read_pixels
    from medfuse.io.headers import read_header

    path = tmp_path / "a.dcm"
    ds = write_slice(path, position=(0, 0, 0))
    if change == "trailing padding":
        ds.add_new(0xFFFCFFFC, "OB", b"\0" * 64)
        ds.save_as(path, enforce_file_format=True)
    elif change == "overlay bits":
        ds.BitsStored = 12
        ds.HighBit = 11
        ds.PixelData = (np.frombuffer(ds.PixelData, np.uint16) | 0x8000).tobytes()
        ds.save_as(path, enforce_file_format=True)
    elif change == "big endian":
        ds.PixelData = np.frombuffer(ds.PixelData, np.uint16).byteswap().tobytes()
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=False, enforce_file_format=True)
    header = read_header(path).header
    tail = plain_tail(path, header)
    assert (tail is None) == (change != "as written")
    if tail is not None:
        assert np.array_equal(tail[0], pydicom.dcmread(path).pixel_array)
    assert np.array_equal(read_pixels(path, header)[0], pydicom.dcmread(path).pixel_array)


def test_the_comparison_with_another_reader_sees_what_differs(tmp_path):
    """Of `benchmarks/repositories.py`: axes may be flipped or exchanged where the affine carries it."""
    from benchmarks.repositories import as_headers, matched, placed

    write_stack(tmp_path, [(1.0, 2, 3 * k) for k in range(4)])
    (case,) = find_cases(tmp_path).cases
    (image,) = case.images
    assert as_headers(image)
    voxels = image.pixels
    ours = placed(voxels, image.affine, "a")
    turned = np.eye(4)
    turned[2, 2:] = (-1, 3)
    flipped = placed(voxels[:, :, ::-1], image.affine @ turned, "b")
    assert matched([ours], [flipped]) == []
    exchanged = placed(voxels.transpose(2, 0, 1), image.affine[:, [2, 0, 1, 3]], "c")
    assert matched([ours], [exchanged]) == []
    (said, _) = matched([ours], [placed(voxels[:, :, ::-1], image.affine, "d")])
    assert said.endswith("voxels")
    moved = image.affine.copy()
    moved[2, 3] += 3
    (said, _) = matched([ours], [placed(voxels, moved, "e")])
    assert said.endswith("a corner lies 3.000 mm apart")
    assert len(matched([ours], [flipped, ours])) == 1
    image.affine = moved
    assert not as_headers(image)
