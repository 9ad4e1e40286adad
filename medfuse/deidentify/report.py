"""What a de-identification leaves behind besides the copies: OUT/report.json, which travels with them.

It names no path, file name or value of the source. Nothing in it says that a file is free of identity: it
says what was done, and what could not be judged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import OutputError, os_fault


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileDone(_Model):
    """One copy. path: below OUT. removed, replaced: keywords, or (group,element) of what has none. pixels:
    what was done to the picture. text_boxes: bright marks outside the scanned area (x0, y0, x1, y1), now
    black. words: boxes around words that were read elsewhere in the picture, now black; never the words.
    unjudged: what may still tell who it is. codes: options of PS3.15 (CID 7050) that the copy
    claims."""

    path: str
    kind: Literal["dicom", "nifti"] = "dicom"
    removed: list[str] = Field(default_factory=list)
    replaced: list[str] = Field(default_factory=list)
    pixels: list[str] = Field(default_factory=list)
    text_boxes: list[tuple[int, int, int, int]] = Field(default_factory=list)
    words: list[tuple[int, int, int, int]] = Field(default_factory=list)
    unjudged: list[str] = Field(default_factory=list)
    codes: list[str] = Field(default_factory=list)


class FileRefused(_Model):
    """One file that was not written. source: a keyed name of its path, which only the holder of the key
    can make again; the command itself prints the path."""

    source: str
    reason: str


class OptionsUsed(_Model):
    """How it was asked for.

    retain_uids: UIDs stay as they are. shift_dates: dates are moved, else removed. keep_radiological_words:
    words of radiology stay in descriptions, else nothing of them.
    """

    retain_uids: bool
    shift_dates: bool
    keep_radiological_words: bool


class DeidentificationReport(_Model):
    """OUT/report.json.

    written: how many copies there are. masked: files of whose pixels some went
    black.
    skipped: files that are no images, by status. refused: files that were not written. files: the copies.
    removed, replaced: attributes over all files, by how often. options: how it was asked for.
    """

    written: int
    masked: int
    skipped: dict[str, int]
    refused: list[FileRefused]
    files: list[FileDone]
    removed: dict[str, int]
    replaced: dict[str, int]
    options: OptionsUsed


def write_report(report: DeidentificationReport, out: Path) -> None:
    """Write OUT/report.json. Raises OutputError."""
    path = out / "report.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as e:
        raise OutputError(f"{path}: cannot be written ({os_fault(e)}); choose another --out") from e
