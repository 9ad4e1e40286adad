"""A manifest row → its images; its label maps, where somebody trains or scores with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..case import Case, Image, Refusal
from ..errors import UnreadableError
from . import film, nifti, picture
from .manifest import ManifestImage, ManifestRow
from .masks import read_mask
from .scan import read_images
from .volume_files import is_volume_file


@dataclass(frozen=True, kw_only=True)
class LabelledCase:
    """A case and its label maps: place of an image → (I, J, K) or (T, H, W) uint8."""

    case: Case
    masks: dict[int, np.ndarray]


def read_row(row: ManifestRow) -> tuple[Case, list[ManifestImage]]:
    """The case of a row, and the entry that each of its images came from. What cannot be read is in
    ``case.refused``."""
    case = Case(
        row.case_id,
        row.patient_id,
        indication=row.indication,
        report=row.report,
        risk=row.risk,
        folder=row.root,
        labs=row.labs,
        heard=row.heard,
    )
    entries: list[ManifestImage] = []
    for entry in row.images:
        try:
            images, _ = read_entry(Path(row.root) / entry.path, entry)
        except UnreadableError as e:
            case.refused.append(Refusal(e.path, e.reason, entry.modality))
            continue
        case.images += images
        entries += [entry] * len(images)
    if row.simulated:
        case.state_simulated()
    return case, entries


@dataclass(frozen=True, kw_only=True)
class NamedImages:
    """The images of a row, each with the number of its entry, and what could not be read."""

    images: list[tuple[int, Image]]
    refused: list[Refusal]


def named_images(row: ManifestRow) -> NamedImages:
    """The images of a row beside the entries that name them."""
    case, entries = read_row(row)
    places = [row.images.index(e) for e in entries]
    return NamedImages(images=list(zip(places, case.images, strict=True)), refused=case.refused)


def labelled(row: ManifestRow) -> LabelledCase:
    """The case of a row with every label map that it names. Raises UnreadableError where a map does not fit
    its image."""
    case, entries = read_row(row)
    masks = {
        place: read_mask(Path(row.root) / entry.mask, case.images[place])
        for place, entry in enumerate(entries)
        if entry.mask
    }
    return LabelledCase(case=case, masks=masks)


def read_entry(path: Path, entry: ManifestImage) -> tuple[list[Image], list[Refusal]]:
    """The images of one entry, and what beside them could not be used. Raises UnreadableError where there is
    no image."""
    if not path.exists():
        raise UnreadableError(path, "no such file; the manifest names it")
    if is_volume_file(path):
        stated = (entry.modality, entry.role, entry.frame_of_reference)
        image = nifti.read_nifti(path, *stated, volume=entry.volume, synthetic=entry.synthetic)
        return [image], []
    if path.suffix.lower() in picture.SUFFIXES:
        return [picture.read_picture(path, entry.modality)], []
    if path.suffix.lower() in film.SUFFIXES:
        return [film.read_film(path, entry.modality)], []
    images, refused = read_images(path)
    if not images:
        raise UnreadableError(path, refused[0].reason if refused else "holds no readable image")
    for image in images:
        if entry.role:
            image.role = entry.role
            image.role_confidence = 1.0
    return images, refused
