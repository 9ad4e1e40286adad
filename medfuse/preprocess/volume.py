"""CT and MR series → one grid per modality and frame of reference. Never across modalities or frames."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Num, Shaped
from scipy.ndimage import affine_transform, gaussian_filter

from ..case import Image
from ..modalities import modality_of
from ..task import Intensity, ModalityTask
from .tensors import VolumeInput

MAX_GRID = 176  # voxels an axis; beyond it the grid is made coarser, never cut


def _corners(image: Image) -> np.ndarray:
    ijk = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (
        np.array(image.pixels.shape) - 1
    )
    assert image.affine is not None
    return ijk @ image.affine[:3, :3].T + image.affine[:3, 3]


def common_grid(
    images: list[Image], spacing: tuple[float, float, float]
) -> tuple[tuple[int, int, int], Float[np.ndarray, "4 4"]]:
    """Axis-aligned RAS+ grid over all the images' fields of view; dimensions divisible by 8."""
    corners = np.concatenate([_corners(i) for i in images])
    low = corners.min(0)
    high = corners.max(0)
    step = np.maximum(np.asarray(spacing, float), (high - low) / MAX_GRID)
    i, j, k = (int(8 * np.ceil(((h - lo) / s + 1) / 8)) for lo, h, s in zip(low, high, step, strict=True))
    shape = (i, j, k)
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = (low + high) / 2 - step * (np.array(shape) - 1) / 2
    return shape, affine


def resample(
    array: Shaped[np.ndarray, "i j k"],
    source: Float[np.ndarray, "4 4"],
    target: Float[np.ndarray, "4 4"],
    shape: tuple[int, int, int],
    *,
    order: int,
    fill: float,
    mode: Literal["constant", "mirror"] = "constant",
) -> Shaped[np.ndarray, "x y z"]:
    """Values of ``array`` (affine ``source``) at the voxels of a grid (``target``, ``shape``); anti-aliased
    when coarser. Beyond the array's border stands ``fill``, or its mirror image with ``mode`` mirror."""
    if order > 0:
        ratio = np.diag(target)[:3] / np.linalg.norm(source[:3, :3] @ np.eye(3), axis=0)
        sigma = 0.5 * np.maximum(np.abs(ratio) - 1, 0)
        if (sigma > 0.35).any():
            array = gaussian_filter(array.astype(np.float32, copy=False), sigma)
    m = np.linalg.inv(source) @ target
    return affine_transform(array, m[:3, :3], m[:3, 3], shape, order=order, mode=mode, cval=fill)


def normalise(
    values: Num[np.ndarray, "*s"], how: Intensity, scale: tuple[float, float] | None = None
) -> Float32[np.ndarray, "*s"]:
    """(value - centre) / width, clipped as the task says; ``scale``: centre and width of the image's own."""
    centre, width = (how.centre, how.width) if scale is None else scale
    return np.clip((values - centre) / width, *how.clip).astype(np.float32)


def robust_scale(values: Num[np.ndarray, ...]) -> tuple[float, float]:
    """Centre and width of an MR series from its foreground (above a tenth of the 99th percentile); 0 and 1
    where a volume is so thin that no voxel of the grid lies in it."""
    if not values.size:
        return 0.0, 1.0
    top = float(np.percentile(values, 99))
    body = values[values > 0.1 * top]
    if body.size < 100:
        return 0.0, max(top, 1.0)
    low, middle, high = np.percentile(body, [10, 50, 90])
    return float(middle), float(max(high - low, 1e-3) / 2)


def volume_inputs(
    images: list[Image],
    indices: list[int],
    modality: str,
    spec: ModalityTask,
    masks: dict[int, np.ndarray] | None = None,
) -> list[VolumeInput]:
    """One input a frame of reference. ``indices`` are the images' places in the case; ``masks`` by that
    place."""
    frames: dict[str, list[int]] = {}
    for index in indices:
        frames.setdefault(images[index].frame_of_reference or f"alone-{index}", []).append(index)
    made = (_one_frame(images, group, frame, modality, spec, masks or {}) for frame, group in frames.items())
    return [x for x in made if x is not None]


def _by_role(images: list[Image], group: list[int], spec: ModalityTask) -> dict[str, int]:
    """The image that speaks for each role of the task: of several, the one with most voxels."""
    by_role: dict[str, int] = {}
    for index in group:
        role = images[index].role if images[index].role in spec.roles else "unknown"
        if role not in spec.roles:
            continue
        if role not in by_role or images[index].pixels.size > images[by_role[role]].pixels.size:
            by_role[role] = index
    return by_role


def _one_frame(
    images: list[Image],
    group: list[int],
    frame: str,
    modality: str,
    spec: ModalityTask,
    masks: dict[int, np.ndarray],
) -> VolumeInput | None:
    """None where the task has no place for any of these roles."""
    by_role = _by_role(images, group, spec)
    if not by_role:
        return None
    used = [images[i] for i in by_role.values()]
    shape, affine = common_grid(used, spec.spacing_mm)
    values = np.zeros((len(spec.roles), *shape), np.float32)
    present = np.zeros(len(spec.roles), bool)
    members = [-1] * len(spec.roles)
    covered = np.zeros(shape, bool)
    shared = None
    dense = None
    for r, role in enumerate(spec.roles):
        if role not in by_role:
            continue
        image = images[by_role[role]]
        fill = float(image.pixels.min()) if modality_of(modality).outside == "minimum" else 0.0
        assert image.affine is not None  # regularised before
        raw = resample(image.pixels, image.affine, affine, shape, order=1, fill=np.nan)
        inside = ~np.isnan(raw)
        if spec.window is None and not spec.centred:
            raw = np.where(inside, raw, fill)
        else:  # the border of what was cut out must not show
            whole = resample(image.pixels, image.affine, affine, shape, order=1, fill=fill, mode="mirror")
            raw = np.where(inside, raw, whole)
        scale = None
        if spec.intensity.kind == "robust":
            # opposed and in phase come from one acquisition: one scale keeps the signal loss between them
            scale = shared if role == "t1_opposed" and shared is not None else robust_scale(raw[inside])
            shared = scale if role == "t1_in" else shared
        values[r] = normalise(raw, spec.intensity, scale)
        present[r] = True
        members[r] = by_role[role]
        covered |= inside
        if by_role[role] in masks:
            label = resample(masks[by_role[role]], image.affine, affine, shape, order=0, fill=0)
            dense = label if dense is None else np.where(dense > 0, dense, label)
    return VolumeInput(modality, values, present, affine, frame, tuple(members), dense, covered)
