"""Tensors keep geometry: known points land where they must, and a scanner's origin means nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medfuse.case import Case, Image, Region, Source
from medfuse.models.encoders import build_encoders
from medfuse.models.features import encode
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.preprocess.beam import along_beams, beams_of
from medfuse.preprocess.cine import cine_input
from medfuse.preprocess.prepare import prepare
from medfuse.preprocess.tensors import CineInput
from medfuse.preprocess.volume import MAX_GRID, common_grid, robust_scale, volume_inputs
from medfuse.simulation.grid import rotation
from medfuse.task import Task, load_task
from medfuse.training.stages.dense import crop_cine

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


def fan(size=96, apex=(-20.0, 47.5), half=0.6, first=24.0, last=112.0):
    """A sector of even tissue, and where each pixel lies: (size, size) values, angle, distance."""
    row, column = np.mgrid[:size, :size].astype(float)
    angle = np.arctan2(column - apex[1], row - apex[0])
    distance = np.hypot(row - apex[0], column - apex[1])
    inside = (np.abs(angle) <= half) & (distance >= first) & (distance <= last)
    return np.where(inside, 0.5, -1.8).astype(np.float32), angle, distance


def test_beams_come_from_where_the_sides_of_a_sector_meet():
    values, _, _ = fan()
    beams = beams_of(values > -1.7)
    assert np.hypot(beams.apex[0] + 20, beams.apex[1] - 47.5) < 2
    assert np.allclose(beams.across, (-0.6, 0.6), atol=0.03)
    assert np.allclose(beams.along, (24, 112), atol=2)
    linear = np.zeros((64, 64), bool)
    linear[4:60, 10:50] = True
    down = beams_of(linear)
    assert down.apex is None
    assert (down.across, down.along) == ((10, 49), (4, 59))
    assert beams_of(np.zeros((64, 64), bool)) is None
    point = np.zeros((8, 8), bool)
    point[3] = True  # all in one line
    assert beams_of(point) is None
    assert not along_beams(np.full((2, 32, 32), -1.8, np.float32)).any()


def test_a_shadow_and_its_opposite_are_told_along_slanted_beams():
    """A stone far to the side throws its shadow along the beam, not straight down; a cyst brightens."""
    values, angle, distance = fan()
    stone = (np.abs(angle - 0.4) < 0.05) & (np.abs(distance - 60) < 3)
    cyst = (np.abs(angle + 0.3) < 0.06) & (np.abs(distance - 60) < 6)
    inside = values > 0
    frame = values.copy()
    frame[(np.abs(angle - 0.4) < 0.05) & (distance > 63) & inside] = -1.5
    frame[(np.abs(angle + 0.3) < 0.06) & (distance > 66) & inside] = 1.2
    frame[stone], frame[cyst] = 2.0, -1.5
    before, behind = along_beams(frame[None])[0]
    assert behind[stone].mean() < -1.2
    assert behind[cyst & (distance > 62)].mean() > 0.4
    quiet = inside & (np.abs(angle) < 0.15) & (distance > 34) & (distance < 105)
    assert np.abs(behind[quiet]).max() < 0.25
    assert np.abs(before[quiet]).max() < 0.25
    beyond = (np.abs(angle - 0.4) < 0.03) & (distance > 95) & inside
    assert before[beyond].mean() < -0.4  # what lies in a shadow knows it
    assert not behind[~inside & (distance < 20)].any()


def test_the_beam_is_an_input_where_a_task_asks_for_it():
    assert not TASK.modalities["US"].beam
    plain = TASK.model_dump()
    spec = plain["modalities"]["US"] | {"beam": True, "size": 64, "crop": 32}
    task = Task(**(plain | {"modalities": plain["modalities"] | {"US": spec}}), folder=TASK.folder)
    wrong = plain["modalities"]["CT"] | {"beam": True}
    with pytest.raises(ValueError, match="beam of CT needs a modality of cines, and label maps"):
        Task(**(plain | {"modalities": plain["modalities"] | {"CT": wrong}}))
    values, _, _ = fan(64, (-14.0, 31.5), 0.6, 16.0, 74.0)
    frames = np.stack([values] * 9)
    frames[:, 30:34, 30:34] = 2.0
    stored = frames.astype(np.float16)
    marks = np.zeros(frames.shape, np.uint8)
    marks[:, 30:34, 30:34] = task.dense.index("gallstone_mass")
    x, present, y = crop_cine(stored, marks, task, np.random.default_rng(0))
    assert x.shape == (8, 3, 32, 32)
    assert present.shape == (8, 3)
    assert y.shape == (8, 32, 32)
    whole = along_beams(stored[:1].astype(np.float32))[0]  # of the whole frame, wherever it was cut out
    assert np.isin(x[0, 2].round(4), whole[1].round(4)).all()
    model = FusionModel(task, ModelConfig(width=32, layers=1, vocabulary=9)).eval()
    item = CineInput(frames, 1.0, (0, 0), None, tuple(range(9)), 0)
    features, _ = encode(model.encoders, {"US": [item]}, task, torch.device("cpu"))
    assert features.features["US"].shape[1] == model.sizes["US"]
    assert model.sizes["US"] == FusionModel(TASK, model.config).sizes["US"] + 8
