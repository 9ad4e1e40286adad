"""Whatever character set a file states, its text is read and objects can be made beside it."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from slices import write_slice

from medfuse.case import Image, Source
from medfuse.exports.dicom_source import headers_of
from medfuse.io.cases import find_cases
from medfuse.io.charset import terms_of
from medfuse.io.scan import scan

KOREAN = b"Hong=\x1b$)C\xfb\xf3"
MULLER = "Müller"
NAMES = [
    ([], b"Muller", "Muller"),
    ([""], b"Muller", "Muller"),
    (["", "ISO 2022 IR 149"], KOREAN, "Hong=洪"),
    (["ISO 2022 IR 100"], MULLER.encode("latin1"), MULLER),
    (["ISO-IR 100"], MULLER.encode("latin1"), MULLER),
    (["ISO_IR 6"], b"Muller", "Muller"),
    (["UTF8"], MULLER.encode(), MULLER),
    (["ISO IR 192"], MULLER.encode(), MULLER),
    (["CN 58"], "王".encode("gb2312"), "王"),
    (["ISO_IR 13", "ISO 2022 IR 87"], b"\xd4\xcf\xc0\xde=\x1b$B;3ED\x1b(J", "ﾔﾏﾀﾞ=山田"),
    (["nonsense"], b"Muller", "Muller"),
    (["", "ISO 2022 IR 58"], b"Zhang^X=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang^X=张^小东"),
    (["ISO 2022 IR 100", "ISO 2022 IR 58"], b"M\xfcller=\x1b$)A\xd5\xc5", "Müller=张"),
    (["", "ISO_IR 192"], MULLER.encode(), MULLER),
    (["", "GB18030"], "张^小东".encode("gb18030"), "张^小东"),
    (["iso_ir 192"], MULLER.encode(), MULLER),
    (["ISO_IR 149"], "홍".encode("euc_kr"), "홍"),
    (["KS X 1001"], "홍".encode("euc_kr"), "홍"),
    (["ISO 2022 IR 149"], KOREAN, "Hong=洪"),
    (["GB 18030"], "张^小东".encode("gb18030"), "张^小东"),
    (["GB2312"], "张".encode("gb2312"), "张"),
    (["CP1251"], "Иван".encode("cp1251"), "Иван"),
    (["", "WINDOWS-1253"], "Άννα".encode("cp1253"), "Άννα"),
    (["KOI8-R"], "Иван".encode("koi8_r"), "Иван"),
    (["UTF-16"], b"Muller", "Muller"),
    (["ISO_IR 192"], MULLER.encode(), MULLER),
]


def write_named(path: Path, stated: list[str], name: bytes) -> str:
    """A slice whose name and a text in a sequence are these bytes; its UID."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom writes these sets only under protest
        ds = write_slice(path, position=(0, 0, 0))
        ds.SpecificCharacterSet = stated
        ds[0x00100010] = DataElement(0x00100010, "PN", name)
        item = pydicom.Dataset()
        item.add_new(0x00080104, "LO", name)
        ds.add_new(0x00082112, "SQ", [item])
        ds.save_as(path)
    return str(ds.SOPInstanceUID)


@pytest.mark.parametrize(("stated", "name", "right"), NAMES, ids=lambda v: v if isinstance(v, list) else None)
def test_every_character_set_is_read_and_can_be_written(tmp_path, stated, name, right):
    path = tmp_path / "a.dcm"
    uid = write_named(path, stated, name)
    (identity,) = scan(path).identity.values()
    assert identity.name == right
    source = Source(path="", instance_uids=(uid,), files=(str(path),))
    (header,) = headers_of(Image("CT", np.zeros((2, 2, 2), np.float32), source))
    out = io.BytesIO()
    header.save_as(out)
    written = pydicom.dcmread(io.BytesIO(out.getvalue()))
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert written.PatientName == right
    assert written[0x00082112][0][0x00080104].value == right


def test_terms_are_spelt_as_the_standard_does():
    assert terms_of("ISO 2022 IR 100") == ["ISO_IR 100"]
    assert terms_of("iso_ir_100") == ["ISO_IR 100"]
    assert terms_of(["", "ISO 2022 IR 149"]) == ["ISO 2022 IR 6", "ISO 2022 IR 149"]
    assert terms_of("nonsense") == ["ISO_IR 6"]


def test_one_id_with_two_names_waits_for_a_person(tmp_path):
    write_slice(tmp_path / "a.dcm", position=(0, 0, 0), PatientName="ANON^ONE", study="1.2.8")
    write_slice(tmp_path / "b.dcm", position=(0, 0, 0), PatientName="ANON^TWO", series="1.2.4")
    found = find_cases(tmp_path)
    assert len(found.cases) == 2
    assert "name differs between studies" in found.conflicts[0]


def test_one_study_with_two_names_waits_for_a_person(tmp_path):
    write_slice(tmp_path / "a.dcm", position=(0, 0, 0), PatientName="")
    write_slice(tmp_path / "b.dcm", position=(0, 0, 1), PatientName="ANON^ONE")
    write_slice(tmp_path / "c.dcm", position=(0, 0, 2), PatientName="ANON^TWO", series="1.2.4")
    assert "several patient names (ANON^ONE, ANON^TWO)" in find_cases(tmp_path).conflicts[0]


def test_one_name_in_two_spellings_is_one_person(tmp_path):
    write_slice(tmp_path / "a.dcm", position=(0, 0, 0), PatientName="DOE^JANE^^", study="1.2.8")
    write_slice(tmp_path / "b.dcm", position=(0, 0, 0), PatientName="Doe^Jane", series="1.2.4")
    found = find_cases(tmp_path)
    assert len(found.cases) == 1
    assert not found.conflicts


def test_no_study_uid_is_no_key(tmp_path):
    write_slice(tmp_path / "a.dcm", position=(0, 0, 0), study="")
    found = find_cases(tmp_path)
    assert not found.cases
    assert "has no StudyInstanceUID" in found.scan.refused[0].reason
