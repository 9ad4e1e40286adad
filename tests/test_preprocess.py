"""Tensors keep geometry: known points land where they must, and a scanner's origin means nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medfuse.case import Case, Image, Region, Source
from medfuse.models.encoders import build_encoders
from medfuse.models.features import encode
from medfuse.preprocess.cine import cine_input
from medfuse.preprocess.prepare import prepare
from medfuse.preprocess.volume import MAX_GRID, common_grid, robust_scale, volume_inputs
from medfuse.simulation.grid import rotation
from medfuse.task import load_task

TASK = load_task("upper-abdomen")


def volume(affine, shape=(60, 50, 20), role="portal", frame="F", modality="CT", point=None):
    """Zeros, with one Gaussian blob at a RAS+ point."""
    ijk = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    mm = ijk @ affine[:3, :3].T + affine[:3, 3]
    values = (
        np.zeros(shape, np.float32)
        if point is None
        else 400 * np.exp(-((mm - point) ** 2).sum(-1) / (2 * 8.0**2))
    )
    return Image(
        modality, values.astype(np.float32), Source("x"), affine=affine, frame_of_reference=frame, role=role
    )


def oblique(offset):
    affine = np.eye(4)
    affine[:3, :3] = rotation(np.array([4, -6, 12])) @ np.diag([-3.0, -3.0, 5.0])
    affine[:3, 3] = offset
    return affine


def test_a_point_lands_where_it_lies():
    affine = oblique((70, 60, -40))
    at = affine[:3, :3] @ np.array([33, 21, 9]) + affine[:3, 3]
    (x,) = volume_inputs([volume(affine, point=at)], [0], "CT", TASK.modalities["CT"])
    channel = x.values[TASK.modalities["CT"].roles.index("portal")]
    peak = np.array(np.unravel_index(channel.argmax(), channel.shape))
    assert np.abs(x.affine[:3, :3] @ peak + x.affine[:3, 3] - at).max() < 4.5  # within one network voxel
    assert x.present.tolist() == [r == "portal" for r in TASK.modalities["CT"].roles]


def test_grid_covers_every_corner_and_divides_by_eight():
    image = volume(oblique((10, 20, 30)))
    shape, affine = common_grid([image], (4, 4, 5))
    assert all(n % 8 == 0 for n in shape)
    corners = np.array([[x, y, z] for x in (0, 59) for y in (0, 49) for z in (0, 19)])
    mm = corners @ image.affine[:3, :3].T + image.affine[:3, 3]
    voxels = (mm - affine[:3, 3]) / np.diag(affine)[:3]
    assert (voxels >= -0.5).all()
    assert (voxels <= np.array(shape) - 0.5).all()


def test_a_huge_field_of_view_is_made_coarser_never_cut():
    affine = np.diag([10.0, 10, 10, 1])
    shape, grid = common_grid([volume(affine, (200, 20, 20))], (4, 4, 5))
    assert shape[0] <= MAX_GRID + 8
    assert shape[0] * grid[0, 0] >= 1990


def test_two_frames_of_reference_are_never_mixed():
    images = [
        volume(oblique((0, 0, 0)), role="portal", frame="A"),
        volume(oblique((5, 0, 0)), role="arterial", frame="B"),
    ]
    inputs = volume_inputs(images, [0, 1], "CT", TASK.modalities["CT"])
    assert [i.frame_of_reference for i in inputs] == ["A", "B"]
    assert [int(i.present.sum()) for i in inputs] == [1, 1]


def test_moving_a_scanner_origin_by_200_mm_changes_nothing(patient, patient_dicom):
    from medfuse.io.cases import find_cases

    (case,) = find_cases(patient_dicom).cases
    torch.manual_seed(0)
    encoders = build_encoders(TASK).eval()
    shift = np.eye(4)
    shift[:3, 3] = (200.0, -200.0, 200.0)
    images = [replace(i, affine=shift @ i.affine) if i.modality == "MR" else i for i in case.images]
    moved = Case("m", images=images)
    a, _ = encode(encoders, prepare(case, TASK), TASK, torch.device("cpu"), keep_dense=False)
    b, _ = encode(encoders, prepare(moved, TASK), TASK, torch.device("cpu"), keep_dense=False)
    for m in ("US", "CT", "MR"):
        assert np.array_equal(a.mask[m], b.mask[m])
        assert np.abs(a.features[m] - b.features[m]).max() < 2e-3


def test_opposed_phase_keeps_its_scale_to_in_phase():
    affine = np.diag([4.0, 4, 6, 1])
    base = np.random.default_rng(0).uniform(100, 200, (24, 24, 8)).astype(np.float32)
    images = [
        Image("MR", base, Source("a"), affine=affine, frame_of_reference="F", role="t1_in"),
        Image("MR", base * 0.5, Source("b"), affine=affine, frame_of_reference="F", role="t1_opposed"),
    ]
    (x,) = volume_inputs(images, [0, 1], "MR", TASK.modalities["MR"])
    roles = TASK.modalities["MR"].roles
    assert x.values[roles.index("t1_opposed")].mean() < x.values[roles.index("t1_in")].mean() - 0.5


@pytest.mark.parametrize("size", [(300, 200), (120, 260)])
def test_cine_pixels_map_back(size):
    height, width = size
    frames = np.zeros((3, height + 20, width + 30), np.uint8)
    frames[1, 10 + height // 3, 15 + width // 4] = 255
    frames[1, 9 + height // 3 : 12 + height // 3, 14 + width // 4 : 17 + width // 4] = 255
    region = Region((15, 10, 14 + width, 9 + height), (0.3, 0.3))
    image = Image("US", frames, Source("u"), regions=(region,))
    x = cine_input(image, 0, TASK.modalities["US"])
    assert x.values.shape == (3, 128, 128)
    row, column = np.unravel_index(x.values[1].argmax(), (128, 128))
    px = column * x.scale + x.offset[0]
    py = row * x.scale + x.offset[1]
    assert abs(px - (15 + width // 4)) < x.scale + 1
    assert abs(py - (10 + height // 3)) < x.scale + 1
    assert x.mm_per_pixel == pytest.approx(0.3 * x.scale)


def test_long_cine_is_thinned_evenly():
    x = cine_input(Image("US", np.zeros((90, 64, 64), np.uint8), Source("u")), 0, TASK.modalities["US"])
    assert len(x.frames) == 20
    assert x.frames[0] == 0
    assert x.frames[-1] == 89
    assert x.mm_per_pixel is None


def test_a_volume_in_which_no_voxel_of_the_grid_lies_has_a_scale():
    assert robust_scale(np.zeros(0)) == (0.0, 1.0)
