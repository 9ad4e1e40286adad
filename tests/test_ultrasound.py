"""Ultrasound: the scanned area, words burned in, colour apart from grey, times, and lengths only inside one
region."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from medfuse.case import Image, Source
from medfuse.io.cases import find_cases
from medfuse.io.frame_times import frame_ms, uneven, unused
from medfuse.io.ultrasound import brightest_frame, length, regions, scan_area, text_boxes


def sector(frames: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A bright fan in the middle of a dark screen, and its mask."""
    y, x = np.mgrid[:240, :320]
    r = np.hypot(x - 160, y - 20)
    angle = np.arctan2(x - 160, y - 20)
    fan = (r > 30) & (r < 190) & (np.abs(angle) < 0.6)
    rng = np.random.default_rng(0)
    return np.where(fan, rng.integers(30, 200, (frames, 240, 320)), 0).astype(np.uint8), fan


def test_the_sector_is_found_and_a_banner_is_not_part_of_it():
    frames, fan = sector()
    frames[:, 2:14, 10:300] = 90  # a grey banner across the top, wider than the sector
    frames[2, 4:12, 20:120:3] = 255  # a name that shows on one frame only
    top = brightest_frame(frames)
    area = scan_area(top, ())
    assert area[fan].mean() > 0.99
    assert not area[:14].any()
    assert any(b[1] <= 4 and b[3] >= 11 for b in text_boxes(top, area))


def test_a_screen_with_nothing_but_words_has_no_area():
    frames = np.zeros((1, 240, 320), np.uint8)
    frames[0, 5:15, 5:300] = 200
    assert scan_area(brightest_frame(frames), ()) is None


def test_grey_is_b_mode_inside_the_area_only():
    frames, fan = sector(1)
    rgb = np.repeat(frames[..., None], 3, -1)
    rgb[0, 100:110, 150:170] = (220, 30, 10)  # flow
    rgb[0, 120:130, 150:170] = (200, 170, 140)  # a sepia map is still grey
    rgb[0, 5:12, 5:60] = 255
    area = scan_area(brightest_frame(rgb), ())
    image = Image("US", rgb, Source("x"), area=area)
    assert image.colour[0, 100:110, 150:170].all()
    assert not image.colour[0, 120:130, 150:170].any()
    assert (image.grey[0, 100:110, 150:170] == 0).all()
    assert (image.grey[0, 120:130, 150:170] > 100).all()
    assert image.grey[0, :15].max() == 0


def item(kind, box, units=3, delta=0.02, data=1):
    ds = Dataset()
    ds.RegionSpatialFormat = kind
    ds.RegionDataType = data
    ds.RegionLocationMinX0, ds.RegionLocationMinY0, ds.RegionLocationMaxX1, ds.RegionLocationMaxY1 = box
    ds.PhysicalUnitsXDirection = ds.PhysicalUnitsYDirection = units
    ds.PhysicalDeltaX = ds.PhysicalDeltaY = delta
    return ds


def test_regions_by_kind_and_units():
    ds = Dataset()
    ds.Rows = 240
    ds.Columns = 320
    ds.SequenceOfUltrasoundRegions = [
        item(1, (0, 0, 99, 199)),
        item(1, (120, 0, 219, 199), data=2),
        item(2, (0, 210, 319, 230), units=4),
        item(3, (230, 0, 310, 100), units=7),
        item(1, (0, 0, 10, 10), units=0),
    ]
    found = regions(ds)
    assert [r.kind for r in found] == ["2d", "colour", "m-mode", "doppler"]
    assert found[0].mm_per_pixel == (0.2, 0.2)
    assert length(found, (10, 10), (10, 60)) == (pytest.approx(10.0), "mm")
    # two regions: no length in mm
    assert length(found, (10, 10), (130, 10)) == (
        pytest.approx(120.0),
        "pixel",
    )
    assert length(found, (10, 215), (60, 215))[1] == "pixel"  # m-mode: its x is time


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"FrameTime": "40"}, 40.0),
        ({"FrameTimeVector": ["0", "20", "30"]}, 25.0),
        ({"FrameTime": "33.3", "FrameTimeVector": ["0", "20", "30"]}, 33.3),
        (
            {"FrameTime": "33.3", "FrameTimeVector": ["0", "20", "30"], "FrameIncrementPointer": 0x00181065},
            25.0,
        ),
        ({"FrameTime": "33.3", "FrameTimeVector": ["0", "9"], "FrameIncrementPointer": 0x00181063}, 33.3),
        ({"FrameTime": "33.3", "FrameIncrementPointer": 0x00181065}, 33.3),
        ({"FrameTime": "0", "CineRate": "50"}, 20.0),
        ({"RecommendedDisplayFrameRate": "25"}, 40.0),
        ({}, None),
    ],
)
def test_frame_times_come_from_the_first_attribute_that_has_one(values, expected):
    ds = Dataset()
    for key, value in values.items():
        setattr(ds, key, value)
    assert frame_ms(ds) == expected


def test_frames_that_do_not_follow_evenly_are_told():
    ds = Dataset()
    ds.FrameTimeVector = ["0", "100", "10", "10", "100"]
    ds.FrameIncrementPointer = 0x00181065
    assert frame_ms(ds) == 55
    assert uneven(ds) == "frame times vary from 10 to 100 ms; their mean stands for all"
    ds.FrameTimeVector = ["0", "33", "34", "33"]
    assert uneven(ds) == ""


@pytest.mark.parametrize(
    ("vector", "frames", "said"),
    [
        (["0", "40", "-40", "40"], 4, "run backwards"),
        (["0", "-40", "-40", "-40"], 4, "run backwards"),
        (["0", "0", "0", "0"], 4, "or are none"),
        (["0", "40", "40"], 4, "has 3 times for 4 frames"),
        (["0", "40", "40", "40", "40", "40"], 4, "has 6 times for 4 frames"),
    ],
)
def test_a_vector_of_times_that_cannot_be_is_not_used_and_said(vector, frames, said):
    ds = Dataset()
    ds.NumberOfFrames = frames
    ds.FrameTimeVector = vector
    ds.FrameIncrementPointer = 0x00181065
    assert frame_ms(ds) is None
    assert said in unused(ds)
    ds.CineRate = 20
    assert frame_ms(ds) == 50
    ds.FrameTimeVector = ["0", "30", "40", "50"]
    assert (frame_ms(ds), unused(ds)) == (40, "")


def test_real_screens_lose_their_banner(shared):
    """A colour still of a real scanner whose banner carries a name: grey holds none of it, on any part of the
    banner."""
    path = shared / "dicom" / "orthanc_tests" / "US_ATL_HDI5000_jpegbaseline.dcm"
    if not path.exists():
        pytest.skip("no real data (MEDFUSE_SHARED)")
    image = find_cases(path).cases[0].images[0]
    assert brightest_frame(image.pixels)[:40].max() > 100
    assert image.grey[:, :40].max() == 0
    assert len(image.text) > 10


def palette_file(path: Path, syntax: str, tables: list[bytes], descriptor: list[int], bits: int) -> Path:
    """An ultrasound still of a palette, whose indices count up from 3 along its rows."""
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    for n, key in enumerate(("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")):
        setattr(ds, key, f"1.2.3.{n}")
    ds.Modality = "US"
    ds.PatientID = "P1"
    ds.Rows = ds.Columns = 4
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "PALETTE COLOR"
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = 0
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", descriptor)
        setattr(ds, f"{colour}PaletteColorLookupTableData", table)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    ds.PixelData = np.arange(3, 19).astype(f"{order}u{bits // 8}").tobytes()
    ds["PixelData"].VR = "OW" if bits == 16 else "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(
    ("entries", "described", "kind", "times", "bits"),
    [
        (256, 16, "u2", 256, 8),  # as it should be: sixteen bits, the value in the upper eight
        (256, 16, "u2", 1, 8),  # called sixteen bits, the value in the lower eight
        (256, 8, "u2", 1, 8),  # eight bits in words of sixteen
        (256, 8, "u1", 1, 8),
        (512, 8, "u1", 1, 16),  # more entries than eight bits can count
        (15, 8, "u1", 1, 8),  # an odd number: padded to an even one
    ],
)
def test_a_palette_is_read_in_any_order_and_depth(tmp_path, syntax, entries, described, kind, times, bits):
    """Red falls, green rises, blue is 7; entry e stands for the index 4 + e, and index 3 for entry 0, too."""
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    rising = np.arange(entries) % 200
    values = [200 - rising, rising, np.full(entries, 7)]
    tables = [(v * times).astype(f"{order}{kind}").tobytes() for v in values]
    tables = [t + b"\0" * (len(t) % 2) for t in tables]
    path = palette_file(tmp_path / "a.dcm", syntax, tables, [entries, 4, described], bits)
    (case,) = find_cases(path).cases
    got = case.images[0].pixels
    assert got.shape == (1, 4, 4, 3)
    at = np.clip(np.arange(3, 19) - 4, 0, entries - 1)
    assert np.array_equal(got.reshape(-1, 3), np.stack([v[at] for v in values], 1))
