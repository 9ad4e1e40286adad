"""Volumes of public reports, each with the answer that its report gives."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.io.cases import find_cases

pytestmark = pytest.mark.shared


@pytest.fixture
def read(shared):
    def of(name):
        folder = shared / "reports_of_others" / name / "input"
        if not folder.is_dir():
            pytest.skip(f"no {folder}")
        (case,) = find_cases(folder).cases
        (image,) = case.images
        return image

    return of


def test_units_and_small_voxels(read):
    assert read("nifti-micron").spacing == pytest.approx((0.25, 0.25, 0.5))
    assert read("microct-nifti").spacing == pytest.approx((0.009, 0.009, 0.009))


def test_a_sagittal_slice_lies_where_it_lies(read):
    image = read("nifti-sagittal-slice")
    assert image.pixels.shape == (1, 40, 30)
    at = np.array(np.unravel_index(image.pixels.argmax(), image.pixels.shape))
    assert image.affine[:3, :3] @ at + image.affine[:3, 3] == pytest.approx((10.0, -14.0, 35.6), abs=0.01)


def test_colour_frames(read):
    image = read("us-colour-nifti")
    assert image.pixels.shape[0] == 4
    assert sorted(image.pixels.shape[1:3]) == [24, 32]
    assert image.pixels.shape[3] == 3
    assert image.frame_ms == pytest.approx(40)


def test_an_upper_case_sidecar_and_a_map(read):
    assert read("sidecar-uppercase").modality == "CT"
    assert read("role-adc-map").role == "unknown"
