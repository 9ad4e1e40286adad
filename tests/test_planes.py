"""Slices of small voxels, of several stacks, and with odd measures: exact, or named."""

from __future__ import annotations

import pytest
from slices import write_slice, write_stack

from medfuse.io.cases import find_cases

MICRO = 0.009  # mm


def only_image(folder):
    (case,) = find_cases(folder).cases
    (image,) = case.images
    return image


def test_a_slice_that_lacks_in_micro_ct_is_missed(tmp_path):
    write_stack(tmp_path, [(0, 0, MICRO * k) for k in range(12) if k != 5], spacing=(MICRO, MICRO))
    image = only_image(tmp_path)
    assert image.geometry.outcome == "irregular"
    assert image.geometry.measured == "1 slice(s) missing: steps 0.009 to 0.018 mm"
    assert image.affine is None


def test_whole_micro_ct_is_exact(tmp_path):
    write_stack(tmp_path, [(0, 0, MICRO * k) for k in range(6)], spacing=(MICRO, MICRO))
    image = only_image(tmp_path)
    assert image.geometry.outcome == "exact"
    assert image.affine[2, 2] == pytest.approx(MICRO)


def test_slices_nearer_than_a_hundredth_of_a_millimetre_are_not_one(tmp_path):
    write_stack(tmp_path, [(0, 0, 0.002 * k) for k in range(6)], spacing=(0.002, 0.002))
    assert only_image(tmp_path).pixels.shape[2] == 6


@pytest.mark.parametrize(("left_out", "outcome"), [(None, "exact"), (4, "irregular")])
def test_steps_of_five_micrometres_behind_coarse_pixels(tmp_path, left_out, outcome):
    for k in range(10):
        if k != left_out:
            write_slice(tmp_path / f"{k}.dcm", position=(0, 0, 20 + 0.005 * k), spacing=(0.5, 0.5))
    (case,) = find_cases(tmp_path).cases
    assert case.images[0].geometry.outcome == outcome


def test_voxels_of_half_a_micron_are_no_singular_affine(tmp_path):
    write_stack(tmp_path, [(0, 0, round(0.0005 * k, 6)) for k in range(6)], spacing=(0.0005, 0.0005))
    image = only_image(tmp_path)
    assert image.geometry.outcome == "exact"
    assert image.affine[2, 2] == pytest.approx(0.0005)


def test_heights_of_small_slices_keep_their_digits(tmp_path):
    write_stack(tmp_path, [(0, 0, round(0.00125 * k, 6)) for k in (0, 1, 3)], spacing=(MICRO, MICRO))
    assert only_image(tmp_path).geometry.slice_positions_mm == pytest.approx((0, 0.00125, 0.00375))


def test_small_slices_that_lost_their_place_are_refused(tmp_path):
    for k in range(4):
        write_slice(
            tmp_path / f"{k}.dcm",
            position=(0, 0, 0),
            spacing=(MICRO, MICRO),
            number=k,
            SliceLocation=MICRO * k,
        )
    found = find_cases(tmp_path)
    assert not found.cases
    assert "SliceLocation runs from 0 to 0.027 mm" in found.scan.refused[0].reason


def test_rounding_of_a_usual_step_stays_exact(tmp_path):
    write_stack(tmp_path, [(0, 0, round(0.625 * k, 2)) for k in range(9)])
    assert only_image(tmp_path).geometry.outcome == "exact"


def test_interleaved_stacks_of_slices_are_one_volume(tmp_path):
    for k in range(6):
        write_slice(tmp_path / f"{k}.dcm", position=(0, 0, 3.0 * k), StackID=str(k % 2 + 1))
    image = only_image(tmp_path)
    assert (image.pixels.shape[2], image.geometry.outcome) == (6, "exact")


def test_stacks_beside_each_other_are_parted(tmp_path):
    for k in range(6):
        write_slice(
            tmp_path / f"{k}.dcm", position=(90.0 * (k % 2), 0, 3.0 * (k // 2)), StackID=str(k % 2 + 1)
        )
    (case,) = find_cases(tmp_path).cases
    assert [i.pixels.shape[2] for i in case.images] == [3, 3]


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        ({"spacing": [0.7]}, "its PixelSpacing (0.7) has one value where two are due"),
        (
            {"orientation": (1.0, 0, 0)},
            "its ImageOrientationPatient ([1.0, 0.0, 0.0]) has 3 values where six",
        ),
        ({"position": (1.0, 0)}, "its ImagePositionPatient ([1.0, 0.0]) has 2 values where three are due"),
    ],
)
def test_a_measure_with_too_few_values_is_named(tmp_path, measure, said):
    write_slice(tmp_path / "a.dcm", **({"position": (0, 0, 0)} | measure))
    found = find_cases(tmp_path)
    assert said in found.scan.refused[0].reason
    assert found.scan.ledger["unsupported"] == 1


def test_a_spacing_of_words_is_named(tmp_path):
    write_slice(tmp_path / "a.dcm", position=(0, 0, 0), spacing=(0.875, 0.875))
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(data.replace(b"0.875\\0.875", b"wide\\narrow"))
    found = find_cases(tmp_path)
    assert "its PixelSpacing (['wide', 'narrow']) is not made of numbers" in found.scan.refused[0].reason
    assert found.scan.ledger["unsupported"] == 1


def test_a_thickness_of_two_values_spoils_nothing(tmp_path):
    for k in range(3):
        write_slice(tmp_path / f"{k}.dcm", position=(0, 0, 2.0 * k), SliceThickness=[2.0, 2.0])
    assert only_image(tmp_path).geometry.outcome == "exact"


@pytest.mark.shared
def test_reported_inputs(shared):
    reports = shared / "reports_of_others"
    if not reports.is_dir():
        pytest.skip("the reported inputs are not here")
    image = only_image(reports / "microct-missing-slice" / "input")
    assert "1 slice(s) missing: steps 0.009 to 0.018 mm" in image.geometry.measured
    found = find_cases(reports / "spacing-one-value" / "input")
    assert "its PixelSpacing (0.7) has one value where two are due" in found.scan.refused[0].reason
