"""What the image's own voxels say inside a lesion's outline: density of CT, uptake of PET."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy.ndimage import convolve

from ..case import Image
from ..modalities import modality_of
from ..prediction import Measurement
from ..task import Measure

PEAK_ML = 1.0  # of the sphere of SUVpeak (PERCIST, Wahl et al. 2009, 10.2967/jnumed.108.057307)


def measured_in(
    image: Image,
    mask: Bool[np.ndarray, "x y z"],
    to_place: Float[np.ndarray, "4 4"],
    kinds: tuple[Measure, ...],
) -> list[Measurement]:
    """The measures ``kinds`` of a volume inside ``mask``, whose index ``to_place`` brings to RAS+ mm; none
    where no voxel's middle lies in it, or where the image has no unit."""
    unit = modality_of(image.modality).unit
    if not kinds or image.affine is None or unit is None:
        return []
    inside = voxels_inside(image, mask, to_place)
    if not inside.any():
        return []
    values = image.pixels[inside].astype(np.float64)
    mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    ml = float(mask.sum()) * abs(float(np.linalg.det(to_place[:3, :3]))) / 1000
    found: dict[Measure, float] = {"density": float(values.mean()), "suv_mean": float(values.mean())}
    if "suv_max" in kinds:
        found["suv_max"] = float(values.max())
    if "suv_peak" in kinds:
        found["suv_peak"] = peak(image.pixels, inside, mm)
    found["tlg"] = float(values.mean()) * ml
    units = {"tlg": "g"}  # g/ml times ml
    return [
        Measurement(
            kind=kind,
            value=round(found[kind], 1 if kind in ("density", "tlg") else 2),
            unit=units.get(kind, unit.ucum[0]),
        )
        for kind in kinds
    ]


def voxels_inside(
    image: Image, mask: Bool[np.ndarray, "x y z"], to_place: Float[np.ndarray, "4 4"]
) -> Bool[np.ndarray, "i j k"]:
    """The voxels of a volume whose middle lies in a voxel of ``mask``."""
    assert image.affine is not None
    to_mask = np.linalg.inv(to_place) @ image.affine
    ijk = np.stack(np.meshgrid(*(np.arange(n) for n in image.pixels.shape), indexing="ij"), -1)
    at = np.rint(ijk @ to_mask[:3, :3].T + to_mask[:3, 3]).astype(int)
    there = ((at >= 0) & (at < mask.shape)).all(-1)
    out = np.zeros(image.pixels.shape, bool)
    out[there] = mask[tuple(at[there].T)]
    return out


def peak(
    values: Num[np.ndarray, "i j k"], inside: Bool[np.ndarray, "i j k"], mm: Float[np.ndarray, 3]
) -> float:
    """The highest mean of a sphere of PEAK_ML whose middle is a voxel of ``inside``; ``mm``: a voxel's size.
    Voxels count whole, by their middle."""
    radius = (3 * PEAK_ML * 1000 / (4 * math.pi)) ** (1 / 3)
    reach = [int(radius // s) for s in mm]
    grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1)
    ball = (np.linalg.norm(grid * mm, axis=-1) <= radius).astype(np.float64)
    box = tuple(
        slice(max(0, int(at.min()) - r), int(at.max()) + r + 1)
        for at, r in zip(np.nonzero(inside), reach, strict=True)
    )
    means = convolve(values[box].astype(np.float64), ball / ball.sum(), mode="nearest")
    return float(means[inside[box]].max())
