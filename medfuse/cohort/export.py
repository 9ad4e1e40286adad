"""`medfuse cohort export`: a cohort that may leave the hospital, still linked through one key.

Every image goes through the rules of `medfuse deidentify`, every text through `deidentify.free_text`; dates
of both go back by the same days a patient; numbers of persons, cases, reports and studies become keyed ones.
Words that may still name somebody are listed in a file beside the export, which stays at home.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydicom
from pydantic import Field
from pydicom.dataset import Dataset

from ..deidentify.folder import deidentify_parts
from ..deidentify.free_text import SHORTEST, Known, clean_text, known_of, ordinary_words
from ..deidentify.keys import Pseudonyms
from ..deidentify.profile import Options
from ..errors import OutputError, UserError, WrongUse, os_fault
from ..io.cells import harmless_row
from ..io.charset import obey
from ..io.folder import files_under
from ..io.headers import read_header
from ..io.manifest import LabelSource, ManifestImage, ManifestRow, read_manifest, write_rows
from ..io.text import decoded
from .audit import AUDITED
from .build import counted
from .ledger import LedgerRow, write_ledger
from .page import write_page
from .persons import FILE as PERSONS
from .persons import Persons, read_persons
from .results import FunnelStep, Part, sha256_of
from .status import Built
from .words import words

Progress = Callable[[int, int], None]
SOUNDS = "a sound, which may be a voice, is not exported"
NO_IMAGE = "no image of it could be de-identified"


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What a user gave to `medfuse cohort export`. names: further names to take out of the words."""

    cohort: Built
    out: Path
    key: bytes
    names: tuple[str, ...] = ()
    shift_dates: bool = True


class ExportFile(Part):
    """export.json, which travels with the export.

    labels: of the cohort "as built" or "audited". cases: in the manifest. images: copies of files. refused:
    files that were not copied, by reason. excluded: cases that fell out, by reason. left_out: what else did
    not travel, by reason. removed: what was taken out of the words, by its mark. words_to_look_at: how many
    words of the export may still name somebody; they stand in the file that stayed behind.
    """

    labels: str
    cases: int
    images: int
    refused: dict[str, int] = Field(default_factory=dict)
    excluded: dict[str, int] = Field(default_factory=dict)
    left_out: dict[str, int] = Field(default_factory=dict)
    removed: dict[str, int] = Field(default_factory=dict)
    words_to_look_at: int = 0


@dataclass
class _Work:
    """The cases of one run as they come."""

    pseudonyms: Pseudonyms
    names: tuple[str, ...]
    copies: dict[Path, Path]  # an image or mask of the manifest → its copy, relative to the export
    shift_dates: bool
    ordinary: frozenset[str]
    persons: dict[str, Persons]  # whom the reports of a case name
    rows: list[ManifestRow] = field(default_factory=list)
    gone: list[ManifestRow] = field(default_factory=list)
    studies_gone: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    look_at: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, row: ManifestRow) -> None:
        """One case: its images as they were copied, its words without the person."""
        headers = headers_of([_at(row, i.path) for i in row.images])
        images = [made for image in row.images if (made := self._image(row, image))]
        if not images:
            self.gone.append(row)
            self.studies_gone += len({str(h.get("StudyInstanceUID", "")) for h in headers})
            return
        if row.sounds:
            self.left_out[SOUNDS] += len(row.sounds)
        self.rows.append(self._row(row, images, headers))

    def _image(self, row: ManifestRow, image: ManifestImage) -> ManifestImage | None:
        copy = self.copies.get(_at(row, image.path))
        if copy is None:
            return None
        mask = self.copies.get(_at(row, image.mask)) if image.mask else None
        if image.mask and mask is None:
            self.left_out["a mask that is no NIfTI label map"] += 1
        frame = self.pseudonyms.uid(image.frame_of_reference) if image.frame_of_reference else ""
        return image.model_copy(
            update={
                "path": copy.as_posix(),
                "mask": mask.as_posix() if mask else "",
                "frame_of_reference": frame,
            }
        )

    def _row(self, row: ManifestRow, images: list[ManifestImage], headers: Sequence[Dataset]) -> ManifestRow:
        patient = next((str(h.PatientID) for h in headers if h.get("PatientID")), row.patient_id)
        days = self.pseudonyms.days(patient) if self.shift_dates and patient else None
        texts = [row.report, row.indication, *row.comparison, *row.reports.values()]
        said = [found[1] for text in texts for found in words().person.finditer(text)]
        stated = self.persons.get(row.case_id, Persons())
        known = known_of(headers, days, (*self.names, *said, *stated.names))
        own = {n for n in (row.patient_id, row.case_id, *stated.numbers) if len(n) >= SHORTEST}
        places = known.places | {p for p in stated.places if len(p) >= SHORTEST}
        known = replace(known, numbers=known.numbers | own, places=places, ordinary=self.ordinary)
        name = self.pseudonyms.case(row.case_id)

        def clean(text: str, where: str) -> str:
            done = clean_text(text, known)
            self.removed.update(done.removed)
            self.look_at += [(name, where, word) for word in done.left]
            return done.text

        return row.model_copy(
            update={
                "case_id": name,
                "patient_id": self.pseudonyms.patient(patient),
                "images": images,
                "group": self.pseudonyms.case(row.group) if row.group else "",
                "site": self.pseudonyms.site(row.site),
                "report": clean(row.report, "report"),
                "rephrased": clean(row.rephrased, "rephrased"),
                "reports": {lang: clean(text, f"report {lang}") for lang, text in row.reports.items()},
                "indication": clean(row.indication, "indication"),
                "risk": clean(row.risk, "risk"),
                "comparison": [clean(s, "comparison") for s in row.comparison],
                "label_source": {f: self._source(s, clean) for f, s in row.label_source.items()},
                "labs": [replace(x, date=_earlier(x.date, known)) for x in row.labs],
                "sounds": [],
            }
        )

    def _source(self, source: LabelSource, clean: Callable[[str, str], str]) -> LabelSource:
        report = self.pseudonyms.message(source.report) if source.report else ""
        return source.model_copy(
            update={"sentence": clean(source.sentence, "label_source"), "report": report}
        )


def _earlier(day: str, known: Known) -> str:
    """An ISO date as the words have it."""
    moved = clean_text(day, known).text
    return "" if moved.startswith("[") else moved


def _at(row: ManifestRow, path: str) -> Path:
    return Path(row.root) / path


def headers_of(images: Sequence[Path]) -> list[Dataset]:
    """The header of one file of each image; none of what is no DICOM."""
    out: list[Dataset] = []
    for image in images:
        for file in files_under(image):
            if file.is_file() and read_header(file).header is not None:
                ds = pydicom.dcmread(file, stop_before_pixels=True, force=True)
                obey(ds)
                out.append(ds)
                break
    return out


def names_in(path: Path) -> tuple[str, ...]:
    """The names of a text file, one a line. Raises UserError for one that is no text."""
    try:
        text = decoded(path.read_bytes())
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read as text ({e}); give one name a line in UTF-8") from e
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def export_cohort(request: ExportRequest, progress: Progress) -> tuple[ExportFile, Path]:
    """Write images, manifest.jsonl, ledger.csv, cohort.json and export.json to ``out``, and beside it the
    list of words to look at, whose path is returned too.

    Raises WrongUse for a folder that is not empty, UserError for a damaged cohort, OutputError.
    """
    built, out = request.cohort, request.out
    if out.exists() and any(out.iterdir()):
        raise WrongUse(f"{out}: is not empty; give a new folder, so that nothing of the hospital lies in it")
    audited = built.folder / AUDITED
    rows = read_manifest(audited) if audited.is_file() else built.rows
    if not rows:
        raise UserError(f"{built.folder}: the cohort has no case; there is nothing to export")
    try:
        return _export(request, rows, "audited" if audited.is_file() else "as built", progress)
    except OSError as e:
        raise OutputError(f"{out}: cannot be written ({os_fault(e)}); choose another --out") from e


def _export(
    request: ExportRequest, rows: list[ManifestRow], labels: str, progress: Progress
) -> tuple[ExportFile, Path]:
    out = request.out
    named = [_at(r, p) for r in rows for i in r.images for p in (i.path, i.mask) if p]
    parts = list(dict.fromkeys(named))
    options = Options(retain_uids=False, shift_dates=request.shift_dates, clean_descriptors=True)
    done, made = deidentify_parts(parts, out / "images", key=request.key, options=options, progress=progress)
    copies = {part: _common(files) for part, files in zip(parts, made, strict=True) if files}
    texts: dict[str, str] = {}
    for row in rows:
        texts[row.patient_id] = f"{texts.get(row.patient_id, '')} {row.report} {row.indication}"
    ordinary = ordinary_words(texts)
    persons = read_persons(request.cohort.folder / "work" / PERSONS)
    work = _Work(Pseudonyms(request.key), request.names, copies, request.shift_dates, ordinary, persons)
    for row in rows:
        work.add(row)
    result = ExportFile(
        labels=labels,
        cases=len(work.rows),
        images=done.report.written,
        refused=dict(Counter(r.reason for r in done.report.refused)),
        excluded={NO_IMAGE: len(work.gone)} if work.gone else {},
        left_out=dict(work.left_out),
        removed=dict(work.removed),
        words_to_look_at=len(work.look_at),
    )
    _write(request, work, result)
    return result, _write_look_at(out.with_name(f"{out.name}.words.csv"), work)


def _common(files: list[Path]) -> Path:
    """How the manifest names an image: its file, or the folder of its series."""
    one = files[0] if len(files) == 1 and files[0].suffix == ".gz" else files[0].parent
    return Path("images") / one


def _write(request: ExportRequest, work: _Work, result: ExportFile) -> None:
    out, cohort, of = request.out, request.cohort.cohort, work.pseudonyms
    write_rows(out / "manifest.jsonl", work.rows)
    write_ledger(out / "ledger.csv", [_keyed(row, of) for row in request.cohort.ledger])
    there = {r.case_id for r in work.rows}
    funnel = list(cohort.funnel)
    if work.gone and funnel:
        left = funnel[-1].studies - work.studies_gone
        excluded = {NO_IMAGE: work.studies_gone}
        funnel.append(FunnelStep(name="studies in cases that were exported", studies=left, excluded=excluded))
    lost = Counter({NO_IMAGE: work.studies_gone}) if work.gone else Counter[str]()
    twins = [[c for c in map(of.case, group) if c in there] for group in cohort.twins]
    written = cohort.model_copy(
        update={
            "archive": "",
            "sources": [
                s.model_copy(update={"name": f"source {n}"}) for n, s in enumerate(cohort.sources, 1)
            ],
            "cases": len(work.rows),
            "excluded": dict(Counter(cohort.excluded) + lost),
            "funnel": funnel,
            "splits": dict(Counter(r.split for r in work.rows)),
            "findings": {f: counted(f, work.rows) for f in cohort.findings},
            "twins": [group for group in twins if len(group) > 1],
            "comparison_sentences": sum(len(r.comparison) for r in work.rows),
            "sha256": {name: sha256_of(out / name) for name in ("manifest.jsonl", "ledger.csv")},
        }
    )
    (out / "cohort.json").write_text(written.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_page(out / "cohort.html", written, {})
    (out / "export.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _keyed(row: LedgerRow, of: Pseudonyms) -> LedgerRow:
    """A line of the ledger by keyed numbers. Its reason may quote a name, a number or a file: it stays at
    home."""
    new, other = (of.message, of.uid) if row.kind == "report" else (of.uid, of.message)
    linked = " ".join(other(x) for x in row.linked_to.split())
    return replace(
        row, id=new(row.id), linked_to=linked, reason="" if row.status == "linked" else "not exported"
    )


def _write_look_at(path: Path, work: _Work) -> Path:
    """Words that may still name somebody, by case: a CSV for a person at home."""
    with path.open("w", newline="", encoding="utf-8-sig") as f:
        table = csv.writer(f)
        table.writerow(("case_id", "where", "word"))
        table.writerows(harmless_row(row) for row in work.look_at)
    return path
