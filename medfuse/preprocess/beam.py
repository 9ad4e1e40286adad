"""What lies before and behind each pixel of an ultrasound frame along its scan line.

A stone throws a shadow and a cyst brightens what is behind it: the sign lies not in the focus but beyond it,
in the direction of the beam. Where the beams run is read from the outline of what the clip shows: the
straight sides of a sector meet where its beams come from; sides that do not meet are those of a linear probe,
whose beams run down the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import gaussian_filter1d, map_coordinates
from scipy.spatial import ConvexHull, QhullError

from ..task import BEAM_CHANNELS

SEEN = 0.03  # of the range of values: what is darker in every frame was not scanned
LEAST_SEEN = 0.05  # of a frame: less is no outline
LEAST_SIDE = 0.15  # of the rows: a side of a sector is at least so long
LEAST_SLOPE = 0.1  # the two sides together, pixels across a pixel down
REACH = 0.25  # of the depth: how far behind a focus its shadow is looked for
GAP = 2  # samples left out beside a pixel, which are the focus itself
LINES_SMOOTHED = 1.0  # scan lines: speckle


@dataclass(frozen=True, kw_only=True)
class Beams:
    """Scan lines of square frames of ``size`` pixels. apex: (row, column) where they meet, None where they
    run down the image; across: first and last angle (radians, 0 is down), or column; along: first and last
    distance from the apex, or row, in pixels."""

    size: int
    apex: tuple[float, float] | None
    across: tuple[float, float]
    along: tuple[float, float]

    def polar(self) -> Float[np.ndarray, "2 l d"]:
        """(row, column) of each sample: ``size`` lines with as many samples along each."""
        lines, depth = np.meshgrid(
            np.linspace(*self.across, self.size), np.linspace(*self.along, self.size), indexing="ij"
        )
        if self.apex is None:
            return np.stack([depth, lines])
        return np.stack([self.apex[0] + depth * np.cos(lines), self.apex[1] + depth * np.sin(lines)])

    def of_pixels(self) -> Float[np.ndarray, "2 s s"]:
        """(line, sample) of each pixel, beyond 0 and ``size`` - 1 outside of the sector."""
        row, column = np.mgrid[: self.size, : self.size].astype(float)
        if self.apex is None:
            line = column
            depth = row
        else:
            down = row - self.apex[0]
            aside = column - self.apex[1]
            line = np.arctan2(aside, down)
            depth = np.hypot(aside, down)
        ends = zip((line, depth), (self.across, self.along), strict=True)
        return np.stack([(x - a) / max(b - a, 1e-6) * (self.size - 1) for x, (a, b) in ends])


def beams_of(seen: Bool[np.ndarray, "s s"]) -> Beams | None:
    """The scan lines of a clip from the pixels that any frame shows; None where these are too few."""
    size = len(seen)
    if seen.mean() < LEAST_SEEN:
        return None
    inside = np.argwhere(seen)
    try:
        hull = inside[ConvexHull(inside).vertices].astype(float)
    except QhullError:  # all in one line
        return None
    rows = np.arange(inside[:, 0].min(), inside[:, 0].max() + 1)
    sides = [_side(hull, rows, sign) for sign in (-1, 1)]
    columns = (float(inside[:, 1].min()), float(inside[:, 1].max()))
    straight_down = Beams(size=size, apex=None, across=columns, along=(float(rows[0]), float(rows[-1])))
    if sides[0] is None or sides[1] is None or sides[1][0] - sides[0][0] < LEAST_SLOPE:
        return straight_down
    left, left_at = sides[0]
    right, right_at = sides[1]
    top = (left_at - right_at) / (right - left)
    apex = (float(top), float(left * top + left_at))
    if apex[0] > rows[0] + 1:  # beams come from above what is seen
        return straight_down
    distance = np.hypot(*(inside - apex).T)
    return Beams(
        size=size,
        apex=apex,
        across=(float(np.arctan(left)), float(np.arctan(right))),
        along=(float(distance.min()), float(distance.max())),
    )


def _side(hull: np.ndarray, rows: np.ndarray, sign: int) -> tuple[float, float] | None:
    """Slope and column at row 0 of the left (-1) or right (1) side of an outline, from its top to where it is
    widest; None where that is no side of a sector."""
    profile = np.array([_reach(hull, r, sign) for r in rows])
    widest = int(np.flatnonzero(profile >= profile.max() - 1)[0])
    if widest < LEAST_SIDE * len(rows):
        return None
    slope, at = np.polyfit(rows[: widest + 1], sign * profile[: widest + 1], 1)
    return float(slope), float(at)


def _reach(hull: np.ndarray, row: float, sign: int) -> float:
    """How far (times ``sign``) a convex outline (N, 2) reaches in a row."""
    after = np.roll(hull, -1, 0)
    ends = np.sort([hull[:, 0], after[:, 0]], axis=0)
    crossed = (ends[0] <= row) & (row <= ends[1])
    a = hull[crossed]
    b = after[crossed]
    share = np.where(
        b[:, 0] == a[:, 0], 0.0, (row - a[:, 0]) / np.where(b[:, 0] == a[:, 0], 1, b[:, 0] - a[:, 0])
    )
    at = np.concatenate([a[:, 1] + share * (b[:, 1] - a[:, 1]), b[b[:, 0] == row, 1]])
    return float((sign * at).max())


def along_beams(frames: Float32[np.ndarray, "t s s"]) -> Float32[np.ndarray, "t 2 s s"]:
    """Mean echo before and behind each pixel on its scan line, against what the same depth has in the frame's
    other lines (median); 0 outside of the sector, and everywhere where no sector is seen.

    before: from the probe to the pixel. behind: the next REACH of the depth. In units of ``frames``.
    """
    t, size = frames.shape[:2]
    out = np.zeros((t, BEAM_CHANNELS, size, size), np.float32)
    low = float(frames.min())
    high = float(frames.max())
    beams = beams_of(frames.max(0) > low + SEEN * (high - low)) if high > low else None
    if beams is None:
        return out
    samples = beams.polar()
    back = beams.of_pixels()
    inside = ((back >= 0) & (back <= size - 1)).all(0)
    for n, frame in enumerate(frames):
        echo = map_coordinates(frame, samples, order=1, mode="nearest")
        for c, channel in enumerate(_before_and_behind(echo)):
            out[n, c] = np.where(inside, map_coordinates(channel, back, order=1, mode="nearest"), 0)
    return out


def frame_channels(frames: Float32[np.ndarray, "t s s"], *, beam: bool) -> Float32[np.ndarray, "t c s s"]:
    """The input channels of each frame: itself, and with ``beam`` what lies before and behind each pixel."""
    own = frames[:, None]
    return np.concatenate([own, along_beams(frames)], 1) if beam else own


def _before_and_behind(echo: Float32[np.ndarray, "l d"]) -> tuple[np.ndarray, np.ndarray]:
    """Of one frame along its lines (lines, samples)."""
    relative = gaussian_filter1d(echo - np.median(echo, 0, keepdims=True), LINES_SMOOTHED, axis=0)
    depth = echo.shape[1]
    total = np.pad(np.cumsum(relative, 1), ((0, 0), (1, 0)))
    at = np.arange(depth)
    to = np.maximum(at - GAP, 0)
    before = total[:, to] / np.maximum(to, 1)
    start = np.minimum(at + GAP, depth)
    end = np.minimum(start + round(REACH * depth), depth)
    behind = (total[:, end] - total[:, start]) / np.maximum(end - start, 1)
    return before, behind
