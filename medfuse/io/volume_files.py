"""Volume files as they are stored: NIfTI through nibabel, MetaImage and NRRD through SimpleITK in a child
process. What their axes mean is for `nifti` to say."""

from __future__ import annotations

import gzip
import math
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..affine import Affine
from ..errors import UnreadableError
from ..settings import settings
from .child import ChildFailed, children
from .decode import SLOW_DISK
from .sidecar import VOLUME_SUFFIXES

MAX_PACKED_BYTES = 2**29  # of voxels packed tighter than …
MAX_PACKED_RATIO = 200  # … this: a mask is, a picture is not; more is a bomb
GZIP_RATIO = 1040  # deflate cannot pack more than 1032 to 1
MAX_BYTES = 16 * 2**30
TO_MM = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # xyzt_units of NIfTI-1: unknown, metre, mm, micron
TO_MS = {8: 1e3, 16: 1.0, 24: 1e-3}  # second, ms, µs
ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
DETACHED = (".mhd", ".nhdr", ".hdr")  # headers whose voxels lie in another file
RGB = ("R", "G", "B")
NRRD_SPACES = (
    *("left-posterior-superior", "right-anterior-superior", "left-anterior-superior"),
    *("lps", "ras", "las"),
)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a file holds.

    data: the axes of space, then time, as stored; with ``colour`` a last axis of 3 or 4 channels. affine: (4,
    4) to RAS+ mm where the file has one; zooms: mm a voxel, along the axes of space; frame_ms: 0 where not
    said; note: what was changed on the way, "" where nothing was.
    """

    data: np.ndarray
    affine: np.ndarray | None
    zooms: tuple[float, ...]
    colour: bool = False
    descrip: str = ""
    frame_ms: float = 0.0
    note: str = ""


def is_volume_file(path: Path) -> bool:
    """Whether a path ends as NIfTI, MetaImage or NRRD files do."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def suffix_of(path: Path) -> str:
    """The end of a volume file's name that says how it is read, in lower case; "" of another file."""
    return next((s for s in VOLUME_SUFFIXES if path.name.lower().endswith(s)), "")


def load(path: Path) -> Stored:
    """Read a volume file. Raises UnreadableError."""
    return _load_itk(path) if path.name.lower().endswith(ITK_SUFFIXES) else _load_nifti(path)


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
        note="" if space == 1.0 else f"its places are in units of {space:g} mm; they were made mm",
    )


def _open(path: Path, keep: ExitStack) -> Any:
    """By what a file holds, not by its name: a .nii that is gzip, and the reverse."""
    if path.suffix.lower() in (".hdr", ".img"):
        return nib.load(path)
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


def _check_size(path: Path, header: Any) -> None:
    """Refuse what the file cannot hold before any memory is asked for."""
    kind = header.get_data_dtype()
    if (kind.names and kind.names[:3] != RGB) or kind.kind == "c":
        raise UnreadableError(path, f"holds {kind} voxels; only plain numbers and colours are read")
    shape = header.get_data_shape()
    if any(n < 1 for n in shape):
        raise UnreadableError(path, f"has the shape {shape}, which is no volume")
    expected = math.prod(int(n) for n in shape) * kind.itemsize
    with_voxels = path.with_suffix(".img") if path.suffix.lower() == ".hdr" else path
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


def _units(path: Path, header: Any) -> tuple[float, float]:
    """(mm a unit of space, ms a unit of time); an unstated unit of time is no time."""
    if "xyzt_units" not in header:  # Analyze
        return 1.0, 0.0
    code = int(header["xyzt_units"])
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


def _load_itk(path: Path) -> Stored:
    _check_parts(path)
    try:
        found = children().run(
            _read_itk, path, limit=settings().decode_timeout_s + path.stat().st_size / SLOW_DISK
        )
    except ChildFailed as e:
        raise UnreadableError(path, str(e)) from e
    if isinstance(found, str):
        raise UnreadableError(path, found)
    return Stored(data=found["data"], affine=found["affine"], zooms=found["spacing"], colour=found["colour"])


def _check_parts(path: Path) -> None:
    """A detached header names its voxels' file: only one beside it is opened, never another of this
    machine."""
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return
    with path.open("rb") as f:
        text = f.read(64 * 1024).decode("latin-1")
    for key, name in re.findall(r"(?im)^\s*(ElementDataFile\s*=|data ?file\s*:)\s*(.*?)\s*$", text):
        if not name or name.upper() == "LIST" or "%" in name or Path(name).name != name:
            raise UnreadableError(
                path, f"its {key.strip('=: ')} is {name[:60]!r}; only one file beside it is read"
            )
        if name.upper() != "LOCAL" and path.with_name(name).is_symlink():
            raise UnreadableError(path, f"its voxels' file {name[:60]!r} is a link; give the file itself")


def _read_itk(path: Path) -> dict | str:
    """Runs in a child: ITK is C++ and the file is untrusted."""
    import SimpleITK as sitk

    kind = "MetaImage" if path.suffix.lower() in (".mha", ".mhd") else "NRRD"
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return f"not a readable {kind} file"
    channels = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() not in (2, 3) or channels not in (1, 3, 4):
        what = f"{image.GetDimension()}D" + (f" with {channels} values a voxel" if channels > 1 else "")
        return f"is {what}; volumes, pictures and their colours are read"
    array = sitk.GetArrayFromImage(image)
    colour = channels > 1
    if array.dtype.kind == "c" or (colour and array.dtype != np.uint8):
        return (
            f"holds {channels} values of {array.dtype} a voxel; plain numbers and colours in bytes are read"
        )
    data = np.moveaxis(array[..., :3].T, 0, -1) if colour else array.T
    if image.GetDimension() == 2:
        return {
            "data": data[:, :, None],
            "affine": None,
            "spacing": (*image.GetSpacing(), 1.0),
            "colour": colour,
        }
    if kind == "NRRD" and not _has_space(path):
        return {"data": data, "affine": None, "spacing": image.GetSpacing(), "colour": colour}
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    try:
        affine = Affine.of(axes, np.array(image.GetOrigin()), "LPS+").ras
    except ValueError as e:
        return f"{e}, so no voxel has a place; repair its header"
    return {"data": data, "affine": affine, "spacing": image.GetSpacing(), "colour": colour}


def _has_space(path: Path) -> bool:
    """Whether a NRRD says in which space of the patient it lies; ITK takes one that does not for LPS."""
    with path.open("rb") as f:
        text = f.read(64 * 1024).replace(b"\r\n", b"\n").split(b"\n\n")[0].decode("latin-1")
    found = re.search(r"(?im)^space:\s*(\S+)", text)
    return found is not None and found[1].lower() in NRRD_SPACES


def header_of(path: Path) -> Path | None:
    """The header beside a file that holds nothing but its voxels, by the names that writers give them."""
    headers = {".img": (".hdr",), ".raw": (".mhd", ".nhdr"), ".zraw": (".mhd",)}
    endings = headers.get(path.suffix.lower(), ())
    made = [path.with_name(path.stem + e) for ending in endings for e in (ending, ending.upper())]
    return next((f for f in made if f.is_file()), None)
