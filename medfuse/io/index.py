"""Thousands of headers quickly: gdcm's scanner takes what is plain text, in children, and pydicom what gdcm
cannot."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from ..errors import UnreadableError
from ..modalities import is_cine, plain_classes
from .child import ChildFailed, children
from .headers import INDEX, PLAIN, FileEntry, classify, full_header, looks_like_dicom, read_header
from .overlays import ROWS

FEW = 4096  # files whose whole text (3 kB each) is kept; of more, only what joins them into cases
CHUNK = 64  # files a call: enough to hide the call, few enough that a crash is soon pinned to its file


@cache
def _gdcm_tags(keys: tuple[str, ...]) -> dict[str, Any]:
    import gdcm

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    out = {}
    for key in keys:
        number = ROWS.get(key) or tag_for_keyword(key)
        assert number is not None
        out[key] = gdcm.Tag(number >> 16, number & 0xFFFF)
    return out


def _texts(paths: list[str], keys: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Attributes of each file as text; a file that gdcm cannot read, or with other than ASCII, is left
    out."""
    import gdcm

    scanner = gdcm.Scanner()
    tags = _gdcm_tags(keys)
    for tag in tags.values():
        scanner.AddTag(tag)
    scanner.Scan(gdcm.FilenamesType(paths))
    out = {}
    for path in paths:
        if scanner.IsKey(path):
            values = {key: v.strip(" \0") for key, tag in tags.items() if (v := scanner.GetValue(path, tag))}
            # gdcm knows no character sets, and an escape to one is ASCII too
            if all(v.isascii() and "\x1b" not in v for v in values.values()):
                out[path] = values
    return out


def index_chunk(paths: list[str], keys: tuple[str, ...]) -> list[FileEntry]:
    """Entries of these files with the attributes ``keys``, without headers. Runs in a child."""
    scannable = []
    for path in paths:
        try:
            if looks_like_dicom(path):
                scannable.append(path)
        except OSError:
            pass  # index_one says why
    texts = _texts(scannable, (*keys, "MediaStorageSOPClassUID"))
    plain = plain_classes()
    out = []
    for path in paths:
        values = texts.get(path)
        entry = None
        if values is not None:
            meta = values.pop("MediaStorageSOPClassUID", "")
            values.setdefault("SOPClassUID", meta)
            entry = classify(Path(path), values)
            # Philips keeps binary numbers in private elements, enhanced images keep theirs in sequences: no
            # text has them
            classic = (
                values["SOPClassUID"] in plain and "philips" not in values.get("Manufacturer", "").lower()
            )
            entry.complete = classic and keys == PLAIN
        # gdcm is stricter in places: the second reader has the last word
        out.append(index_one(path) if entry is None or entry.status == "damaged" else entry)
    return out


def index_one(path: str) -> FileEntry:
    """One file by pydicom alone. Runs in a child."""
    entry = read_header(Path(path))
    entry.header = None
    return entry


def _chunk(paths: list[str], keys: tuple[str, ...]) -> list[FileEntry]:
    pool = children()
    try:
        return pool.run(index_chunk, paths, keys)
    except ChildFailed:
        pass  # one of them broke the child: each is asked again, alone
    out = []
    for path in paths:
        try:
            out.append(pool.run(index_one, path))
        except ChildFailed as e:
            out.append(FileEntry(Path(path), "damaged", str(e)))
    return out


def index(files: list[Path]) -> Iterator[FileEntry]:
    """One entry a file, in order. Never raises for bad content. Few files come with all that their series
    will need."""
    keys = PLAIN if len(files) <= FEW else INDEX
    chunks = [[str(p) for p in files[i : i + CHUNK]] for i in range(0, len(files), CHUNK)]
    for part in children().each(lambda chunk: _chunk(chunk, keys), chunks):
        yield from part


def read_headers(entries: list[FileEntry]) -> list[dict[str, str] | Dataset | str]:
    """The WANTED attributes of the files of one series, as text where that is exact; one clause for a file
    that cannot be read."""
    if all(e.complete for e in entries):
        return [e.tags for e in entries]
    pool = children()
    paths = [e.path for e in entries]
    if not is_cine(entries[0].modality) and len(paths) > 1:
        again = list(index_few(paths))
        if all(e.complete for e in again):
            return [e.tags for e in again]

    def one(path: Path) -> Dataset | str:
        try:
            return pool.run(full_header, path)
        except ChildFailed as e:
            return str(e)

    return list(pool.each(one, paths))


def with_private(entries: list[FileEntry]) -> None:
    """Give these entries headers that hold the vendors' private elements too, which no text has. Raises
    UnreadableError."""
    pool = children()

    def one(entry: FileEntry) -> Dataset | str:
        try:
            return pool.run(full_header, entry.path)
        except ChildFailed as e:
            return str(e)

    for entry, header in zip(entries, list(pool.each(one, entries)), strict=True):
        if isinstance(header, str):
            raise UnreadableError(entry.path, header)
        entry.header = header


def index_few(paths: list[Path]) -> Iterator[FileEntry]:
    """As `index`, always with all that a series needs."""
    for i in range(0, len(paths), FEW):
        yield from index(paths[i : i + FEW])
