"""The header of a DICOM file as lines of text."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from medfuse.io import tags
from medfuse.io.tags import tags_of


@pytest.fixture(params=[ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def header(request, tmp_path):
    """A file with markup, a private element, a sequence in a sequence and pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = request.param
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(str(tmp_path / "a.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.PatientName = "王^小明"
    ds.StudyDescription = "<img src=x onerror=alert(1)>\x1b[31m"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    block = ds.private_block(0x0029, "HOUSE", create=True)
    block.add_new(0x01, "LO", "a private word")
    block.add_new(0x02, "OB", bytes(range(100)))
    inner = Dataset()
    inner.CodeMeaning = "Inside"
    outer = Dataset()
    outer.PurposeOfReferenceCodeSequence = [inner]
    ds.ReferencedImageSequence = [outer, Dataset()]
    ds.Rows = ds.Columns = 300
    ds.BitsAllocated = 16
    ds.PixelData = np.zeros((300, 300), "<i2").tobytes()
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    return tmp_path / "a.dcm"


def test_every_element_is_a_line_of_text(header):
    found = tags_of(header)
    by_name = {x.name: x for x in found.lines}
    assert found.left == 0
    assert found.lines[0].tag == "(0002,0000)"
    assert by_name["Patient's Name"].value == "王^小明"
    assert by_name["Study Description"].value == "<img src=x onerror=alert(1)> [31m"  # one line
    assert by_name["Image Type"].value == "ORIGINAL\\PRIMARY"
    assert by_name["Pixel Data"].value == "180000 bytes"
    private = {x.tag: x.value for x in found.lines if x.tag.startswith("(0029")}
    assert private == {"(0029,0010)": "HOUSE", "(0029,1001)": "a private word", "(0029,1002)": "100 bytes"}
    at = next(n for n, x in enumerate(found.lines) if x.name == "Referenced Image Sequence")
    nested = [(x.depth, x.name, x.value) for x in found.lines[at : at + 6]]
    assert nested == [
        (0, "Referenced Image Sequence", "2 item(s)"),
        (1, "Item 1", ""),
        (2, "Purpose of Reference Code Sequence", "1 item(s)"),
        (3, "Item 1", ""),
        (4, "Code Meaning", "Inside"),
        (1, "Item 2", ""),
    ]


def test_a_long_header_is_cut_and_says_so(header, monkeypatch):
    monkeypatch.setattr(tags, "MOST", 5)
    found = tags._read(header)
    assert (len(found.lines), found.left > 5) == (5, True)


def test_what_is_no_dicom_file_is_one_clause(tmp_path):
    (tmp_path / "x").write_bytes(b"nothing of the kind" * 20)
    assert tags_of(tmp_path / "x").startswith("cannot be read (InvalidDicomError")


def test_one_broken_element_hides_no_other(header):
    ds = pydicom.dcmread(header)
    ds.PixelSpacing = [1.5, 1.5]
    ds.save_as(header)
    header.write_bytes(header.read_bytes().replace(b"1.5\\1.5", b"1.5\\x.5"))
    names = {x.name: x.value for x in tags_of(header).lines}
    assert names["Pixel Data"] == "180000 bytes"
    assert names["Pixel Spacing"] == "1.5\\x.5"  # as it stands there
