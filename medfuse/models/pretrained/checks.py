"""What is looked at before an encoder is trusted: tensors, width, the known vector, axes and unit."""

from __future__ import annotations

import resource
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, Field

from ...case import Image
from ...errors import UserError
from ...modalities import is_cine
from .contract import NAME, OPPOSITE, PLANES
from .encoder import Encoder
from .inputs import brighter, lay_out, unit_of
from .probe import probe

LEAST_COSINE = 0.999
SHIFT = 1  # voxels or pixels of air that the two crops of one scan differ by
SAME_SCAN = 1e-3  # share by which the tokens of one scan may differ between two machines
SPACING_OFF = 1.25
MOVED = 1e-4  # share of a vector's length: less than this is no change
AXES = ("left and right", "front and back", "head and feet")
CINE_AXES = ("time", "rows", "columns")


class EncoderCheck(BaseModel):
    """What `medfuse encoder add` and `check` print.

    id: its name. loader: of the registry. hash: of weights and encoder.yaml. parameters: numbers that were
    learned. width: numbers a token. tensors: loaded. missing, left_over: names without a partner.
    known_vector: cosine with the recorded one, null where none is recorded. axes_seen: whether flips of
    left and right, front and back, head and feet (of frames: time, rows, columns) move the vector more than
    two crops of one scan do. intensity_seen: whether 100 HU more (of other values a tenth of their range)
    move it. seconds: of one series. memory_mb: most that was held. licence: of the weights.
    """

    id: str
    loader: str
    hash: str
    parameters: int
    width: int
    tensors: int
    missing: list[str] = Field(default_factory=list)
    left_over: list[str] = Field(default_factory=list)
    known_vector: float | None = None
    axes_seen: list[bool]
    intensity_seen: bool
    seconds: float
    memory_mb: int
    licence: str


def check_encoder(encoder: Encoder) -> EncoderCheck:
    """Every check, on a made-up scan. Raises UserError that names the tensor, the axis or the unit of the
    first that fails."""
    file = encoder.file
    place = encoder.folder / NAME
    scan = probe(file.takes.modality)
    started = time.perf_counter()
    base = _vector(encoder, scan)
    seconds = time.perf_counter() - started
    if not np.isfinite(base).all():
        raise UserError(
            f"{place}: the output holds values that are not finite; the weights or intensity are wrong"
        )
    cosine = known_vector(encoder)
    if cosine is not None and cosine < LEAST_COSINE:
        raise UserError(
            f"{encoder.folder / file.check}: the recorded vector is not what the encoder gives here (cosine "
            f"{cosine:.4f}); record it anew only if weights or contract were meant to change"
        )
    seen = axes_seen(encoder, scan, base)
    names = CINE_AXES if is_cine(file.takes.modality) else AXES
    for name, saw, wanted in zip(names, seen, _tellable(encoder), strict=True):
        if wanted and not saw:
            raise UserError(
                f"{place}: orientation is not seen: a flip of {name} moves the vector no more than two "
                "crops of one "
                "scan do; correct geometry.orientation, or state in gives.axes that it was trained on "
                "mirror images"
            )
    _tell_apart(encoder, scan, base)
    moved = _apart(base, _vector(encoder, brighter(scan, file.intensity.kind)))
    if moved <= MOVED:
        raise UserError(
            f"{place}: intensity is not seen: brighter values (100 HU, or a tenth of the range of "
            f"{unit_of(file.takes.modality)}) do not move the vector; correct intensity.windows"
        )
    return EncoderCheck(
        id=file.id,
        loader=file.loader,
        hash=encoder.hash,
        parameters=encoder.parameters,
        width=file.gives.width,
        tensors=encoder.matching.tensors,
        known_vector=cosine,
        axes_seen=seen,
        intensity_seen=True,
        seconds=round(seconds, 2),
        memory_mb=_memory_mb(encoder.device),
        licence=file.licence or "not stated",
    )


def _tell_apart(encoder: Encoder, scan: Image, base: np.ndarray) -> None:
    """Raise UserError where a wrong voxel size is not seen, or where the recorded scan shows that the
    contract was another one: the axis or the spacing that explains it is named."""
    place = encoder.folder / NAME
    wrong = _wrong_contracts(encoder)
    spacing = [other for name, other in wrong.items() if name.startswith("spacing")]
    if spacing and _apart(base, _vector(spacing[0], scan)) <= MOVED:
        raise UserError(
            f"{place}: spacing is not seen: voxels {SPACING_OFF:g} times as large do not move the vector; "
            "correct geometry.spacing_mm, or write null where the encoder takes the image's own"
        )
    recorded = _recorded(encoder, "scan")
    if recorded is None:
        return
    if recorded.shape != base.shape:
        raise UserError(f"{encoder.folder / encoder.file.check}: was recorded with other tokens; record anew")
    off = _apart(recorded, base)
    if off <= SAME_SCAN:
        return
    apart = {name: _apart(recorded, _vector(other, scan)) for name, other in wrong.items()}
    nearest = min(apart, key=lambda name: apart[name], default="")
    at = apart.get(nearest, off)
    told = f"it is that of {nearest}" if at < off / 2 else "no flipped axis or other spacing explains it"
    raise UserError(
        f"{place}: the recorded scan is not what this contract gives ({told}); correct geometry, or record "
        "it anew if the contract was meant to change"
    )


def _wrong_contracts(encoder: Encoder) -> dict[str, Encoder]:
    """The same encoder with each axis of a volume the wrong way round, and with another voxel size."""
    file = encoder.file
    g = file.geometry
    found: dict[str, Encoder] = {}

    def changed(**fields: object) -> Encoder:
        return replace(encoder, file=file.model_copy(update={"geometry": g.model_copy(update=fields)}))

    for axis, letter in enumerate(g.orientation or ""):
        letters = (g.orientation or "")[:axis] + OPPOSITE[letter] + (g.orientation or "")[axis + 1 :]
        found[f"orientation {letters}"] = changed(orientation=letters)
    if g.spacing_mm is not None:
        a, b, c = (round(v * SPACING_OFF, 3) for v in g.spacing_mm)
        found[f"spacing_mm [{a:g}, {b:g}, {c:g}]"] = changed(spacing_mm=(a, b, c))
    return found


def _tellable(encoder: Encoder) -> tuple[bool, ...]:
    """Which flips the encoder must tell: those that its contract says, but the order of slices or frames,
    over which tokens are a mean."""
    g = encoder.file.geometry
    wanted = list(encoder.file.gives.axes)
    if g.dims == 2:
        wanted[0 if g.orientation is None else _axis_of(g.orientation[0])] = False
    return tuple(wanted)


def _axis_of(letter: str) -> int:
    return {"sagittal": 0, "coronal": 1, "axial": 2}[next(p for p, both in PLANES.items() if letter in both)]


def axes_seen(encoder: Encoder, scan: Image, base: np.ndarray) -> list[bool]:
    """Whether each axis' flip moves the vector more than two crops of one scan do."""
    two = [_vector(encoder, _crop(scan, at)) for at in (slice(SHIFT, None), slice(None, -SHIFT))]
    limit = max(_apart(*two), MOVED)
    return [
        _apart(base, _vector(encoder, replace(scan, pixels=np.ascontiguousarray(np.flip(scan.pixels, axis)))))
        > limit
        for axis in range(3)
    ]


def _crop(scan: Image, at: slice) -> Image:
    """A scan without its first or last voxels in the plane: air beside the body, which stays whole."""
    cut = (slice(None), at, at) if scan.affine is None else (at, at, slice(None))
    return replace(scan, pixels=np.ascontiguousarray(scan.pixels[cut]))


def _vector(encoder: Encoder, scan: Image) -> np.ndarray:
    """All tokens of a scan one after the other, the mean first; the scan stands for every channel."""
    n = encoder.file.intensity.channels if encoder.file.takes.series == "channels" else 1
    return encoder.tokens([scan] * n).reshape(-1)


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Distance as a share of the length of ``a``."""
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(a)), 1e-12))


def _memory_mb(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) >> 20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


def record(encoder: Encoder) -> Path:
    """Write the file of the known answer: the first input of the made-up scan and its mean vector, and all
    tokens of the scan as the contract prepares it."""
    scan = probe(encoder.file.takes.modality)
    n = encoder.file.intensity.channels if encoder.file.takes.series == "channels" else 1
    laid = lay_out([scan] * n, encoder.file)
    values = next(laid.pieces()).values.astype(np.float16)
    vector = _mean(encoder, values)
    path = encoder.folder / encoder.file.check
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, input=values, vector=vector, scan=_vector(encoder, scan))
        part.replace(path)
    except OSError as e:
        raise UserError(f"{path}: cannot be written ({e.strerror}); make the folder writable") from e
    return path


def known_vector(encoder: Encoder) -> float | None:
    """Cosine between the recorded vector and the one that its input gives here; None where none is
    recorded."""
    values = _recorded(encoder, "input")
    vector = _recorded(encoder, "vector")
    if values is None or vector is None:
        return None
    wanted = vector.astype(np.float64)
    found = _mean(encoder, values).astype(np.float64)
    if found.shape != wanted.shape:
        return 0.0
    lengths = float(np.linalg.norm(found)) * float(np.linalg.norm(wanted))
    return float(found @ wanted) / max(lengths, 1e-12)


def _recorded(encoder: Encoder, name: str) -> np.ndarray | None:
    """An array of the file of the known answer; None where there is no file, or it was made without a
    scan."""
    path = encoder.folder / encoder.file.check
    if not encoder.file.check or not path.is_file():
        return None
    try:
        with np.load(path) as kept:
            return None if name == "scan" and name not in kept else kept[name]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        raise UserError(
            f"{path}: is no known answer ({e}); make it with medfuse encoder check --record"
        ) from e


def _mean(encoder: Encoder, values: np.ndarray) -> np.ndarray:
    """The mean over all places of the output of one input (C, *size)."""
    found = encoder.run(values.astype(np.float32)[None])[0]
    width = encoder.file.gives.width
    if found.ndim > 1:
        found = found.mean(0) if found.shape[-1] == width else found.flatten(1).mean(1)
    return found.numpy()
