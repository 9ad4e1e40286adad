"""A lesion seen twice: found on the network's grid, outlined on its own image's grid.

Coarse to fine without weights of its own. The network says where a lesion is and about how far it reaches;
where its edge runs is asked of the original series, at their own spacing. In a volume each voxel's odds are
half the network's and those of a linear discriminant between the lesion's middle and the organ around it,
over all series of the frame of reference (several phases tell a lesion from the liver better than one). In
ultrasound, where single pixels are speckle, they are the network's alone. Training weighs lesions more than
the organ, which makes a network's outlines too large: the odds are brought back by that ratio first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.special import logit

from ..case import Image
from ..models.features import DenseOutput
from ..preprocess.tensors import CineInput, VolumeInput
from ..task import Task

FINE_MM = 1.5  # pixels of a series that are larger are divided, so that an outline crosses them
MOST_VOXELS = 1_500_000  # of one crop; a larger lesion is outlined in steps of several voxels
MARGIN_MM = 14.0  # what is cut out around a candidate: enough of the organ to compare with
REACH_MM = 4.0  # an edge lies at most so far outside what the network called a candidate
RING_MM = (2.0, 12.0)  # the organ around a lesion begins and ends so far from its outline
SMOOTH_MM = 1.0
NETWORK_SHARE = 0.5  # of its log odds, beside those of the image
ROUNDS = 3  # the outline gives the statistics that the next outline is drawn from
SHRINK = 0.3  # of the covariance towards a multiple of the identity: some lesions have twenty voxels
MOST_ODDS = 4.0  # of the discriminant
SUREST_LEFT = 1.5  # log odds that the surest voxel keeps, however much was overstated
OTHER = -6.0  # log odds inside another candidate: two neighbours stay two
CORE = float(logit(0.7))
LEAST_RING = 30
LEAST_CORE = 8


@dataclass(frozen=True)
class LesionMask:
    """Of a lesion in a volume: mask (i, j, k) bool on a fine grid of its own, and ``to_place`` (4, 4) from
    its index to RAS+ mm."""

    mask: Bool[np.ndarray, "i j k"]
    to_place: Float[np.ndarray, "4 4"]

    @property
    def step_mm(self) -> Float[np.ndarray, 3]:
        """The size of one voxel in mm."""
        return np.linalg.norm(self.to_place[:3, :3], axis=0)

    def on_grid(
        self, affine: Float[np.ndarray, "4 4"], shape: tuple[int, ...]
    ) -> tuple[tuple[slice, slice, slice], np.ndarray] | None:
        """The part of a grid (voxel → RAS+ mm, and its shape) that the lesion reaches, and there bool: which
        of its voxels lie in it. None where it lies elsewhere."""
        ends = np.array(np.meshgrid(*[[-1, n] for n in self.mask.shape], indexing="ij")).reshape(3, -1)
        voxels = np.linalg.inv(affine) @ self.to_place @ np.vstack([ends, np.ones(ends.shape[1])])
        low = np.clip(np.floor(voxels[:3].min(1)), 0, np.array(shape)).astype(int)
        high = np.clip(np.ceil(voxels[:3].max(1)) + 1, 0, np.array(shape)).astype(int)
        if (high <= low).any():
            return None
        x, y, z = (slice(a, b) for a, b in zip(low, high, strict=True))
        index = np.mgrid[x, y, z].reshape(3, -1)
        at = (np.linalg.inv(self.to_place) @ affine @ np.vstack([index, np.ones(index.shape[1])]))[:3]
        inside = ndimage.map_coordinates(self.mask.astype(np.float32), at, order=1, cval=0.0) > 0.5
        return (x, y, z), inside.reshape([b - a for a, b in zip(low, high, strict=True)])


@dataclass(frozen=True)
class OutlinedFrame:
    """A lesion in one frame of a cine: mask (H, W) bool on the image's own pixels."""

    frame: int  # in the image
    mask: Bool[np.ndarray, "h w"]


def outline_in_volume(output: DenseOutput, number: int, images: list[Image], task: Task) -> LesionMask | None:
    """Candidate ``number`` of a volume on the grid of its first series; None where that has no place or shows
    nothing of it. ``images``: all of the case."""
    source = output.source
    assert isinstance(source, VolumeInput)
    members = [images[i] for i in source.images if i >= 0]
    first = members[0]
    if first.affine is None or first.pixels.ndim != 3:
        return None
    grid = _grid_around(first, output, number)
    if grid is None:
        return None
    to_network = np.linalg.inv(source.affine) @ grid.affine
    seen = _Candidate.of(
        output, number, to_network[:3, :3], to_network[:3, 3], grid.shape, grid.step_mm, task
    )
    series = [m for m in members if m.affine is not None and m.pixels.ndim == 3]
    mask = seen.outlined(_series_on(series, grid))
    return LesionMask(mask, grid.affine) if mask.any() else None


def outline_in_frame(output: DenseOutput, number: int, image: Image, task: Task) -> OutlinedFrame | None:
    """Candidate ``number`` of a frame on the pixels of the cine, inside its calibrated region where it has
    one; None where nothing of it is left."""
    source = output.source
    assert isinstance(source, CineInput)
    matrix = np.eye(2) / source.scale
    offset = -np.array(source.offset[::-1]) / source.scale
    h, w = image.pixels.shape[1:3]
    seen = _Candidate.of(output, number, matrix, offset, (h, w), np.ones(2), task)
    mask = seen.first
    if image.region_2d is not None:
        x0, y0, x1, y1 = image.region_2d.box
        inside = np.zeros((h, w), bool)
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
        mask = mask & inside
    return OutlinedFrame(source.frames[output.frame], mask) if mask.any() else None


@dataclass(frozen=True)
class _Grid:
    affine: np.ndarray
    shape: tuple[int, ...]

    @property
    def step_mm(self) -> np.ndarray:
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def _grid_around(image: Image, output: DenseOutput, number: int) -> _Grid | None:
    """The image's grid around a candidate, pixels divided until they are at most FINE_MM."""
    assert image.affine is not None
    assert isinstance(output.source, VolumeInput)
    box = output.components[number][1]
    corners = np.stack(np.meshgrid(*[[s.start - 0.5, s.stop - 0.5] for s in box], indexing="ij"), -1)
    to_image = np.linalg.inv(image.affine) @ output.source.affine
    at = corners.reshape(-1, 3) @ to_image[:3, :3].T + to_image[:3, 3]
    mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    margin = np.ceil(MARGIN_MM / mm)
    low = np.maximum(np.floor(at.min(0)) - margin, 0)
    high = np.minimum(np.ceil(at.max(0)) + margin + 1, image.pixels.shape)
    size = high - low
    if (size < (2, 2, 1)).any():
        return None
    parts = np.array([*np.maximum(1, np.ceil(mm[:2] / FINE_MM)), 1.0])
    parts[:2] *= min(1.0, float(np.sqrt(MOST_VOXELS / np.prod(size * parts))))
    shape = tuple(int(n) for n in np.maximum(1, np.round(size * parts)))
    scale = np.diag([*(size / np.array(shape)), 1.0])
    scale[:3, 3] = low - 0.5 + 0.5 * np.diag(scale)[:3]
    return _Grid(image.affine @ scale, shape)


def _series_on(series: list[Image], grid: _Grid) -> Float[np.ndarray, "c i j k"]:
    """The series that reach over most of a grid, smoothed a little, each in deviations from its mean."""
    sigma = [SMOOTH_MM / grid.step_mm[0], SMOOTH_MM / grid.step_mm[1], 0]
    found = []
    for image in series:
        assert image.affine is not None
        m = np.linalg.inv(image.affine) @ grid.affine
        values = ndimage.affine_transform(
            image.pixels.astype(np.float32, copy=False), m[:3, :3], m[:3, 3], grid.shape, order=1, cval=np.nan
        )
        inside = ~np.isnan(values)
        spread = float(values[inside].std()) if inside.mean() > 0.5 else 0.0
        if spread > 0:
            mean = float(values[inside].mean())
            smooth = ndimage.gaussian_filter(np.where(inside, values, mean), sigma)
            found.append((smooth - mean) / spread)
    return np.array(found).reshape(len(found), *grid.shape)


@dataclass(frozen=True)
class _Candidate:
    """What the network says of one candidate on a fine grid (*s): log odds that are not overstated, where its
    own component lies, and where the organ does."""

    odds: np.ndarray
    own: np.ndarray
    organ: np.ndarray
    step_mm: np.ndarray

    @classmethod
    def of(
        cls,
        output: DenseOutput,
        number: int,
        matrix: np.ndarray,
        offset: np.ndarray,
        shape: tuple[int, ...],
        step_mm: np.ndarray,
        task: Task,
    ) -> _Candidate:
        """Component ``number``; ``matrix`` and ``offset`` bring an index of the fine grid to the
        network's."""
        mask, box = output.components[number]
        odds = logit(np.clip(output.lesion_probability.astype(np.float64), 1e-4, 1 - 1e-4))
        for n, (other, there) in enumerate(output.components):
            if n != number:
                odds[there][other] = OTHER
        here = np.zeros(odds.shape, np.float32)
        here[box] = mask
        grown = ndimage.binary_dilation(here).astype(np.float32)

        def fine(values: np.ndarray, outside: float, order: int = 1) -> np.ndarray:
            return ndimage.affine_transform(values, matrix, offset, shape, order=order, cval=outside)

        own = fine(grown, 0.0) > 0.5
        net = fine(odds, -9.0)
        top = float(net[own].max()) if own.any() else 0.0
        net -= min(task.overstated, max(0.0, top - SUREST_LEFT))
        organ = fine((output.label == task.organ_index).astype(np.uint8), 0, order=0) > 0
        return cls(net, own, organ, step_mm)

    @cached_property
    def first(self) -> np.ndarray:
        """What the network alone says: the largest part of its component with odds above one."""
        return _largest(self.own & (self.odds > 0), self.own)

    def outlined(self, series: np.ndarray) -> np.ndarray:
        """With what the image says; the network's word alone where there is too little to compare."""
        now = self.first
        reach = ndimage.distance_transform_edt(~self.own, sampling=self.step_mm) <= REACH_MM
        for n in range(ROUNDS if len(series) else 0):
            core = now if n else self._core(now)
            ring = self._ring(now)
            if core.sum() < LEAST_CORE or ring.sum() < LEAST_RING:
                break
            odds = NETWORK_SHARE * self.odds + _discriminant(series, core, ring)
            drawn = _largest(reach & (odds > 0), core)
            if not drawn.any():
                break
            now = drawn
        return now

    def _core(self, now: np.ndarray) -> np.ndarray:
        """The surest voxels: those above CORE, or the surest two in five where there are few of these."""
        if not now.any():
            return now
        return self.own & (self.odds >= min(CORE, float(np.percentile(self.odds[now], 60))))

    def _ring(self, now: np.ndarray) -> np.ndarray:
        """The organ around an outline; all that lies there where little of it is organ."""
        away = ndimage.distance_transform_edt(~now, sampling=self.step_mm)
        ring = (away > RING_MM[0]) & (away < RING_MM[1]) & (self.odds < -1)
        inside = ring & self.organ
        return inside if inside.sum() >= LEAST_RING else ring


def _discriminant(series: np.ndarray, core: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """(*s) log odds of the core's values against the ring's, of two normal distributions with one
    covariance (Fisher 1936, 10.1111/j.1469-1809.1936.tb02137.x), bounded."""
    c = len(series)
    a, b = series[:, core], series[:, ring]
    spread = (np.cov(a).reshape(c, c) + np.cov(b).reshape(c, c)) / 2
    spread += (SHRINK * np.trace(spread) / c + 1e-4) * np.eye(c)
    weight = np.linalg.solve(spread, a.mean(1) - b.mean(1))
    score = np.tensordot(weight, series, 1) - weight @ (a.mean(1) + b.mean(1)) / 2
    return np.clip(score, -MOST_ODDS, MOST_ODDS)


def _largest(mask: np.ndarray, core: np.ndarray) -> np.ndarray:
    """The connected part of a mask that holds most of the core, without holes in its slices; empty where none
    does."""
    labels, n = ndimage.label(mask)
    sizes = np.bincount(labels[core], minlength=n + 1)
    sizes[0] = 0
    if not sizes.any():
        return np.zeros(mask.shape, bool)
    part = labels == int(sizes.argmax())
    if part.ndim == 2:
        return ndimage.binary_fill_holes(part)
    return np.stack([ndimage.binary_fill_holes(s) for s in np.moveaxis(part, 2, 0)], 2)
