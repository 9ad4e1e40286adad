"""Image → NIfTI with a JSON sidecar, geometry as it is: sheared where tilted, without an affine where none is right."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from ..case import Image, Refusal
from ..errors import UserError


def write_nifti(image: Image, path: Path) -> Path:
    """Write ``path`` (.nii.gz) and its sidecar.

    Volumes are float32 with an sform; a qform is written too where no shear forbids it. An irregular stack keeps its
    voxels and gets neither (codes 0): the sidecar holds every slice position. Ultrasound is (W, H, 1, T) uint8 with the
    pixel size of its 2D region, colour as a fifth axis.
    """
    if image.modality == "US":
        nifti = _cine(image)
    else:
        nifti = nib.Nifti1Image(image.pixels, image.affine)
        nifti.header.set_xyzt_units("mm")
        if image.affine is None:
            steps = np.diff(image.geometry.slice_positions_mm)
            nifti.header.set_zooms((1.0, 1.0, float(np.median(steps)) if len(steps) else 1.0))
            nifti.header["sform_code"], nifti.header["qform_code"] = 0, 0
        else:
            nifti.set_sform(image.affine, 1)
            m = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
            straight = np.abs(m.T @ m - np.eye(3)).max() < 1e-4
            nifti.set_qform(image.affine if straight else None, 1 if straight else 0)
    if image.source.simulated:
        nifti.header["descrip"] = b"SIMULATED by medfuse, not a patient"
    try:
        nib.save(nifti, path)
        path.with_name(path.name.removesuffix(".nii.gz") + ".json").write_text(json.dumps(sidecar(image), indent=1))
    except OSError as e:
        raise UserError(f"{path}: cannot be written ({e.strerror or e}); free space or choose another --out") from e
    return path


def _cine(image: Image) -> nib.Nifti1Image:
    pixels = image.pixels.swapaxes(1, 2)  # (T, W, H[, 3])
    array = pixels.transpose(1, 2, 0, *range(3, pixels.ndim))[:, :, None]
    nifti = nib.Nifti1Image(np.ascontiguousarray(array), None)
    mm = image.spacing or (1.0, 1.0)
    nifti.header.set_zooms((mm[0], mm[1], 1.0, image.frame_ms or 1.0, *[1.0] * (array.ndim - 4)))
    nifti.header.set_xyzt_units("mm", "msec")
    nifti.header["sform_code"], nifti.header["qform_code"] = 0, 0
    return nifti


def sidecar(image: Image) -> dict:
    """What NIfTI cannot hold."""
    g = image.geometry
    return {
        "Traits": {k: {"value": v, "confidence": c} for k, (v, c) in image.traits.items()},
        "Modality": image.modality, "medfuse_role": image.role, "medfuse_role_confidence": image.role_confidence,
        "SeriesInstanceUID": image.source.series_uid, "StudyInstanceUID": image.source.study_uid,
        "SeriesDescription": image.source.description, "Manufacturer": image.source.manufacturer,
        "FrameOfReferenceUID": image.frame_of_reference, "Simulated": image.source.simulated,
        "Geometry": {"outcome": g.outcome, "measured": g.measured, "allowed": g.allowed},
        "SlicePositions": list(g.slice_positions_mm), "FrameTime": image.frame_ms,
        "TextBoxes": [list(b) for b in image.text],
        "Regions": [{"box": r.box, "mm_per_pixel": r.mm_per_pixel, "kind": r.kind} for r in image.regions],
        "Warnings": list(image.warnings),
    }  # fmt: skip


def export_name(image: Image, number: int) -> str:
    tail = (image.source.series_uid or image.source.sha256)[-12:].strip(".")
    return f"{number:04d}_{image.modality}_{image.role}_{tail}.nii.gz"


def describe(image: Image) -> dict:
    """One line of `medfuse ingest --json`: what was read, and what its geometry turned out to be."""
    g = image.geometry
    return {
        "modality": image.modality, "role": image.role, "role_confidence": image.role_confidence,
        "series_uid": image.source.series_uid, "nifti": None,
        "geometry": {"outcome": g.outcome if image.modality != "US" else "exact", "measured": g.measured, "allowed": g.allowed},
        "frames": image.pixels.shape[0] if image.modality == "US" else image.pixels.shape[2],
        "spacing_mm": list(image.spacing) if image.spacing else None, "warnings": list(image.warnings),
        "traits": {k: {"value": v, "confidence": c} for k, (v, c) in image.traits.items()},
    }  # fmt: skip


def describe_refused(refusal: Refusal) -> dict:
    """The same line for a series whose geometry was refused."""
    return {
        "modality": refusal.modality, "role": "unknown", "role_confidence": 0.0, "series_uid": refusal.series_uid, "nifti": None,
        "geometry": {"outcome": "refused", "measured": refusal.measured, "allowed": refusal.allowed},
        "frames": 0, "spacing_mm": None, "warnings": [refusal.reason],
    }  # fmt: skip
