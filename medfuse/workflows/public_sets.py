"""Public sets as they are published → a folder with a manifest, sidecars that say what NIfTI cannot hold, and
label maps."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from ..errors import UserError, WrongUse
from ..io.manifest import ManifestImage, ManifestRow

# the name of each sensor in the set, its modality, and what its sidecar says beside that
SARCOMA = {"CT": ("CT", {}), "MR_T1": ("MR", {}), "PET": ("PT", {"Units": "SUVbw"})}
# patients for validation, and those that no training here may see
VALIDATION = (4, 9, 13, 17, 21, 24, 31, 35, 40, 44, 47, 50)
UNSEEN = (3, 6, 8, 11, 19, 25, 26, 28, 32, 36, 39)
VOLUMES = ("nifti", "nifti_lean", "nifti_2mm", "nifti_full")  # folders of volumes, the first that is there
_PATIENT = re.compile(r"STS_\d{3}")


def _volumes(folder: Path) -> Path:
    """Where a copy of the set keeps its volumes."""
    for name in VOLUMES:
        if (folder / name).is_dir():
            return folder / name
    raise WrongUse(
        f"{folder}: no folder nifti in it; give a copy of the soft-tissue sarcoma set with "
        "nifti/STS_001_CT.nii.gz, STS_001_CT_mask.nii.gz and so on (see benchmarks/sarcoma_manifest.py)"
    )


def sarcoma_patients(folder: Path) -> list[str]:
    """Names of the patients of a copy of the soft-tissue sarcoma set, in order. Raises WrongUse where the
    folder is none."""
    home = _volumes(folder)
    found = {m.group() for p in home.glob("STS_*.nii.gz") if (m := _PATIENT.match(p.name))}
    if not found:
        raise UserError(
            f"{home}: no file is called STS_001_CT.nii.gz or alike; see the head of "
            "benchmarks/sarcoma_manifest.py"
        )
    return sorted(found)


def split_of(patient: str) -> str:
    """Whether a patient is for training (train), validation (val) or neither (test)."""
    number = int(patient.removeprefix("STS_"))
    return "val" if number in VALIDATION else "test" if number in UNSEEN else "train"


def lay_out_sarcoma(
    folder: Path, out: Path, *, splits: bool = True, patients: list[str] | None = None
) -> Path:
    """Copy the set into ``out``: OUT/STS_001/STS_001_CT.nii.gz, its label map, a sidecar, and
    OUT/manifest.jsonl, whose path is returned. The three sensors of a patient lie in one frame of reference,
    as they do in the set. ``splits``: as of `split_of`; else all are for training. ``patients``:
    those alone.

    Raises UserError that names the file that is missing.
    """
    rows = []
    home = _volumes(folder)
    for patient in patients or sarcoma_patients(folder):
        images = [
            _copied(home, patient, sensor, out)
            for sensor in SARCOMA
            if (home / f"{patient}_{sensor}.nii.gz").exists()
        ]
        row = ManifestRow(
            case_id=patient,
            patient_id=patient,
            split=split_of(patient) if splits else "train",
            images=images,
            labels={"soft_tissue_mass": 1},
            indication="Known soft-tissue mass.",
        )
        rows.append(row.model_dump_json(exclude_defaults=True))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "manifest.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def _copied(nifti: Path, patient: str, sensor: str, out: Path) -> ManifestImage:
    """One volume and its label map in their new place."""
    modality, says = SARCOMA[sensor]
    home = out / patient
    name = f"{patient}_{modality}"
    home.mkdir(parents=True, exist_ok=True)
    frame = f"soft-tissue-sarcoma-{patient}"
    mask = nifti / f"{patient}_{sensor}_mask.nii.gz"
    if not mask.exists():
        raise UserError(f"{mask}: no such file; every volume of the set has its outline beside it")
    shutil.copyfile(nifti / f"{patient}_{sensor}.nii.gz", home / f"{name}.nii.gz")
    shutil.copyfile(mask, home / f"{name}_mask.nii.gz")
    side = {"Modality": modality, "FrameOfReferenceUID": frame, **says}
    (home / f"{name}.json").write_text(json.dumps(side), encoding="utf-8")
    return ManifestImage(
        path=f"{patient}/{name}.nii.gz",
        modality=modality,
        mask=f"{patient}/{name}_mask.nii.gz",
        frame_of_reference=frame,
    )
