"""From an original series to what a foreign encoder reads: orientation, spacing, windows, and pieces of one
size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float, Float32, Num
from torch.nn import functional as F

from ...case import Image
from ...errors import UserError
from ...modalities import modality_of
from ...preprocess.irregular import regularise
from ...preprocess.volume import resample
from .contract import EncoderFile, EncoderGeometry, EncoderIntensity


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One input of the network: values (C, *size) float32; start: its first voxel, slice or clip in the
    whole."""

    values: Float32[np.ndarray, ...]
    start: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Laid:
    """A whole series as the encoder wants it: values (C, *whole) float32, and the corners of its pieces. Of
    slices and frames the first axis after C counts them."""

    values: Float32[np.ndarray, ...]
    starts: tuple[tuple[int, ...], ...]
    geometry: EncoderGeometry

    @property
    def extent(self) -> tuple[int, ...]:
        """Over what tokens are pooled: the whole volume, or the number of slices or clips."""
        return self.values.shape[1:] if self.geometry.dims == 3 else (len(self.starts),)

    def pieces(self) -> Iterator[Piece]:
        """Each input of the network, one after the other."""
        g = self.geometry
        for n, start in enumerate(self.starts):
            if g.dims == 3:
                at = tuple(slice(a, a + s) for a, s in zip(start, g.size, strict=True))
                yield Piece(values=self.values[(slice(None), *at)], start=start)
            elif g.dims == 2:
                yield Piece(values=self.values[:, start[0]], start=(n,))
            else:
                frames = np.minimum(start[0] + g.stride * np.arange(g.frames), self.values.shape[1] - 1)
                yield Piece(values=self.values[:, frames], start=(n,))


def lay_out(images: list[Image], file: EncoderFile) -> Laid:
    """The series as the encoder wants it; several are the channels of one input. Raises UserError for a
    series without the place or unit that the contract needs."""
    if file.takes.series == "channels":
        whole = np.concatenate(
            [_values(i, file.geometry, file.intensity, one=True) for i in _one_grid(images)]
        )
    else:
        whole = _values(images[0], file.geometry, file.intensity)
    return _cut(_normal(whole, file.intensity), file)


def _one_grid(images: list[Image]) -> list[Image]:
    first = images[0]
    for image in images[1:]:
        same = (
            image.pixels.shape == first.pixels.shape and image.affine is not None and first.affine is not None
        )
        if not same or not np.allclose(image.affine, first.affine, atol=1e-2):  # type: ignore[arg-type]
            raise UserError(
                f"{image.source.path}: lies on another grid than {first.source.path}; series of one input "
                "must share "
                "theirs"
            )
    return images


def _values(image: Image, g: EncoderGeometry, how: EncoderIntensity, *, one: bool = False) -> np.ndarray:
    """(C, *whole) in the units of ``to``: oriented, resampled, windowed."""
    if g.orientation is None:
        grey = image.grey
        region = image.region_2d
        x0, y0, x1, y1 = region.box if region else (0, 0, grey.shape[2] - 1, grey.shape[1] - 1)
        return _windowed(grey[:, y0 : y1 + 1, x0 : x1 + 1].astype(np.float32), how, one=one)
    oriented, spacing = orient(image, g.orientation)
    values = _windowed(oriented, how, one=one)
    return values if g.spacing_mm is None else _respaced(values, spacing, g.spacing_mm, how.to[0])


def orient(image: Image, letters: str) -> tuple[Float[np.ndarray, "i j k"], tuple[float, float, float]]:
    """Pixels (I, J, K) float32 whose axes point where ``letters`` say, and the voxel size along them in mm.
    A tilted image keeps its tilt, as with the libraries that these encoders were trained with."""
    image = regularise(image)
    if image.affine is None:
        raise UserError(
            f"{image.source.path}: has no place in space; this encoder needs the orientation {letters}"
        )
    now = nib.orientations.io_orientation(image.affine)
    change = nib.orientations.ornt_transform(now, nib.orientations.axcodes2ornt(letters))
    turned = nib.orientations.apply_orientation(image.pixels.astype(np.float32, copy=False), change)
    size = np.linalg.norm(image.affine[:3, :3], axis=0)
    order = np.argsort(change[:, 0])
    a, b, c = (float(size[i]) for i in order)
    return turned, (a, b, c)


def _windowed(values: Num[np.ndarray, "i j k"], how: EncoderIntensity, *, one: bool) -> np.ndarray:
    """(C, I, J, K): each window brought to ``to``, clipped."""
    windows = how.windows if not one else how.windows[:1]
    out = []
    for low, high in windows:
        if how.kind == "percentiles":
            low, high = (float(v) for v in np.percentile(values, (low, high)))
        share = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
        out.append(how.to[0] + share * (how.to[1] - how.to[0]))
    if not one and len(out) < how.channels:
        out = out * how.channels
    return np.stack(out).astype(np.float32)


def _respaced(
    values: np.ndarray, now: tuple[float, ...], wanted: tuple[float, ...], fill: float
) -> np.ndarray:
    """(C, *whole) at another voxel size."""
    if np.allclose(now, wanted, rtol=1e-3):
        return values
    i, j, k = (max(1, round(n * a / b)) for n, a, b in zip(values.shape[1:], now, wanted, strict=True))
    source = np.diag([*now, 1.0])
    target = np.diag([*wanted, 1.0])
    out = np.stack([resample(c, source, target, (i, j, k), order=1, fill=np.nan) for c in values])
    return np.where(np.isnan(out), fill, out).astype(np.float32)


def _normal(values: np.ndarray, how: EncoderIntensity) -> np.ndarray:
    """Mean subtracted, divided by the deviation, channel by channel."""
    if how.mean is None and how.std is None:
        return values
    shape = (-1, *[1] * (values.ndim - 1))
    mean = np.asarray(how.mean or (0.0,), np.float32).reshape(shape)
    return (values - mean) / np.asarray(how.std or (1.0,), np.float32).reshape(shape)


def _cut(values: np.ndarray, file: EncoderFile) -> Laid:
    g = file.geometry
    empty = float(
        _normal(np.full((file.intensity.channels, 1), file.intensity.to[0], np.float32), file.intensity).min()
    )
    if g.dims == 3:
        values = _body(values, empty) if g.foreground else values
        if g.fit == "resize":
            values = _scaled(values, g.size)
        values = _padded(values, g.size, empty)
        return Laid(values=np.ascontiguousarray(values), starts=_corners(values.shape[1:], g), geometry=g)
    values = _flat_size(values, g, empty)
    return Laid(values=values, starts=_chosen(values.shape[1], g), geometry=g)


def _body(values: np.ndarray, empty: float) -> np.ndarray:
    """Without the border in which nothing is."""
    full = np.asarray((values > empty).any(0))
    if not full.any():
        return values
    keep = []
    for axis in range(3):
        along = np.flatnonzero(np.moveaxis(full, axis, 0).reshape(full.shape[axis], -1).any(1))
        keep.append(slice(int(along[0]), int(along[-1]) + 1))
    return values[(slice(None), *keep)]


def _scaled(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return F.interpolate(torch.from_numpy(values)[None], size, mode="trilinear")[0].numpy()


def _padded(values: np.ndarray, size: tuple[int, ...], empty: float) -> np.ndarray:
    """At least ``size``, the image in the middle."""
    lack = [max(0, s - n) for s, n in zip(size, values.shape[1:], strict=True)]
    pad = [(0, 0), *((n // 2, n - n // 2) for n in lack)]
    return np.pad(values, pad, constant_values=empty) if any(lack) else values


def _corners(whole: tuple[int, ...], g: EncoderGeometry) -> tuple[tuple[int, ...], ...]:
    """Of the pieces of a volume: the middle one, or windows side by side, the last at the end."""
    if g.fit != "sliding_window":
        return (tuple((n - s) // 2 for n, s in zip(whole, g.size, strict=True)),)
    along = []
    for n, s in zip(whole, g.size, strict=True):
        step = max(1, int(s * (1 - g.overlap)))
        along.append(sorted({*range(0, n - s, step), n - s}))
    return tuple(product(*along))


def _flat_size(values: np.ndarray, g: EncoderGeometry, empty: float) -> np.ndarray:
    """Slices or frames (C, N, *size): scaled so that they fit inside (aspect kept) and padded; resize
    fills."""
    x = torch.from_numpy(np.ascontiguousarray(values)).transpose(0, 1)
    rows, columns = g.size
    if g.fit == "resize":
        return F.interpolate(x, (rows, columns), mode="bilinear", antialias=True).transpose(0, 1).numpy()
    share = min(rows / x.shape[2], columns / x.shape[3])
    inner = (max(1, round(x.shape[2] * share)), max(1, round(x.shape[3] * share)))
    small = F.interpolate(x, inner, mode="bilinear", antialias=True)
    top = rows - inner[0]
    left = columns - inner[1]
    pad = (left // 2, left - left // 2, top // 2, top - top // 2)
    return F.pad(small, pad, value=empty).transpose(0, 1).numpy()


def _chosen(count: int, g: EncoderGeometry) -> tuple[tuple[int, ...], ...]:
    """Which slices enter, or where clips begin."""
    if g.dims == "2+t":
        last = max(0, count - g.frames * g.stride)
        n = min(g.clips, 1 + last // (g.frames * g.stride))
        return tuple((int(v),) for v in np.unique(np.linspace(0, last, n).round().astype(int)))
    if g.choose == "all" or count <= g.slices:
        return tuple((v,) for v in range(count))
    if g.choose == "middle":
        first = (count - g.slices) // 2
        return tuple((v,) for v in range(first, first + g.slices))
    return tuple((int(v),) for v in np.linspace(0, count - 1, g.slices).round().astype(int))


def brighter(image: Image, kind: str) -> Image:
    """The same image 100 HU higher; of values without a unit a tenth of their range higher, or their square
    root."""
    from dataclasses import replace

    p = image.pixels
    if kind == "hu":
        return replace(image, pixels=p + np.float32(100))
    if kind == "byte":
        return replace(image, pixels=np.clip(p.astype(np.int16) + 40, 0, 255).astype(np.uint8))
    low, high = float(p.min()), float(p.max())
    if kind == "unit":
        return replace(image, pixels=p + np.float32((high - low) / 10))
    return replace(
        image, pixels=(low + np.sqrt((p - low) / max(high - low, 1e-6)) * (high - low)).astype(np.float32)
    )


def unit_of(code: str) -> str:
    """The unit of a modality's values, in words."""
    unit = modality_of(code).unit
    return unit.name if unit else "its own values"
