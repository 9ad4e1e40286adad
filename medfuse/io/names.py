"""Text from files as part of a path: the only place where a UID, a case id or a role becomes a file name.

What stands in a header was written by a stranger. A name made here has no separator, is never ``.`` or ``..``
and is the same for the same text.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

LONGEST_UID = 64  # PS3.5 table 6.2-1
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_PLAIN = re.compile(r"[^\x00-\x1f/\\:.][^\x00-\x1f/\\:]*")
_TAIL = re.compile(r"[0-9a-f]{8,16}")
_BELOW = re.compile(r"[^\x00-\x1f\\]+")


def uid_name(uid: str) -> str:
    """A DICOM UID as a file name: itself where it is one (PS3.5 9.1; leading zeros are let pass, scanners
    write them), else ``sha256-`` and the hash of what stands there."""
    text = str(uid)
    if len(text) <= LONGEST_UID and _UID.fullmatch(text):
        return text
    return f"sha256-{_hash(text, 40)}"


def plain_name(text: str) -> str:
    """Text as a file name: itself where it holds no separator, colon or control character and does not begin
    with a dot, else what is left of it with a hash behind."""
    text = str(text)
    if len(text) <= 200 and _PLAIN.fullmatch(text):
        return text
    kept = "".join(c if _PLAIN.fullmatch(c) else "-" for c in text)[:40] or "unnamed"
    return f"{kept}-{_hash(text, 10)}"


def path_below(folder: Path, text: str) -> Path:
    """A path that a file states (parts with ``/`` between) below a folder. Raises ValueError for one that
    leads elsewhere, or that another system reads in another way."""
    parts = text.split("/")
    if any(part in ("", ".", "..") or not _BELOW.fullmatch(part) for part in parts):
        raise ValueError(f"{shown(text)!r} is no path below a folder")
    return folder.joinpath(*parts)


def shown(text: str) -> str:
    """A file's name as text that every file and database takes: bytes that are no UTF-8 become ``\\xe9``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def sent_name(text: str) -> str:
    """What a browser or a peer calls a file, as a file name of at most 60 characters that keeps its end."""
    kept = "".join(c if c == "." or _PLAIN.fullmatch(c) else "-" for c in shown(str(text)))
    return plain_name(kept[-60:].lstrip("."))


def stem_name(name: str) -> str:
    """What stands before the first dot of a file's name, as the name of its case."""
    stem = name.split(".")[0]
    return stem if shown(stem) == stem else plain_name(shown(stem))


def log_name(case_id: str) -> str:
    """What a log calls a case, whose id begins with its PatientID: … and the hash that its id ends with, or a
    hash of it."""
    tail = case_id.rpartition("-")[2]
    return f"…{tail if _TAIL.fullmatch(tail) and '-' in case_id else _hash(case_id, 10)}"


def _hash(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
