"""The formats of a report: one record each, and the only list of them.

The commands, the viewer and the documentation read FORMATS. To add a format, write its function here (import
what it needs inside it, so that the list stays quick to read) and put its record into FORMATS, or call
`register` from your own code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..errors import WrongUse

if TYPE_CHECKING:
    from .request import ExportRequest

Need = Literal["dicom", "masks"]


@dataclass(frozen=True, kw_only=True)
class Written:
    """names: of the files that were written, in the request's folder. problems: one sentence for each thing
    that could not be made."""

    names: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Format:
    """One form that a report can be written in.

    name: as in ``medfuse report --format NAME``. file_name: what is written; with a * where there may be
    several. needs: dicom (images that came as DICOM), masks (outlines of lesions, so the case is predicted
    again). writer: raises UserError where the format cannot be made of this case.
    """

    name: str
    title: str
    file_name: str
    writer: Callable[[ExportRequest], Written]
    needs: tuple[Need, ...] = ()


def _text(request: ExportRequest) -> Written:
    from .text import report_text

    return request.put("report.txt", report_text(request.report, request.signed).encode())


def _json(request: ExportRequest) -> Written:
    return request.put("report.json", request.report.model_dump_json(indent=1).encode())


def _pdf(request: ExportRequest) -> Written:
    return request.put("report.pdf", request.pdf)


def _sr(request: ExportRequest) -> Written:
    from .sr import write_sr

    made = write_sr(
        request.prediction,
        request.report,
        request.case,
        request.task,
        request.measured,
        signed=request.signed,
    )
    made.save_as(request.folder / "report.sr.dcm")
    return Written(names=("report.sr.dcm",))


def _seg(request: ExportRequest) -> Written:
    from .seg import write_segs

    if not request.prediction.lesions:
        return Written()
    segs, missing = write_segs(request.prediction, request.case, request.task, request.masks)
    for part, seg in segs.items():
        seg.save_as(request.folder / f"evidence.{part}.seg.dcm")
    return Written(names=tuple(f"evidence.{part}.seg.dcm" for part in segs), problems=tuple(missing))


def _kos(request: ExportRequest) -> Written:
    from .dicom_source import report_key
    from .kos import write_kos

    made, missing = write_kos(request.measured or [], request.case, report_key(request.report))
    names = [f"key_images.{n}.kos.dcm" for n in range(1, len(made) + 1)]
    for name, ko in zip(names, made, strict=True):
        ko.save_as(request.folder / name)
    return Written(names=tuple(names), problems=tuple(missing))


def _fhir(request: ExportRequest) -> Written:
    from .fhir import fhir_bundle

    made = fhir_bundle(
        request.prediction,
        request.report,
        request.case,
        request.task,
        pdf=request.pdf,
        signed=request.signed,
    )
    return request.put("report.fhir.json", made.model_dump_json(indent=1).encode())


def _encapsulated(request: ExportRequest) -> Written:
    from .encapsulated import encapsulate

    made = encapsulate(request.pdf, request.report, request.case)
    made.save_as(request.folder / "report.pdf.dcm", enforce_file_format=True)
    return Written(names=("report.pdf.dcm",))


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format(name="text", title="Text", file_name="report.txt", writer=_text),
        Format(name="json", title="JSON", file_name="report.json", writer=_json),
        Format(name="pdf", title="PDF", file_name="report.pdf", writer=_pdf),
        Format(name="sr", title="DICOM SR", file_name="report.sr.dcm", writer=_sr, needs=("dicom",)),
        Format(
            name="seg",
            title="DICOM SEG",
            file_name="evidence.*.seg.dcm",
            writer=_seg,
            needs=("dicom", "masks"),
        ),
        Format(
            name="kos",
            title="DICOM KOS",
            file_name="key_images.*.kos.dcm",
            writer=_kos,
            needs=("dicom",),
        ),
        Format(name="fhir", title="FHIR R4B", file_name="report.fhir.json", writer=_fhir),
        Format(
            name="encapsulated",
            title="PDF in DICOM",
            file_name="report.pdf.dcm",
            writer=_encapsulated,
            needs=("dicom",),
        ),
    )
}


def register(made: Format) -> None:
    """Add a format of your own. Raises WrongUse where its name is taken."""
    if made.name in FORMATS or made.name == "all":
        raise WrongUse(f"{made.name}: there is a format of this name; choose another")
    FORMATS[made.name] = made


def formats_named(text: str, option: str = "--format") -> tuple[str, ...]:
    """Names separated by commas, or all. Raises WrongUse for one that is not there."""
    names = tuple(FORMATS) if text == "all" else tuple(text.split(","))
    check_formats(names, f"{option} {text}")
    return names


def check_formats(names: tuple[str, ...], said: str = "") -> None:
    """Raises WrongUse for a name that is not there; ``said``: what the user wrote."""
    if set(names) - set(FORMATS):
        raise WrongUse(f"{said or ', '.join(names)}: give {', '.join(FORMATS)} or all")
