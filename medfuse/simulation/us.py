"""B-mode cine: speckle, attenuation, shadow and enhancement along scan lines, log compression, sector
display.

Each frame is a convex-probe plane; the clip sweeps a subcostal and an intercostal window. The plane is never
chosen
by what lies in it: the window is the best of seven by mean transmitted energy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from .anatomy import Anatomy
from .grid import rotation
from .physics import lesion_blend, liver_like, lookup
from .shapes import T

LINES = 96
DEPTHS = 208
PROBE_RADIUS = 50.0  # mm, convex array
HALF_ANGLE = np.deg2rad(34)


@dataclass(frozen=True)
class Cine:
    """A rendered clip with its label map and calibration."""

    frames: np.ndarray  # (T, H, W) uint8
    dense: np.ndarray  # (T, H, W) uint8 label map
    mm_per_pixel: float
    region: tuple[int, int, int, int]  # x0, y0, x1, y1 of the calibrated 2D region
    frame_ms: float


def _polar_points(origin: np.ndarray, axis: np.ndarray, lateral: np.ndarray, depth_mm: float) -> np.ndarray:
    """(LINES, DEPTHS, 3) mm: the sample points along the scan lines of one plane."""
    angle = np.linspace(-HALF_ANGLE, HALF_ANGLE, LINES, dtype=np.float32)
    depth = np.linspace(1, depth_mm, DEPTHS, dtype=np.float32)
    r = PROBE_RADIUS + depth
    along = r[None] * np.cos(angle)[:, None] - PROBE_RADIUS
    across = r[None] * np.sin(angle)[:, None]
    return origin + along[..., None] * axis + across[..., None] * lateral


def _windows(
    rng: np.random.Generator, anatomy: Anatomy
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Candidate probe placements: (origin, axis, lateral) on the right anterior skin, aimed at the liver."""
    for _ in range(7):
        phi = rng.uniform(0.2, 1.25)  # from anterior (0 = straight in front) toward the right flank
        aim = anatomy.liver[0].centre + rng.normal(0, 14, 3) + np.array([-18, 8, -2])
        direction = np.array([np.sin(phi), np.cos(phi)])
        n = 2.4
        wall = (
            np.abs(direction[0] / anatomy.body[0]) ** n + np.abs(direction[1] / anatomy.body[1]) ** n
        ) ** (-1 / n)
        origin = np.array([*(direction * wall * 0.985), aim[2] + rng.uniform(-55, 5)])
        axis = (aim - origin) / np.linalg.norm(aim - origin)
        lateral = np.cross(axis, rng.normal(0, 0.15, 3) + np.array([0, 0, 1.0]))
        yield origin, axis, lateral / np.linalg.norm(lateral)


def _frame(
    rng: np.random.Generator,
    anatomy: Anatomy,
    points: np.ndarray,
    breath: np.ndarray,
    *,
    depth_mm: float,
    mhz: float,
    gain_db: float,
    tgc: float,
) -> tuple[np.ndarray, np.ndarray, float]:
    """(LINES, DEPTHS) brightness 0 to 1, label map, and the share of lines that reach the bottom."""
    sample = anatomy.sample(points, breath)
    echo = lookup(anatomy, "echo")[sample.tissue] + rng.normal(0, 0.3)
    att = lookup(anatomy, "att")[sample.tissue]
    parenchyma = liver_like(sample)
    echo[parenchyma] += anatomy.diffuse.us_echo_db + (
        3.0 * sample.nodules[parenchyma] if anatomy.diffuse.surface_mm else 0
    )
    att[parenchyma] += anatomy.diffuse.us_attenuation
    echo = lesion_blend(sample, anatomy, echo, "echo")
    att = lesion_blend(sample, anatomy, att, "att")
    step_cm = depth_mm / DEPTHS / 10
    loss = np.cumsum(np.minimum(att * mhz, 40.0) * step_cm, axis=1) * 2
    depth_cm = np.linspace(0, depth_mm / 10, DEPTHS, dtype=np.float32)
    compensation = 2 * 0.5 * mhz * depth_cm * tgc  # the machine assumes soft tissue
    tissue = sample.tissue
    edges = np.abs(np.diff(tissue.astype(np.int16), axis=1, prepend=tissue[:, :1].astype(np.int16))) > 0
    echo = echo + 6.0 * edges
    amplitude = 10 ** (echo / 20)
    speckle = rng.standard_normal((2, *tissue.shape)).astype(np.float32)
    lateral = np.linspace(1.0, 1.9, 4)
    field = np.stack([gaussian_filter(c * amplitude, (float(lateral.mean()), 0.8)) for c in speckle])
    envelope = np.hypot(field[0], field[1]) / 0.22
    envelope *= 10 ** ((compensation - loss) / 20)
    haze = gaussian_filter(envelope, (7, 5)) * 0.06  # clutter and side lobes fill cysts a little
    reverberation = 0.35 * np.exp(-depth_cm / 0.7) * (0.6 + 0.4 * np.sin(depth_cm * 9))
    floor = 10 ** (-46 / 20) * 10 ** (compensation * 0.35 / 20) * np.abs(rng.standard_normal(tissue.shape))
    db = 20 * np.log10(envelope + haze + reverberation + floor + 1e-6) + gain_db
    open_share = float((loss[:, -1] - compensation[-1] < 30).mean())
    return np.clip((db + 44) / 62, 0, 1).astype(np.float32), sample.dense(anatomy.lesions), open_share


def _scan_convert(
    polar: np.ndarray, depth_mm: float, height: int, width: int, *, order: int
) -> tuple[np.ndarray, float]:
    """(LINES, DEPTHS) → the sector (height, width), and its mm per pixel."""
    mm = (depth_mm + PROBE_RADIUS * (1 - np.cos(HALF_ANGLE))) / height
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (x - (width - 1) / 2) * mm
    along = y * mm + PROBE_RADIUS * np.cos(HALF_ANGLE)
    r = np.hypot(across, along)
    angle = np.arctan2(across, along)
    line = (angle / HALF_ANGLE + 1) / 2 * (LINES - 1)
    depth = (r - PROBE_RADIUS) / depth_mm * (DEPTHS - 1)
    inside = (line >= 0) & (line <= LINES - 1) & (depth >= 0) & (depth <= DEPTHS - 1)
    out = map_coordinates(polar, [line, depth], order=order, mode="nearest")
    return np.where(inside, out, 0), mm


def render(rng: np.random.Generator, anatomy: Anatomy, *, frames: int = 20, shifted: bool = False) -> Cine:
    """A cine of ``frames`` planes, 184 × 216 pixels, grey, with one calibrated 2D region."""
    height = 184
    width = 216
    depth_mm = float(rng.uniform(140, 175) * (0.5 + 0.5 * anatomy.habitus))
    mhz = rng.uniform(2.4, 3.2) * (1.35 if shifted else 1.0)
    settings = {
        "depth_mm": depth_mm,
        "mhz": mhz,
        "gain_db": rng.normal(0, 2.5) + (4 if shifted else 0),
        "tgc": rng.normal(1.0, 0.08),
    }
    breath0 = rng.normal(-12, 5)  # deep inspiration brings the liver below the ribs
    scored = []
    for window in _windows(rng, anatomy):
        scored.append(
            (
                np.mean([_open(anatomy, p, breath0, depth_mm) for p in _sweep_points(*window, depth_mm)]),
                window,
            )
        )
    best = [w for _, w in sorted(scored, key=lambda s: -s[0])[:2]]
    images = []
    masks = []
    mm = 1.0
    for f in range(frames):
        origin, axis, lateral = best[f * 2 // frames]
        half = frames // 2
        sweep = np.deg2rad(-20 + 40 * (f % half) / max(half - 1, 1))
        elevation = np.cross(axis, lateral)
        tilted = np.cos(sweep) * axis + np.sin(sweep) * elevation
        jitter = rotation(rng.normal(0, 0.6, 3))
        points = _polar_points(origin, jitter @ tilted, jitter @ lateral, depth_mm)
        breath = np.array([0, 0, breath0 + rng.normal(0, 0.8)])
        polar, dense, _ = _frame(rng, anatomy, points, breath, **settings)
        image, mm = _scan_convert(polar, depth_mm, height, width, order=1)
        mask, _ = _scan_convert(dense, depth_mm, height, width, order=0)
        images.append((image * 255).astype(np.uint8))
        masks.append(mask.astype(np.uint8))
    return Cine(np.stack(images), np.stack(masks), float(mm), (0, 0, width - 1, height - 1), 66.0)


def _sweep_points(
    origin: np.ndarray, axis: np.ndarray, lateral: np.ndarray, depth_mm: float
) -> Iterator[np.ndarray]:
    """Coarse planes at both ends and the middle of a sweep."""
    elevation = np.cross(axis, lateral)
    for sweep in np.deg2rad([-20, 0, 20]):
        tilted = np.cos(sweep) * axis + np.sin(sweep) * elevation
        yield _polar_points(origin, tilted, lateral, depth_mm)[::6, ::4]


def _open(anatomy: Anatomy, points: np.ndarray, breath0: float, depth_mm: float) -> float:
    """Share of scan lines that reach 8 cm: what a sonographer moves the probe for. Blind to lesions."""
    sample = anatomy.sample(points, np.array([0, 0, breath0]))
    blocked = np.isin(sample.tissue, [T["bone"], T["air"], T["lung"]])
    reach = int(80 / depth_mm * blocked.shape[1])
    liver = (sample.tissue == T["liver"]).mean()
    return float((~blocked[:, :reach].any(1)).mean()) + float(liver)
