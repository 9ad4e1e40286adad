"""Image → NIfTI with a JSON sidecar, geometry as it is: sheared where tilted, without an affine where none is
right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..case import Image, Refusal
from ..errors import UserError, os_fault
from .names import plain_name, uid_name
from .sidecar import SidecarTrait, sidecar_of

SYNTHETIC_DESCRIPTION = (
    b"SYNTHETIC by medfuse: made by a model, no patient"  # the reader looks for its first word
)
SIMULATED_DESCRIPTION = b"SIMULATED by medfuse, not a patient"
SAME_PLACE_MM = 0.02  # qform and sform may put a corner so far apart


def write_nifti(image: Image, path: Path, case_id: str = "") -> Path:
    """Write ``path`` (.nii.gz) and its sidecar; both say of which case it is, where that is given.

    Volumes are float32 with an sform; a qform is written too where it says the same. An irregular stack
    keeps its voxels and gets neither (codes 0): the sidecar holds every slice position. Ultrasound is (W, H,
    1, T) uint8 with the pixel size of its 2D region, colour as a fifth axis. What is drawn over the image
    becomes a mask on the same grid, in ``overlays`` beside it.
    """
    if image.kind == "cine":
        nifti = _cine(image)
    else:
        nifti = nib.Nifti1Image(image.pixels, image.affine)
        nifti.header.set_xyzt_units("mm")
        if image.affine is None:
            steps = np.diff(image.geometry.slice_positions_mm)
            nifti.header.set_zooms((1.0, 1.0, float(np.median(steps)) if len(steps) else 1.0))
            nifti.header["sform_code"] = 0
            nifti.header["qform_code"] = 0
        else:
            set_place(nifti, image.affine)
    if image.source.simulated:
        nifti.header["descrip"] = SIMULATED_DESCRIPTION
    if image.source.synthetic:
        nifti.header["descrip"] = SYNTHETIC_DESCRIPTION
    if case_id:
        nifti.header.extensions.append(
            nib.nifti1.Nifti1Extension("comment", f"medfuse case {case_id}".encode())
        )
    try:
        nib.save(nifti, path)
        if image.overlay is not None:
            overlay_of(path).parent.mkdir(exist_ok=True)
            nib.save(_mask(image, nifti), overlay_of(path))
        side = json.dumps(sidecar_of(image, case_id).as_json(), indent=1)
        path.with_name(path.name.removesuffix(".nii.gz") + ".json").write_text(side, encoding="utf-8")
    except OSError as e:
        raise UserError(
            f"{path}: cannot be written ({os_fault(e)}); free space or choose another --out"
        ) from e
    return path


def overlay_of(path: Path) -> Path:
    """Where the mask of what is drawn over an exported image lies."""
    return path.parent / "overlays" / path.name


def _mask(image: Image, like: nib.Nifti1Image) -> nib.Nifti1Image:
    """0 and 1 on the grid of an exported image."""
    assert image.overlay is not None
    drawn = image.overlay.astype(np.uint8)
    drawn = drawn.transpose(2, 1, 0)[:, :, None] if image.kind == "cine" else drawn
    header = like.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(drawn.shape)
    return nib.Nifti1Image(drawn, None if image.affine is None else like.affine, header)


def set_place(nifti: nib.Nifti1Image, affine: np.ndarray) -> None:
    """State where voxels lie, (4, 4) RAS+ mm, as sform; as qform too where that says the same. It cannot of a
    sheared grid, and its quaternion in 32 bits loses a small tilt beside half a turn, as volumes in LPS have
    it: by some tenths of a mm at a corner."""
    nifti.set_sform(affine, 1)
    m = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(m.T @ m - np.eye(3)).max() < 1e-4:
        nifti.set_qform(affine, 1)
        last = np.array(nifti.shape[:3]) - 1
        apart = np.abs(nifti.get_qform() - affine)[:3]
        if (apart[:, :3] @ last + apart[:, 3]).max() < SAME_PLACE_MM:
            return
    nifti.set_qform(None, 0)


def _cine(image: Image) -> nib.Nifti1Image:
    pixels = image.pixels.swapaxes(1, 2)  # (T, W, H[, 3])
    array = pixels.transpose(1, 2, 0, *range(3, pixels.ndim))[:, :, None]
    nifti = nib.Nifti1Image(np.ascontiguousarray(array), None)
    mm = image.spacing or (1.0, 1.0)
    nifti.header.set_zooms((mm[0], mm[1], 1.0, image.frame_ms or 1.0, *[1.0] * (array.ndim - 4)))
    nifti.header.set_xyzt_units("mm", "msec")
    nifti.header["sform_code"] = 0
    nifti.header["qform_code"] = 0
    return nifti


def export_name(image: Image, number: int) -> str:
    """NUMBER_MODALITY_ROLE_TAIL.nii.gz; the tail is of the series, or of the file's hash."""
    tail = uid_name(image.source.series_uid) if image.source.series_uid else image.source.sha256
    return f"{number:04d}_{image.modality}_{plain_name(image.role)}_{tail[-12:].strip('.')}.nii.gz"


class ReadGeometry(BaseModel):
    """What the geometry of a series turned out to be: what was measured, and what is allowed."""

    model_config = ConfigDict(frozen=True)
    outcome: Literal["exact", "irregular", "tilted", "split", "none", "refused"]
    measured: str
    allowed: str


class ReadImage(BaseModel):
    """One image in `medfuse ingest --json` and in the library. ``spacing_mm`` is None where unknown;
    ``nifti`` is the file that it was exported to, ``overlay`` the mask of what is drawn over it; ``traits``
    are unset for a series that was refused; ``case_id`` is set in `medfuse ingest --json`."""

    model_config = ConfigDict(frozen=True)
    modality: str
    role: str
    role_confidence: float
    series_uid: str
    nifti: str | None
    geometry: ReadGeometry
    frames: int
    spacing_mm: list[float] | None
    warnings: list[str]
    traits: dict[str, SidecarTrait] = Field(default_factory=dict)
    overlay: str = ""
    case_id: str = ""

    def as_json(self) -> dict[str, object]:
        """As JSON data: what was set, by name."""
        return self.model_dump(mode="json", exclude_unset=True)


def describe(image: Image, nifti: str | None = None) -> ReadImage:
    """What was read, and what its geometry turned out to be."""
    g = image.geometry
    drawn = {"overlay": str(overlay_of(Path(nifti)))} if nifti and image.overlay is not None else {}
    return ReadImage(
        modality=image.modality,
        role=image.role,
        role_confidence=image.role_confidence,
        series_uid=image.source.series_uid,
        nifti=nifti,
        geometry=ReadGeometry(
            outcome="exact" if image.kind == "cine" else g.outcome, measured=g.measured, allowed=g.allowed
        ),
        frames=image.frames,
        spacing_mm=list(image.spacing) if image.spacing else None,
        warnings=list(image.warnings),
        traits={k: SidecarTrait(value=v, confidence=c) for k, (v, c) in image.traits.items()},
        **drawn,
    )


def describe_refused(refusal: Refusal) -> ReadImage:
    """The same for a series whose geometry was refused."""
    return ReadImage(
        modality=refusal.modality,
        role="unknown",
        role_confidence=0.0,
        series_uid=refusal.series_uid,
        nifti=None,
        geometry=ReadGeometry(outcome="refused", measured=refusal.measured, allowed=refusal.allowed),
        frames=0,
        spacing_mm=None,
        warnings=[refusal.reason],
    )
