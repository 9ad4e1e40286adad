"""Slices acquired several times at a place become exact volumes or a named refusal; mosaics are unpacked."""

from __future__ import annotations

import random
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from random_series import run
from slices import AXIAL, write_slice

from medfuse.io import pairing
from medfuse.io.cases import find_cases
from medfuse.io.headers import WANTED
from medfuse.io.mosaic import Mosaic, first_position, unpack

MR = "1.2.840.10008.5.1.4.1.1.4"
STEP = 3.0


def mr_slice(path: Path, z: float, value: int, *, private=(), **extra):
    ds = write_slice(path, position=(0, 0, z), value=value, slope=1.0, intercept=0.0, **extra)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MR
    ds.Modality = "MR"
    for tag, vr, what in private:
        ds.add_new(tag, vr, what)
    ds.save_as(path, enforce_file_format=True)
    return ds


def repeats(folder: Path, attributes: list[dict], places: int = 4, private=lambda v: ()):
    """Volume v has the value 2000 v; names and InstanceNumbers are shuffled over all slices."""
    order = [(v, k) for v in range(len(attributes)) for k in range(places)]
    random.Random(3).shuffle(order)
    for n, (v, k) in enumerate(order, 1):
        mr_slice(folder / f"{n:03d}.dcm", STEP * k, 2000 * v, number=n, private=private(v), **attributes[v])


def unmixed(folder: Path, volumes: int) -> list:
    (case,) = find_cases(folder).cases
    assert len(case.images) == volumes
    for image in case.images:
        assert image.geometry.outcome == "split"
        assert np.ptp(image.pixels[0, 0]) == 0  # one volume only: each volume has a value of its own
    assert sorted(float(i.pixels[0, 0, 0]) for i in case.images) == [1000 + 2000 * v for v in range(volumes)]
    return case.images


@pytest.mark.parametrize(
    "attributes",
    [
        [{"EchoTime": 2.3}, {"EchoTime": 4.6}, {"EchoTime": 6.9}],
        [{"KVP": 80}, {"KVP": 140}],
        [{"TriggerTime": 0.0}, {"TriggerTime": 40.5}],
        [{"ImageType": ["ORIGINAL", "PRIMARY"]}, {"ImageType": ["DERIVED", "PRIMARY"]}],
        [{"DiffusionGradientOrientation": [1, 0, 0.0]}, {"DiffusionGradientOrientation": [0, 1.0, 0]}],
        [
            {"AcquisitionDate": "20260101", "AcquisitionTime": "235959"},
            {"AcquisitionDate": "20260102", "AcquisitionTime": "000001"},
        ],
        [{"AcquisitionTime": "235950"}, {"AcquisitionTime": "235958"}, {"AcquisitionTime": "000006"}],
        [{"RepetitionTime": 10.0}, {"RepetitionTime": 500.0}],
        [{"FrameReferenceTime": 1000.0}, {"FrameReferenceTime": 5000.0}],
        [{"ReconstructionDiameter": 300.0}, {"ReconstructionDiameter": 400.0}],
        [{"FilterType": "HEAD FILTER"}, {"FilterType": "BODY FILTER"}],
        [{"AcquisitionContrast": "T1"}, {"AcquisitionContrast": "T2"}],
    ],
)
def test_repeats_are_paired_by_what_differs(tmp_path, attributes):
    repeats(tmp_path, attributes)
    unmixed(tmp_path, len(attributes))


def siemens_b(v: int):
    return [
        (0x00190010, "LO", "SIEMENS MR HEADER"),
        (0x0019100C, "IS", 500 * v),
        (0x0019100E, "FD", [0.6, 0.8, 0.0]),
    ]


def ge_echo(v: int):
    return [(0x00190011, "LO", "GEMS_ACQU_01"), (0x001911A2, "SL", 7 + v)]


def philips_b(v: int):
    return [(0x20010010, "LO", "Philips Imaging DD 001"), (0x20011003, "FL", 500.0 * v)]


def philips(element: int, vr: str, values, group=0x2005, creator="Philips MR Imaging DD 001"):
    tag = group << 16
    return lambda v: [(tag | 0x10, "LO", creator), (tag | 0x1000 | element, vr, values[v])]


FURTHER = {
    "GE image type": lambda v: [(0x00430010, "LO", "GEMS_PARM_01"), (0x0043102F, "SS", v)],
    "GE image type without VR": lambda v: [
        (0x00430010, "LO", "GEMS_PARM_01"),
        (0x0043102F, "UN", struct.pack("<h", v)),
    ],
    "Philips image type": philips(0x11, "CS", "MPR"),
    "Philips dynamic": philips(0xA0, "FL", [0.0, 2.5, 5.0]),
    "Philips phase": philips(0x08, "IS", [1, 2, 3], 0x2001, "Philips Imaging DD 001"),
    "Philips gradient": philips(0x13, "IS", [1, 2, 3], creator="Philips MR Imaging DD 005"),
    "Philips label": philips(0x29, "CS", ["LABEL", "CONTROL", "M0"], creator="Philips MR Imaging DD 005"),
    "Siemens coil": philips(0x0F, "LO", ["H1", "H2", "H3"], 0x0051, "SIEMENS MR HEADER"),
    "Siemens directions": philips(
        0x0D, "CS", ["NONE", "DIRECTIONAL", "ISOTROPIC"], 0x0019, "SIEMENS MR HEADER"
    ),
}


def by_place(folder: Path, volumes: int, says=lambda v: {}, private=lambda v: ()) -> None:
    """Numbers and times that climb place by place, the volumes in another order at each."""
    rng = random.Random(2)
    n = 0
    for k in range(6):
        for v in rng.sample(range(volumes), volumes):
            n += 1
            mr_slice(folder / f"{n:02d}.dcm", STEP * k, 2000 * v, number=n, private=private(v), **says(v))


@pytest.mark.parametrize("name", FURTHER)
def test_what_vendors_write_parts_repeats_before_any_number_does(tmp_path, name):
    by_place(tmp_path, 3, private=FURTHER[name])
    unmixed(tmp_path, 3)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("EffectiveEchoTime", [2.3, 4.6, 6.9]),
        ("NominalCardiacTriggerDelayTime", [0.0, 30.0, 60.0]),
        ("InversionTimes", [100.0, 200.0, 300.0]),
    ],
)
def test_what_enhanced_objects_say_parts_classic_slices_too(tmp_path, key, values):
    by_place(tmp_path, 3, lambda v: {key: values[v]})
    unmixed(tmp_path, 3)


LABELLED = {
    "AcquisitionNumber": [1, 2, 3],
    "EchoNumbers": [1, 2, 3],
    "ImageComments": ["a", "b", "c"],
    "TemporalPositionIdentifier": [1, 2, 3],
}


@pytest.mark.parametrize("key", LABELLED)
def test_a_label_that_the_clock_contradicts_is_refused(tmp_path, key):
    """Each volume was acquired after the other, while a label goes round among them from place to place."""
    rng = random.Random(4)
    names = rng.sample(range(18), 18)
    shifts = [rng.sample(range(3), 3) for _ in range(6)]
    for n, (v, k) in enumerate((v, k) for v in range(3) for k in range(6)):
        says = {key: LABELLED[key][shifts[k][v]], "AcquisitionTime": f"1000{n * 3:02d}"}
        mr_slice(tmp_path / f"{names[n]:02d}.dcm", STEP * k, 2000 * v, number=names[n], **says)
    found = find_cases(tmp_path)
    assert not found.cases
    said = found.scan.refused[0].reason
    assert key in said
    assert "AcquisitionTime pair the slices at one place differently" in said


def test_numbers_that_run_place_by_place_pair_nothing(tmp_path):
    by_place(tmp_path, 3)
    found = find_cases(tmp_path)
    assert not found.cases
    assert "3 slices lie at each of 6 places" in found.scan.refused[0].reason


@pytest.mark.parametrize("key", ["AcquisitionTime", "AcquisitionDateTime"])
def test_midnight_under_one_date_for_all(tmp_path, key):
    """An anonymiser wrote one date into every file, while the clock went past midnight within a volume."""
    names = random.Random(1).sample(range(12), 12)
    for n, (v, k) in enumerate((v, k) for v in range(2) for k in range(6)):
        at = (23 * 3600 + 59 * 60 + 40 + 5 * n) % 86400
        clock = f"{at // 3600:02d}{at // 60 % 60:02d}{at % 60:02d}"
        says = {"AcquisitionDate": "19000101", key: clock if key == "AcquisitionTime" else "19000101" + clock}
        mr_slice(tmp_path / f"{names[n]:02d}.dcm", STEP * k, 2000 * v, number=names[n], **says)
    unmixed(tmp_path, 2)


def test_a_volume_whose_slices_have_their_own_times_and_numbers_is_one(tmp_path):
    for k in range(10):
        at = 23 * 3600 + 59 * 60 + 40 + 5 * k
        mr_slice(
            tmp_path / f"{k}.dcm",
            STEP * k,
            0,
            number=k + 1,
            AcquisitionNumber=k + 1,
            AcquisitionDate="20260101" if at < 86400 else "20260102",
            AcquisitionTime=f"{at // 3600 % 24:02d}{at // 60 % 60:02d}{at % 60:02d}",
            ContentTime=f"1200{k:02d}",
            TriggerTime=100.0 * k,
            TemporalPositionIdentifier=k + 1,
        )
    (case,) = find_cases(tmp_path).cases
    assert [(i.pixels.shape[2], i.geometry.outcome) for i in case.images] == [(10, "exact")]


@pytest.mark.parametrize("silent", [1, 4])
def test_slices_without_an_intercept_are_said_or_refused(tmp_path, silent):
    for k in range(4):
        ds = write_slice(tmp_path / f"{k}.dcm", position=(0, 0, STEP * k), number=k)
        if k < silent:
            del ds.RescaleIntercept
        ds.save_as(tmp_path / f"{k}.dcm")
    found = find_cases(tmp_path)
    if silent == 4:
        assert "states no RescaleIntercept" in found.cases[0].images[0].warnings[-1]
    else:
        assert not found.cases
        assert "1 of its 4 slices state no RescaleIntercept" in found.scan.refused[0].reason


def test_frames_of_reference_that_differ_are_said(tmp_path):
    for k in range(4):
        ds = mr_slice(tmp_path / f"{k}.dcm", STEP * k, 0)
        ds.FrameOfReferenceUID = f"1.2.7{k % 2}"
        ds.save_as(tmp_path / f"{k}.dcm")
    (case,) = find_cases(tmp_path).cases
    assert "2 frames of reference" in case.images[0].warnings[0]


@pytest.mark.parametrize("private", [siemens_b, ge_echo, philips_b])
def test_private_elements_pair_too_in_whatever_block(tmp_path, private):
    repeats(tmp_path, [{}, {}, {}], private=private)
    images = unmixed(tmp_path, 3)
    if private is siemens_b:
        assert [i.traits["b_value"] for i in images] == [("0", 1.0), ("500", 1.0), ("1000", 1.0)]
        assert images[1].traits["direction"] == ("0.6, 0.8, 0", 1.0)


def test_shuffled_repeats_that_nothing_tells_apart_are_refused(tmp_path):
    repeats(tmp_path, [{}, {}])
    found = find_cases(tmp_path)
    assert not found.cases
    assert "no echo, time, b-value or number tells them apart" in found.scan.refused[0].reason


AGREES = [
    ("EchoTime", 2.5, 4.5, "differ in EchoTime (2.5, 4.5)"),
    ("ConvolutionKernel", "B30f", "B60f", "differ in ConvolutionKernel (B30f, B60f)"),
    ("TemporalPositionIdentifier", 1, 2, "differ in TemporalPositionIdentifier (1, 2)"),
    ("DiffusionGradientOrientation", [0.0, 0, 1], [0, 1.0, 0], r"diffusion direction (0\0\1, 0\1\0)"),
    (
        "ImageType",
        ["ORIGINAL", "PRIMARY", "DIXON", "NONE", "WATER"],
        ["ORIGINAL", "PRIMARY", "DIXON", "NONE", "FAT"],
        r"ImageType (DIXON\NONE\FAT, DIXON\NONE\WATER)",
    ),
]


@pytest.mark.parametrize(("key", "one", "other", "said"), AGREES)
def test_one_volume_of_two_kinds_is_refused(tmp_path, key, one, other, said):
    for k in range(4):
        mr_slice(tmp_path / f"{k}.dcm", STEP * k, 0, **{key: other if k % 2 else one})
    found = find_cases(tmp_path)
    assert not found.cases
    assert said in found.scan.refused[0].reason


@pytest.mark.parametrize(("key", "one", "other"), [a[:3] for a in AGREES if "Orientation" not in a[0]])
def test_kinds_that_lie_apart_are_a_volume_each(tmp_path, key, one, other):
    for k in range(6):
        mr_slice(tmp_path / f"{k}.dcm", STEP * k, 0, **{key: other if k > 2 else one})
    (case,) = find_cases(tmp_path).cases
    assert [i.pixels.shape[2] for i in case.images] == [3, 3]


def test_an_archive_that_compressed_some_slices_parts_nothing(tmp_path):
    for k in range(4):
        made = "DERIVED" if k % 2 else "ORIGINAL"
        mr_slice(tmp_path / f"{k}.dcm", STEP * k, 0, ImageType=[made, "PRIMARY", "AXIAL"])
    (case,) = find_cases(tmp_path).cases
    assert case.images[0].geometry.outcome == "exact"


def test_slices_that_lost_their_place_are_refused(tmp_path):
    for k in range(5):
        mr_slice(tmp_path / f"{k}.dcm", 0, 0, number=k, SliceLocation=2.0 * k)
    found = find_cases(tmp_path)
    assert not found.cases
    assert "SliceLocation runs from 0 to 8 mm" in found.scan.refused[0].reason


def test_jitter_in_a_cosine_does_not_split_a_series(tmp_path):
    for k in range(6):  # on either side of what rounding to three places would part
        tilt = 0.0005 + 2e-6 * (k % 2)
        mr_slice(tmp_path / f"{k}.dcm", STEP * k, 0, orientation=(1, 0, 0, 0, 1, tilt))
    (case,) = find_cases(tmp_path).cases
    (image,) = case.images
    assert image.pixels.shape[2] == 6


def csa_header(slices: int, normal) -> bytes:
    """A CSA2 header with two tags."""

    def tag(name: str, vr: str, values) -> bytes:
        out = struct.pack("<64si4s3i", name.encode(), len(values), vr.encode(), 0, len(values), 77)
        for v in values:
            text = str(v).encode() + b"\0"
            out += struct.pack("<4i", 0, len(text), 77, 0) + text + b"\0" * (-len(text) % 4)
        return out

    tags = tag("NumberOfImagesInMosaic", "US", [slices]) + tag("SliceNormalVector", "FD", normal)
    return b"SV10\4\3\2\1" + struct.pack("<2I", 2, 77) + tags


def write_mosaic(path: Path, *, csa: bool = True, image_type=("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC")):
    """Five slices of 4 × 6 pixels with the values 100 z in 3 × 3 tiles, downward; first centre at
    (10, 20, 30)."""
    rows = 12
    columns = 18
    picture = np.zeros((rows, columns), np.uint16)
    for z in range(5):
        r, c = divmod(z, 3)
        picture[4 * r : 4 * r + 4, 6 * c : 6 * c + 6] = 100 * z + 1
    corner = np.array([10, 20, 30]) - np.array([(18 - 6) / 2 * 2.0, (12 - 4) / 2 * 2.0, 0])
    ds = mr_slice(path, 0, 0, size=(rows, columns), spacing=(2.0, 2.0), ImageType=list(image_type))
    ds.ImagePositionPatient = [float(v) for v in corner]
    ds.SpacingBetweenSlices = 3.5
    ds.Manufacturer = "SIEMENS"
    ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    ds.add_new(0x0019100A, "US", 5)
    if csa:
        ds.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
        ds.add_new(0x00291010, "OB", csa_header(5, (0, 0, -1.0)))
    ds.PixelData = picture.tobytes()
    ds.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("kind", [("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"), ("DERIVED", "SECONDARY"), ""])
def test_a_mosaic_is_unpacked_to_where_its_slices_lie(tmp_path, kind):
    write_mosaic(tmp_path / "a.dcm", image_type=kind)
    (case,) = find_cases(tmp_path).cases
    (image,) = case.images
    assert image.pixels.shape == (6, 4, 5)
    assert image.pixels[0, 0].tolist() == [1, 101, 201, 301, 401]
    assert np.allclose(image.affine @ [0, 0, 0, 1], [-10, -20, 30, 1])
    assert np.allclose(image.affine @ [1, 1, 1, 1], [-12, -22, 26.5, 1])


def test_a_mosaic_without_its_csa_header_is_refused_by_name(tmp_path):
    write_mosaic(tmp_path / "a.dcm", csa=False)
    found = find_cases(tmp_path)
    assert not found.cases
    assert "Siemens mosaic without its CSA header" in found.scan.refused[0].reason


def test_mosaics_that_lost_the_word_are_a_volume_each(tmp_path):
    for n in range(2):
        write_mosaic(tmp_path / f"{n}.dcm", image_type=("ORIGINAL", "PRIMARY"))
    (case,) = find_cases(tmp_path).cases
    assert [i.pixels.shape for i in case.images] == [(6, 4, 5)] * 2
    write_mosaic(tmp_path / "0.dcm", image_type=("ORIGINAL", "PRIMARY"), csa=False)
    found = find_cases(tmp_path)
    assert len(found.cases[0].images) == 1
    assert "Siemens mosaic without its CSA header" in found.scan.refused[0].reason


def write_tiled_uih(path: Path, heights: list[float], *, frames: bool = True) -> None:
    """Slices of 4 × 6 pixels with the value 100 n + 1 at these heights, tiles of a picture without place."""
    across = int(np.ceil(np.sqrt(len(heights))))
    down = -(-len(heights) // across)
    picture = np.zeros((4 * down, 6 * across), np.uint16)
    for n in range(len(heights)):
        r, c = divmod(n, across)
        picture[4 * r : 4 * r + 4, 6 * c : 6 * c + 6] = 100 * n + 1
    words = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
    ds = mr_slice(path, 0, 0, size=picture.shape, spacing=(2.0, 2.0), ImageType=words)
    del ds.ImagePositionPatient
    ds.Manufacturer = "UIH"
    if frames:
        ds.add_new(0x00650010, "LO", "Image Private Header")
        items = [Dataset() for _ in heights]
        for item, z in zip(items, heights, strict=True):
            item.ImagePositionPatient = [10.0, 20.0, z]
        ds.add_new(0x00651051, "SQ", items)
        ds.add_new(0x00651009, "FD", 800.0)
    ds.PixelData = picture.tobytes()
    ds.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("heights", [[0.0, 3, 6, 9, 12], [12.0, 9, 6, 3, 0], [0.0, 6, 12, 3, 9, 15, 18, 21]])
def test_tiles_of_uih_lie_where_their_sequence_says(tmp_path, heights):
    """The picture has 2 × 3 tiles for five slices (and 3 × 3 for eight), in any order along the normal."""
    for n in range(2):
        write_tiled_uih(tmp_path / f"{n}.dcm", heights)
    (case,) = find_cases(tmp_path).cases
    assert len(case.images) == 2
    for image in case.images:
        assert image.pixels.shape == (6, 4, len(heights))
        values = [100.0 * int(n) + 1 for n in np.argsort(heights)]
        assert image.pixels[0, 0].tolist() == values
        assert np.allclose(image.affine @ [1, 1, 2, 1], [-12, -22, 6, 1])
        assert image.traits["b_value"] == ("800", 1.0)
        assert image.geometry.outcome == "split"


def test_tiles_of_uih_without_places_or_of_another_number_are_refused_by_name(tmp_path):
    write_tiled_uih(tmp_path / "0.dcm", [0.0, 3, 6], frames=False)
    write_tiled_uih(tmp_path / "1.dcm", [0.0, 3, 6, 9, 12])
    ds = dcmread(tmp_path / "1.dcm")
    ds[0x00651051].value = list(ds[0x00651051].value)[:2]  # two tiles: 8 × 9 pixels each
    ds.Columns = 9
    ds.Rows = 16
    ds.save_as(tmp_path / "1.dcm")
    found = find_cases(tmp_path)
    assert not found.cases
    said = sorted(r.reason for r in found.scan.refused)
    assert said[0].endswith(
        "(VFRAME of UIH) without its private sequence (0065,1051), so its slices have no place"
    )
    assert said[1] == "is a picture of tiles (VFRAME of UIH), but its 16 × 9 pixels do not part into 1 × 2"


def test_tiles_are_read_row_by_row():
    picture = np.arange(4).reshape(2, 2).repeat(2, 0).repeat(2, 1)
    tiles = unpack(picture, Mosaic(slices=3, normal=(0, 0, 1), step=1))
    assert tiles[:, 0, 0].tolist() == [0, 1, 2]
    moved = first_position(np.zeros(3), np.array(AXIAL), np.array([1.0, 1.0]), (4, 4), 2)
    assert moved.tolist() == [1, 1, 0]


def test_every_attribute_that_pairs_is_read():
    """What the scan does not keep of a header cannot tell two slices apart."""
    text = (Path(pairing.__file__)).read_text()
    named = set(re.findall(r'_text\("(\w+)"\)', text)) | set(re.findall(r'header\.get\("(\w+)"', text))
    assert named
    assert named <= {w for w in WANTED if isinstance(w, str)}


def test_random_series_are_exact_or_refused():
    counts, wrong = run(60, seed=3)
    assert not wrong
    assert {found for _, found in counts} == {"exact", "measured", "refused"}


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mosaic-epi", "echoes-same-number", "midnight", "orientation-jitter"])
def test_reported_inputs(shared, name):
    folder = shared / "reports_of_others" / name / "input"
    if not folder.is_dir():
        pytest.skip("the reported inputs are not here")
    (case,) = find_cases(folder).cases
    shapes = [i.pixels.shape for i in case.images]
    if name == "mosaic-epi":
        assert shapes == [(72, 72, 5)]
    for image in case.images:
        means = image.pixels.mean((0, 1))
        assert name == "mosaic-epi" or np.abs(np.diff(means)).max() < 30


def test_the_private_echo_of_ge_is_a_trait(tmp_path):
    """GE may write one EchoTime for every echo."""
    repeats(
        tmp_path,
        [{"EchoTime": 5.0}] * 3,
        private=lambda v: [(0x00190010, "LO", "GEMS_ACQU_01"), (0x001910A2, "SL", v + 1)],
    )
    images = unmixed(tmp_path, 3)
    assert [i.traits["echo_number"] for i in images] == [("1", 1.0), ("2", 1.0), ("3", 1.0)]


@pytest.mark.parametrize(
    ("creator", "element"),
    [("SIEMENS MR HEADER", (0x0019100C, "IS", 800)), ("Philips Imaging DD 001", (0x20011003, "FL", 800.0))],
)
def test_one_volume_with_a_private_b_value_is_read(tmp_path, creator, element):
    """The first slice alone was asked for it, and seemed to differ from the others."""
    group = element[0] >> 16 << 16 | 0x10
    repeats(tmp_path, [{}], private=lambda v: [(group, "LO", creator), element])
    (image,) = find_cases(tmp_path).cases[0].images
    assert image.geometry.outcome == "exact"
    assert image.traits["b_value"] == ("800", 1.0)
