"""manifest.jsonl or manifest.csv → rows; a row → Case (and label maps). Manifests say modality and role
themselves."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..case import Lab
from ..errors import UserError, WrongUse, fault_of
from ..foreign import foreign_json
from .text import decoded


class ManifestImage(BaseModel):
    """One image of a case.

    mask: its label map, for training. synthetic: it is known that a model made it; without this a synthetic
    image is refused, and with it the case must be of the split train. volume: which one of a 4D NIfTI, from
    0; name the file once a role.
    """

    model_config = ConfigDict(extra="ignore")
    path: str
    modality: str = ""
    role: str = ""
    mask: str = ""
    synthetic: bool = False
    volume: int | None = Field(default=None, ge=0)
    frame_of_reference: str = ""


class TrueLesion(BaseModel):
    """A lesion as it is known to be: its centre in each modality's own frame, RAS+ mm, for scoring matches.

    kind: the finding. diameter_mm: its longest. centre_mm: by modality.
    """

    model_config = ConfigDict(extra="ignore")
    kind: str = ""
    diameter_mm: float = 0.0
    centre_mm: dict[str, tuple[float, float, float]] = Field(default_factory=dict)


class LabelSource(BaseModel):
    """Where a label comes from.

    finding: its id. value: the label. said: present, possible, absent, table (a column gave it) or "reports
    differ". sentence: the words. report: id of the report.
    """

    model_config = ConfigDict(extra="ignore")
    finding: str
    value: float | None = None
    said: str = ""
    sentence: str = ""
    report: str = ""


class ManifestRow(BaseModel):
    """One case of a manifest; paths are relative to the manifest's folder.

    split: train, val or test. labels: 1 present, 0 absent, between them how
    likely, null unknown, by finding. label_source: the words that gave each. group: persons and twins that
    must stay in one split. site: where it was acquired. comparison: sentences that were kept out of report.
    report: the reference report. rephrased: the same said in phrasings that no training saw, for scoring.
    indication: why the patient was imaged. labs: laboratory values. lesions: those that are known.
    sounds: WAV files of the patient, such as of the heart.
    """

    model_config = ConfigDict(extra="ignore")
    case_id: str
    patient_id: str = ""
    split: str = ""
    simulated: bool = False
    simulator: str = ""  # version of what simulated it
    images: list[ManifestImage] = Field(default_factory=list)
    labels: dict[str, int | float | None] = Field(default_factory=dict)
    label_source: dict[str, LabelSource] = Field(default_factory=dict)
    group: str = ""
    site: str = ""
    comparison: list[str] = Field(default_factory=list)
    report: str = ""
    rephrased: str = ""
    reports: dict[str, str] = Field(default_factory=dict)  # by language, where there are several
    indication: str = ""
    labs: list[Lab] = Field(default_factory=list)
    lesions: list[TrueLesion] = Field(default_factory=list)
    sounds: list[str] = Field(default_factory=list)
    risk: str = ""  # documented risk status, such as chronic liver disease
    root: str = Field(default="", exclude=True)
    line: int = Field(default=0, exclude=True)  # of the manifest, its first
    unknown: list[str] = Field(default_factory=list, exclude=True)  # what stands there under no known name

    @property
    def heard(self) -> list[str]:
        """Where its sounds lie."""
        return [str(Path(self.root) / name) for name in self.sounds]

    @property
    def is_synthetic(self) -> bool:
        """Whether one of its images is known to be made by a model."""
        return any(image.synthetic for image in self.images)

    @property
    def at(self) -> str:
        """Where it stands, as a fault of it begins."""
        return f"line {self.line}, case {self.case_id}" if self.line else f"case {self.case_id}"

    def words(self, language: str) -> str:
        """The report in a language, else the one that names none; "" where there is neither."""
        return self.reports.get(language) or self.report


def read_manifest(path: Path) -> list[ManifestRow]:
    """All rows. In a CSV one line is one image; lines of one case_id are joined, columns ``label:ID`` are
    labels.

    Raises UserError that names the line.
    """
    if not path.is_file():
        raise WrongUse(f"{path}: no such manifest; give the path of a manifest.jsonl or manifest.csv")
    rows = _read_csv(path) if path.suffix == ".csv" else _read_jsonl(path)
    if not rows:
        raise UserError(f"{path}: the manifest is empty; it needs one line a case")
    seen: dict[str, int] = {}
    for row in rows:
        if row.case_id in seen:
            raise UserError(
                f"{path} line {row.line}: case_id {row.case_id} appears twice, first in line "
                f"{seen[row.case_id]}; every case needs its own id"
            )
        seen[row.case_id] = row.line
        row.root = str(path.parent)
        if row.is_synthetic and row.split != "train":
            raise UserError(
                f"{path} line {row.line}: case {row.case_id} names a synthetic image; give it the split "
                "train: it may be learned from, and nothing is chosen, calibrated or scored on it"
            )
    return rows


def acquired_alone(path: Path, rows: list[ManifestRow]) -> None:
    """Raises UserError where a row that something is measured on names a synthetic image."""
    for row in rows:
        if row.is_synthetic:
            raise UserError(
                f"{path} line {row.line}: case {row.case_id} names a synthetic image, made by a model; "
                "nothing is measured on it: leave the case out, or choose another --split"
            )


def write_rows(path: Path, rows: Iterable[ManifestRow]) -> None:
    """A manifest.jsonl of these cases, without what is at its default."""
    lines = [json.dumps(r.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False) for r in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data.startswith(b"PK\x03\x04"):
        raise UserError(f"{path}: is a workbook or an archive, no text; save the table as CSV")
    try:
        text = decoded(data)
    except ValueError as e:
        raise UserError(f"{path}: is no text in UTF-8 ({e}); save it as UTF-8") from e
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{path} line {line}: holds a zero byte, as damaged files do; copy it again")
    return text


def _read_jsonl(path: Path) -> list[ManifestRow]:
    rows = []
    for n, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            said = cast(dict[str, Any], foreign_json(line, _said_once))
            row = ManifestRow(**said)
            _check_id(row.case_id)
        except (ValueError, TypeError, ValidationError) as e:
            raise UserError(
                f"{path} line {n}: {fault_of(e)}; each line is one JSON object with case_id and images"
            ) from e
        row.line = n
        row.unknown = _unknown(said)
        rows.append(row)
    return rows


def _said_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON. Raises ValueError where a name stands twice: the later would win unseen."""
    said = dict(pairs)
    if len(said) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)} stands twice")
    return said


def _check_id(case_id: str) -> None:
    """Raises ValueError for an id that tells no case from another."""
    if not case_id.strip():
        raise ValueError("case_id is empty")
    if any(c in case_id for c in "\r\n\t"):
        raise ValueError("case_id holds a line break or a tab; a quotation mark may not be closed")


def _unknown(said: dict[str, object]) -> list[str]:
    """Names of a line, and of its images, that no field has."""
    images = said.get("images")
    inside = [key for image in images for key in image] if isinstance(images, list) else []
    own = set(ManifestRow.model_fields) - {"root", "line", "unknown"}
    out = [key for key in said if key not in own]
    return [*out, *dict.fromkeys(key for key in inside if key not in ManifestImage.model_fields)]


def _read_csv(path: Path) -> list[ManifestRow]:
    reader = csv.DictReader(StringIO(_text(path), newline=""))
    lines = [(reader.line_num, line) for line in reader]
    columns = list(reader.fieldnames or ())
    _check_columns(path, columns)
    rows: dict[str, ManifestRow] = {}
    for n, line in lines:
        if None in line or None in line.values():
            raise UserError(
                f"{path} line {n}: has {'more' if None in line else 'fewer'} cells than the first line has "
                "columns; quote cells that hold a comma, and leave unknown ones empty"
            )
        try:
            _check_id(line["case_id"])
        except ValueError as e:
            raise UserError(f"{path} line {n}: {e}; every line names its case") from e
        row = rows.setdefault(line["case_id"], ManifestRow(case_id=line["case_id"], line=n))
        row.unknown = sorted(c for c in columns if c not in CSV_COLUMNS and not c.startswith("label:"))
        row.images.append(_image(path, n, line))
        _take_line(row, line, _labels(path, n, line), f"{path} line {n}")
    return list(rows.values())


def _check_columns(path: Path, columns: list[str]) -> None:
    """Raises UserError where the first line lacks a needed column, or names one twice."""
    missing = [c for c in ("case_id", "path", "modality") if c not in columns]
    if missing and columns:
        other = next((mark for mark in ";\t|" if len(columns) == 1 and mark in columns[0]), "")
        how = "; write the table with commas between its columns" if other else ""
        if like := [c for c in columns if c.strip().lower() in missing]:
            how = f"; write {', '.join(c.strip().lower() for c in like)} where it says {', '.join(like)}"
        raise UserError(f"{path}: lacks the column(s) {', '.join(sorted(missing))}{how}")
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if twice:
        raise UserError(f"{path}: the column {twice[0]} stands there twice; leave one")


def _take_line(
    row: ManifestRow, line: dict[str, str], labels: dict[str, int | float | None], at: str
) -> None:
    """What one line says of its case. Raises UserError where an earlier line says something else."""
    for key in (k for k in ("patient_id", "split", "report", "indication") if line.get(k)):
        if getattr(row, key) not in ("", line[key]):
            raise UserError(f"{at}: {key} of case {row.case_id} is another than in line {row.line}")
        setattr(row, key, line[key])
    for finding, value in labels.items():
        if row.labels.setdefault(finding, value) != value:
            raise UserError(f"{at}: label:{finding} of case {row.case_id} is another than in line {row.line}")


def _image(path: Path, number: int, line: dict[str, str]) -> ManifestImage:
    said = {k: v for k in ManifestImage.model_fields if (v := line.get(k))}
    try:
        return ManifestImage.model_validate({"path": "", **said})
    except ValidationError as e:
        first = e.errors()[0]
        raise UserError(f"{path} line {number}: {first['loc'][0]}: {first['msg']}") from e


CSV_COLUMNS = {*ManifestImage.model_fields, "case_id", "patient_id", "split", "report", "indication"}


def _labels(path: Path, number: int, line: dict[str, str]) -> dict[str, int | float | None]:
    """The columns label:ID of one line that say something."""
    out: dict[str, int | float | None] = {}
    for key, value in line.items():
        if key and key.startswith("label:") and value not in (None, ""):
            try:
                found = float(value)
                out[key.removeprefix("label:")] = int(found) if found.is_integer() else found
            except ValueError as e:
                raise UserError(
                    f"{path} line {number}: {key} is {value!r}; labels are from 0 to 1, or empty"
                ) from e
    return out
