"""`medfuse fuse A B --out FILE`: registered pictures, volumes or DICOM series → one picture, with both
sources named in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image as Picture
from pydantic import BaseModel, ConfigDict

from ..case import Image
from ..errors import OutputError, UserError, WrongUse, os_fault
from ..exports.derived import write_derived
from ..exports.registration import middle_slices
from ..io import picture
from ..io.names import shown as file_name
from ..io.read import open_volume
from ..library.registrations import load_transform
from ..modalities import modality_of
from ..pixelfusion.network import BASELINES, fuse, scaled
from ..registration.register import resampled
from ..registration.volume import from_array, to_array, to_sitk
from .outputs import check_file
from .result import CommandResult

PICTURES = (".png",)
VOLUMES = (".nii", ".nii.gz", ".dcm")


class FusedNote(BaseModel):
    """The .json beside a fused NIfTI: how it was made, and of what.

    derived: that its values are for looking only. sources, series: path and SeriesInstanceUID of each
    image, in the order they were given; the latter is empty for a file that is no DICOM.
    """

    model_config = ConfigDict(extra="forbid")
    derived: str = "pixel-level fusion by medfuse, values are not measurements"
    method: str
    sources: list[str]
    series: list[str]


@dataclass(frozen=True, kw_only=True)
class FuseRequest:
    """What `medfuse fuse` is asked: two or three images that lie on each other.

    out: FILE.png, .nii.gz or .dcm. weights: other ones for method learned. registration: a folder of `medfuse
    register` that brings the second image onto the first. roles: which series of each, in order.
    """

    sources: list[Path]
    out: Path
    method: str = "learned"
    weights: Path | None = None
    registration: Path | None = None
    roles: list[str] = field(default_factory=list)

    @property
    def ending(self) -> str:
        """Of ``out``: what is written."""
        return "".join(self.out.suffixes[-2:]) if self.out.name.endswith(".nii.gz") else self.out.suffix

    def role(self, number: int) -> str:
        """Of one image; empty where none was given."""
        return self.roles[number] if number < len(self.roles) else ""


def fuse_command(request: FuseRequest) -> CommandResult:
    """Fuse two or three images that lie on each other: pictures by pixels, volumes by millimetres on the
    first one's grid.

    A registration folder brings the second onto the first; one that failed is refused.
    """
    started = time.perf_counter()
    out = request.out
    if _all_flat(request):
        parts = [_read_picture(p) for p in request.sources]
        fused = fuse(parts, method=request.method, weights=request.weights)
        _write(out, lambda: _save_picture(fused, out))
        made = [str(out)]
    else:
        made = _fuse_volumes(request)
    learned = request.method == "learned"
    data = {
        "files": made,
        "method": str(request.weights) if learned and request.weights is not None else request.method,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return CommandResult(data, "\n".join(made), 0)


def _all_flat(request: FuseRequest) -> bool:
    """Whether all images are pictures. What cannot work is refused before anything is read: WrongUse."""
    sources = request.sources
    out = request.out
    if not 2 <= len(sources) <= 3:
        raise WrongUse(f"{len(sources)} images: give two or three registered images")
    flat = [_is_flat(p) for p in sources]
    if any(flat) and not all(flat):
        raise WrongUse("a picture has no place in space: give pictures only, or volumes only")
    if request.ending not in (*PICTURES, *VOLUMES):
        raise WrongUse(f"--out {out}: end it in .png, .nii.gz or .dcm")
    if request.method not in ("learned", *BASELINES):
        raise WrongUse(f"--method {request.method}: give learned, {', '.join(BASELINES)}")
    if len(request.roles) > len(sources):
        raise WrongUse(
            f"{len(request.roles)} roles for {len(sources)} images; give one --role an image at most"
        )
    check_file(out)
    if all(flat) and request.ending not in PICTURES:
        raise WrongUse(f"--out {out}: pictures fuse into a picture; end it in .png")
    return all(flat)


def _is_flat(path: Path) -> bool:
    """Whether it is a picture. Raises WrongUse where nothing is there."""
    if not path.exists():
        raise WrongUse(f"{path}: no such file or folder; check the path")
    return path.is_file() and path.suffix.lower() in picture.SUFFIXES


def _read_picture(path: Path) -> np.ndarray:
    """(H, W) grey or (H, W, 3) colour in 0 to 1; colour channels that are all alike are grey."""
    try:
        with Picture.open(path) as p:
            pixels = np.asarray(p.convert("RGB") if p.mode not in ("L", "I", "I;16") else p)
    except OSError as e:
        raise UserError(f"{path}: is not a picture that can be read ({e}); give PNG or JPEG") from e
    if (
        pixels.ndim == 3
        and (pixels[..., 0] == pixels[..., 1]).all()
        and (pixels[..., 1] == pixels[..., 2]).all()
    ):
        pixels = pixels[..., 0]
    return scaled(pixels) if pixels.ndim == 2 else pixels / 255.0


def _save_picture(fused: np.ndarray, out: Path) -> None:
    Picture.fromarray(np.round(255 * np.clip(fused, 0, 1)).astype(np.uint8)).save(out)


def _write(out: Path, work: Callable[[], object]) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work()
    except OSError as e:
        raise OutputError(
            f"{out}: cannot be written ({os_fault(e)}); free space or choose another --out"
        ) from e


def _fuse_volumes(request: FuseRequest) -> list[str]:
    """The files that were written. Raises UserError for volumes that nothing brings onto each other."""
    images = [open_volume(p, role=request.role(n)).image for n, p in enumerate(request.sources)]
    fixed = to_sitk(images[0])
    grid, affine = to_array(fixed)
    parts = [scaled_volume(images[0], grid)]
    for n, image in enumerate(images[1:], 1):
        moved = to_array(resampled(to_sitk(image), fixed, _way(request, images, n)))[0]
        parts.append(scaled_volume(image, moved))
    fused = fuse(parts, method=request.method, weights=request.weights).astype(np.float32)
    out = request.out
    if request.ending == ".png":
        _write(out, lambda: _middle(from_array(fused, affine)).save(out))
    elif request.ending == ".dcm":
        _write(out, lambda: write_derived(fused, affine, images, out))
    else:
        _write(out, lambda: nib.save(nib.Nifti1Image(fused, affine), out))
        return [str(out), str(_write_note(request, images))]
    return [str(out)]


def _way(request: FuseRequest, images: list[Image], number: int) -> sitk.Transform:
    """From the first image to another one. Raises UserError where no registration and no common frame of
    reference leads there."""
    frame = images[0].frame_of_reference
    if request.registration is not None and number == 1:
        return load_transform(request.registration)
    if request.registration is None and not (frame and images[number].frame_of_reference == frame):
        raise UserError(
            f"{request.sources[number]} and {request.sources[0]} are not in one frame of reference; register "
            "them first and give --registration FOLDER"
        )
    return sitk.Transform()


def _middle(fused: sitk.Image) -> Picture.Image:
    """The middle axial slice with square pixels."""
    axial, spacing = middle_slices(fused)[0]
    h, w = axial.shape
    shown = Picture.fromarray((255 * np.clip(axial, 0, 1)).astype(np.uint8))
    return shown.resize((w, max(1, round(h * spacing[0] / spacing[1]))))


def _write_note(request: FuseRequest, images: list[Image]) -> Path:
    """Beside the NIfTI, whose header has no room for its sources."""
    out = request.out
    path = out.with_name(out.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    note = FusedNote(
        method=request.method,
        sources=[file_name(i.source.path) for i in images],
        series=[i.source.series_uid for i in images],
    )
    _write(path, lambda: path.write_text(note.model_dump_json(indent=1), encoding="utf-8"))
    return path


def scaled_volume(image: Image, pixels: np.ndarray) -> np.ndarray:
    """0 to 1: by the range that the modality names (CT: soft tissue with bone apart), else by its own
    values."""
    blend = modality_of(image.modality).blend
    low, high = blend if blend is not None else (None, None)
    return scaled(pixels.astype(np.float64), low=low, high=high)
