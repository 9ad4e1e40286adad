"""Compressed pixels are decoded in a child process that can be killed and has a memory cap.

C decoders crash on malformed files; a crash there must cost one file, not the programme. pydicom's own plugins come
first (pylibjpeg, pyjpegls), gdcm only after them and only in the child. Uncompressed pixels never leave the parent.
"""

from __future__ import annotations

import atexit
import resource
import threading
import warnings
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ..errors import UnreadableError
from ..settings import settings

UNCOMPRESSED = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian}
ORDER = ("pylibjpeg", "pyjpegls", "gdcm", "pydicom")


def read_pixels(path: Path, header: Dataset) -> np.ndarray:
    """Stored pixels of one file: (F, H, W) or (F, H, W, 3), native dtype, colour as RGB. F is 1 for a single frame.

    Raises UnreadableError.
    """
    syntax = header.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian) if hasattr(header, "file_meta") else None
    frames, rows, columns = int(header.get("NumberOfFrames") or 1), int(header.Rows), int(header.Columns)
    samples = int(header.get("SamplesPerPixel") or 1)
    if syntax is None or syntax in UNCOMPRESSED:
        expected = frames * rows * columns * samples * int(header.get("BitsAllocated") or 16) // 8
        if path.stat().st_size < expected * 0.5:
            raise UnreadableError(
                path,
                f"is truncated: {path.stat().st_size} bytes for {expected} bytes of pixels; copy it again",
            )
        array = _decode(path)
    else:
        array = _child().decode(path)
    if isinstance(array, str):
        raise UnreadableError(path, array)
    return array.reshape(
        frames, rows, columns, *array.shape[array.ndim - (1 if samples > 1 or _palette(header) else 0) :]
    )


def _palette(header: Dataset) -> bool:
    return header.get("PhotometricInterpretation") == "PALETTE COLOR"


def _decode(path: Path) -> np.ndarray | str:
    """Decode all frames, or say in one clause why not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, force=True)
            if not hasattr(ds.file_meta, "TransferSyntaxUID"):
                ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            if "PixelData" not in ds and "FloatPixelData" not in ds:
                return "holds no pixel data; the file ends early or was never an image"
            from pydicom.pixels import pixel_array

            reasons = []
            for plugin in ("",) if ds.file_meta.TransferSyntaxUID in UNCOMPRESSED else ORDER:
                try:
                    array = pixel_array(ds, decoding_plugin=plugin)
                    break
                except Exception as e:  # every plugin has its own errors; the last word goes to the user
                    reasons.append(str(e).splitlines()[0][:140])
            else:
                syntax = ds.file_meta.TransferSyntaxUID
                return f"its pixels ({syntax.name}, {syntax}) cannot be decoded: {reasons[0]}"
            if _palette(ds):
                from pydicom.pixels import apply_color_lut

                array = apply_color_lut(array, ds)
                if array.dtype != np.uint8:
                    array = (array >> 8).astype(np.uint8)
            return array
        except Exception as e:  # damaged data can break any part of the parser
            return f"its pixels are damaged ({type(e).__name__}: {str(e)[:120]}); copy it again from the source"


def _serve(connection: Connection, memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        path = connection.recv()
        if path is None:
            return
        try:
            answer = _decode(Path(path))
        except MemoryError:
            answer = "needs more memory to decode than is allowed"
        if isinstance(answer, str):
            connection.send(answer)
        else:
            connection.send((answer.shape, answer.dtype.str))
            connection.send_bytes(np.ascontiguousarray(answer).data.cast("B"))


class DecodeChild:
    """A child process that decodes one file at a time and is replaced when it dies or hangs."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()

    def decode(self, path: Path) -> np.ndarray | str:
        with self._lock:
            if self._process is None or not self._process.is_alive():
                self._start()
            assert self._pipe is not None
            limit = settings().decode_timeout_s
            try:
                self._pipe.send(str(path))
                if not self._pipe.poll(limit):
                    self.stop()
                    return f"decoding took longer than {limit:g} s and was stopped; the file is damaged or very large"
                answer = self._pipe.recv()
                if isinstance(answer, str):
                    return answer
                shape, dtype = answer
                return np.frombuffer(self._pipe.recv_bytes(), dtype).reshape(shape)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                self.stop()
                return "the decoder crashed on it; the file is damaged"

    def _start(self) -> None:
        context = get_context("spawn")
        near, far = context.Pipe()
        memory = int(settings().decode_memory_gib * 2**30)
        self._process = context.Process(target=_serve, args=(far, memory), daemon=True)
        self._process.start()
        self._pipe = near
        far.close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


_shared: DecodeChild | None = None


def _child() -> DecodeChild:
    global _shared
    if _shared is None:
        _shared = DecodeChild()
        atexit.register(_shared.stop)
    return _shared


def transfer_syntaxes() -> list[dict[str, str]]:
    """What can be decoded here: name, UID and the plugins that are installed for it."""
    from pydicom.pixels import get_decoder

    out = [
        {"uid": str(u), "name": u.name, "decoder": "pydicom"}
        for u in (*sorted(UNCOMPRESSED), DeflatedExplicitVRLittleEndian)
    ]
    from pydicom.uid import AllTransferSyntaxes

    for uid in AllTransferSyntaxes:
        if uid in UNCOMPRESSED or uid == DeflatedExplicitVRLittleEndian:
            continue
        try:
            decoder = get_decoder(uid)
        except NotImplementedError:
            continue
        if decoder.is_available:
            out.append({"uid": str(uid), "name": uid.name, "decoder": ", ".join(decoder.available_plugins)})
    return out
