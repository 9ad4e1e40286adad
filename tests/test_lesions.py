"""Lesions, coverage and regions from dense predictions that are constructed, so the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from medfuse.case import Case, Image, Source
from medfuse.inference.coverage import coverage_limit
from medfuse.inference.lesions import diameters, find_lesions
from medfuse.models.features import DenseOutput
from medfuse.models.regions import MAX_LESIONS, _near, extract, lesion_components
from medfuse.preprocess.tensors import CineInput, VolumeInput
from medfuse.task import load_task

TASK = load_task("upper-abdomen")
K = len(TASK.dense)


def dense_output(probability, label=None, lesion_class="simple_cyst", spacing=(4.0, 4.0, 5.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-100, -80, -60)
    shape = probability.shape
    source = VolumeInput(
        "CT",
        np.zeros((5, *shape), np.float32),
        np.array([0, 0, 1, 0, 0], bool),
        affine,
        "F",
        (-1, -1, 0, -1, -1),
    )
    components = lesion_components(probability)
    per_class = np.zeros((len(components), K))
    per_class[:, TASK.dense.index(lesion_class)] = 0.9
    return DenseOutput(
        "CT",
        source,
        0,
        label if label is not None else np.zeros(shape, np.uint8),
        probability,
        components,
        per_class,
    )


def case_for(output):
    shape = output.lesion_probability.shape
    return Case(
        "c",
        images=[
            Image(
                "CT",
                np.zeros(shape, np.float32),
                Source("x", series_uid="1.2"),
                affine=output.source.affine,
                frame_of_reference="F",
                role="portal",
            )
        ],
    )


def ball(shape, centre, radii_mm, spacing):
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    r = np.sqrt((((grid - centre) * spacing / radii_mm) ** 2).sum(-1))
    # crosses one half at the surface
    return np.clip(0.5 + (1 - r) * np.min(radii_mm) / 8, 0, 1).astype(np.float32)


def test_diameters_of_a_known_ellipsoid():
    spacing = np.array([4.0, 4.0, 5.0])
    p = ball((40, 32, 16), (20, 16, 8), np.array([20.0, 12.0, 12.0]), spacing)
    output = dense_output(p)
    found = find_lesions([output], case_for(output), TASK, lambda f, m: True, twice=False)
    (lesion,) = [x.record for x in found]
    assert lesion.finding == "simple_cyst"
    assert lesion.long_axis_mm == pytest.approx(40, abs=3)
    assert lesion.short_axis_mm == pytest.approx(24, abs=3)
    assert lesion.volume_ml == pytest.approx(4 / 3 * np.pi * 20 * 12 * 12 / 1000, rel=0.2)
    want = np.array([20, 16, 8]) * spacing + (-100, -80, -60)
    assert np.abs(np.array(lesion.place.centre_mm) - want).max() < 1.5
    assert lesion.place.slice == 8


def test_what_a_modality_cannot_show_is_named_wider():
    output = dense_output(
        ball((40, 32, 16), (20, 16, 8), np.array([16.0, 16, 16]), np.array([4.0, 4, 5])),
        lesion_class="hcc_like",
    )
    (lesion,) = [
        x.record for x in find_lesions([output], case_for(output), TASK, lambda f, m: f.id != "hcc_like")
    ]
    assert find_lesions([output], case_for(output), TASK, lambda f, m: True, {output.modality: 1.0}) == []
    assert lesion.finding == "solid_lesion"


def test_uncalibrated_ultrasound_has_no_millimetres():
    p = np.zeros((2, 64, 64), np.float32)
    p[:, 20:30, 30:45] = 0.9
    source = CineInput(p, 2.0, (10.0, 5.0), None, (0, 7), 0)
    outputs = []
    for t in range(2):
        components = lesion_components(p[t])
        per_class = np.zeros((len(components), K))
        per_class[:, TASK.dense.index("simple_cyst")] = 0.9
        outputs.append(
            DenseOutput("US", source, t, np.zeros((64, 64), np.uint8), p[t], components, per_class)
        )
    case = Case("c", images=[Image("US", np.zeros((8, 150, 150), np.uint8), Source("u"))])
    # neighbouring frames: one lesion
    (lesion,) = [x.record for x in find_lesions(outputs, case, TASK, lambda f, m: True)]
    assert lesion.long_axis_mm is None
    (x0, y0), (x1, y1) = lesion.place.box_voxels
    assert abs(x0 - (30 * 2 + 10)) <= 2
    assert abs(y1 - (29 * 2 + 5)) <= 2
    assert y0 < y1
    assert x0 < x1


def test_diameters_of_points():
    square = np.array([[0.0, 0], [3, 0], [3, 4], [0, 4]])
    long_axis, short_axis = diameters(square, 0.0)
    assert long_axis == pytest.approx(5)
    assert short_axis == pytest.approx(4.8)
    assert diameters(square[:1], 2.0) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("z", "limit"), [((4, 12), ""), ((0, 8), "cut bottom"), ((8, 16), "cut top"), ((0, 16), "cut bottom top")]
)
def test_coverage(z, limit):
    label = np.zeros((20, 20, 16), np.uint8)
    label[4:16, 4:16, z[0] : z[1]] = TASK.dense.index("liver")
    assert coverage_limit(dense_output(np.zeros((20, 20, 16), np.float32), label), TASK) == limit


def test_coverage_without_the_organ():
    assert coverage_limit(dense_output(np.zeros((20, 20, 16), np.float32)), TASK) == "not_in_view"


def test_regions_pool_what_lies_in_them():
    torch.manual_seed(0)
    shape = (24, 16, 16)
    logits = torch.full((K, *shape), -8.0)
    logits[0] = 8.0
    liver = TASK.dense.index("liver")
    cyst = TASK.dense.index("simple_cyst")
    logits[0, 4:20, 4:12, 4:12] = -8
    logits[liver, 4:20, 4:12, 4:12] = 8
    logits[liver, 8:12, 6:10, 6:10] = -8
    logits[cyst, 8:12, 6:10, 6:10] = 8
    values = torch.zeros(2, *shape)
    values[0, 4:20, 4:12, 4:12] = 1.0
    values[0, 8:12, 6:10, 6:10] = -2.0
    present = torch.tensor([True, False])
    regions, p, components = extract(
        values,
        present,
        logits,
        torch.randn(3, *shape),
        torch.randn(24, 3, 2, 2),
        organ=liver,
        lesions=TASK.lesion_indices,
    )
    assert len(components) == 1
    assert p.shape == (K, *shape)
    lesion_row = np.flatnonzero((regions.kind == K) & regions.valid)
    liver_row = np.flatnonzero((regions.kind == liver) & regions.valid)
    assert len(lesion_row) == len(liver_row) == 1
    intensity = 3 + 3 + 24 + K  # where the mean intensities of the roles begin
    assert regions.features[lesion_row[0], intensity] == pytest.approx(-2.0, abs=0.01)
    assert regions.features[liver_row[0], intensity] == pytest.approx(1.0, abs=0.01)
    contrast = intensity + 2 * 2
    # against the ring around it
    assert regions.features[lesion_row[0], contrast] == pytest.approx(-3.0, abs=0.3)
    assert regions.features[lesion_row[0], intensity + 1] == 0  # a role that was not acquired says nothing
    assert regions.valid.sum() == 2
    assert len(regions.kind) == K - 1 - len(TASK.lesion_classes) + MAX_LESIONS


@pytest.mark.parametrize("shape", [(2, 7, 9, 6), (1, 30, 1), (3, 2, 8)])
def test_the_neighbourhood_of_an_organ_is_a_box_of_five(shape, rng):
    inside = rng.random(shape) > 0.97
    box = (1,) + (5,) * (len(shape) - 1)
    wanted = ndimage.maximum_filter(inside, size=box, mode="constant")
    assert np.array_equal(_near(torch.from_numpy(inside)).numpy(), wanted)
