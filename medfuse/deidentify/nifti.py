"""NIfTI without the person: the voxels and the geometry under a header made anew; texts and extensions
stay behind."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import nibabel as nib
import numpy as np

from ..errors import OutputError, UnreadableError, os_fault
from ..io.decode import MAX_PIXEL_BYTES
from ..io.export import SIMULATED_DESCRIPTION, SYNTHETIC_DESCRIPTION
from ..io.sidecar import Sidecar, read_sidecar
from ..io.volume_files import check_packing
from .vocabulary import words

# numbers that say where the voxels lie and what they mean; all else is left at its default
KEPT = words(
    """
    datatype bitpix scl_slope scl_inter xyzt_units qform_code sform_code quatern_b quatern_c quatern_d
    qoffset_x qoffset_y qoffset_z srow_x srow_y srow_z
    """
)
TEXTS = ("descrip", "aux_file", "intent_name", "db_name", "data_type")
VECTOR = 1007  # intent code of vectors, without which a fifth axis is read as something else
SUFFIXES = (".nii", ".nii.gz")


def clean_nifti(path: Path, target: Path) -> list[str]:
    """Write ``target`` (.nii.gz) and return what was left behind. Raises UnreadableError, OutputError."""
    if not path.name.lower().endswith(SUFFIXES):
        raise UnreadableError(path, "is no single NIfTI file (.nii, .nii.gz); not written")
    try:
        with path.open("rb") as f:
            packed = f.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as source:
            header, voxels, dropped = _parts(path, cast(BinaryIO, source))
    except (OSError, EOFError, zlib.error) as e:
        raise UnreadableError(path, "cannot be read: it is damaged or cut short; not written") from e
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # no file name and no time in the gzip header
        with target.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as out:
            out.write(header.binaryblock + b"\0" * 4)
            out.write(voxels)
    except OSError as e:
        raise OutputError(f"{target}: cannot be written ({os_fault(e)}); choose another --out") from e
    return dropped


def _made(path: Path, old: nib.Nifti1Header) -> bytes:
    """That no patient was imaged, in our own words, where the header or the sidecar says so."""
    try:
        side = read_sidecar(path)
    except UnreadableError:  # the copy has no sidecar
        side = Sidecar()
    text = bytes(old["descrip"].tobytes())
    if b"SYNTHETIC" in text or side.synthetic:
        return SYNTHETIC_DESCRIPTION
    return SIMULATED_DESCRIPTION if b"SIMULATED" in text or side.simulated else b""


def _parts(path: Path, source: BinaryIO) -> tuple[nib.Nifti1Header, bytes, list[str]]:
    """A header made anew, the voxels' bytes, and what the old file held besides."""
    old = _header(path, source)
    size = int(np.prod(old.get_data_shape(), dtype=np.int64)) * old.get_data_dtype().itemsize
    if not 0 < size <= MAX_PIXEL_BYTES:
        raise UnreadableError(path, "says in its header that it holds no or too many voxels; not written")
    check_packing(path, path.stat().st_size, size)
    start = int(old["vox_offset"])
    gap = source.read(start - old.sizeof_hdr) if start > old.sizeof_hdr else b""
    voxels = source.read(size)
    if len(voxels) < size:
        raise UnreadableError(
            path, f"is cut short: {size - len(voxels)} bytes of voxels are missing; not written"
        )
    dropped = [name for name in TEXTS if name in old and bytes(old[name].tobytes()).strip(b"\0 ")]
    if gap.strip(b"\0"):
        dropped.append("header extensions")
    if source.read(1):
        dropped.append("bytes behind the voxels")
    new = _fresh(old)
    new["descrip"] = _made(path, old)
    return new, voxels, dropped


def _header(path: Path, source: BinaryIO) -> nib.Nifti1Header:
    """NIfTI-1 or NIfTI-2 by its first number."""
    start = source.read(4)
    source.seek(0)
    kind = (
        nib.Nifti2Header
        if 540 in (int.from_bytes(start, "little"), int.from_bytes(start, "big"))
        else nib.Nifti1Header
    )
    try:
        header = kind(source.read(kind.sizeof_hdr), check=False)
    except Exception as e:  # a damaged header can break nibabel in many ways
        raise UnreadableError(path, "has a damaged NIfTI header; not written") from e
    if bytes(header["magic"].tobytes())[:2] not in (b"n+",) or header.sizeof_hdr != int(header["sizeof_hdr"]):
        raise UnreadableError(path, "is no single NIfTI file; not written")
    return header


def _fresh(old: nib.Nifti1Header) -> nib.Nifti1Header:
    """A header of the numbers of KEPT and the used axes only."""
    new = type(old)(endianness=old.endianness)
    for name in KEPT:
        new[name] = old[name]
    axes = int(old["dim"][0])
    new["dim"] = [int(v) if n <= axes else 1 for n, v in enumerate(old["dim"])]
    new["pixdim"] = [float(v) if n <= axes else 1.0 for n, v in enumerate(old["pixdim"])]
    if int(old["intent_code"]) == VECTOR:
        new["intent_code"] = VECTOR
    new["vox_offset"] = new.sizeof_hdr + 4
    return new
