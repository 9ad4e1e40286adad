"""manifest.jsonl or manifest.csv → rows; a row → Case (and label maps). Manifests say modality and role themselves."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..case import Case, Image, Lab, Refusal
from ..errors import UnreadableError, UserError, WrongUse
from . import nifti, picture


class ManifestImage(BaseModel):
    model_config = ConfigDict(extra="ignore")
    path: str
    modality: str = ""
    role: str = ""
    mask: str = ""
    frame_of_reference: str = ""


class TrueLesion(BaseModel):
    """A lesion as it is known to be: its centre in each modality's own frame, RAS+ mm, for scoring matches."""

    model_config = ConfigDict(extra="ignore")
    kind: str = ""
    diameter_mm: float = 0.0
    centre_mm: dict[str, tuple[float, float, float]] = Field(default_factory=dict)


class ManifestRow(BaseModel):
    """One case of a manifest; paths are relative to the manifest's folder."""

    model_config = ConfigDict(extra="ignore")
    case_id: str
    patient_id: str = ""
    split: str = ""
    simulated: bool = False
    images: list[ManifestImage] = Field(default_factory=list)
    labels: dict[str, int | None] = Field(default_factory=dict)
    report: str = ""
    reports: dict[str, str] = Field(default_factory=dict)  # by language, where there are several
    indication: str = ""
    labs: list[Lab] = Field(default_factory=list)
    lesions: list[TrueLesion] = Field(default_factory=list)
    risk: str = ""  # documented risk status, such as chronic liver disease
    root: str = Field(default="", exclude=True)


def read_manifest(path: Path) -> list[ManifestRow]:
    """All rows. In a CSV one line is one image; lines of one case_id are joined, columns ``label:ID`` are labels.

    Raises UserError that names the line.
    """
    if not path.is_file():
        raise WrongUse(f"{path}: no such manifest; give the path of a manifest.jsonl or manifest.csv")
    rows = _read_csv(path) if path.suffix == ".csv" else _read_jsonl(path)
    if not rows:
        raise UserError(f"{path}: the manifest is empty; it needs one line a case")
    seen: set[str] = set()
    for row in rows:
        if row.case_id in seen:
            raise UserError(f"{path}: case_id {row.case_id} appears twice; every case needs its own id")
        seen.add(row.case_id)
        row.root = str(path.parent)
    return rows


def _read_jsonl(path: Path) -> list[ManifestRow]:
    rows = []
    for n, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(ManifestRow(**json.loads(line)))
        except (ValueError, TypeError, ValidationError) as e:
            raise UserError(
                f"{path} line {n}: {str(e).splitlines()[0]}; each line is one JSON object with case_id and images"
            ) from e
    return rows


def _read_csv(path: Path) -> list[ManifestRow]:
    with path.open(newline="") as f:
        lines = list(csv.DictReader(f))
    needed = {"case_id", "path", "modality"}
    columns = set(lines[0]) if lines else set()
    if lines and not needed <= columns:
        raise UserError(f"{path}: lacks the column(s) {', '.join(sorted(needed - columns))}")
    rows: dict[str, ManifestRow] = {}
    for n, line in enumerate(lines, 2):
        row = rows.setdefault(line["case_id"], ManifestRow(case_id=line["case_id"]))
        row.images.append(ManifestImage(**{k: line.get(k) or "" for k in ManifestImage.model_fields}))
        for key in ("patient_id", "split", "report", "indication"):
            if line.get(key):
                setattr(row, key, line[key])
        for key, value in line.items():
            if key and key.startswith("label:") and value not in (None, ""):
                try:
                    row.labels[key.removeprefix("label:")] = int(value)
                except ValueError as e:
                    raise UserError(f"{path} line {n}: {key} is {value!r}; labels are 0, 1 or empty") from e
    return list(rows.values())


def load_row(row: ManifestRow, *, with_masks: bool = False) -> tuple[Case, dict[int, np.ndarray]]:
    """Read a row's images; what cannot be read is in ``case.refused``. masks: image place → (I, J, K) or (T, H, W)."""
    case = Case(
        row.case_id,
        row.patient_id,
        indication=row.indication,
        report=row.report,
        risk=row.risk,
        folder=row.root,
        labs=row.labs,
    )
    masks: dict[int, np.ndarray] = {}
    for entry in row.images:
        path = Path(row.root) / entry.path
        try:
            images = _read_entry(path, entry)
        except UnreadableError as e:
            case.refused.append(Refusal(e.path, e.reason, entry.modality))
            continue
        for image in images:
            if with_masks and entry.mask:
                masks[len(case.images)] = _read_mask(Path(row.root) / entry.mask, image)
            case.images.append(image)
    return case, masks


def _read_entry(path: Path, entry: ManifestImage) -> list[Image]:
    if not path.exists():
        raise UnreadableError(path, "no such file; the manifest names it")
    if nifti.is_volume_file(path):
        return [nifti.read_nifti(path, entry.modality, entry.role, entry.frame_of_reference)]
    if path.suffix.lower() in picture.SUFFIXES:
        return [picture.read_picture(path, entry.modality)]
    from .scan import read_images

    images, refused = read_images(path)
    if not images:
        raise UnreadableError(path, refused[0].reason if refused else "holds no readable image")
    for image in images:
        if entry.role:
            image.role, image.role_confidence = entry.role, 1.0
    return images


def _read_mask(path: Path, image: Image) -> np.ndarray:
    stored: Any = nib.load(path)
    mask = np.asanyarray(stored.dataobj).astype(np.uint8)
    if image.modality == "US":
        mask = mask.reshape(mask.shape[0], mask.shape[1], -1).transpose(2, 1, 0)
    if mask.shape != image.pixels.shape[:3]:
        raise UnreadableError(path, f"mask {mask.shape} does not fit its image {image.pixels.shape[:3]}")
    return mask
