"""Sound: a heart heard through the chest, or the Doppler sound of a vessel: one token for each half second,
its log-mel spectrum and how much that comes and goes.

All tokens are of one kind: what is heard counts, not when. Each sound is brought to one loudness, so that
the gain of a microphone says nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...io.sound import Sound, read_sound
from .sense import ClinicalContext, Sense

RATE = 4000  # samples a second: what the body sounds like lies below 2 kHz
BANDS = 24
LOWEST_HZ = 20.0
HIGHEST_HZ = 1900.0
FRAME = 256  # samples, 64 ms
HOP = 64
STRETCH_S = 0.5
MOST = 40  # tokens of one case
SIZE = 2 * BANDS
KINDS = 1


def mel_filters() -> np.ndarray:
    """(BANDS, FRAME / 2 + 1) triangles, equally wide in mel (O'Shaughnessy 1987: 2595 log10(1 + f / 700)),
    each of sum 1."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 2595 * np.log10(1 + np.asarray(hertz) / 700)

    edges = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), BANDS + 2)
    at = mel(np.fft.rfftfreq(FRAME, 1 / RATE))
    up = (at - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - at) / np.diff(edges)[1:, None]
    filters = np.maximum(0, np.minimum(up, down))
    return filters / np.maximum(filters.sum(1, keepdims=True), 1e-9)


_FILTERS = mel_filters()


def tokens(sound: Sound) -> np.ndarray:
    """(N, SIZE): of each half second the mean of the log-mel spectrum, and its standard deviation. (0,
    SIZE) for a sound of less than half a second, or of silence."""
    samples = sound.at(RATE).samples
    loud = float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0
    per = int(STRETCH_S * RATE) // HOP
    count = (len(samples) - FRAME) // HOP + 1
    if loud < 1e-6 or count < per - FRAME // HOP:
        return np.zeros((0, SIZE))
    frames = np.lib.stride_tricks.sliding_window_view(samples / loud, FRAME)[::HOP] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 / FRAME
    spectrum = np.log(power @ _FILTERS.T + 1e-5)
    parts = [spectrum[i : i + per] for i in range(0, len(spectrum), per)]
    whole = [p for p in parts if len(p) >= per // 2] or parts[:1]
    return np.stack([np.concatenate([p.mean(0), p.std(0)]) for p in whole[:MOST]])


def read(context: ClinicalContext) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of all sounds of a case (N, SIZE), and their kind (N,). Raises UserError for a sound that
    cannot be read: it would look like one that was not recorded."""
    found = [tokens(read_sound(Path(path))) for path in context.heard]
    values = np.concatenate(found)[:MOST] if found else np.zeros((0, SIZE))
    return values, np.zeros(len(values), int)


AUDIO = Sense(name="AUDIO", size=SIZE, kinds=KINDS, read=read)
