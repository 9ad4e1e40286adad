"""Simulated patients as NIfTI with label maps: small and fast to read, for training."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from ..io.export import SIMULATED_DESCRIPTION, set_place
from ..io.manifest import ManifestImage
from .patient import SimulatedPatient


def _save(array: np.ndarray, affine: np.ndarray | None, zooms: tuple, path: Path, ms: float = 0.0) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"] = SIMULATED_DESCRIPTION
    if affine is None:  # ultrasound: pixel size, but no place in the patient
        image.header.set_zooms(zooms)
        image.header["sform_code"] = 0
        image.header["qform_code"] = 0
        image.header.set_xyzt_units("mm", "msec")
    else:
        image.header.set_xyzt_units("mm")
        set_place(image, affine)
    nib.save(image, path)


def write(patient: SimulatedPatient, folder: Path) -> list[ManifestImage]:
    """Write every series and its label map; return the manifest's image entries, paths relative to
    ``folder``'s parent."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for a in patient.acquisitions:
        image_path = folder / f"{a.modality}_{a.role}.nii"
        mask_path = folder / f"{a.modality}_{a.role}_mask.nii.gz"
        if a.cine is not None:
            zooms = (a.cine.mm_per_pixel, a.cine.mm_per_pixel, 1.0, a.cine.frame_ms)
            for array, path in ((a.pixels, image_path), (a.dense, mask_path)):
                _save(np.ascontiguousarray(array.transpose(2, 1, 0))[:, :, None, :], None, zooms, path)
        else:
            assert a.grid is not None
            _save(np.round(a.pixels).astype(np.int16), a.grid.affine, (), image_path)
            _save(a.dense, a.grid.affine, (), mask_path)
        side = {"Modality": a.modality, "medfuse_role": a.role, "Simulated": True}
        if a.grid is not None:
            side["FrameOfReferenceUID"] = f"{patient.case_id}-{a.modality}"
        image_path.with_suffix(".json").write_text(json.dumps(side), encoding="utf-8")
        entry = ManifestImage(
            path=f"{folder.name}/{image_path.name}",
            modality=a.modality,
            role=a.role,
            mask=f"{folder.name}/{mask_path.name}",
        )
        if a.grid is not None:
            entry.frame_of_reference = f"{patient.case_id}-{a.modality}"
        entries.append(entry)
    return entries
