"""A recorded sound as samples: WAV files, mono, at the rate that is asked for."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from ..errors import UnreadableError

LONGEST_S = 1800.0
LARGEST = 700 << 20  # bytes: half an hour at 48 kHz, two channels of 32 bits
FASTEST = 192_000  # samples a second
HEAD = 1 << 16  # bytes in which a file must say what it holds
_FULL_SCALE = {"int16": 2**15, "int32": 2**31, "uint8": 2**7}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """samples: (N,) float32 of one channel, full scale ±1. rate: samples a second."""

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate

    def at(self, rate: int) -> Sound:
        """The same sound at another rate (polyphase, with its low-pass)."""
        if rate == self.rate:
            return self
        from scipy.signal import resample_poly  # half a second, for the few who listen at another rate

        ratio = Fraction(rate, self.rate)
        samples = resample_poly(self.samples, ratio.numerator, ratio.denominator).astype(np.float32)
        return Sound(samples=samples, rate=rate)


def read_sound(path: Path) -> Sound:
    """A WAV file (PCM of 8 to 32 bits, or float), its channels averaged. Raises UnreadableError."""
    samples, rate = _read(path)
    return Sound(samples=samples.mean(1), rate=rate)


def read_sides(path: Path) -> tuple[Sound, ...]:
    """As `read_sound`, the first two channels apart: left and right, or the one that there is."""
    samples, rate = _read(path)
    return tuple(Sound(samples=np.ascontiguousarray(side), rate=rate) for side in samples.T[:2])


def write_sound(path: Path, samples: np.ndarray, rate: int, *, comment: str = "") -> None:
    """(N,) or (N, channels) of full scale ±1 as WAV, PCM of 16 bits; ``comment`` into its INFO chunk."""
    out = BytesIO()
    wavfile.write(out, rate, np.round(np.clip(samples, -1, 1) * (2**15 - 1)).astype(np.int16))
    data = out.getvalue()
    if comment:
        said = comment.encode("ascii", "replace") + b"\0"
        said += b"\0" * (len(said) % 2)
        part = b"INFOICMT" + struct.pack("<I", len(said)) + said
        data += b"LIST" + struct.pack("<I", len(part)) + part
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    path.write_bytes(data)


def _read(path: Path) -> tuple[np.ndarray, int]:
    """(N, channels) float32 of full scale ±1, and the rate."""
    if not path.is_file():
        raise UnreadableError(path, "no such file; give a WAV file")
    _check_size(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that are no sound
            rate, data = wavfile.read(path)
    except (ValueError, OSError, EOFError, MemoryError, ArithmeticError) as e:
        why = (str(e).splitlines() or ["damaged"])[0]
        raise UnreadableError(path, f"not a WAV file ({why}); convert it to WAV (PCM)") from e
    except Exception as e:  # scipy lets errors of struct and of its own parser through
        raise UnreadableError(path, "not a WAV file, or damaged; convert it to WAV (PCM)") from e
    samples = np.asarray(data, dtype=np.float32)
    if data.dtype.name == "uint8":
        samples -= 128
    samples /= _FULL_SCALE.get(data.dtype.name, 1)
    samples = samples if samples.ndim == 2 else samples[:, None]
    if not samples.size or rate < 1000 or not np.isfinite(samples).all():
        raise UnreadableError(path, "holds no sound that can be used; record it again")
    if len(samples) / rate > LONGEST_S:
        raise UnreadableError(path, f"lasts longer than {LONGEST_S / 60:.0f} minutes; cut it into parts")
    return samples, int(rate)


def _check_size(path: Path) -> None:
    """Raises UnreadableError for a file that is too long, before it is read: by its size, and by the rate and
    the bytes a sample that its head states (RIFF, chunk ``fmt``)."""
    size = path.stat().st_size
    with path.open("rb") as f:
        head = f.read(HEAD)
    at = head.find(b"fmt ")
    fields = head[at + 8 : at + 24]
    if at < 0 or len(fields) < 16:
        raise UnreadableError(path, "not a WAV file; convert it to WAV (PCM)")
    _, _, rate, _, block, _ = struct.unpack("<HHIIHH" if head[:4] != b"RIFX" else ">HHIIHH", fields)
    if rate > FASTEST:
        raise UnreadableError(path, f"states {rate} samples a second, {FASTEST} are read")
    if size > min(LARGEST, LONGEST_S * rate * max(block, 1) + HEAD):
        raise UnreadableError(path, f"lasts longer than {LONGEST_S / 60:.0f} minutes; cut it into parts")


def voiced(sound: Sound) -> list[tuple[float, float]]:
    """Stretches (start, end) in seconds that stand out of the background by 9 dB between 100 and 4000 Hz, as
    speech does between its pauses; none in silence, a hum or steady noise. Breaks under half a second
    belong to what is around them."""
    size = max(1, sound.rate // 50)
    count = len(sound.samples) // size
    if count < 10:
        return []
    frames = sound.samples[: count * size].reshape(count, size)
    power = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    hertz = np.fft.rfftfreq(size, 1 / sound.rate)
    level = 10 * np.log10(power[:, (hertz >= 100) & (hertz <= 4000)].sum(1) / size**2 + 1e-12)
    loud = level > max(float(np.percentile(level, 10)) + 9, -70.0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]]))).reshape(-1, 2)
    out: list[list[int]] = []
    for start, end in edges.tolist():
        if out and start - out[-1][1] < 25:
            out[-1][1] = end
        else:
            out.append([start, end])
    step = size / sound.rate
    return [(s * step, e * step) for s, e in out if (e - s) * step >= 0.2]
