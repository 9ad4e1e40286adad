"""Frames of enhanced objects become exact volumes or a named refusal, whatever their order."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from frames import ENHANCED_CT, LEGACY_MR, SIZE, Frame, write_enhanced
from pydicom.dataset import Dataset

from medfuse.case import Image
from medfuse.io.cases import find_cases

STEP = 3.0
Says = Callable[[int, int], dict[tuple[str, str], object]]  # of volume v and place k


def shuffled(volumes: int, says: Says, *, places: int = 4, jitter: float = 0.0, seed: int = 5) -> list[Frame]:
    """Volume v has the value 100 v + k at place k; the order of frames is random."""
    dice = random.Random(seed)
    frames = [
        Frame(z=STEP * k + jitter * dice.uniform(-1, 1), value=100 * v + k, says=says(v, k))
        for v in range(volumes)
        for k in range(places)
    ]
    dice.shuffle(frames)
    return frames


def images_of(folder: Path) -> list[Image]:
    (case,) = find_cases(folder).cases
    return case.images


def assert_unmixed(images: list[Image], volumes: int, places: int = 4) -> None:
    assert [i.pixels[0, 0].tolist() for i in images] == [
        [100.0 * v + k for k in range(places)] for v in range(volumes)
    ]
    for image in images:
        assert image.pixels.shape == (SIZE[1], SIZE[0], places)
        assert image.affine[2, 2] == pytest.approx(STEP, abs=0.01)


CONTENT = "FrameContentSequence"
KINDS: dict[str, Says] = {
    "echo": lambda v, k: {("MREchoSequence", "EffectiveEchoTime"): 2.3 * (v + 1)},
    "b-value": lambda v, k: {("MRDiffusionSequence", "DiffusionBValue"): 500.0 * v},
    "time index": lambda v, k: {(CONTENT, "TemporalPositionIndex"): v + 1},
    "time offset": lambda v, k: {("TemporalPositionSequence", "TemporalPositionTimeOffset"): 1.5 * v},
    "dimensions": lambda v, k: {(CONTENT, "DimensionIndexValues"): [k + 1, v + 1]},
    "acquisition number": lambda v, k: {(CONTENT, "FrameAcquisitionNumber"): v + 1},
    "clock": lambda v, k: {(CONTENT, "FrameAcquisitionDateTime"): f"2024010223595{v}.{k}"},
    "over midnight": lambda v, k: {
        (CONTENT, "FrameAcquisitionDateTime"): ("20240101235959", "20240102000009", "20240102000019")[v]
    },
    "trigger": lambda v, k: {("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"): 40.0 * v},
    "cardiac phase": lambda v, k: {
        ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"): 10.0 * v
    },
    "label and control": lambda v, k: {
        ("MRArterialSpinLabelingSequence", "ASLContext"): ("CONTROL", "LABEL", "M_ZERO_SCAN")[v]
    },
    "component": lambda v, k: {
        ("MRImageFrameTypeSequence", "ComplexImageComponent"): ("MAGNITUDE", "PHASE", "REAL")[v]
    },
    "velocity": lambda v, k: {
        ("MRVelocityEncodingSequence", "VelocityEncodingDirection"): [float(v == d) for d in range(3)]
    },
    "inversion": lambda v, k: {("MRModifierSequence", "InversionTimes"): 100.0 + 50 * v},
    "frame type": lambda v, k: {
        ("MRImageFrameTypeSequence", "FrameType"): ["ORIGINAL", "PRIMARY", "MRI"[v], "NONE"]
    },
}


UNORDERED = ("frame type", "label and control", "component", "velocity", "cardiac phase", "inversion")


def in_order(images: list[Image]) -> list[Image]:
    """By what volume v holds: for kinds that say no order."""
    return sorted(images, key=lambda i: i.pixels[0, 0, 0])


@pytest.mark.parametrize("jitter", [0.0, 0.0004])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_paired_by_what_differs(tmp_path, kind, jitter):
    write_enhanced(tmp_path / "a.dcm", shuffled(3, KINDS[kind], jitter=jitter))
    images = images_of(tmp_path)
    assert_unmixed(images if kind not in UNORDERED else in_order(images), 3)


def test_directions_part_frames_and_are_traits(tmp_path):
    def says(v: int, k: int) -> dict[tuple[str, str], object]:
        along = Dataset()
        along.DiffusionGradientOrientation = [[1.0, 0, 0], [0, 1.0, 0]][v]
        return {
            ("MRDiffusionSequence", "DiffusionBValue"): 800.0,
            ("MRDiffusionSequence", "DiffusionGradientDirectionSequence"): [along],
        }

    write_enhanced(tmp_path / "a.dcm", shuffled(2, says))
    images = in_order(images_of(tmp_path))
    assert_unmixed(images, 2)
    assert [i.traits["direction"][0] for i in images] == ["1, 0, 0", "0, 1, 0"]
    assert images[0].traits["b_value"] == ("800", 1.0)


def test_every_trait_of_a_frame_is_told(tmp_path):
    def says(v: int, k: int) -> dict[tuple[str, str], object]:
        return KINDS["echo"](v, k) | KINDS["trigger"](v, k) | KINDS["time index"](v, k)

    write_enhanced(tmp_path / "a.dcm", shuffled(2, says))
    told = [
        {n: i.traits[n][0] for n in ("echo_ms", "trigger_ms", "temporal_index")} for i in images_of(tmp_path)
    ]
    assert told == [
        {"echo_ms": "2.3", "trigger_ms": "0", "temporal_index": "1"},
        {"echo_ms": "4.6", "trigger_ms": "40", "temporal_index": "2"},
    ]


def test_energies_part_frames_of_ct(tmp_path):
    frames = shuffled(2, lambda v, k: {("CTXRayDetailsSequence", "KVP"): 80 + 60 * v})
    write_enhanced(tmp_path / "a.dcm", frames, sop_class=ENHANCED_CT)
    images = images_of(tmp_path)
    assert_unmixed(images, 2)
    assert [i.traits["kvp"][0] for i in images] == ["80", "140"]


def test_what_a_converter_kept_unassigned_parts_frames(tmp_path):
    ds = write_enhanced(tmp_path / "a.dcm", shuffled(2, lambda v, k: {}), sop_class=LEGACY_MR)
    values = np.frombuffer(ds.PixelData, np.uint16).reshape(8, -1)[:, 0]
    for item, value in zip(ds.PerFrameFunctionalGroupsSequence, values, strict=True):
        kept = Dataset()
        kept.EchoTime = 2.3 if value < 100 else 4.6
        item.UnassignedPerFrameConvertedAttributesSequence = [kept]
    ds.save_as(tmp_path / "a.dcm")
    assert_unmixed(images_of(tmp_path), 2)


def test_frames_that_nothing_tells_apart_are_refused(tmp_path):
    write_enhanced(tmp_path / "a.dcm", shuffled(2, lambda v, k: {}))
    found = find_cases(tmp_path)
    assert not found.cases
    assert "no echo, time, b-value or number tells them apart" in found.scan.refused[0].reason
    assert found.scan.ledger["unsupported"] == 1


def test_two_pixel_spacings_are_two_volumes(tmp_path):
    frames = shuffled(2, lambda v, k: {("PixelMeasuresSequence", "PixelSpacing"): [1.0 - 0.5 * v] * 2})
    write_enhanced(tmp_path / "a.dcm", frames)
    images = in_order(images_of(tmp_path))
    assert_unmixed(images, 2)
    assert [i.spacing for i in images] == [(1.0, 1.0, STEP), (0.5, 0.5, STEP)]


@pytest.mark.parametrize("spacing", [0.7, [0.7, 0.7, 0.7]])
def test_an_odd_spacing_is_named(tmp_path, spacing):
    frames = [Frame(z=0, value=1, says={("PixelMeasuresSequence", "PixelSpacing"): spacing})]
    write_enhanced(tmp_path / "a.dcm", frames)
    found = find_cases(tmp_path)
    assert "where two are due" in found.scan.refused[0].reason
    assert found.scan.ledger["unsupported"] == 1


def stacks(heights: list[list[float]]) -> list[Frame]:
    return [
        Frame(z=z, value=100 * s + n, says={(CONTENT, "StackID"): str(s + 1)})
        for s, stack in enumerate(heights)
        for n, z in enumerate(stack)
    ]


def test_interleaved_stacks_are_one_volume(tmp_path):
    write_enhanced(tmp_path / "a.dcm", stacks([[0, 6, 12], [3, 9, 15]]))
    (image,) = images_of(tmp_path)
    assert image.pixels[0, 0].tolist() == [0, 100, 1, 101, 2, 102]
    assert image.affine[2, 2] == STEP


def test_a_slice_missing_between_stacks_is_said_of_the_whole(tmp_path):
    write_enhanced(tmp_path / "a.dcm", stacks([[0, 6, 12, 18], [3, 15]]))
    (image,) = images_of(tmp_path)
    assert image.geometry.outcome == "irregular"
    assert "1 slice(s) missing" in image.geometry.measured


@pytest.mark.parametrize("heights", [[[0, 3, 6], [50, 53, 56]], [[0, 3, 6], [3, 6, 9]]])
def test_stacks_that_lie_apart_or_overlap_are_parted(tmp_path, heights):
    write_enhanced(tmp_path / "a.dcm", stacks(heights))
    images = images_of(tmp_path)
    assert [i.pixels[0, 0].tolist() for i in images] == [[0, 1, 2], [100, 101, 102]]


def test_random_objects_are_exact_or_refused(tmp_path):
    dice = random.Random(11)
    for n in range(25):
        chosen = dice.sample(sorted(set(KINDS) - {"over midnight"}), dice.randint(0, 3))
        volumes = dice.randint(2, 3)
        folder = tmp_path / str(n)
        folder.mkdir()

        def says(v: int, k: int, chosen: list[str] = chosen) -> dict[tuple[str, str], object]:
            return {key: value for kind in chosen for key, value in KINDS[kind](v, k).items()}

        jitter = dice.choice([0.0, 0.001, 0.005])
        write_enhanced(folder / "a.dcm", shuffled(volumes, says, jitter=jitter, seed=n))
        if chosen:
            assert_unmixed(in_order(images_of(folder)), volumes)
        else:
            assert find_cases(folder).scan.refused


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("enhanced-position-jitter", [5, 5, 5]),
        ("enhanced-two-geometries", [5, 5]),
        ("legacy-enhanced-random", [6, 6]),
        ("stacks-interleaved", [12]),
    ],
)
def test_reported_inputs(shared, name, depths):
    folder = shared / "reports_of_others" / name / "input"
    if not folder.is_dir():
        pytest.skip("the reported inputs are not here")
    images = images_of(folder)
    assert [i.pixels.shape[2] for i in images] == depths
    for image in images:
        assert np.abs(np.diff(image.pixels.mean((0, 1)))).max() < 40
