"""Lesions outlined on their own images' grids, and followed through a cine: constructed, so the truth is
known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medfuse.case import Case, Image, Region, Source
from medfuse.evaluation.markdown import _sizes
from medfuse.evaluation.sizes import SizeScores, score_sizes
from medfuse.inference.lesions import find_lesions
from medfuse.inference.second_look import MOST_VOXELS, _grid_around, outline_in_volume
from medfuse.inference.tracks import best_first, tracks
from medfuse.learning import ClassWeights
from medfuse.models.features import DenseOutput
from medfuse.models.regions import lesion_components
from medfuse.preprocess.tensors import CineInput, VolumeInput
from medfuse.task import load_task
from medfuse.training.stages.dense import class_weights

TASK = load_task("upper-abdomen")
K = len(TASK.dense)
LIVER = TASK.dense.index("liver")
CYST = TASK.dense.index("simple_cyst")
CENTRE = np.array([3.0, -4.0, 2.0])  # RAS+ mm
RADIUS = 11.0
BESIDE = CENTRE + np.array([32.0, 0.0, 0.0])


def everything(finding, modality):
    return True


def found_in(outputs, case, task=TASK, **how):
    return find_lesions(outputs, case, task, everything, {"CT": 0.5, "US": 0.5}, **how)


def affine_of(spacing, shape, turn=0.0):
    """A grid whose middle lies in 0, turned about the long axis of the patient."""
    c, s = np.cos(turn), np.sin(turn)
    out = np.eye(4)
    out[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(spacing)
    out[:3, 3] = -out[:3, :3] @ ((np.array(shape) - 1) / 2)
    return out


def distance(affine, shape, centre=CENTRE):
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    return np.linalg.norm(grid @ affine[:3, :3].T + affine[:3, 3] - centre, axis=-1)


def image_of(affine, shape, seed=0, contrast=-60.0):
    rng = np.random.default_rng(seed)
    pixels = np.where(distance(affine, shape) < RADIUS, 100 + contrast, 100.0) + rng.normal(0, 12, shape)
    return Image(
        "CT", pixels.astype(np.float32), Source("x"), affine=affine, frame_of_reference="F", role="portal"
    )


def seen_by_network(wider=6.0, spacing=(4.0, 4.0, 5.0), shape=(24, 24, 16)):
    """A network that outlines the lesion ``wider`` mm too far out, on a coarse grid."""
    affine = affine_of(spacing, shape)
    away = distance(affine, shape) - (RADIUS + wider)
    p = (0.97 / (1 + np.exp(np.clip(away / 1.5, -30, 30)))).astype(np.float32)
    source = VolumeInput(
        "CT",
        np.zeros((5, *shape), np.float32),
        np.array([0, 0, 1, 0, 0], bool),
        affine,
        "F",
        (-1, -1, 0, -1, -1),
    )
    components = lesion_components(p)
    per_class = np.zeros((len(components), K))
    per_class[:, CYST] = 0.9
    return DenseOutput("CT", source, 0, np.full(shape, LIVER, np.uint8), p, components, per_class)


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_the_edge_is_where_the_series_shows_it(turn):
    shape = (60, 60, 24)
    image = image_of(affine_of((1.6, 1.6, 3.0), shape, turn), shape)
    case = Case("c", images=[image])
    output = seen_by_network()
    (once,) = found_in([output], case, twice=False)
    (twice,) = found_in([output], case)
    assert once.record.long_axis_mm > 2 * RADIUS + 8  # as the network has it
    assert twice.record.long_axis_mm == pytest.approx(2 * RADIUS, abs=1.6)
    assert twice.record.short_axis_mm == pytest.approx(2 * RADIUS, abs=1.6)
    assert twice.record.volume_ml == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 1000, rel=0.12)
    assert np.abs(np.array(twice.record.place.centre_mm) - CENTRE).max() < 1.0
    scores: dict[str, SizeScores] = {}
    truth = np.where(distance(image.affine, shape) < RADIUS, CYST, 0).astype(np.uint8)
    score_sizes(scores, ([once], [twice]), case, {0: truth}, TASK)
    row = scores["CT"].summary()
    assert (row.reported, row.on_true, row.true_found) == (1, 1, 1)
    assert row.diameter_error_mm < 1.7 < 8 < row.first_look_error_mm
    assert row.dice > 0.93 > 0.75 > row.first_look_dice
    assert "| CT | 1 | 1 (1) |" in _sizes({"CT": row.as_json()})[-1]


def test_several_series_tell_more_than_one():
    """Two phases, in each of which noise hides the edge; only together they show it."""
    shape = (60, 60, 24)
    affine = affine_of((1.6, 1.6, 3.0), shape)
    error = {}
    for n in (1, 4):
        images = [image_of(affine, shape, seed, contrast=-9.0) for seed in range(n)]
        output = seen_by_network()
        output.source.images = (*range(n), *[-1] * (5 - n))
        mask = outline_in_volume(output, 0, images, TASK).mask
        error[n] = abs(mask.sum() * 1.6**2 * 3 / 4 - 4 / 3 * np.pi * RADIUS**3)  # pixels are halved
    assert error[4] < error[1]


def test_what_has_no_place_or_no_contrast_keeps_the_first_look():
    shape = (40, 40, 16)
    flat = image_of(affine_of((2.4, 2.4, 5.0), shape), shape)
    flat.pixels[:] = 100  # nothing to see: the network's word, less what it overstates
    (record,) = (x.record for x in found_in([seen_by_network(0.0)], Case("c", images=[flat])))
    assert record.long_axis_mm == pytest.approx(2 * RADIUS - 4, abs=3)
    irregular = image_of(affine_of((2.4, 2.4, 5.0), shape), shape)
    irregular.affine = None
    output = seen_by_network(0.0)
    assert outline_in_volume(output, 0, [irregular], TASK) is None


def test_a_large_lesion_is_outlined_in_larger_steps():
    shape = (600, 600, 60)
    image = Image(
        "CT", np.broadcast_to(np.float32(0), shape), Source("x"), affine=affine_of((0.5, 0.5, 2), shape)
    )
    output = seen_by_network(80.0, shape=(80, 80, 40))
    grid = _grid_around(image, output, 0)
    assert np.prod(grid.shape) <= 1.1 * MOST_VOXELS
    corner = grid.affine @ np.array([*(np.array(grid.shape) - 0.5), 1.0])
    assert np.linalg.norm((np.linalg.inv(image.affine) @ corner)[:3] % 1 - 0.5, ord=np.inf) < 1e-6


def test_neighbours_stay_two():
    shape = (24, 24, 16)
    output = seen_by_network(0.0)
    other = distance(output.source.affine, shape, BESIDE)
    p = output.lesion_probability
    p = np.maximum(p, (0.97 / (1 + np.exp(np.clip((other - 8) / 1.5, -30, 30)))).astype(np.float32))
    components = lesion_components(p)
    per_class = np.zeros((2, K))
    per_class[:, CYST] = 0.9
    both = DenseOutput("CT", output.source, 0, output.label, p, components, per_class)
    series = (60, 60, 24)
    affine = affine_of((1.6, 1.6, 3.0), series)
    image = image_of(affine, series)
    image.pixels[distance(affine, series, BESIDE) < 8] -= 60
    sizes = sorted(x.record.long_axis_mm for x in found_in([both], Case("c", images=[image])))
    assert sizes == pytest.approx([16, 22], abs=2.5)


def clip(masks, level=0.9, mm=1.0, scale=2.0):
    """Frames of a cine (T, H, W) in which the network sees what ``masks`` say, surest where ``level`` is."""
    shape = masks.shape[1:]
    source = CineInput(np.zeros(masks.shape, np.float32), scale, (10.0, 5.0), mm, tuple(range(len(masks))), 0)
    out = []
    levels = np.broadcast_to(level, len(masks))
    for t, mask in enumerate(masks):
        p = gaussian_filter(mask * float(levels[t]), 0.8).astype(np.float32)
        components = lesion_components(p)
        per_class = np.zeros((len(components), K))
        per_class[:, CYST] = 0.9
        out.append(DenseOutput("US", source, t, np.zeros(shape, np.uint8), p, components, per_class))
    return out


def square(*boxes, size=64):
    out = np.zeros((size, size), np.float32)
    for r0, r1, c0, c1 in boxes:
        out[r0:r1, c0:c1] = 1
    return out


def test_a_lesion_that_is_lost_for_two_frames_is_one_track():
    there, gone = square((20, 30, 20, 30)), square()
    assert len(tracks(clip(np.stack([there, gone, gone, there])))) == 1
    assert len(tracks(clip(np.stack([there, gone, gone, gone, there])))) == 2


def test_two_lesions_beside_each_other_are_two_tracks():
    """Each goes on in the component that it overlaps most, though the boxes of both overlap both."""
    first = square((10, 30, 10, 20), (30, 50, 24, 34))
    second = square((12, 32, 12, 22), (32, 52, 26, 36))
    found = tracks(clip(np.stack([first, second, first])))
    assert [len(t) for t in found] == [3, 3]
    for track in found:
        rows = [o.components[n][1][0].start for o, n in track]
        assert np.ptp(rows) <= 3


def test_the_surest_frame_speaks_and_is_measured_in_its_region():
    masks = np.stack([square((16, 40, 16, 44)), square((20, 32, 20, 36)), square((20, 32, 20, 34))])
    outputs = clip(masks, level=np.array([0.75, 0.99, 0.8]))
    assert best_first(tracks(outputs)[0])[0][0].frame == 1
    pixels = np.zeros((3, 150, 150), np.uint8)
    whole = Region((0, 0, 149, 149), (0.5, 0.25))
    case = Case("c", images=[Image("US", pixels, Source("u"), regions=(whole,))])
    (lesion,) = found_in(outputs, case)
    assert lesion.record.place.frame == 1
    # 16 by 12 network pixels of 2 image pixels, those .5 mm wide and .25 mm high: 16 by 6 mm, less the rim
    assert lesion.record.long_axis_mm == pytest.approx(np.hypot(15, 5.4), abs=2)
    assert lesion.in_frame.frame == 1
    half = Region((0, 0, 149, 58), (0.5, 0.25))  # the lesion goes on below what is calibrated
    case.images[0].regions = (half,)
    (cut,) = found_in(outputs, case)
    assert cut.record.place.box_voxels[1][1] <= 58
    assert cut.record.short_axis_mm < lesion.record.short_axis_mm
    case.images[0].regions = ()
    assert found_in(outputs, case)[0].record.long_axis_mm is None


def test_weights_of_a_task_reach_training_and_are_undone_in_outlines():
    weight = class_weights(TASK)
    assert (float(weight[0]), float(weight[LIVER]), float(weight[CYST])) == pytest.approx((0.15, 0.4, 2.0))
    assert TASK.overstated == pytest.approx(np.log(5))
    even = TASK.model_copy(update={"weights": ClassWeights(background=1, organ=1, lesion=1)})
    assert set(class_weights(even).tolist()) == {1.0}
    assert even.overstated == 0
    output = seen_by_network(0.0)
    shape = (40, 40, 16)
    flat = image_of(affine_of((2.4, 2.4, 5.0), shape), shape)
    flat.pixels[:] = 100
    sizes = [found_in([output], Case("c", images=[flat]), t)[0].record.long_axis_mm for t in (TASK, even)]
    assert sizes[0] < sizes[1] == pytest.approx(2 * RADIUS, abs=2.5)
    mass = load_task("soft-tissue-mass")  # one mass fills much of each volume
    assert mass.overstated == 0
    assert set(class_weights(mass).tolist()) == {1.0}
