"""Generated boxes as files, each marked so that nobody takes it for acquired: the word burned into the
pixels, the header, the sidecar, and provenance.json."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Num
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from ..exports.derived import CAPTURE, put_frames
from ..exports.dicom_source import MANUFACTURER, uid_of
from ..io.export import SYNTHETIC_DESCRIPTION
from ..modalities import is_cine, modality_of
from .config import Generated

WORD = "SYNTHETIC"
# each letter of WORD: five rows of three pixels
LETTERS = {
    "S": (7, 4, 7, 1, 7),
    "Y": (5, 5, 2, 2, 2),
    "N": (7, 5, 5, 5, 5),
    "T": (7, 2, 2, 2, 2),
    "H": (5, 5, 7, 5, 5),
    "E": (7, 4, 7, 4, 7),
    "I": (2, 2, 2, 2, 2),
    "C": (7, 4, 4, 4, 7),
}


def word_mask(rows: int, columns: int) -> Bool[np.ndarray, "r c"]:
    """Where the word stands in a picture as it is displayed: at its lower left, 5 pixels high."""
    out = np.zeros((rows, columns), bool)
    for n, letter in enumerate(WORD):
        for r, bits in enumerate(LETTERS[letter]):
            for c in range(3):
                if bits >> (2 - c) & 1:
                    out[rows - 7 + r, 2 + 4 * n + c] = True
    return out


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One generated image. box: volume (I, J, K) in the modality's unit, on an axis-aligned RAS+ grid with
    its middle at the origin, or frame (H, W) of bytes; the word is burned in."""

    modality: str
    of: Generated
    box: Num[np.ndarray, ...]

    @property
    def name(self) -> str:
        """Of its files, without an ending."""
        return f"{self.modality}_{self.of.role}"

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) of a volume."""
        step = np.array(self.of.spacing_mm)
        out = np.diag([*step, 1.0])
        out[:3, 3] = -step * (np.array(self.of.shape) - 1) / 2
        return out


def picture_of(modality: str, of: Generated, normalised: np.ndarray) -> Picture:
    """Values in the modality's unit with the word burned in."""
    values = of.centre + of.width * normalised
    if is_cine(modality):
        frame = np.round(np.clip(values, 0, 255)).astype(np.uint8)
        return Picture(
            modality=modality, of=of, box=np.where(word_mask(*frame.shape), 255, frame).astype(np.uint8)
        )
    lowest = 0.0 if modality_of(modality).unit is None else -np.inf
    whole = np.round(np.clip(values, max(lowest, -32768), 32767)).astype(np.int16)
    shown = word_mask(whole.shape[1], whole.shape[0])  # rows go to the back, columns to the patient's left
    whole[shown.T[::-1, ::-1]] = whole.max()
    return Picture(modality=modality, of=of, box=whole)


def write_nifti(picture: Picture, folder: Path) -> list[Path]:
    """The image and its sidecar."""
    path = folder / f"{picture.name}.nii.gz"
    if is_cine(picture.modality):
        image = nib.Nifti1Image(np.ascontiguousarray(picture.box.T), None)
        image.header["sform_code"] = image.header["qform_code"] = 0
    else:
        image = nib.Nifti1Image(picture.box, picture.affine)
        image.header.set_xyzt_units("mm")
    image.header["descrip"] = SYNTHETIC_DESCRIPTION
    nib.save(image, path)
    side = folder / f"{picture.name}.json"
    frame = "" if is_cine(picture.modality) else f"synthetic:{_digest(picture)[:16]}"
    said = {
        "Modality": picture.modality,
        "medfuse_role": picture.of.role,
        "FrameOfReferenceUID": frame,
        "Synthetic": True,
        "SeriesDescription": f"{WORD} {picture.modality} {picture.of.role}, made by a model",
    }
    side.write_text(json.dumps(said, indent=1), encoding="utf-8")
    return [path, side]


def _digest(picture: Picture) -> str:
    return hashlib.sha256(np.ascontiguousarray(picture.box).tobytes()).hexdigest()


def write_dicom(picture: Picture, folder: Path) -> list[Path]:
    """A multi-frame Secondary Capture of a patient who says he is none: no CT, MR or ultrasound image."""
    path = folder / f"{picture.name}.dcm"
    box = picture.box.astype(np.float32)
    low, high = float(box.min()), float(box.max())
    bytes_ = np.round(255 * (box - low) / max(high - low, 1e-6)).astype(np.uint8)
    frames = bytes_[None] if is_cine(picture.modality) else bytes_[::-1, ::-1].transpose(2, 1, 0)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CAPTURE
    meta.MediaStorageSOPInstanceUID = uid_of("synthetic", picture.name, _digest(picture))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CAPTURE
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID = uid_of("synthetic study", picture.name, _digest(picture))
    ds.SeriesInstanceUID = uid_of("synthetic series", picture.name, _digest(picture))
    ds.PatientName = f"{WORD}^NO PATIENT"
    ds.PatientID = f"{WORD}-{_digest(picture)[:12]}"
    for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"):
        setattr(ds, keyword, "")
    ds.ReferringPhysicianName = ds.StudyID = ds.Laterality = ds.PatientOrientation = ""
    ds.SeriesNumber = ds.InstanceNumber = 1
    ds.Modality = "OT"
    ds.ConversionType = "SYN"
    ds.Manufacturer = MANUFACTURER
    ds.SeriesDescription = f"{WORD} {picture.modality} {picture.of.role}, made by a model"
    ds.ImageType = ["DERIVED", "SECONDARY", WORD]
    ds.BurnedInAnnotation = "YES"
    ds.ImageComments = f"{WORD}: made by a model, no patient; no evidence, no measurement"
    ds.DerivationDescription = "drawn from a latent flow; not acquired"
    put_frames(ds, frames, WORD)
    ds.save_as(path, enforce_file_format=True)
    return [path]
