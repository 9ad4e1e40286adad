"""Unsupervised training of the pixel fusion on pairs of registered pictures; simulated pairs for the shipped
weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ..simulation import ct, mr
from ..simulation.anatomy import draw_anatomy
from ..simulation.grid import axial_grid
from ..training.budget import Budget
from ..training.checkpoint import Resume
from ..training.draws import Draws
from ..training.keep import AllWeights
from ..training.loop import Plan, Stage, fit
from .network import PixelFusion, fusion_loss, scaled

CROP = 96
BATCH = 8
Pair = tuple[np.ndarray, np.ndarray]
Log = Callable[[int, float], None]  # step, running mean of the loss


def simulated_pairs(patients: int, seed: int) -> list[Pair]:
    """Axial CT and MR pictures (H, W) in 0 to 1 of simulated patients."""
    return [(a, b) for _, (a, b, _) in simulated_scenes(patients, seed)]


def simulated_scenes(
    patients: int, seed: int
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """(patient, (CT, MR, label map)), each (H, W), four slices a patient: both modalities on one fine grid
    with the breath held."""
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
        a = scaled(hu, low=60 - window / 2, high=60 + window / 2)
        b = scaled(signal)
        for k in range(a.shape[2]):
            yield n, (a[..., k].astype(np.float32), b[..., k].astype(np.float32), dense[..., k])


def _crop(rng: np.random.Generator, pair: Pair) -> Pair:
    """The same random place, flip and turn of both; pictures smaller than a crop are padded with their
    background."""
    h, w = pair[0].shape
    if h < CROP or w < CROP:
        pad = [(0, max(0, CROP - h)), (0, max(0, CROP - w))]
        pair = (np.pad(pair[0], pad), np.pad(pair[1], pad))
        h, w = pair[0].shape
    y = int(rng.integers(h - CROP + 1))
    x = int(rng.integers(w - CROP + 1))
    turns = int(rng.integers(4))
    flip = bool(rng.integers(2))
    out = []
    for p in pair:
        q = np.rot90(p[y : y + CROP, x : x + CROP], turns)
        out.append(np.ascontiguousarray(q[:, ::-1] if flip else q))
    return out[0], out[1]


class PixelStage(Stage[tuple[Tensor, Tensor]]):
    """Random crops of registered pairs, whose order and grey scale (gamma) change, so that any two modalities
    go."""

    name = "pixel fusion"
    state: AllWeights

    def __init__(self, model: PixelFusion, pairs: list[Pair], draws: Draws, peak: float, log: Log) -> None:
        self.model = model
        self.state = AllWeights(model)
        self.pairs = pairs
        self.draws = draws
        self.log = log
        self.plan = Plan(peak=peak, weight_decay=1e-4, clip=math.inf, report_every=100)

    def parameters(self) -> list[nn.Parameter]:
        """All of the network's."""
        return list(self.model.parameters())

    def batches(self, epoch: int, done: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Two pictures (B, 1, H, W) in 0 to 1, without end."""
        rng = self.draws.numpy
        while True:
            crops = [_crop(rng, self.pairs[int(rng.integers(len(self.pairs)))]) for _ in range(BATCH)]
            a, b = (torch.from_numpy(np.stack([c[k] for c in crops])[:, None]) for k in (0, 1))
            gamma = torch.from_numpy(rng.uniform(0.8, 1.25, (2, BATCH, 1, 1, 1)).astype(np.float32))
            yield a.clamp(0, 1) ** gamma[0], b.clamp(0, 1) ** gamma[1]

    def loss(self, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
        """See `network.fusion_loss`."""
        a, b = batch
        return fusion_loss(a, b, self.model(a, b))

    def report(self, step: int, loss: float, fraction: float) -> None:
        """Hand the running mean on."""
        self.log(step, loss)


def train_pixel_fusion(
    pairs: list[Pair],
    *,
    budget: Budget,
    seed: int,
    start: PixelFusion | None = None,
    peak: float = 3e-3,
    log: Log = lambda step, loss: None,
    resume: Resume | None = None,
) -> PixelFusion:
    """Train on pairs of registered pictures (H, W) in 0 to 1 within the budget. ``resume``: where a stopped
    training goes on; it is deleted at the end."""
    draws = Draws(seed)
    model = start or PixelFusion()
    fit(PixelStage(model, pairs, draws, peak, log), budget, resume=resume)
    if resume is not None:
        resume.delete()
    return model.eval()
