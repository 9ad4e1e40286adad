"""Irregular stacks on request: linear interpolation between true slice positions to a regular step. Says
so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..case import Image


def regularise(image: Image) -> Image:
    """An image with unequal slice steps, resampled along its normal at its median step; others come back as
    they are."""
    if image.affine is not None or image.plane is None or len(image.geometry.slice_positions_mm) < 2:
        return image
    at = np.asarray(image.geometry.slice_positions_mm)
    step = float(np.median(np.diff(at)))
    wanted = np.arange(at[0], at[-1] + 1e-6, step)
    upper = np.clip(np.searchsorted(at, wanted), 1, len(at) - 1)
    weight = ((wanted - at[upper - 1]) / (at[upper] - at[upper - 1])).astype(np.float32)
    pixels = image.pixels[:, :, upper - 1] * (1 - weight) + image.pixels[:, :, upper] * weight
    affine = image.plane.copy()
    affine[:3, 2] *= step
    note = (
        f"resampled along the slices to {step:.2f} mm for the network (the stored image keeps its "
        f"{len(at)} true positions)"
    )
    return replace(image, pixels=pixels, affine=affine, warnings=(*image.warnings, note))
