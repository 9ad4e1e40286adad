"""Sound: a heart heard through the chest, or the Doppler sound of a vessel: one token for each half second,
its log-mel spectrum and how much that comes and goes.

What is heard counts, not when. A sound of two channels has tokens of two kinds, as an ultrasound machine
plays what flows toward the probe on the left and what flows away on the right; one channel is of the first
kind. Each sound is brought to one loudness, so that the gain of a microphone says nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...io.sound import Sound, read_sides
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
KINDS = 2


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


def tokens(sound: Sound, loud: float | None = None) -> np.ndarray:
    """(N, SIZE): of each half second the mean of the log-mel spectrum, and its standard deviation. (0,
    SIZE) for a sound of less than half a second, or of silence. loud: root mean square to divide by; its own
    without one."""
    samples = sound.at(RATE).samples
    loud = loudness((sound,)) if loud is None else loud
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


def loudness(sides: tuple[Sound, ...]) -> float:
    """Root mean square over all channels at `RATE`; 0 of nothing."""
    powers = [float(np.mean(side.at(RATE).samples ** 2)) for side in sides if len(side.samples)]
    return float(np.sqrt(np.mean(powers))) if powers else 0.0


def read(context: ClinicalContext) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of all sounds of a case (N, SIZE), and their kind (N,). Raises UserError for a sound that
    cannot be read: it would look like one that was not recorded."""
    values = [np.zeros((0, SIZE))]
    kinds = [np.zeros(0, int)]
    for path in context.heard:
        sides = read_sides(Path(path))
        loud = loudness(sides)
        for kind, side in enumerate(sides):
            values.append(tokens(side, loud))
            kinds.append(np.full(len(values[-1]), kind))
    return np.concatenate(values)[:MOST], np.concatenate(kinds)[:MOST]


AUDIO = Sense(name="AUDIO", size=SIZE, kinds=KINDS, read=read)
