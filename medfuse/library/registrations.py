"""Where registrations of the library's series lie: one JSON note each under MEDFUSE_HOME/registrations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ValidationError

from ..affine import transform_in_other_frame
from ..case import Case, Image
from ..display.frames import FrameLink
from ..errors import UserError, WrongUse, fault_of
from ..io.names import uid_name
from .accounts import Account, need
from .audit import record

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..registration.quality import Quality
    from .library import Library


class RegistrationNote(BaseModel, frozen=True):
    """Where the registration of two series lies. moving: SeriesInstanceUID of the one that was moved.
    fixed: of the one it was brought onto. folder: with the transform and its quality. verdict: no fault
    found, check or failed. reasons: one sentence each. accepted_by: account of the person who looked at it
    and takes it; empty before. accepted: when (ISO 8601, UTC). accepted_sha256: of the transform that was
    accepted."""

    moving: str
    fixed: str
    folder: str
    verdict: str
    reasons: list[str] = []
    accepted_by: str = ""
    accepted: str = ""
    accepted_sha256: str = ""

    @property
    def stands(self) -> bool:
        """A person accepted it, and it is still the transform that was accepted."""
        return bool(self.accepted_by) and self.verdict != "failed" and self.accepted_sha256 == _seal(self)


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


def accept_registration(library: Library, moving: str, fixed: str, who: Account) -> RegistrationNote:
    """A person looked at the registration of two series and takes it: crosshair, linked scrolling and fusion
    go through it from now on. Raises WrongUse for one that is not known, failed or bends space, and where the
    person is no author."""
    need(who, "author", "accept a registration")
    path, row = _note(library, moving, fixed)
    if row.verdict == "failed":
        raise WrongUse(f"this registration failed ({'; '.join(row.reasons)}) and cannot be accepted")
    if _to_fixed(row) is None:
        raise WrongUse(
            "this registration bends space: no crosshair can follow it; register by --kind rigid or affine"
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    said = {"accepted_by": who.name, "accepted": now, "accepted_sha256": _seal(row)}
    row = row.model_copy(update=said)
    _write(path, row)
    record(library, "registration accepted", who=who.name, moving=moving, fixed=fixed, verdict=row.verdict)
    return row


def withdraw_registration(library: Library, moving: str, fixed: str, who: Account) -> RegistrationNote:
    """The registration of two series is no longer accepted. Raises WrongUse as `accept_registration` does."""
    need(who, "author", "withdraw a registration")
    path, row = _note(library, moving, fixed)
    row = row.model_copy(update={"accepted_by": "", "accepted": "", "accepted_sha256": ""})
    _write(path, row)
    record(library, "registration withdrawn", who=who.name, moving=moving, fixed=fixed)
    return row


def accepted_links(library: Library, frames: Mapping[str, str]) -> list[FrameLink]:
    """What persons accepted between series, given as series → frame of reference; the newest first. One whose
    transform was exchanged is left out."""
    rows = [r for r in known_registrations(library, set(frames)) if r.stands]
    out = []
    for row in sorted(rows, key=lambda r: r.accepted, reverse=True):
        matrix = _to_fixed(row)
        source, target = frames[row.moving], frames[row.fixed]
        if matrix is not None and source and target and source != target:
            link = FrameLink(source=source, target=target, matrix=matrix.tolist(), by=row.accepted_by)
            out.append(link)
    return out


def _note(library: Library, moving: str, fixed: str) -> tuple[Path, RegistrationNote]:
    for path in sorted(registrations_folder(library).glob("*.json")):
        row = _read(path)
        if (row.moving, row.fixed) == (moving, fixed) and Path(row.folder).is_dir():
            return path, row
    raise WrongUse("these two series are not registered; medfuse register does it")


def _write(path: Path, row: RegistrationNote) -> None:
    path.write_text(row.model_dump_json(indent=1), encoding="utf-8")


def _transform_of(row: RegistrationNote) -> Path:
    return Path(row.folder) / "transform.tfm"


def _seal(row: RegistrationNote) -> str:
    try:
        return hashlib.sha256(_transform_of(row).read_bytes()).hexdigest()
    except OSError:
        return ""


def _to_fixed(row: RegistrationNote) -> np.ndarray | None:
    """(4, 4) from RAS+ mm of the moving frame to those of the fixed one; None where it bends space. Raises
    UserError where the file cannot be read."""
    import SimpleITK as sitk  # takes a third of a second, and most cases have none

    from ..registration.register import matrix_of

    try:
        transform = sitk.ReadTransform(str(_transform_of(row)))
    except RuntimeError as e:
        raise UserError(f"{_transform_of(row)}: cannot be read; register the two again") from e
    if not transform.IsLinear():
        return None
    # the file maps fixed points to the moving image
    return np.linalg.inv(transform_in_other_frame(matrix_of(transform)))


def links_of(library: Library, case: Case) -> dict[tuple[str, str], np.ndarray]:
    """(frame of the moving image, of the fixed one) → (4, 4) RAS+ mm to RAS+ mm, of linear registrations in
    which no fault was found, or which a person accepted."""
    frames = {i.source.series_uid: i.frame_of_reference for i in case.images if i.source.series_uid}
    out = {}
    for row in known_registrations(library, set(frames)):
        if row.verdict != "no fault found" and not row.stands:
            continue
        to_fixed = _to_fixed(row)
        if to_fixed is not None:
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
    _write(folder / name, note)


def load_transform(folder: Path) -> sitk.Transform:
    """A registration's transform. Raises UserError for one that failed."""
    import SimpleITK as sitk

    try:
        quality = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{folder}: is not a folder of medfuse register; it has no quality.json in it") from e
    if quality["verdict"] == "failed":
        raise UserError(
            f"{folder}: this registration failed ({'; '.join(quality['reasons'])}) and is not used"
        )
    return sitk.ReadTransform(str(folder / "transform.tfm"))
