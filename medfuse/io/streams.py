"""Frames out of a video stream, by FFmpeg through PyAV; only inside a child process.

The container is always named to FFmpeg, so that no playlist or list of other files is followed.
"""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from pydicom.dataset import Dataset

if TYPE_CHECKING:
    from av.container import InputContainer

MAX_BYTES = 2 * 2**30  # of decoded frames: 2,000 of 720 × 480 in colour
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
    frames: list[np.ndarray] = []
    times: list[float] = []
    size = 0
    for frame in film.decode(stream):
        picture = frame.to_ndarray(format="rgb24")
        size += picture.nbytes
        if size > MAX_BYTES:
            return f"holds more than {MAX_BYTES / 2**30:g} GiB of frames; cut it, or scale it down"
        if frames and picture.shape != frames[0].shape:
            return "changes its size within the film; cut it into films of one size"
        frames.append(picture)
        times.append(float("nan") if frame.time is None else float(frame.time))
    if not frames:
        return "holds no frame that can be decoded; it is damaged or cut short"
    if stream.frames and len(frames) < stream.frames:
        return f"holds {len(frames)} frames where it says {stream.frames}; it is cut short, copy it again"
    return np.stack(frames), times, stream.codec_context.name


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
