"""Unsupervised training of the pixel fusion on pairs of registered pictures; simulated pairs for the shipped weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from ..models.pixel_fusion import PixelFusion, fusion_loss, scaled
from ..simulation import ct, mr
from ..simulation.anatomy import draw_anatomy
from ..simulation.grid import axial_grid
from .budget import Budget, learning_rate

CROP, BATCH = 96, 8
Pair = tuple[np.ndarray, np.ndarray]


def simulated_pairs(patients: int, seed: int) -> list[Pair]:
    """Axial CT and MR pictures (H, W) in 0 to 1 of simulated patients."""
    return [(a, b) for _, (a, b, _) in simulated_scenes(patients, seed)]


def simulated_scenes(patients: int, seed: int) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """(patient, (CT, MR, label map)), each (H, W), four slices a patient: both modalities on one fine grid with the breath held."""
    for n in range(patients):
        anatomy_rng, draw, ct_rng, mr_rng = (
            np.random.default_rng(s) for s in np.random.SeedSequence([seed, n]).spawn(4)
        )
        anatomy = draw_anatomy(anatomy_rng)
        centre = np.array([0.0, 0.0, float(anatomy.liver[0].centre[2]) + draw.uniform(-25, 25)])
        spacing = (float(draw.uniform(1.8, 2.4)),) * 2
        grid = axial_grid(draw, shape=(176, 160, 4), spacing=(*spacing, 9.0), tilt_deg=1.0, centre=centre)
        phase = str(draw.choice(["unenhanced", "arterial", "portal"]))
        sequence = str(draw.choice(["t1_in", "t2", "t1_portal"]))
        (_, hu, dense), *_ = ct.render(ct_rng, anatomy, grid, [phase], breathing=0.0)
        (_, signal, _), *_ = mr.render(mr_rng, anatomy, grid, [sequence], breathing=0.0)
        window = draw.uniform(250, 900)
        a, b = scaled(hu, low=60 - window / 2, high=60 + window / 2), scaled(signal)
        for k in range(a.shape[2]):
            yield n, (a[..., k].astype(np.float32), b[..., k].astype(np.float32), dense[..., k])


def _crop(rng: np.random.Generator, pair: Pair) -> Pair:
    """The same random place, flip and turn of both; pictures smaller than a crop are padded with their background."""
    h, w = pair[0].shape
    if h < CROP or w < CROP:
        pad = [(0, max(0, CROP - h)), (0, max(0, CROP - w))]
        pair = (np.pad(pair[0], pad), np.pad(pair[1], pad))
        h, w = pair[0].shape
    y, x = int(rng.integers(h - CROP + 1)), int(rng.integers(w - CROP + 1))
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    out = []
    for p in pair:
        q = np.rot90(p[y : y + CROP, x : x + CROP], turns)
        out.append(np.ascontiguousarray(q[:, ::-1] if flip else q))
    return out[0], out[1]


def train_pixel_fusion(
    pairs: list[Pair], *, budget: Budget, seed: int, start: PixelFusion | None = None, peak: float = 3e-3,
    log: Callable[[int, float], None] = lambda step, loss: None,
) -> PixelFusion:  # fmt: skip
    """Train within the budget. Pictures may swap their order and change their grey scale (gamma), so that any two modalities go."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = start or PixelFusion()
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), peak, weight_decay=1e-4)
    step, mean = 0, 0.0
    while budget.fraction(step) < 1:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(peak, budget.fraction(step))
        crops = [_crop(rng, pairs[int(rng.integers(len(pairs)))]) for _ in range(BATCH)]
        a, b = (torch.from_numpy(np.stack([c[k] for c in crops])[:, None]) for k in (0, 1))
        gamma = torch.from_numpy(rng.uniform(0.8, 1.25, (2, BATCH, 1, 1, 1)).astype(np.float32))
        a, b = a.clamp(0, 1) ** gamma[0], b.clamp(0, 1) ** gamma[1]
        loss = fusion_loss(a, b, model(a, b))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        mean = 0.98 * mean + 0.02 * float(loss.detach()) if step else float(loss.detach())
        step += 1
        if step % 100 == 0:
            log(step, mean)
    return model.eval()
