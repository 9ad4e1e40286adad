"""Where registrations of the library's series lie: one JSON note each under MEDFUSE_HOME/registrations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from pydantic import BaseModel, ValidationError

from ..affine import transform_in_other_frame
from ..case import Case, Image
from ..errors import UserError, fault_of
from ..io.names import uid_name
from ..registration.quality import Quality

if TYPE_CHECKING:
    from .library import Library


class RegistrationNote(BaseModel, frozen=True):
    """Where the registration of two series lies. moving: SeriesInstanceUID of the one that was moved.
    fixed: of the one it was brought onto. folder: with the transform and its quality. verdict: no fault
    found, check or failed. reasons: one sentence each."""

    moving: str
    fixed: str
    folder: str
    verdict: str
    reasons: list[str] = []


def registrations_folder(library: Library) -> Path:
    """Where the notes on registrations lie, whether or not it is there."""
    return library.home / "registrations"


def known_registrations(library: Library, series: set[str]) -> list[RegistrationNote]:
    """What the library knows of registrations between these series. A failed one is listed, and not to be
    used. Raises UserError for a note that is damaged."""
    folder = registrations_folder(library)
    rows = [_read(p) for p in sorted(folder.glob("*.json"))]
    return [r for r in rows if {r.moving, r.fixed} <= series and Path(r.folder).is_dir()]


def _read(path: Path) -> RegistrationNote:
    try:
        return RegistrationNote.model_validate_json(path.read_bytes())
    except ValidationError as e:
        raise UserError(
            f"{path}: is not a note on a registration ({fault_of(e)}); register the two again"
        ) from e


def links_of(library: Library, case: Case) -> dict[tuple[str, str], np.ndarray]:
    """(frame of the moving image, of the fixed one) → (4, 4) RAS+ mm to RAS+ mm, of linear registrations in
    which no fault was found."""
    frames = {i.source.series_uid: i.frame_of_reference for i in case.images if i.source.series_uid}
    rows = known_registrations(library, set(frames))
    if not rows:
        return {}
    import SimpleITK as sitk  # takes a third of a second, and most cases have none

    from ..registration.register import matrix_of

    out = {}
    for row in rows:
        if row.verdict != "no fault found":
            continue
        transform = sitk.ReadTransform(str(Path(row.folder) / "transform.tfm"))
        if not transform.IsLinear():
            continue
        # the file maps fixed points to the moving image
        to_fixed = np.linalg.inv(transform_in_other_frame(matrix_of(transform)))
        out[frames[row.moving], frames[row.fixed]] = to_fixed
    return out


def _keep(library: Library, out: Path, quality: Quality, moving: Image, fixed: Image) -> None:
    """The library remembers where the registration of two series lies, for the viewer and `fuse`."""
    if not moving.source.series_uid or not fixed.source.series_uid:
        return
    from .store import has_series

    if not has_series(library, moving.source.series_uid) or not has_series(library, fixed.source.series_uid):
        return
    folder = registrations_folder(library)
    folder.mkdir(parents=True, exist_ok=True)
    note = RegistrationNote(
        moving=moving.source.series_uid,
        fixed=fixed.source.series_uid,
        folder=str(out.resolve()),
        verdict=quality.verdict,
        reasons=list(quality.reasons),
    )
    name = f"{uid_name(moving.source.series_uid)}__{uid_name(fixed.source.series_uid)}.json"
    (folder / name).write_text(note.model_dump_json(indent=1))


def load_transform(folder: Path) -> sitk.Transform:
    """A registration's transform. Raises UserError for one that failed."""
    try:
        quality = json.loads((folder / "quality.json").read_text())
    except (OSError, ValueError) as e:
        raise UserError(f"{folder}: is not a folder of medfuse register; it has no quality.json in it") from e
    if quality["verdict"] == "failed":
        raise UserError(
            f"{folder}: this registration failed ({'; '.join(quality['reasons'])}) and is not used"
        )
    return sitk.ReadTransform(str(folder / "transform.tfm"))
