"""Pixels of one DICOM file, decoded in a child process (see `child`).

pydicom's own plugins come first (pylibjpeg, pyjpegls), gdcm only after them. Frames of a compressed cine are
shared out among the children, so every core decodes.
"""

from __future__ import annotations

import math
import resource
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ..errors import UnreadableError, UnsupportedError, os_fault
from ..settings import settings
from .child import ChildFailed, children
from .palette import coloured
from .streams import BARE, dicom_film

UNCOMPRESSED = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian}
COPIES = 3  # of the pixels, that a decoder may hold at a time
ORDER = ("pylibjpeg", "pyjpegls", "gdcm", "pydicom")
UNSUPPORTED = "its pixels are coded in"  # how the sentence begins when no decoder is installed
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
T = TypeVar("T")
SLOW_DISK = 20 * 2**20  # bytes a second that a file may take to arrive, beside the time to decode it
MAX_RATIO = (
    2000  # of pixels to file: an all-black RLE or JPEG 2000 frame comes near it, nothing real goes beyond
)
MAX_PIXEL_BYTES = 16 * 2**30  # of one file: more is a damaged header


def parsed(parser: Callable[[Path], T | str], path: Path) -> T:
    """What a parser makes of a file in a child, which has time for the file's size. Raises UnreadableError
    with the system's words, the child's, or the clause that the parser gives in place of a value."""
    try:
        limit = settings().decode_timeout_s + path.stat().st_size / SLOW_DISK
        found = children().run(parser, path, limit=limit)
    except OSError as e:
        raise UnreadableError(path, f"cannot be read ({os_fault(e)}); check the path") from e
    except ChildFailed as e:
        raise UnreadableError(path, str(e)) from e
    if isinstance(found, str):
        raise UnreadableError(path, found)
    return found


def read_pixels(path: Path, header: Dataset) -> np.ndarray:
    """Stored pixels of one file: (F, H, W) or (F, H, W, 3), native dtype, colour as RGB. F is 1 for a single
    frame.

    Raises UnreadableError.
    """
    frames = check_size(path, header)
    syntax = _syntax(header)
    raw = syntax is None or syntax in UNCOMPRESSED
    pool = children()
    limit = settings().decode_timeout_s + path.stat().st_size / SLOW_DISK
    whole = raw or syntax == DeflatedExplicitVRLittleEndian or syntax in BARE
    step = frames if whole else max(1, -(-frames // pool.n))

    def part(start: int) -> np.ndarray:
        try:
            array = pool.run(decode, path, start, min(frames, start + step), limit=limit)
        except ChildFailed as e:
            raise UnreadableError(path, str(e)) from e
        if isinstance(array, str):
            raise (UnsupportedError if array.startswith(UNSUPPORTED) else UnreadableError)(path, array)
        return array

    # one call needs no thread: this may itself run in one of the pool's threads, which must not wait for
    # another
    parts = [part(0)] if step >= frames else list(pool.each(part, range(0, frames, step)))
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(array) != frames:
        raise UnreadableError(
            path, f"holds {len(array)} frames where its header says {frames}; it is cut short"
        )
    return array


def check_size(path: Path, header: Dataset) -> int:
    """The number of frames, when the pixels that the header promises can be in the file. Raises
    UnreadableError."""
    try:
        frames = int(header.get("NumberOfFrames") or 1)
        rows = int(header.Rows)
        columns = int(header.Columns)
        samples = int(header.get("SamplesPerPixel") or 1)
        bits = int(header.get("BitsAllocated") or 16)
    except (AttributeError, TypeError, ValueError) as e:
        raise UnreadableError(path, "says in no readable way how many rows, columns and frames it has") from e
    expected = frames * rows * columns * samples * max(bits, 8) // 8
    size = path.stat().st_size
    syntax = _syntax(header)
    if not 0 < expected <= MAX_PIXEL_BYTES:
        raise UnreadableError(
            path, f"says it holds {expected / 2**30:.1f} GiB of pixels; its header is damaged"
        )
    if (syntax is None or syntax in UNCOMPRESSED) and size < expected * 0.5:
        raise UnreadableError(
            path, f"is truncated: {size} bytes for {expected} bytes of pixels; copy it again"
        )
    if expected > size * MAX_RATIO:
        raise UnreadableError(
            path, f"says its {size} bytes hold {expected / 2**20:.0f} MiB of pixels; it is damaged"
        )
    return frames


def _syntax(header: Dataset) -> UID | None:
    return (
        header.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
        if hasattr(header, "file_meta")
        else None
    )


def plain_tail(path: Path, header: Dataset) -> np.ndarray | None:
    """(1, H, W) of a grey little-endian slice whose file ends with its pixels; None for everything else.

    The last bytes before the pixels must be the element (7FE0,0010) with exactly their length, and values
    must fit in
    BitsStored: then there is nothing to decode and nothing for a child to guard against.
    """
    bits = int(header.get("BitsAllocated") or 0)
    stored = int(header.get("BitsStored") or 0)
    if not _grey_as_it_stands(header, bits, stored):
        return None
    if int(header.get("HighBit") or stored - 1) != stored - 1:  # the values do not begin at the lowest bit
        return None
    signed = bool(int(header.get("PixelRepresentation") or 0))
    values = np.empty((1, int(header.Rows), int(header.Columns)), f"<{'i' if signed else 'u'}{bits // 8}")
    if not _read_tail(path, values, explicit=_syntax(header) == ExplicitVRLittleEndian):
        return None
    if stored < bits:
        low, high = (-(1 << (stored - 1)), (1 << (stored - 1)) - 1) if signed else (0, (1 << stored) - 1)
        if values.min() < low or values.max() > high:  # something else lives in the unused bits
            return None
    return values


def _grey_as_it_stands(header: Dataset, bits: int, stored: int) -> bool:
    """Whether the pixels are uncompressed little-endian grey of whole bytes."""
    if _syntax(header) not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        return False
    if bits not in (8, 16) or not 0 < stored <= bits:
        return False
    return int(header.get("SamplesPerPixel") or 1) == 1 and not _palette(header)


def _read_tail(path: Path, values: np.ndarray, *, explicit: bool) -> bool:
    """Fill ``values`` with the last bytes of a file, where just before them stands the head of PixelData with
    their length. False where it does not."""
    length = values.nbytes
    padded = length + length % 2
    before = 12 if explicit else 8
    start = path.stat().st_size - padded
    if start < before:
        return False
    with path.open("rb", buffering=0) as f:
        f.seek(start - before)
        head = f.read(before)
        vr_fits = not explicit or head[4:8] in (b"OW\0\0", b"OB\0\0")
        if head[:4] != b"\xe0\x7f\x10\x00" or not vr_fits or head[-4:] != padded.to_bytes(4, "little"):
            return False
        return f.readinto(values.view(np.uint8).data) == length  # type: ignore[arg-type]


def _palette(header: Dataset) -> bool:
    return header.get("PhotometricInterpretation") == "PALETTE COLOR"


def decode(path: Path, start: int = 0, stop: int | None = None) -> np.ndarray | str:
    """Frames start to stop as (F, H, W[, 3]), or one clause that says why not. Runs in a child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, force=True)
            if not hasattr(ds.file_meta, "TransferSyntaxUID"):
                ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            if not any(k in ds for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
                return "holds no pixel data; the file ends early or was never an image"
            return _frames(ds, start, stop)
        except (MemoryError, RecursionError):
            raise
        except Exception as e:  # damaged data can break any part of the parser
            return (
                f"its pixels are damaged ({type(e).__name__}: {str(e)[:120]}); copy it again from the source"
            )


def _frames(ds: Dataset, start: int, stop: int | None) -> np.ndarray | str:
    from pydicom.pixels import iter_pixels, pixel_array

    frames = int(ds.get("NumberOfFrames") or 1)
    stop = frames if stop is None else stop
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax in BARE:
        return dicom_film(ds)  # one stream, whose frames cannot be taken one by one
    reasons = []
    unused = _low_bits(ds)
    for plugin in ("",) if syntax in UNCOMPRESSED else ORDER:
        try:
            if stop - start == frames:
                array = pixel_array(ds, decoding_plugin=plugin)
                array = array if frames > 1 else array[None]
            else:
                array = np.stack(list(iter_pixels(ds, indices=range(start, stop), decoding_plugin=plugin)))
            break
        except MemoryError:
            raise
        except Exception as e:  # every plugin has its own errors; the first word goes to the user
            reasons.append(str(e).splitlines()[0][:140] if str(e) else type(e).__name__)
    else:
        return _undecoded(ds, stop - start, reasons[0])
    if unused:
        array = np.right_shift(array, unused)
    if _palette(ds):
        array = coloured(array, ds)
    return array


def _undecoded(ds: Dataset, frames: int, reason: str) -> str:
    """Why frames could not be decoded. Raises MemoryError where they are more than this process may hold."""
    syntax = ds.file_meta.TransferSyntaxUID
    if _beyond_memory(ds, frames):
        raise MemoryError
    if not _decodable(ds):
        return f"{UNSUPPORTED} {syntax.name} ({syntax}), which no decoder here can read; see medfuse info"
    return f"its pixels ({syntax.name}, {syntax}) cannot be decoded: {reason}"


def _beyond_memory(ds: Dataset, frames: int) -> bool:
    """Whether frames that could not be decoded are more than this process may hold: decoders in C then give
    nothing, and not the reason."""
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return False
    taken = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    stated = (int(ds.get(k) or 1) for k in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated"))
    return COPIES * frames * math.prod(stated) // 8 > most - taken


def _low_bits(ds: Dataset) -> int:
    """How many bits below the values of uncompressed pixels are no part of them, by HighBit (PS3.5 8.1.1);
    the decoder is told to keep them, as it would cut off the upper ones."""
    stored = int(ds.get("BitsStored") or 0)
    high = int(ds.get("HighBit") or 0)
    plain = ds.file_meta.TransferSyntaxUID in (*UNCOMPRESSED, DeflatedExplicitVRLittleEndian)
    unused = high + 1 - stored
    if not plain or unused <= 0 or stored < 1 or high >= int(ds.get("BitsAllocated") or 0):
        return 0
    ds.BitsStored = high + 1
    return unused


def _decodable(ds: Dataset) -> bool:
    """Whether a decoder for this transfer syntax is installed; 12-bit JPEG needs the extra ``jpeg12``."""
    from pydicom.pixels import get_decoder

    syntax = ds.file_meta.TransferSyntaxUID
    if syntax == JPEG_EXTENDED and int(ds.get("BitsAllocated") or 8) > 8:
        return find_spec("libjpeg") is not None
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def transfer_syntaxes() -> list[dict[str, str]]:
    """What can be decoded here: name, UID and the plugins that are installed for it."""
    from pydicom.pixels import get_decoder

    out = [
        {"uid": str(u), "name": u.name, "decoder": "pydicom"}
        for u in (*sorted(UNCOMPRESSED), DeflatedExplicitVRLittleEndian)
    ]
    films = BARE if find_spec("av") is not None else {}
    out += [{"uid": uid, "name": UID(uid).name, "decoder": "PyAV"} for uid in films]
    for uid in AllTransferSyntaxes:
        if uid in UNCOMPRESSED or uid == DeflatedExplicitVRLittleEndian or uid in BARE:
            continue
        try:
            decoder = get_decoder(uid)
        except NotImplementedError:
            continue
        if decoder.is_available:
            out.append({"uid": str(uid), "name": uid.name, "decoder": ", ".join(decoder.available_plugins)})
    return out
