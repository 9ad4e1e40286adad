"""What every writer of a format is given, and the loop over the formats that were asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..case import Case
from ..display.key_images import KeyImage, key_images
from ..display.marked import line_of, marked_images
from ..display.marks import AnyMark
from ..errors import UserError
from ..inference.second_look import LesionMask
from ..prediction import Prediction
from ..report import Report, SignedOff
from ..settings import settings
from ..task import Task
from .registry import FORMATS, Written, check_formats

PDF_PICTURES = 6


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One report and everything that stands behind it, to be written into ``folder``.

    masks: outlines of lesions by their id. pictures: of `key_images`, where they are drawn already. measured:
    by readers, for the SR and the PDF, with the images that they chose.
    signed: by whom and when; None for a report that nobody has signed.
    """

    folder: Path
    prediction: Prediction
    report: Report
    case: Case
    task: Task
    masks: dict[str, LesionMask] = field(default_factory=dict)
    pictures: list[KeyImage] | None = None
    measured: list[AnyMark] | None = None
    signed: SignedOff | None = None

    @cached_property
    def pdf(self) -> bytes:
        """The report as PDF, made once for all formats that hold it."""
        from .pdf import report_pdf

        found = key_images(self.prediction, self.case) if self.pictures is None else self.pictures
        evidence = [p for p in found if not p.plain]
        measured = self.measured or []
        chosen = marked_images(self.case, measured)
        shown = [*chosen, *(evidence or ([] if chosen else found))][:PDF_PICTURES]
        return report_pdf(
            self.report,
            self.case,
            shown,
            letterhead=settings().letterhead,
            signed=self.signed,
            task=self.task,
            measured=[line_of(m, self.case) for m in measured if m.kind != "key"],
        )

    def put(self, name: str, data: bytes) -> Written:
        """Write one file."""
        (self.folder / name).write_bytes(data)
        return Written(names=(name,))


def write_exports(request: ExportRequest, formats: tuple[str, ...] | None = None) -> Written:
    """Write the files of ``formats`` (default: all). What cannot be made is said, not faked."""
    wanted = tuple(FORMATS) if formats is None else formats
    check_formats(wanted)
    names: list[str] = []
    problems: list[str] = []
    for name in wanted:
        try:
            done = FORMATS[name].writer(request)
        except UserError as e:
            problems.append(f"{name}: {e}")
            continue
        names += done.names
        problems += done.problems
    return Written(names=tuple(names), problems=tuple(problems))
