"""Frames out of a video stream, by FFmpeg through PyAV; only inside a child process.

The container is always named to FFmpeg, so that no playlist or list of other files is followed.
"""

from __future__ import annotations

import resource
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from pydicom.dataset import Dataset

if TYPE_CHECKING:
    from av.container import InputContainer

SHARE = 0.8  # of a child's free memory that frames may fill: it grows by steps, and a decoder needs some
UNLIMITED = 2**30  # bytes of frames where the process has no limit of its own
# DICOM's transfer syntaxes of whole films (PS3.5 A.4.5 to A.4.11) and the bare stream that each may hold
BARE = {
    "1.2.840.10008.1.2.4.100": "mpegvideo",
    "1.2.840.10008.1.2.4.101": "mpegvideo",
    "1.2.840.10008.1.2.4.102": "h264",
    "1.2.840.10008.1.2.4.103": "h264",
    "1.2.840.10008.1.2.4.104": "h264",
    "1.2.840.10008.1.2.4.105": "h264",
    "1.2.840.10008.1.2.4.106": "h264",
    "1.2.840.10008.1.2.4.107": "hevc",
    "1.2.840.10008.1.2.4.108": "hevc",
}
Loaded = tuple[np.ndarray, list[float], str]


def film_frames(file: BinaryIO, demuxer: str) -> Loaded | str:
    """Frames (T, H, W, 3) uint8 RGB, their times in s (NaN where unknown) and the codec; or one clause."""
    if find_spec("av") is None:
        return "is a film, and medfuse[films] is not installed to read it"
    import av

    try:
        with av.open(file, mode="r", format=demuxer) as film:
            if not film.streams.video:
                return "holds no pictures, only sound"
            return _frames(film)
    except (av.error.FFmpegError, ValueError, EOFError, IndexError, OSError):
        return "is no film that can be read; it is damaged, cut short or of another kind than it says"


def _frames(film: InputContainer) -> Loaded | str:
    """Every frame of the first video stream."""
    stream = film.streams.video[0]
    stream.codec_context.thread_count = 1  # the pool of children has a core each
    pixels = bytearray()  # grows in place: frames as a list, and then together, would need twice the memory
    shape: tuple[int, ...] = ()
    times: list[float] = []
    room = _room()
    for frame in film.decode(stream):
        picture = frame.to_ndarray(format="rgb24")
        if len(pixels) + picture.nbytes > room:
            return (
                f"holds more than {room / 2**20:.0f} MiB of frames, which is what fits into the memory of "
                "the process that reads it; cut it, scale it down, or allow more (MEDFUSE_DECODE_MEMORY_GIB)"
            )
        if times and picture.shape != shape:
            return "changes its size within the film; cut it into films of one size"
        shape = picture.shape
        pixels += picture.data.cast("B") if picture.flags.c_contiguous else picture.tobytes()
        times.append(float("nan") if frame.time is None else float(frame.time))
    if not times:
        return "holds no frame that can be decoded; it is damaged or cut short"
    if stream.frames and len(times) < stream.frames:
        return f"holds {len(times)} frames where it says {stream.frames}; it is cut short, copy it again"
    return np.frombuffer(pixels, np.uint8).reshape(-1, *shape), times, stream.codec_context.name


def _room() -> int:
    """Bytes of frames that fit into what this process may still take."""
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return UNLIMITED
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    return max(0, int(SHARE * (most - pages * resource.getpagesize())))


def dicom_film(ds: Dataset) -> np.ndarray | str:
    """Every frame (T, H, W, 3) uint8 RGB of a DICOM object whose pixels are one film, or one clause."""
    from pydicom.encaps import generate_frames

    data = b"".join(generate_frames(ds.PixelData, number_of_frames=1))  # its fragments, without their table
    done = film_frames(BytesIO(data), _demuxer(data, BARE[str(ds.file_meta.TransferSyntaxUID)]))
    if isinstance(done, str):
        return f"its pixels are one film: it {done}"
    frames = done[0]
    if frames.shape[1:3] != (int(ds.Rows), int(ds.Columns)):
        return (
            f"its pixels are a film of {frames.shape[1]} × {frames.shape[2]}, its header says "
            f"{ds.Rows} × {ds.Columns}; copy it again from the source"
        )
    return frames


def _demuxer(data: bytes, bare: str) -> str:
    """What the stream is wrapped in, by its first bytes: MP4, MPEG transport or program stream, or none."""
    if data[4:8] == b"ftyp":
        return "mov"
    if data[:1] == b"\x47" and data[188:189] == b"\x47":
        return "mpegts"
    return "mpeg" if data[:4] == b"\x00\x00\x01\xba" else bare
