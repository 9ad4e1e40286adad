"""NIfTI, MetaImage and NRRD → Image. The modality must be stated; nothing is guessed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..case import Geometry, Image, Region, Source
from ..errors import UnreadableError
from ..modalities import MODALITIES, is_cine, modality_of, stated, unknown
from .sidecar import Sidecar, read_sidecar
from .stored import Stored
from .suv import NoSuv, header_of_sidecar, said, uptake_of
from .volume_files import load, with_colours

SHORTEST_PICTURE = 16  # pixels along an edge; of a first axis of three, shorter others are voxels
SYNTHETIC = (
    "is synthetic: made by a model, not acquired, and no evidence; give acquired images (a manifest that "
    'trains on it says "synthetic": true of the image)'
)
FOUR_D = '"volume": N (from 0) and its "role"'


def sha256(path: Path) -> str:
    """Hash of a file, in hexadecimal."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_nifti(
    path: Path,
    modality: str = "",
    role: str = "",
    frame_of_reference: str = "",
    *,
    tracked: bool = False,
    volume: int | None = None,
    synthetic: bool = False,
) -> Image:
    """Read one image. Ultrasound becomes frames (T, H, W) without a place; ``tracked`` keeps a sweep or a
    tracked frame as it lies in space, (I, J, K) with its affine, for registration. ``volume``: which one of a
    4D file, from 0. ``synthetic``: the user knows that a model made it; without it such a file is refused.

    The modality comes from the argument or a JSON sidecar's "Modality". The affine is sform, else qform, RAS+
    mm; when both are set and put a corner more than 0.1 mm apart, the file is refused. PET needs "Units" in
    the sidecar: SUVbw, or Bq/ml with the DICOM attributes that make SUV of it.

    Raises UnreadableError.
    """
    stored = load(path)
    if volume is not None:
        stored = _chosen(path, stored, volume)
    side = read_sidecar(path)
    made = "SYNTHETIC" in stored.descrip or side.synthetic
    if made and not synthetic:
        raise UnreadableError(path, SYNTHETIC)
    modality = _modality(path, modality or side.modality)
    frames = is_cine(modality) and not tracked
    stored = _told_colours(path, stored, side, frames=frames) if volume is None else stored
    source = Source(
        path=str(path),
        sha256=sha256(path),
        description=side.description or stored.descrip,
        manufacturer=side.manufacturer,
        simulated="SIMULATED" in stored.descrip or side.simulated,
        synthetic=made,
    )
    if not np.isfinite(stored.data).all():
        raise UnreadableError(path, "holds NaN or infinite values; clean it before use")
    if frames:
        image = _cine(path, stored, source, modality)
    else:
        image = _volume(path, stored, source, modality, side)
        image.frame_of_reference = (
            frame_of_reference or side.frame_of_reference or f"file:{source.sha256[:16]}"
        )
    image.role = role or side.role or "unknown"
    image.role_confidence = 1.0 if image.role != "unknown" and image.kind == "volume" else 0.0
    image.traits |= side.acquired()
    return image


def _chosen(path: Path, stored: Stored, volume: int) -> Stored:
    """One volume of a file of several. A fifth axis holds vectors, which are no volumes."""
    if stored.colour or stored.data.ndim != 4:
        raise UnreadableError(path, f"is no 4D file, and volume {volume} of it is asked for")
    if volume >= stored.data.shape[3]:
        raise UnreadableError(path, f"holds {stored.data.shape[3]} volumes, from 0 on; there is no {volume}")
    return replace(stored, data=stored.data[..., volume])


def _told_colours(path: Path, stored: Stored, side: Sidecar, *, frames: bool) -> Stored:
    """Bytes with an axis of three or four: colours where the sidecar says so, frames or slices where header
    or sidecar do. Raises UnreadableError where neither does, as nothing in the numbers tells.

    frames: of a cine, else slices of a volume.
    """
    if not _may_be_colours(stored, frames=frames):
        return stored
    kind = str(side.as_json().get("PhotometricInterpretation", "")).upper()
    if kind == "RGB":
        return replace(stored, data=with_colours(path, stored.data), colour=True)
    timed = frames and (stored.last == "time" or "frame_ms" in side.model_fields_set)
    spaced = not frames and (stored.last == "space" or any(z != 1 for z in stored.zooms))
    if timed or spaced or kind.startswith("MONOCHROME"):
        return stored
    what = "frames in time" if frames else "slices"
    raise UnreadableError(
        path,
        f"has the shape {stored.data.shape}: {what} or colours, nothing says which; add a JSON "
        'sidecar with "PhotometricInterpretation": "RGB" (last axis) or "MONOCHROME2", or store RGB24',
    )


def _may_be_colours(stored: Stored, *, frames: bool) -> bool:
    """Whether an axis of bytes has the length of colours, and nothing in the shape speaks against it. A
    fourth channel says how opaque a pixel is: the same everywhere."""
    data = stored.data
    shape = data.shape
    if stored.colour or len(shape) < 3 or not (data.dtype == np.uint8 or (frames and _as_bytes(data))):
        return False
    if len(shape) == 3:
        first = shape[0] in (3, 4) and min(shape[1:]) >= SHORTEST_PICTURE
    elif frames and len(shape) == 4 and shape[2] == 1:
        first = False
    else:
        return False  # volumes in time, which are refused
    opaque = shape[-1] == 4 and bool((data[..., 3] == 255).all())
    return first or shape[-1] == 3 or opaque


def _as_bytes(data: np.ndarray) -> bool:
    """Whether a picture's numbers are bytes that were stored in a wider type."""
    small = min(data.shape[:2]) < SHORTEST_PICTURE or data.shape[-1] != 3
    return not small and bool(((data >= 0) & (data <= 255) & (data == np.rint(data))).all())


def _volume(path: Path, stored: Stored, source: Source, modality: str, side: Sidecar) -> Image:
    data = _three_axes(path, stored)
    if stored.affine is None:
        raise UnreadableError(path, "has no orientation (sform and qform are both unset); set one before use")
    data, told = _quantity(path, data.astype(np.float32, copy=False), modality, side)
    return Image(
        modality,
        data,
        source,
        affine=stored.affine,
        geometry=Geometry("exact"),
        traits=told,
        warnings=(stored.note,) if stored.note else (),
    )


def _modality(path: Path, said: str) -> str:
    """The code of the modality that a user or a sidecar states."""
    code = stated(said)
    if not code:
        raise UnreadableError(
            path,
            "its modality is stated nowhere; write a file of its name that ends in .json beside it, with "
            f'{{"Modality": "…"}}, one of {", ".join(MODALITIES)}, or name its modality where you give it',
        )
    if code not in MODALITIES:
        raise UnreadableError(path, unknown(code))
    return code


def _three_axes(path: Path, stored: Stored) -> np.ndarray:
    """(I, J, K) as stored: an axis of space stays, whatever its length, as the affine speaks of it."""
    shape = stored.data.shape
    if stored.colour:
        raise UnreadableError(path, f"holds colours {shape}, and is no ultrasound; give the grey values")
    if len(shape) > 3 and max(shape[3:]) > 1:
        raise UnreadableError(path, f"is 4D {shape}; split it, or name each volume in a manifest: {FOUR_D}")
    if len(shape) < 2:
        raise UnreadableError(path, f"has shape {shape}, not a volume")
    return stored.data.reshape((*shape, 1)[:3])


def _quantity(
    path: Path, data: np.ndarray, modality: str, side: Sidecar
) -> tuple[np.ndarray, dict[str, tuple[str, float]]]:
    """Values in the modality's unit, and what the sidecar says of them."""
    if modality_of(modality).values != "uptake":
        return data, {}
    try:
        uptake = uptake_of(header_of_sidecar(side.as_json()))
    except NoSuv as e:
        raise UnreadableError(path, f'{e}; give its JSON sidecar "Units": "SUVbw", or what is missing') from e
    return data * np.float32(uptake.factor), said(uptake)


def _cine(path: Path, stored: Stored, source: Source, modality: str) -> Image:
    """(W, H), (W, H, T) or (W, H, 1, T), each with a last axis of colours where it has them → (T, H, W[, 3])
    uint8; pixel size from the header's zooms."""
    channels = stored.data.shape[-1:] if stored.colour else ()
    shape = stored.data.shape[: stored.data.ndim - len(channels)]
    if len(shape) > 3 and min(shape[2], max(shape[3:])) > 1:
        raise UnreadableError(
            path, f"holds volumes in time {shape}; one volume (tracked) or one cine a file is read"
        )
    frames = stored.data.reshape(*shape[:2], -1, *channels)
    data = np.ascontiguousarray(np.moveaxis(frames, (2, 1), (0, 1)))
    if data.dtype != np.uint8:
        low = float(data.min())
        high = float(data.max())
        data = np.round((data - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    mm = (abs(stored.zooms[0]), abs(stored.zooms[1]))
    known = min(mm) > 0 and mm != (1.0, 1.0)
    regions = (Region((0, 0, data.shape[2] - 1, data.shape[1] - 1), mm),) if known else ()
    notes = (stored.note,) if stored.note else ()
    return Image(modality, data, source, regions=regions, frame_ms=stored.frame_ms or None, warnings=notes)
