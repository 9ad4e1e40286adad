"""Signs of a lung ultrasound cine, measured by hand: how deep and bright the pleural line is, how brightness
falls off below it, what stripes run down from it (B-lines), and what repeats with depth (A-lines)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, uniform_filter1d

SMALL = 88  # pixels a side of a frame that is measured
FRAMES = 24
MIDDLE = slice(22, 66)  # columns: the sector's middle, which every crop shows
INNER = slice(10, 78)
DEEPEST = 50  # the pleural line lies above this row


def read_cine(path: Path, sides: tuple[int, int], frames: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Evenly spread grey frames of an MP4, once for each side and number asked for, and how many it has."""
    import cv2

    film = cv2.VideoCapture(str(path))
    every = []
    while (step := film.read())[0]:
        every.append(cv2.cvtColor(step[1], cv2.COLOR_BGR2GRAY))
    if not every:
        raise SystemExit(f"{path}: no frame can be read; is it an MP4, and is it whole?")
    out = []
    for side, n in zip(sides, frames, strict=True):
        at = np.linspace(0, len(every) - 1, n).astype(int)
        small = [cv2.resize(every[i], (side, side), interpolation=cv2.INTER_AREA) for i in at]
        out.append(np.stack(small))
    return *out, np.array(len(every))


def signs(frames: np.ndarray) -> np.ndarray:
    """(F,) of frames (T, SMALL, SMALL) uint8."""
    cine = frames.astype(np.float32)
    mean = cine.mean(0)
    each = np.log1p(cine)
    log = each.mean(0)
    smooth = gaussian_filter(mean, 1.5)[:DEEPEST, MIDDLE]
    depth = smooth.argmax(0)
    row = int(np.median(depth))
    seen = mean > 2
    out = [row, depth.std(), smooth.max(0).mean(), mean[seen].mean(), mean[seen].std()]
    line = log[row, MIDDLE].mean()
    out += [log[min(SMALL - 1, row + k), MIDDLE].mean() - line for k in range(4, SMALL // 2 - 4, 4)]
    stripes = []
    for part in np.array_split(log[row + 4 :, INNER], 3):
        profile = part.mean(0)
        profile = profile - gaussian_filter1d(profile, 12)
        stripes.append(profile)
        out += [profile.std(), profile.max(), np.percentile(profile, 90), (profile > 0.2).mean()]
    out += [_alike(stripes[a], stripes[b]) for a, b in ((0, 1), (1, 2), (0, 2))]
    now = each[:, row + 8 :, INNER].mean(1)
    now = now - now.mean(1, keepdims=True)
    out += [now.std(1).mean(), now.std(0).mean(), now.max(1).mean()]
    return np.nan_to_num(np.array(out + _repeats(log[row:, MIDDLE].mean(1)) + _edges(each[:, row + 4 :])))


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two profiles; 0 where one is flat."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def _repeats(rows: np.ndarray) -> list[float]:
    """How far a profile over depth repeats itself, and how far it swings."""
    wave = rows - uniform_filter1d(rows, 13)
    again = np.correlate(wave, wave, "full")[len(wave) - 1 :]
    return [float(again[5:40].max() / (again[0] + 1e-6)), float(wave.std())]


def _edges(below: np.ndarray) -> list[float]:
    """Mean steps sideways, downwards and in time, and their ratios."""
    across = float(np.abs(np.diff(below, axis=2))[:, :, MIDDLE].mean())
    down = float(np.abs(np.diff(below, axis=1))[:, :, MIDDLE].mean()) + 1e-6
    time = float(np.abs(np.diff(below, axis=0))[:, :, MIDDLE].mean())
    return [across, down, time, across / down, time / down]
