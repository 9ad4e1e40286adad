"""A CT slice with a name planted wherever a file can hold one, and a search for it in what was written.

Each place has a token of its own, so that a leak says where it came from. Run in tests, and by
benchmarks/deidentification.py beside other programs.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from slices import write_slice

TEXTS = {
    "LO": 64,
    "SH": 16,
    "ST": 200,
    "LT": 200,
    "UT": 200,
    "UC": 200,
    "PN": 64,
    "CS": 16,
    "AE": 16,
    "UR": 60,
}
BINARY = {"OB", "UN", "OW"}
GROUPS = (
    0x0008,
    0x0010,
    0x0012,
    0x0018,
    0x0020,
    0x0028,
    0x0032,
    0x0038,
    0x0040,
    0x0054,
    0x3002,
    0x4008,
    0x2050,
)
SEQUENCES = (
    "AnatomicRegionSequence",
    "ReferencedImageSequence",
    "RequestAttributesSequence",
    "CTExposureSequence",
)
LEFT_ALONE = {
    "SpecificCharacterSet",
    "PhotometricInterpretation",
    "Modality",
    "ImageType",
    "BurnedInAnnotation",
    "ConversionType",
    "ProtocolName",
    "PatientOrientation",
}


NEEDED = {
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "ConversionType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelDataProviderURL",
}


@dataclass
class Planted:
    """Files with tokens: ``where`` says what place each token stands in."""

    where: dict[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def token(self, place: str) -> str:
        """A new token of 8 capital letters: as many as a double has bytes."""
        letters = f"{next(self.numbers):05X}".translate(DIGITS)
        text = f"QZX{letters}"
        self.where[text] = place
        return text


DIGITS = str.maketrans("0123456789ABCDEF", "GHJKLMNPRSTUVWXY")


def attributes(each: int) -> list[tuple[int, str, str]]:
    """(tag, VR, keyword) of attributes that can hold text, at most ``each`` a group and VR."""
    taken: dict[tuple[int, str], int] = {}
    out = []
    for tag, (vr, _, _, retired, keyword) in sorted(DicomDictionary.items()):
        group = tag >> 16
        if group not in GROUPS or vr not in TEXTS or not keyword or retired or keyword in LEFT_ALONE:
            continue
        taken[group, vr] = taken.get((group, vr), 0) + 1
        if taken[group, vr] <= each:
            out.append((tag, vr, keyword))
    return out


def plant(folder: Path, planted: Planted) -> Path:
    """Write one CT file into ``folder`` with a token in every place; its name is one too."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{planted.token('file name')}.dcm"
    ds = write_slice(path, position=(0, 0, 0))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", planted.token("fourth value of ImageType")]
    for tag, vr, keyword in attributes(25):
        ds.add_new(tag, vr, planted.token(keyword))
    for keyword in SEQUENCES:
        setattr(ds, keyword, Sequence([_item(planted, keyword)]))
    _private(ds, planted)
    _wrong(ds, planted)
    _pictures(ds, planted)
    for name in (
        "SourceApplicationEntityTitle",
        "SendingApplicationEntityTitle",
        "ImplementationVersionName",
    ):
        setattr(ds.file_meta, name, planted.token(f"meta {name}"))
    ds.file_meta.PrivateInformationCreatorUID = "1.2.3"
    ds.file_meta.PrivateInformation = planted.token("meta PrivateInformation").encode() + b"\0"
    ds.preamble = planted.token("preamble").encode().ljust(128, b"\0")
    with pydicom.config.disable_value_validation():
        ds.save_as(path, enforce_file_format=True)
    data = planted.token("bytes behind the data set").encode()
    with path.open("ab") as f:
        f.write(
            struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, len(data) + len(data) % 2) + data.ljust(8, b"\0")
        )
    return path


def _item(planted: Planted, where: str, depth: int = 3) -> Dataset:
    """An item with a code, texts and an item of its own below."""
    item = Dataset()
    for keyword in (
        "CodeValue",
        "CodeMeaning",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "PatientName",
    ):
        setattr(item, keyword, planted.token(f"{where} > {keyword}"))
    for keyword in ("SeriesDescription", "OperatorsName", "BodyPartExamined", "ScanOptions", "ProtocolName"):
        setattr(item, keyword, planted.token(f"{where} > {keyword}"))
    item.private_block(0x0011, planted.token(f"{where} > creator"), create=True).add_new(
        1, "LO", planted.token(f"{where} > private")
    )
    if depth:
        item.ViewCodeSequence = Sequence([_item(planted, f"{where} > ViewCodeSequence", depth - 1)])
    return item


def _private(ds: Dataset, planted: Planted) -> None:
    """Private elements in blocks of known vendors and unknown ones, a private sequence among them."""
    creators = ("SIEMENS MR HEADER", "GEMS_PARM_01", "Philips Imaging DD 001", "NOBODY")
    for group, creator in zip((0x0019, 0x0043, 0x2001, 0x0071), creators, strict=True):
        block = ds.private_block(group, creator, create=True)
        for number, vr in ((0x0D, "LO"), (0x3A, "IS"), (0x03, "UN"), (0x10, "OB"), (0x11, "LT")):
            token = planted.token(f"private {creator} {number:02X} {vr}")
            with pydicom.config.disable_value_validation():
                block.add_new(number, "LO" if vr == "IS" else vr, token.encode() if vr in BINARY else token)
        block.add_new(0x20, "SQ", Sequence([_item(planted, f"private {creator}", 0)]))


def _wrong(ds: Dataset, planted: Planted) -> None:
    """Known attributes under another VR, attributes that nobody knows, binary numbers that spell text."""
    for tag, vr in (
        (0x00181030, "OB"),
        (0x00180050, "LO"),
        (0x00189004, "LT"),
        (0x00280030, "UT"),
        (0x00200020, "LO"),
    ):
        token = planted.token(f"({tag:08X}) as {vr}")
        ds.add_new(tag, vr, token.encode() if vr == "OB" else token)
    for tag, vr in (
        (0x00181FF1, "CS"),
        (0x0020AAAA, "LO"),
        (0x00280FFE, "UN"),
        (0x7FE10010, "OB"),
        (0x60000022, "LO"),
    ):
        token = planted.token(f"unknown ({tag:08X}) {vr}")
        ds.add_new(tag, vr, token.encode() if vr in BINARY else token)
    ds.add_new(0x00189073, "FD", list(struct.unpack("<d", planted.token("FD").encode()[:8])))
    ds.add_new(0x00189461, "FL", list(struct.unpack("<2f", planted.token("FL").encode()[:8])))
    ds.add_new(0x00280009, "AT", _tags(planted.token("AT")))


def _tags(token: str) -> list[int]:
    """Two tags whose bytes are those of the token: group and element are 16 bits each, little-endian."""
    words = struct.unpack("<4H", token.encode())
    return [words[0] << 16 | words[1], words[2] << 16 | words[3]]


def _pictures(ds: Dataset, planted: Planted) -> None:
    """Bytes around the picture: behind the pixels, overlays, palettes, look-up tables, a colour profile."""
    ds.PixelData = ds.PixelData + planted.token("surplus of PixelData").encode()
    ds.add_new(0x60003000, "OB", planted.token("overlay").encode())
    ds.add_new(0x00282000, "OB", planted.token("ICC profile").encode())
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableData", planted.token(f"{name} palette").encode())
    item = Dataset()
    item.LUTDescriptor = [4, 0, 16]
    item.LUTExplanation = planted.token("LUTExplanation")
    item.add_new(0x00283006, "OW", planted.token("VOI LUTData").encode())
    ds.VOILUTSequence = Sequence([item])


def plant_all(folder: Path, planted: Planted, *, each: int = 150) -> int:
    """CT files with a token as the value of every attribute of the dictionary that has one VR and that no
    image needs, ``each`` attributes a file; how many attributes."""
    folder.mkdir(parents=True)
    tags = [
        (tag, vr, keyword)
        for tag, (vr, _, _, _, keyword) in sorted(DicomDictionary.items())
        if vr not in ("SQ", "NONE") and " or " not in vr and tag >> 16 not in (0, 2, 4)
        if keyword and keyword not in NEEDED
    ]
    for start in range(0, len(tags), each):
        path = folder / f"{start:05d}.dcm"
        ds = write_slice(path, position=(0, 0, start))
        for tag, vr, keyword in tags[start : start + each]:
            token = planted.token(keyword).encode()
            ds._dict[Tag(tag)] = RawDataElement(Tag(tag), vr, len(token), token, 0, False, True)
        with pydicom.config.disable_value_validation():
            ds.save_as(path)
    return len(tags)


def leaks(planted: Planted, folder: Path) -> dict[str, str]:
    """Token → place, of those found under ``folder``: in file names, and in bytes in several encodings."""
    blobs = [p.read_bytes().upper() for p in folder.rglob("*") if p.is_file()]
    blobs += [str(p.relative_to(folder)).upper().encode() for p in folder.rglob("*")]
    everything = b"\n".join(blobs)
    out = {}
    for token, place in planted.where.items():
        forms = {
            token.encode("ascii"),
            token.encode("utf-16-le"),
            token.encode("utf-16-be"),
            token.encode("utf-32-le"),
        }
        forms |= {token[::-1].encode("ascii"), _swapped(token), token.encode("ascii").hex().upper().encode()}
        if any(form in everything for form in forms):
            out[token] = place
    return out


def _swapped(token: str) -> bytes:
    """As its bytes stand when two and two are swapped (big-endian words)."""
    data = token.encode("ascii")[: len(token) // 2 * 2]
    return b"".join(data[i + 1 : i + 2] + data[i : i + 1] for i in range(0, len(data), 2))


def plant_apart(folder: Path, planted: Planted) -> None:
    """One CT file a place, with one token: a program that fails on one shows what it does with others."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (tag, vr, keyword) in enumerate(attributes(6)):
        path = folder / f"{number:04d}.dcm"
        ds = write_slice(path, position=(0, 0, number))
        ds.add_new(tag, vr, planted.token(keyword))
        with pydicom.config.disable_value_validation():
            ds.save_as(path, enforce_file_format=True)
    for number, change in enumerate((_private, _wrong, _pictures), 9000):
        path = folder / f"{number}.dcm"
        ds = write_slice(path, position=(0, 0, number))
        change(ds, planted)
        with pydicom.config.disable_value_validation():
            ds.save_as(path, enforce_file_format=True)
