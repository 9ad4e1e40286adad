"""Image ↔ SimpleITK. SimpleITK speaks LPS mm; everything of ours that leaves this room is RAS+ mm."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import affine_transform

from ..affine import Affine
from ..case import Image
from ..errors import UserError
from ..modalities import is_cine, modality_of

ORTHONORMAL = 1e-3


def to_sitk(image: Image) -> sitk.Image:
    """A volume as a float32 SimpleITK image. Sheared volumes (a tilted gantry) are put on a straight grid
    first.

    Raises UserError for what has no place in space: ultrasound without tracking, pictures, irregular stacks,
        constant images.
    """
    if image.affine is None or image.pixels.ndim != 3:
        what = "a cine without tracking" if is_cine(image.modality) else "an image without an affine"
        raise UserError(
            f"{image.source.path}: {what} has no place in space and cannot be registered; give a "
            "volume with geometry"
        )
    if float(np.ptp(image.pixels)) == 0.0:
        raise UserError(f"{image.source.path}: every voxel has the same value; there is nothing to register")
    frame = is_cine(image.modality) and image.pixels.shape[2] == 1  # one tracked frame
    if min(image.pixels.shape) < 4 and not frame:
        raise UserError(
            f"{image.source.path}: {min(image.pixels.shape)} slices are too few to register; give a volume"
        )
    pixels = image.pixels
    affine = image.affine
    if not Affine(affine).is_straight(ORTHONORMAL):
        pixels, affine = straightened(pixels, affine)
    return from_array(pixels, affine)


def from_array(pixels: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """pixels (I, J, K), affine (4, 4) voxel → RAS+ mm with perpendicular axes."""
    lps = Affine(affine).lps
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    out = sitk.GetImageFromArray(np.ascontiguousarray(pixels.transpose(2, 1, 0), np.float32))
    out.SetSpacing(spacing.tolist())
    out.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    out.SetOrigin(lps[:3, 3].tolist())
    return out


def clamped(image: sitk.Image, modality: str) -> sitk.Image:
    """Values within the window in which its modality is laid over others (CT: soft tissue, and bone as far as
    it stands apart); as they are where it has none. Between contrasts, air and the densest bone fill most of
    the bins of a joint histogram and leave few for what both images show."""
    window = modality_of(modality).blend
    return image if window is None else sitk.Clamp(image, lowerBound=window[0], upperBound=window[1])


def to_array(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """(I, J, K) pixels and voxel → RAS+ mm affine."""
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = Affine.of(axes, np.array(image.GetOrigin()), "LPS+").ras
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), affine


def straightened(pixels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same volume on a grid with perpendicular axes that holds all of it; linear interpolation, the rest
    is the minimum."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    u = affine[:3, 0] / spacing[0]
    v = affine[:3, 1] - u * (u @ affine[:3, 1])
    v /= np.linalg.norm(v)
    w = np.cross(u, v) * np.sign(np.linalg.det(affine[:3, :3]))
    axes = np.stack([u, v, w], 1)
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in pixels.shape], indexing="ij")).reshape(3, -1)
    places = axes.T @ (affine[:3, :3] @ corners + affine[:3, 3:])
    step = np.array([spacing[0], spacing[1], abs(w @ affine[:3, 2])])
    low = places.min(1)
    shape = np.ceil((places.max(1) - low) / step).astype(int) + 1
    out = np.eye(4)
    out[:3, :3] = axes * step
    out[:3, 3] = axes @ low
    back = np.linalg.inv(affine) @ out
    moved = affine_transform(
        pixels, back[:3, :3], back[:3, 3], tuple(shape), order=1, cval=float(pixels.min())
    )
    return moved, out
