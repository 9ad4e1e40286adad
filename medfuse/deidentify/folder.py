"""`medfuse deidentify PATH --out DIR`: every DICOM image of a path, changed, renamed and accounted for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ..errors import UnreadableError, UserError
from ..io.decode import read_pixels
from ..io.headers import read_header
from ..io.scan import files_under, opened
from ..io.ultrasound import brightest_frame, regions, scan_area, text_boxes
from .keys import Pseudonyms
from .pixels import mask_outside
from .profile import Options, deidentify


def deidentify_folder(
    path: Path,
    out: Path,
    *,
    key: bytes,
    options: Options,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Write OUT/<patient>/<study>/<series>/<instance>.dcm and OUT/report.json; return the report.

    A file whose pixels may hold a name that cannot be found is not written: it is refused by name.
    """
    pseudonyms = Pseudonyms(key)
    removed: Counter[str] = Counter()
    replaced: Counter[str] = Counter()
    refused, written, masked = [], [], 0
    skipped: Counter[str] = Counter()
    with opened(path) as inside:
        files = files_under(inside)
        for n, file in enumerate(files, 1):
            progress(n, len(files))
            entry = read_header(file)
            if entry.header is None:
                skipped[entry.status] += 1
                if entry.status == "damaged":
                    refused.append({"path": str(file), "reason": entry.reason})
                continue
            try:
                ds, boxes = _one(file, entry.modality, pseudonyms, options)
            except UnreadableError as e:
                refused.append({"path": e.path, "reason": e.reason})
                continue
            changes = deidentify(ds, pseudonyms, options)
            removed.update(changes.removed)
            replaced.update(changes.replaced)
            masked += boxes is not None
            target = (
                out
                / str(ds.PatientID)
                / ds.StudyInstanceUID[-12:]
                / ds.SeriesInstanceUID[-12:]
                / f"{ds.SOPInstanceUID[-16:]}.dcm"
            )
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            for name in (
                "SourceApplicationEntityTitle",
                "SendingApplicationEntityTitle",
                "ReceivingApplicationEntityTitle",
                "PrivateInformation",
                "PrivateInformationCreatorUID",
            ):
                if name in ds.file_meta:
                    delattr(ds.file_meta, name)
            _save(ds, target)
            written.append({"path": str(target.relative_to(out)), "text_boxes": boxes or []})
    report = {
        "written": len(written), "masked": masked, "skipped": dict(skipped), "refused": refused, "files": written,
        "removed": dict(removed.most_common()), "replaced": dict(replaced.most_common()),
        "options": {"retain_uids": options.retain_uids, "shift_dates": options.shift_dates, "clean_descriptors": options.clean_descriptors},
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=1))
    return report


def _save(ds: pydicom.FileDataset, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        ds.preamble = b"\0" * 128  # a preamble may hold anything
        implicit = ds.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        little = ds.file_meta.TransferSyntaxUID != ExplicitVRBigEndian
        pydicom.dcmwrite(target, ds, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    except OSError as e:
        raise UserError(f"{target}: cannot be written ({e.strerror or e}); free space or choose another --out") from e


def _one(
    file: Path, modality: str, pseudonyms: Pseudonyms, options: Options
) -> tuple[pydicom.FileDataset, list | None]:
    """The full data set, with ultrasound pixels masked; the text boxes found, or None where nothing was masked."""
    ds = pydicom.dcmread(file, force=True)
    if "PixelData" not in ds:
        raise UnreadableError(file, "holds no pixel data; the file ends early")
    if modality != "US":
        if str(ds.get("BurnedInAnnotation", "")).upper() == "YES":
            raise UnreadableError(
                file, "says text is burned into its pixels, and only ultrasound is masked; not written"
            )
        return ds, None
    pixels = read_pixels(file, ds)
    brightest = brightest_frame(pixels)
    area = scan_area(brightest, regions(ds))
    if area is None:
        raise UnreadableError(file, "its scanned area cannot be told from burned-in text; not written")
    boxes = text_boxes(brightest, area)
    _replace_pixels(ds, mask_outside(pixels, area))
    ds.BurnedInAnnotation = "NO"
    return ds, [list(b) for b in boxes]


def _replace_pixels(ds: pydicom.FileDataset, pixels: np.ndarray) -> None:
    """Uncompressed, colour by pixel as RGB."""
    colour = pixels.ndim == 4
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = (
        "RGB" if colour else "MONOCHROME1" if ds.get("PhotometricInterpretation") == "MONOCHROME1" else "MONOCHROME2"
    )
    if colour:
        ds.PlanarConfiguration = 0
        for name in ("RedPaletteColorLookupTable", "GreenPaletteColorLookupTable", "BluePaletteColorLookupTable"):
            for key in (name + "Data", name + "Descriptor", "Segmented" + name + "Data"):
                if key in ds:
                    delattr(ds, key)
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated = bits
    if colour or ds.BitsStored > bits:
        ds.BitsStored = bits
    ds.HighBit = ds.BitsStored - 1
    data = np.ascontiguousarray(pixels).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
