"""Volume files as they are stored: NIfTI through nibabel, MetaImage and NRRD by `itk_files`. What their axes
mean is for `nifti` to say."""

from __future__ import annotations

import gzip
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..affine import Affine
from ..errors import UnreadableError
from .beside import beside
from .itk_files import SUFFIXES as ITK_SUFFIXES
from .itk_files import load_itk
from .sidecar import VOLUME_SUFFIXES
from .stored import Axis, Stored, no_mm, taken_as_mm, unit_note

MAX_PACKED_BYTES = 2**29  # of voxels packed tighter than …
MAX_PACKED_RATIO = 200  # … this: a mask is, a picture is not; more is a bomb
GZIP_RATIO = 1040  # deflate cannot pack more than 1032 to 1
MAX_BYTES = 16 * 2**30
TO_MM = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # xyzt_units of NIfTI-1: unknown, metre, mm, micron
TO_MS = {8: 1e3, 16: 1.0, 24: 1e-3}  # second, ms, µs
DETACHED = (".mhd", ".nhdr", ".hdr")  # headers whose voxels lie in another file
RGB = ("R", "G", "B")
# intent codes of NIfTI-1 by which the last axis holds colours
COLOURS = (2003, 2004)


def is_volume_file(path: Path) -> bool:
    """Whether a path ends as NIfTI, MetaImage or NRRD files do."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def suffix_of(path: Path) -> str:
    """The end of a volume file's name that says how it is read, in lower case; "" of another file."""
    return next((s for s in VOLUME_SUFFIXES if path.name.lower().endswith(s)), "")


def load(path: Path) -> Stored:
    """Read a volume file. Raises UnreadableError."""
    return load_itk(path) if path.name.lower().endswith(ITK_SUFFIXES) else _load_nifti(path)


def _load_nifti(path: Path) -> Stored:
    try:
        with ExitStack() as keep:
            image = _open(path, keep)
            header = image.header
            _check_size(path, header)
            scaled = image.dataobj.slope not in (1.0, None) or image.dataobj.inter not in (0.0, None)
            data = np.asanyarray(image.dataobj, dtype=np.float32 if scaled else None)
    except UnreadableError:
        raise
    except Exception as e:  # nibabel raises many kinds for a damaged file; all mean the same to the user
        raise UnreadableError(path, f"not a readable NIfTI file ({type(e).__name__}: {str(e)[:120]})") from e
    data, colour = _channels(path, data, header)
    last = _last(header, _units(path, header)[1])
    if last == "colour" and not colour:
        data, colour = with_colours(path, data), True
    space, time = _units(path, header)
    zooms = tuple(float(z) for z in header.get_zooms())
    affine = checked_affine(path, header)
    if affine is not None and space != 1.0:
        affine = np.diag([space, space, space, 1.0]) @ affine
    descrip = bytes(header["descrip"]).rstrip(b"\0").decode("latin-1") if "descrip" in header else ""
    return Stored(
        data=data,
        affine=affine,
        zooms=tuple(z * space for z in zooms[:3]),
        colour=colour,
        descrip=descrip,
        frame_ms=zooms[3] * time if len(zooms) > 3 else 0.0,
        last=last,
        note=unit_note(space) if _stated_unit(header) else taken_as_mm(zooms),
    )


def _stated_unit(header: Any) -> bool:
    return "xyzt_units" in header and int(header["xyzt_units"]) & 7 != 0


def _last(header: Any, time: float) -> Axis:
    """What a NIfTI header says that its last axis is."""
    if "intent_code" in header and int(header["intent_code"]) in COLOURS:
        return "colour"
    return "time" if time and len(header.get_data_shape()) == 4 else ""


def _open(path: Path, keep: ExitStack) -> Any:
    """By what a file holds, not by its name: a .nii that is gzip, and the reverse."""
    if path.suffix.lower() == ".hdr":
        return _pair(path)
    with path.open("rb") as f:
        packed = f.read(2) == b"\x1f\x8b"
    opened = gzip.GzipFile(path, "rb") if packed else path.open("rb")
    with opened as f:
        start = f.read(540)
        for kind in (nib.Nifti1Image, nib.Nifti2Image):
            if kind.header_class.may_contain_header(start):
                break
        else:
            raise UnreadableError(path, "not a readable NIfTI file (its first bytes are no NIfTI header)")
    if path.name.lower().endswith(".gz") == packed:
        holder = nib.FileHolder(filename=str(path))
    else:  # nibabel opens by name; a file whose name lies about its packing is handed over open
        raw = keep.enter_context(path.open("rb"))
        holder = nib.FileHolder(fileobj=keep.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw)
    return kind.from_file_map({"header": holder, "image": holder})


def _pair(path: Path) -> Any:
    """A header and its voxels beside it, each ending in any case."""
    start = path.read_bytes()[:540]
    kinds = (nib.Nifti1Pair, nib.Nifti2Pair, nib.AnalyzeImage)
    kind = next((k for k in kinds if k.header_class.may_contain_header(start)), None)
    if kind is None:
        raise UnreadableError(path, "not a readable NIfTI file (its first bytes are no NIfTI header)")
    holders = {"header": nib.FileHolder(filename=str(path))}
    return kind.from_file_map(holders | {"image": nib.FileHolder(filename=str(_voxels_of(path)))})


def _voxels_of(path: Path) -> Path:
    """The file that holds the voxels of a NIfTI. Raises UnreadableError where a header has none beside it."""
    if path.suffix.lower() != ".hdr":
        return path
    found = beside(path, f"{path.stem}.img") or beside(path, f"{path.stem}.img.gz")
    if found is None:
        raise UnreadableError(path, "its voxels' file (.img) is not beside it")
    return found


def _check_size(path: Path, header: Any) -> None:
    """Refuse what the file cannot hold before any memory is asked for."""
    kind = header.get_data_dtype()
    if (kind.names and kind.names[:3] != RGB) or kind.kind == "c":
        raise UnreadableError(path, f"holds {kind} voxels; only plain numbers and colours are read")
    shape = header.get_data_shape()
    if any(n < 1 for n in shape):
        raise UnreadableError(path, f"has the shape {shape}, which is no volume")
    expected = math.prod(int(n) for n in shape) * kind.itemsize
    with_voxels = _voxels_of(path)
    with with_voxels.open("rb") as f:
        packed = f.read(2) == b"\x1f\x8b"
    most = with_voxels.stat().st_size * (GZIP_RATIO if packed else 1)
    if expected > min(most, MAX_BYTES):
        raise UnreadableError(
            path,
            f"says it holds {expected / 2**20:.0f} MiB of voxels; its header is damaged or the file "
            "cut short",
        )
    if packed:
        check_packing(path, with_voxels.stat().st_size, expected)


def check_packing(path: Path, packed: int, unpacked: int) -> None:
    """Refuse a small file that would take a lot of memory. packed, unpacked: bytes. Raises
    UnreadableError."""
    if unpacked > MAX_PACKED_BYTES and unpacked > packed * MAX_PACKED_RATIO:
        raise UnreadableError(
            path,
            f"would unpack to {unpacked / 2**30:.1f} GiB from {packed / 2**20:.1f} MiB; refused as a bomb, "
            "not written",
        )


def _channels(path: Path, data: np.ndarray, header: Any) -> tuple[np.ndarray, bool]:
    """Colour as RGB voxels, or as a fifth axis of three or four (the axis of vectors, and our own export's);
    any other vector is no image."""
    if data.dtype.names:
        return np.stack([data[c] for c in RGB], -1), True
    if data.ndim < 5 or data.shape[4] == 1:
        return data, False
    if data.ndim > 5 or data.shape[4] not in (3, 4) or data.dtype != np.uint8:
        raise UnreadableError(
            path,
            f"has the shape {data.shape} of {data.dtype}: vectors or tensors, no image; colours are bytes",
        )
    return data[..., :3], True


def with_colours(path: Path, data: np.ndarray) -> np.ndarray:
    """Bytes whose last axis is known to hold colours, without the fourth one. Raises UnreadableError."""
    if data.ndim < 3 or data.shape[-1] not in (3, 4) or data.dtype != np.uint8:
        raise UnreadableError(
            path, f"has the shape {data.shape} of {data.dtype} and is said to hold colours; these are 3 bytes"
        )
    return data[..., :3]


def _units(path: Path, header: Any) -> tuple[float, float]:
    """(mm a unit of space, ms a unit of time); an unstated unit of time is no time. Raises UnreadableError
    where no unit is stated and mm cannot be meant."""
    code = int(header["xyzt_units"]) if "xyzt_units" in header else 0  # Analyze has none
    if code & 7 == 0 and (why := no_mm(header.get_data_shape()[:3], header.get_zooms()[:3])):
        raise UnreadableError(path, why)
    if code & 7 not in TO_MM:
        raise UnreadableError(path, f"states a unit of space that NIfTI does not know (code {code & 7})")
    return TO_MM[code & 7], TO_MS.get(code & 0x38, 0.0)


def checked_affine(path: Path, header: Any) -> np.ndarray | None:
    """(4, 4) voxel → RAS+ in the file's unit: sform, else qform, None where neither is set. Raises
    UnreadableError where it is singular, or both are set and disagree."""
    if not hasattr(header, "get_sform"):  # Analyze says where nothing lies
        return None
    sform, scode = header.get_sform(coded=True)
    try:
        qform, qcode = header.get_qform(coded=True)
    except (ValueError, np.linalg.LinAlgError) as e:
        raise UnreadableError(path, f"its qform is not a rotation ({e}); repair the header") from e
    if not int(scode) and not int(qcode):
        return None
    affine = np.asarray(sform if int(scode) else qform, float)
    try:
        Affine(affine)
    except ValueError as e:
        raise UnreadableError(path, f"its {e}, so no voxel has a place; repair sform or qform") from e
    if int(scode) and int(scode) == int(qcode):
        _check_agreement(path, header, sform, qform)
    return affine


def _check_agreement(path: Path, header: Any, sform: np.ndarray, qform: np.ndarray) -> None:
    """Both say where a corner lies; more than a tenth of a voxel apart, one of them is wrong."""
    shape = np.array([*header.get_data_shape()[:3], 1, 1, 1][:3])
    corners = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * (shape - 1)
    apart = sform - qform
    mm = _units(path, header)[0]
    gap = np.abs(corners @ apart[:3, :3].T + apart[:3, 3]).max() * mm
    smallest = float(np.linalg.norm(sform[:3, :3], axis=0).min()) * mm
    if gap > 0.1 * min(1.0, smallest) + 0.01 * float(np.abs(sform[:3, :3]).max()) * mm:
        raise UnreadableError(
            path, f"sform and qform disagree by {gap:.1f} mm; keep the right one and unset the other"
        )


def header_of(path: Path) -> Path | None:
    """The header beside a file that holds nothing but its voxels, by the names that writers give them."""
    headers = {".img": (".hdr",), ".raw": (".mhd", ".nhdr"), ".zraw": (".mhd",), ".gz": (".nhdr",)}
    endings = headers.get(path.suffix.lower(), ())
    stem = path.stem[:-4] if path.name.lower().endswith((".raw.gz", ".img.gz")) else path.stem
    endings = (".hdr",) if path.name.lower().endswith(".img.gz") else endings
    return next((f for ending in endings if (f := beside(path, stem + ending)) is not None), None)
