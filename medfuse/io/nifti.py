"""NIfTI-1/2 (.nii, .nii.gz) and MetaImage (.mha) → Image. The modality must be stated; nothing is guessed."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..case import MODALITIES, Geometry, Image, Region, Source
from ..errors import UnreadableError
from ..settings import settings
from .child import ChildFailed, children
from .decode import SLOW_DISK

SUFFIXES = (".nii", ".nii.gz", ".mha")
GZIP_RATIO = 1040  # deflate cannot pack more than 1032 to 1
MAX_BYTES = 16 * 2**30


def is_volume_file(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def sidecar(path: Path) -> dict:
    """The JSON beside a NIfTI (BIDS habit), or an empty dictionary."""
    name = path.name[: -len(".nii.gz")] if path.name.endswith(".nii.gz") else path.stem
    side = path.with_name(name + ".json")
    if not side.exists():
        return {}
    try:
        found = json.loads(side.read_text())
    except ValueError as e:
        raise UnreadableError(side, f"not valid JSON ({e}); mend or remove it") from e
    return found if isinstance(found, dict) else {}


def read_nifti(
    path: Path, modality: str = "", role: str = "", frame_of_reference: str = "", *, tracked: bool = False
) -> Image:
    """Read one image. Ultrasound becomes frames (T, H, W) without a place; ``tracked`` keeps a sweep or a tracked frame as it lies in
    space, (I, J, K) with its affine, for registration.

    The modality comes from the argument or a JSON sidecar's "Modality". The affine is sform, else qform, RAS+ mm; when
    both are set and put a corner more than 0.1 mm apart, the file is refused.

    Raises UnreadableError.
    """
    if path.name.lower().endswith(".mha"):
        data, affine, zooms, descrip = _read_mha(path)
        tr = 0.0
    else:
        data, affine, zooms, descrip, tr = _read_nib(path)
    side = sidecar(path)
    modality = modality or str(side.get("Modality", ""))
    modality = {"MRI": "MR", "ULTRASOUND": "US"}.get(modality.upper(), modality.upper())
    if not modality:
        raise UnreadableError(
            path,
            'its modality is stated nowhere; say --ct, --mr or --us, or add a JSON sidecar with "Modality"',
        )
    if modality not in MODALITIES:
        raise UnreadableError(path, f"modality {modality} is not one of {', '.join(MODALITIES)}")
    source = Source(
        path=str(path),
        sha256=sha256(path),
        description=str(side.get("SeriesDescription", descrip)),
        manufacturer=str(side.get("Manufacturer", "")),
        simulated="SIMULATED" in descrip or bool(side.get("Simulated", False)),
    )
    role = role or str(side.get("medfuse_role", "")) or "unknown"
    if not np.isfinite(data).all():
        raise UnreadableError(path, "holds NaN or infinite values; clean it before use")
    if modality == "US" and not tracked:
        return _ultrasound(data, zooms, tr, source, role)
    data = data.squeeze()
    if data.ndim == 4:
        raise UnreadableError(path, f"is 4D {data.shape}; split it into one file a volume, each with its role")
    if data.ndim == 2:
        data = data[..., None]
    if data.ndim != 3:
        raise UnreadableError(path, f"has shape {data.shape}, not a volume")
    if affine is None:
        raise UnreadableError(path, "has no orientation (sform and qform are both unset); set one before use")
    return Image(
        modality,  # type: ignore[arg-type]
        data.astype(np.float32, copy=False),
        source,
        affine=affine,
        frame_of_reference=frame_of_reference
        or str(side.get("FrameOfReferenceUID", ""))
        or f"file:{source.sha256[:16]}",
        role=role,
        role_confidence=1.0 if role != "unknown" else 0.0,
        geometry=Geometry("exact"),
    )


def _read_nib(path: Path):
    try:
        image: Any = nib.load(path)
        header = image.header
        _check_size(path, header)
        scaled = image.dataobj.slope not in (1.0, None) or image.dataobj.inter not in (0.0, None)
        data = np.asanyarray(image.dataobj, dtype=np.float32 if scaled else None)
    except UnreadableError:
        raise
    except Exception as e:  # nibabel raises many kinds for a damaged file; all mean the same to the user
        raise UnreadableError(path, f"not a readable NIfTI file ({type(e).__name__}: {str(e)[:120]})") from e
    zooms = tuple(float(z) for z in header.get_zooms())
    affine = _checked_affine(path, header)
    descrip = bytes(header["descrip"]).rstrip(b"\0").decode("latin-1") if "descrip" in header else ""
    to_ms = {"sec": 1e3, "msec": 1.0, "usec": 1e-3}.get(header.get_xyzt_units()[1], 0.0)  # an unstated unit is no time
    return data, affine, zooms, descrip, zooms[3] * to_ms if len(zooms) > 3 else 0.0


def _check_size(path: Path, header) -> None:
    """Refuse what the file cannot hold before any memory is asked for."""
    kind = header.get_data_dtype()
    if kind.names or kind.kind == "c":
        raise UnreadableError(path, f"holds {kind} voxels; only plain numbers are read")
    shape = header.get_data_shape()
    if any(n < 1 for n in shape):
        raise UnreadableError(path, f"has the shape {shape}, which is no volume")
    expected = math.prod(int(n) for n in shape) * kind.itemsize
    most = path.stat().st_size * (GZIP_RATIO if path.name.lower().endswith(".gz") else 1)
    if expected > min(most, MAX_BYTES):
        raise UnreadableError(
            path, f"says it holds {expected / 2**20:.0f} MiB of voxels; its header is damaged or the file cut short"
        )


def _checked_affine(path: Path, header) -> np.ndarray | None:
    sform, scode = header.get_sform(coded=True)
    try:
        qform, qcode = header.get_qform(coded=True)
    except (ValueError, np.linalg.LinAlgError) as e:
        raise UnreadableError(path, f"its qform is not a rotation ({e}); repair the header") from e
    scode, qcode = int(scode), int(qcode)
    if not scode and not qcode:
        return None
    affine = sform if scode else qform
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise UnreadableError(path, "its affine is singular, so no voxel has a place; repair sform or qform")
    if scode and qcode and scode == qcode:
        shape = np.array([*header.get_data_shape()[:3], 1, 1, 1][:3])
        corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * (shape - 1)
        gap = np.abs(corners @ (sform - qform)[:3, :3].T + (sform - qform)[:3, 3]).max()
        if gap > 0.1 + 0.01 * float(np.abs(sform[:3, :3]).max()):
            raise UnreadableError(
                path, f"sform and qform disagree by {gap:.1f} mm; keep the right one and unset the other"
            )
    return np.asarray(affine, float)


def _read_mha(path: Path):
    try:
        found = children().run(_load_mha, path, limit=settings().decode_timeout_s + path.stat().st_size / SLOW_DISK)
    except ChildFailed as e:
        raise UnreadableError(path, str(e)) from e
    if isinstance(found, str):
        raise UnreadableError(path, found)
    return found["data"], found["affine"], found["spacing"], ""


def _load_mha(path: Path) -> dict | str:
    """Runs in a child: ITK is C++ and the file is untrusted."""
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return "not a readable MetaImage file"
    if image.GetDimension() != 3:
        return f"is {image.GetDimension()}D; only volumes are read"
    m = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = m, image.GetOrigin()
    lps_to_ras = np.diag([-1.0, -1, 1, 1])
    return {"data": sitk.GetArrayFromImage(image).T, "affine": lps_to_ras @ affine, "spacing": image.GetSpacing()}


def _ultrasound(data: np.ndarray, zooms: tuple, tr: float, source: Source, role: str) -> Image:
    """(W, H), (W, H, T) or (W, H, 1, T) → (T, H, W) uint8; pixel size from the header's zooms."""
    data = data.reshape(data.shape[0], data.shape[1], -1).transpose(2, 1, 0)
    if data.dtype != np.uint8:
        low, high = float(data.min()), float(data.max())
        data = np.round((data - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    mm = (abs(zooms[0]), abs(zooms[1]))
    regions = (Region((0, 0, data.shape[2] - 1, data.shape[1] - 1), mm),) if min(mm) > 0 and mm != (1.0, 1.0) else ()
    return Image("US", np.ascontiguousarray(data), source, role=role, regions=regions, frame_ms=tr or None)
