"""All files of one report: text, JSON, PDF, DICOM SR, SEG, encapsulated PDF and FHIR. What cannot be made is said, not faked."""

from __future__ import annotations

from pathlib import Path

from ..case import Case
from ..errors import UserError, WrongUse
from ..models.lesions import LesionMask
from ..prediction import Prediction
from ..report import Report
from ..settings import settings
from ..task import Task
from .key_images import KeyImage, key_images
from .text import report_text

FORMATS = ("text", "json", "pdf", "sr", "seg", "fhir", "encapsulated")
PDF_PICTURES = 6


def write_exports(
    folder: Path, prediction: Prediction, report: Report, case: Case, task: Task, masks: dict[str, LesionMask],
    formats: tuple[str, ...] = FORMATS, *, pictures: list[KeyImage] | None = None,
    measured: list[dict] | None = None,
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Write the files of ``formats`` into ``folder`` (``pictures``: of `key_images`, where they are drawn already; ``measured``: by readers, for the SR); return their names, and one sentence for each that cannot be made."""
    unknown = set(formats) - set(FORMATS)
    if unknown:
        raise WrongUse(f"--format {', '.join(sorted(unknown))}: give {', '.join(FORMATS)}")
    names: list[str] = []
    problems: list[str] = []
    pdf: bytes | None = None

    def put(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)
        names.append(name)

    for wanted in formats:
        try:
            if wanted == "text":
                put("report.txt", report_text(report).encode())
            elif wanted == "json":
                put("report.json", report.model_dump_json(indent=1).encode())
            elif wanted in ("pdf", "encapsulated", "fhir"):
                pdf = _pdf(prediction, report, case, pictures) if pdf is None else pdf
                if wanted == "pdf":
                    put("report.pdf", pdf)
                elif wanted == "encapsulated":
                    from .encapsulated import encapsulate

                    encapsulate(pdf, report, case).save_as(folder / "report.pdf.dcm", enforce_file_format=True)
                    names.append("report.pdf.dcm")
                else:
                    from .fhir import fhir_bundle

                    bundle = fhir_bundle(prediction, report, case, task, pdf=pdf)
                    put("report.fhir.json", bundle.model_dump_json(indent=1).encode())
            elif wanted == "sr":
                from .sr import write_sr

                write_sr(prediction, report, case, task, measured).save_as(folder / "report.sr.dcm")
                names.append("report.sr.dcm")
            elif wanted == "seg":
                names += _segs(folder, prediction, case, task, masks, problems)
        except UserError as e:
            problems.append(f"{wanted}: {e}")
    return names, problems


def _pdf(prediction: Prediction, report: Report, case: Case, pictures: list[KeyImage] | None) -> bytes:
    from .pdf import report_pdf

    found = key_images(prediction, case) if pictures is None else pictures
    evidence = [p for p in found if not p.plain]
    shown = (evidence or found)[:PDF_PICTURES]
    return report_pdf(report, case, shown, letterhead=settings().letterhead)


def _segs(
    folder: Path, prediction: Prediction, case: Case, task: Task, masks: dict[str, LesionMask], problems: list[str]
) -> list[str]:
    from .seg import write_segs

    if not prediction.lesions:
        return []
    segs, missing = write_segs(prediction, case, task, masks)
    problems += missing
    for part, seg in segs.items():
        seg.save_as(folder / f"evidence.{part}.seg.dcm")
    return [f"evidence.{part}.seg.dcm" for part in segs]
