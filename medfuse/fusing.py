"""`medfuse fuse A B --out FILE`: registered pictures, volumes or DICOM series → one picture, with both sources named in it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image as Picture

from .case import Image
from .errors import OutputError, UserError, WrongUse
from .intake import CommandResult
from .io import picture
from .models.pixel_fusion import fuse, scaled
from .registering import load_transform, pick
from .registration.register import resampled
from .registration.volume import from_array, to_array, to_sitk

PICTURES, VOLUMES = (".png",), (".nii", ".nii.gz", ".dcm")


def fuse_command(
    sources: list[Path], out: Path, *, method: str, weights: Path | None, registration: Path | None, roles: list[str],
) -> CommandResult:  # fmt: skip
    """Fuse two or three images that lie on each other: pictures by pixels, volumes by millimetres on the first one's grid.

    A registration folder brings the second onto the first; one that failed is refused.
    """
    started = time.perf_counter()
    if not 2 <= len(sources) <= 3:
        raise WrongUse(f"{len(sources)} images: give two or three registered images")
    for p in sources:
        if not p.exists():
            raise WrongUse(f"{p}: no such file or folder; check the path")
    kind = "".join(out.suffixes[-2:]) if out.name.endswith(".nii.gz") else out.suffix
    flat = [p.is_file() and p.suffix.lower() in picture.SUFFIXES for p in sources]
    if any(flat) and not all(flat):
        raise WrongUse("a picture has no place in space: give pictures only, or volumes only")
    if kind not in (*PICTURES, *VOLUMES):
        raise WrongUse(f"--out {out}: end it in .png, .nii.gz or .dcm")
    if all(flat):
        if kind not in PICTURES:
            raise WrongUse(f"--out {out}: pictures fuse into a picture; end it in .png")
        fused = fuse([_read_picture(p) for p in sources], method=method, weights=weights)
        _write(out, lambda: _save_picture(fused, out))
        made = [str(out)]
    else:
        made = _fuse_volumes(sources, out, kind, method, weights, registration, roles)
    data = {"files": made, "method": method if method != "learned" else ("learned" if weights is None else str(weights)), "seconds": round(time.perf_counter() - started, 3)}  # fmt: skip
    return CommandResult(data, "\n".join(made), 0)


def _read_picture(path: Path) -> np.ndarray:
    """(H, W) grey or (H, W, 3) colour in 0 to 1; colour channels that are all alike are grey."""
    try:
        with Picture.open(path) as p:
            pixels = np.asarray(p.convert("RGB") if p.mode not in ("L", "I", "I;16") else p)
    except OSError as e:
        raise UserError(f"{path}: is not a picture that can be read ({e}); give PNG or JPEG") from e
    if pixels.ndim == 3 and (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
        pixels = pixels[..., 0]
    return scaled(pixels) if pixels.ndim == 2 else pixels / 255.0


def _save_picture(fused: np.ndarray, out: Path) -> None:
    Picture.fromarray(np.round(255 * np.clip(fused, 0, 1)).astype(np.uint8)).save(out)


def _write(out: Path, work) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work()
    except OSError as e:
        raise OutputError(f"{out}: cannot be written ({e.strerror or e}); free space or choose another --out") from e


def _fuse_volumes(
    sources: list[Path],
    out: Path,
    kind: str,
    method: str,
    weights: Path | None,
    registration: Path | None,
    roles: list[str],
) -> list[str]:
    picked = [pick(p, "", roles[n] if n < len(roles) else "") for n, p in enumerate(sources)]
    images = [i for _, i in picked]
    fixed = to_sitk(images[0])
    grid, affine = to_array(fixed)
    parts = [scaled_volume(images[0], grid)]
    transform = None if registration is None else load_transform(registration)
    for n, image in enumerate(images[1:]):
        alike = image.frame_of_reference == images[0].frame_of_reference and bool(image.frame_of_reference)
        if transform is None and not alike:
            raise UserError(
                f"{sources[n + 1]} and {sources[0]} are not in one frame of reference; register them first and give --registration FOLDER"
            )
        import SimpleITK as sitk

        way = transform if transform is not None and n == 0 else sitk.Transform()
        moved = to_array(resampled(to_sitk(image), fixed, way))[0]
        parts.append(scaled_volume(image, moved))
    fused = fuse(parts, method=method, weights=weights).astype(np.float32)
    made: list[str] = []
    if kind == ".png":
        middle = from_array(fused, affine)
        from .reporting.registration_files import middle_slices

        axial, spacing = middle_slices(middle)[0]
        h, w = axial.shape
        shown = Picture.fromarray((255 * np.clip(axial, 0, 1)).astype(np.uint8)).resize(
            (w, max(1, round(h * spacing[0] / spacing[1])))
        )
        _write(out, lambda: shown.save(out))
        made.append(str(out))
    elif kind == ".dcm":
        _write(out, lambda: made.extend(_save_dicom(fused, affine, images, out)))
    else:
        _write(out, lambda: nib.save(nib.Nifti1Image(fused, affine), out))
        note = out.with_name(out.name.removesuffix(".gz").removesuffix(".nii") + ".json")
        facts = {"derived": "pixel-level fusion by medfuse, values are not measurements", "method": method, "sources": [i.source.path for i in images], "series": [i.source.series_uid for i in images]}  # fmt: skip
        _write(note, lambda: note.write_text(json.dumps(facts, indent=1)))
        made += [str(out), str(note)]
    return made


def scaled_volume(image: Image, pixels: np.ndarray) -> np.ndarray:
    """0 to 1: CT by a soft-tissue window that keeps bone apart, others by their own values."""
    return (
        scaled(pixels.astype(np.float64), low=-160.0, high=400.0)
        if image.modality == "CT"
        else scaled(pixels.astype(np.float64))
    )


def _save_dicom(fused: np.ndarray, affine: np.ndarray, images: list[Image], out: Path) -> list[str]:
    """One derived Secondary Capture of many frames (PS3.3 A.8.3), with references to both sources."""
    from .reporting.derived import write_derived

    write_derived(fused, affine, images, out)
    return [str(out)]
