"""What others outlined on the images of a case (DICOM SEG, RTSTRUCT, label maps), for the browser: a bit for
each voxel of a structure's box, in the order of the pixels as displayed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from isal import igzip

from apps.viewer.desk import library
from medfuse.case import Case, ReferringObject
from medfuse.display.contract import CineImage, DrawnStructure, VolumeImage, Voxel
from medfuse.errors import UnreadableError
from medfuse.io.names import shown
from medfuse.io.outlined import OutlinedStructure, outlined_structures
from medfuse.library.image_files import stored_path
from medfuse.library.integrity import why_unusable
from medfuse.library.referring import OUTLINES, objects_of

# none of them the yellow of the model's evidence
COLOURS = ("#5ad1ff", "#ff7ad9", "#7dff8a", "#b79bff", "#ff8f6b", "#9fb8ff", "#c8ff5a", "#ff9fb0")
LONGEST_NAME = 64  # letters of a structure's name that are shown


def files_of(case_id: str) -> list[str]:
    """The stored files that hold outlines of a case: what its encoded images depend on beside its series."""
    return sorted(o.file for o in objects_of(library(), case_id) if o.file)


def write(
    case: Case, images: Sequence[VolumeImage | CineImage], folder: Path
) -> tuple[list[DrawnStructure], dict[str, str]]:
    """Write ``IMAGE.sN.gz`` of each structure of a case; what they are, and by the id of an object why some
    of its structures, or all, are not there."""
    drawn: list[DrawnStructure] = []
    unplaced: dict[str, str] = {}
    for one in case.objects:
        if one.kind not in OUTLINES or not one.file:
            continue
        if why := why_unusable(library(), [one.file]):
            unplaced[one.sop_uid] = shown(why)
            continue
        try:
            _write_one(case, one, images, folder, drawn)
        except UnreadableError as e:
            unplaced[one.sop_uid] = shown(e.reason)
    return drawn, unplaced


def _write_one(
    case: Case,
    one: ReferringObject,
    images: Sequence[VolumeImage | CineImage],
    folder: Path,
    drawn: list[DrawnStructure],
) -> None:
    path = stored_path(library(), one.file)
    for n, found in enumerate(outlined_structures(path, one.kind, case.images, one.outlined)):
        image = images[found.image]
        if not isinstance(image, VolumeImage):
            continue
        mask = _as_shown(found.mask, image)
        bits = np.packbits(mask.transpose(2, 1, 0).ravel(), bitorder="little").tobytes()
        name = f"s{len(drawn)}"
        (folder / f"{image.index}.{name}.gz").write_bytes(igzip.compress(bits, compresslevel=1))
        said = f"{one.title} {found.name}" if one.kind == "label map" else found.name
        millilitres = float(mask.sum() * np.prod(image.spacing)) / 1000
        low, high = _box(found, image)
        drawn.append(
            DrawnStructure(
                id=f"{one.sop_uid}:{n}",
                image=image.index,
                centre=_middle(mask, low),
                box=(low, high),
                box_mm=_box_mm(low, high, image),
                name=shown(said)[:LONGEST_NAME],
                of=one.sop_uid,
                bits=name,
                ml=millilitres if image.affine is not None else None,
                colour=COLOURS[len(drawn) % len(COLOURS)],
            )
        )


def _as_shown(mask: np.ndarray, image: VolumeImage) -> np.ndarray:
    """A part of an image as stored, with its axes as displayed: they are the same ones in another order and
    direction."""
    to_view = np.rint(np.asarray(image.to_view)[:3, :3]).astype(int)
    turned = mask.transpose([int(np.flatnonzero(row)[0]) for row in to_view])
    return turned[tuple(slice(None, None, int(row.sum())) for row in to_view)]


def _box(found: OutlinedStructure, image: VolumeImage) -> tuple[Voxel, Voxel]:
    """The first and the last voxel of a structure as displayed."""
    to_view = np.asarray(image.to_view)
    ends = np.array([found.corner, np.add(found.corner, found.mask.shape) - 1])
    shown_ends = np.rint(ends @ to_view[:3, :3].T + to_view[:3, 3]).astype(int)
    return _voxel(shown_ends.min(0)), _voxel(shown_ends.max(0))


def _voxel(at: np.ndarray) -> Voxel:
    x, y, z = (int(v) for v in at)
    return x, y, z


def _middle(mask: np.ndarray, low: Voxel) -> Voxel:
    """In the middle of the slice that shows most of it."""
    best = int(mask.sum((0, 1)).argmax())
    across, down = np.nonzero(mask[:, :, best])
    return low[0] + int(np.median(across)), low[1] + int(np.median(down)), low[2] + best


def _box_mm(low: Voxel, high: Voxel, image: VolumeImage) -> list[list[float]] | None:
    """The same box in RAS+ mm, of the middles of its voxels."""
    if image.affine is None:
        return None
    affine = np.asarray(image.affine)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).T.reshape(-1, 3)
    at = corners @ affine[:3, :3].T + affine[:3, 3]
    return [at.min(0).tolist(), at.max(0).tolist()]
