"""Slices that lie between one another, that were moved a little, or that lie beside one another."""

from __future__ import annotations

import numpy as np
import pytest
from frames import Frame, write_enhanced
from pydicom.dataset import Dataset
from test_repeats import STEP, mr_slice, unmixed

from medfuse.io.cases import find_cases
from medfuse.io.interleaved import combs, moved_repeats

CONTENT = "FrameContentSequence"


def stack(folder, attributes, *, volumes: int = 1, places: int = 6):
    """``attributes(v, k)`` of slice k of volume v; its height is ``z`` of them, else STEP k."""
    for v in range(volumes):
        for k in range(places):
            says = {"number": 7 * k % 5 + 1} | attributes(v, k)
            mr_slice(folder / f"{k}{v}.dcm", says.pop("z", STEP * k), 2000 * v, **says)


def only_refusal(folder) -> str:
    found = find_cases(folder)
    assert not found.cases
    return found.scan.refused[0].reason


@pytest.mark.parametrize(
    "says",
    [
        lambda k: {"TemporalPositionIdentifier": k + 1},
        lambda k: {"EchoNumbers": k % 2 + 1},
        lambda k: {"StackID": str(k + 1)},
        lambda k: {"spacing": (0.703125, 0.703125) if k % 2 else (0.703, 0.703)},
    ],
)
def test_a_label_that_changes_from_slice_to_slice_parts_nothing(tmp_path, says):
    stack(tmp_path, lambda v, k: says(k))
    (case,) = find_cases(tmp_path).cases
    (image,) = case.images
    assert image.pixels.shape[2] == 6
    assert image.geometry.measured == "step 3.0000 mm"


@pytest.mark.parametrize(
    ("says", "named"),
    [
        (lambda k: {"EchoTime": 2.30 + 0.01 * (k % 2)}, "EchoTime"),
        (lambda k: {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND" if k % 2 else "NORM"]}, "ImageType"),
        (
            lambda k: {"orientation": (1, 0, 0, 0, 1, 0) if k % 2 else (0.9999, 0.012, 0, -0.012, 0.9999, 0)},
            "ImageOrientationPatient",
        ),
    ],
)
def test_combs_of_one_volume_are_refused(tmp_path, says, named):
    stack(tmp_path, lambda v, k: says(k))
    assert f"differ in {named}" in only_refusal(tmp_path)


def test_two_echoes_whose_times_jitter_are_no_four_volumes(tmp_path):
    stack(tmp_path, lambda v, k: {"EchoTime": 2.3 * (v + 1) + 0.01 * (k % 2)}, volumes=2)
    assert "lie between one another differ in EchoTime" in only_refusal(tmp_path)


@pytest.mark.parametrize(
    "says",
    [
        lambda v, k: {"DiffusionBValue": 500.0 * v},
        lambda v, k: {"EchoTime": 2.0 + v},
        lambda v, k: {"AcquisitionTime": f"1200{10 * v + k:02d}"},
        lambda v, k: {"ContentTime": f"1200{10 * v + k:02d}"},
        lambda v, k: {"SeriesDescription": f"phase {v}"},
        lambda v, k: {"SliceThickness": 1.0 + v},
    ],
)
@pytest.mark.parametrize("moved", [0.0, 0.1])
def test_repeats_that_moved_a_little_are_volumes_of_their_own(tmp_path, says, moved):
    stack(tmp_path, lambda v, k: says(v, k) | {"z": STEP * k + moved * v}, volumes=2)
    unmixed(tmp_path, 2)


def test_slices_beside_one_another_are_no_volume(tmp_path):
    for k in range(4):
        mr_slice(tmp_path / f"{k}.dcm", 0, 0, ImagePositionPatient=[5.0 * k, 0, 0])
    assert "lie beside one another (15.0 mm) and not behind" in only_refusal(tmp_path)


def test_frames_that_lost_their_place_are_refused(tmp_path):
    says = [{(CONTENT, "InStackPositionNumber"): k + 1} for k in range(4)]
    write_enhanced(tmp_path / "a.dcm", [Frame(z=0.0, value=k, says=s) for k, s in enumerate(says)])
    assert "InStackPositionNumber runs from 1 to 4" in only_refusal(tmp_path)


def test_an_index_of_places_counts_as_one(tmp_path):
    item = Dataset()
    item.DimensionIndexPointer = 0x00209057
    frames = [Frame(z=0.0, value=k, says={(CONTENT, "DimensionIndexValues"): [k + 1, 1]}) for k in range(4)]
    write_enhanced(tmp_path / "a.dcm", frames, DimensionIndexSequence=[item, Dataset()])
    assert "InStackPositionNumber runs from 1 to 4" in only_refusal(tmp_path)


@pytest.mark.parametrize(
    ("group", "key", "values"),
    [
        ("MRDiffusionSequence", "DiffusionDirectionality", ("DIRECTIONAL", "ISOTROPIC")),
        ("RespiratorySynchronizationSequence", "NominalRespiratoryTriggerDelayTime", (0.0, 400.0)),
        (CONTENT, "FrameReferenceDateTime", ("20260101120000", "20260101120010")),
        (CONTENT, "FrameLabel", ("first", "second")),
    ],
)
def test_more_that_tells_frames_apart(tmp_path, group, key, values):
    frames = [
        Frame(z=STEP * k, value=1000 + 2000 * v, says={(group, key): values[v]})
        for k in range(4)
        for v in range(2)
    ]
    write_enhanced(tmp_path / "a.dcm", frames)
    unmixed(tmp_path, 2)


def test_combs_and_moved_repeats_by_numbers():
    even = np.arange(0, 12, 2.0)
    assert combs([even, even + 1], 0.02) == (0, 1)
    assert combs([even, even], 0.02) is None
    assert combs([even, even + 0.1], 0.02) is None  # moved, no comb
    assert combs([even, even + 100], 0.02) is None
    assert combs([even[:3], even[3:]], 0.02) is None  # one behind the other
    assert moved_repeats(np.concatenate([even, even + 0.1]), 0.02) == pytest.approx(0.1)
    assert moved_repeats(even, 0.02) == 0
    assert moved_repeats(np.concatenate([even, even[:3] + 0.1]), 0.02) == 0  # not every place twice
