"""Variants of faults of public reports: private blocks, bits, scalings, character sets, whose study it is."""

from __future__ import annotations

import numpy as np
import pytest
from slices import write_slice
from test_charsets import write_named
from test_repeats import STEP, mr_slice

from medfuse.io.cases import find_cases
from medfuse.io.scan import scan

CREATOR = "Philips MR Imaging DD 001"


def scaled(folder, block, *, creator: str = CREATOR, which=range(4), **says):
    for k in range(4):
        private = [
            (0x20050000 | block, "LO", creator),
            (0x20050000 | block << 8 | 0x0E, "FL", 0.01 * (k + 1)),
        ]
        ds = mr_slice(folder / f"{k}.dcm", STEP * k, 0, private=private if k in which else (), **says)
        ds.RescaleSlope = 1.0 + k
        ds.save_as(folder / f"{k}.dcm")
    return find_cases(folder)


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (0x10, {"Manufacturer": "Philips"}),
        (0x11, {}),  # an anonymiser emptied Manufacturer
        (0xFE, {"Manufacturer": "Philips Healthcare"}),
        (0x4A, {"creator": CREATOR.upper()}),
    ],
)
def test_philips_scaling_is_found_in_every_block(tmp_path, block, says):
    (case,) = scaled(tmp_path, block, **says).cases
    assert case.images[0].pixels[0, 0] == pytest.approx([100000, 50000, 33333.33, 25000])


def test_philips_scaling_of_some_slices_is_refused(tmp_path):
    found = scaled(tmp_path, 0x11, which=(1, 2))
    assert not found.cases
    assert "only some of its slices have Philips' private scale slope" in found.scan.refused[0].reason


@pytest.mark.parametrize(("slope", "said"), [(0.0, "RescaleSlope is 0"), ([1.0, 2.0], "is not one number")])
def test_a_scaling_that_is_none_is_named(tmp_path, slope, said):
    for k in range(3):
        write_slice(tmp_path / f"{k}.dcm", position=(0, 0, STEP * k), RescaleSlope=slope)
    found = find_cases(tmp_path)
    assert not found.cases
    assert said in found.scan.refused[0].reason


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_below_the_values_are_no_part_of_them(tmp_path, signed):
    values = np.arange(30).reshape(6, 5) * 60 - 900 * signed
    for k in range(3):
        ds = write_slice(tmp_path / f"{k}.dcm", position=(0, 0, STEP * k), intercept=0.0)
        ds.BitsStored = 12
        ds.HighBit = 15
        ds.PixelRepresentation = signed
        ds.PixelData = ((values << 4) | 0b0101).astype("<i4").astype("<u2").tobytes()  # an overlay below
        ds.save_as(tmp_path / f"{k}.dcm")
    (case,) = find_cases(tmp_path).cases
    assert np.array_equal(case.images[0].pixels[:, :, 0].T, values)


@pytest.mark.parametrize(
    ("stated", "name", "right"),
    [
        (["", "ISO 2022 IR 87"], b"Yamada=\x1b$B;3ED\x1b(B", "Yamada=山田"),  # ASCII with escapes
        (["ISO 2022 IR 58"], b"Wang=\x1b$)A\xcd\xf5", "Wang=王"),
        (["UTF_8"], "Müller".encode(), "Müller"),
        (["ISO_IR 203"], "Œuvre".encode("iso8859_15"), "Œuvre"),
        (["EUC-KR"], "김".encode("euc_kr"), "김"),
    ],
)
def test_names_in_more_character_sets(tmp_path, stated, name, right):
    write_named(tmp_path / "a.dcm", stated, name)
    (identity,) = scan(tmp_path).identity.values()
    assert identity.name == right


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("PatientSex", ("M", "F"), "several sexes (F, M)"),
        ("PatientBirthDate", ("19100101", "19200101"), "several birth dates"),
        ("IssuerOfPatientID", ("HERE", "THERE"), "several issuers of one patient id"),
    ],
)
def test_one_study_of_two_people_waits(tmp_path, key, values, said):
    for n, value in enumerate(values):
        write_slice(tmp_path / f"{n}.dcm", position=(0, 0, 0), series=f"1.2.3.{n}", **{key: value})
    (conflict,) = find_cases(tmp_path).conflicts
    assert said in conflict


@pytest.mark.parametrize(("patient", "cases"), [("ANONYMOUS", 2), ("Unknown", 2), ("0000", 2), ("P0001", 1)])
def test_an_id_that_anybody_has_joins_nothing(tmp_path, patient, cases):
    for n in range(2):
        where = {"study": f"1.2.9.{n}", "series": f"1.2.3.{n}"}
        write_slice(tmp_path / f"{n}.dcm", position=(0, 0, 0), patient=patient, **where)
    found = find_cases(tmp_path)
    assert len(found.cases) == cases
    assert len(found.conflicts) == cases - 1
