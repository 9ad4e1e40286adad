"""Real CT and MRI slices of the same heads (AANLIB): does a CT slice find its own MRI slice in a patient that
training never saw?

python benchmarks/aanlib_retrieval.py --data ../shared/data/paired2d/aanlib/CT-MRI [--steps 250] [--seed 1]

Leave-case-out: two whole-image encoders (MONAI DenseNet) and projections onto one sphere learn from the pairs
of all other patients, by InfoNCE on batches of neighbouring slices; then every CT slice of the patient left
out ranks all his MRI slices, and back. Beside it the same encoders untrained, and mutual information of the
pixels (the slices are registered, so that is a strong opponent). Few patients: each is shown. File number =
patient × 1000 + slice.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from medfuse import __version__
from medfuse.evaluation.retrieval import recall
from medfuse.models.coordination import Projection, info_nce_loss
from medfuse.models.encoders import ImageEncoder
from medfuse.training.budget import learning_rate
from medfuse.training.stages.whole import augment

SIZE = 96
BATCH = 32
SHARED = 64


def read(folder: Path) -> dict[int, list[tuple[np.ndarray, np.ndarray]]]:
    """patient → (CT, MRI) slices (SIZE, SIZE) in 0 to 1, in order."""
    out: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for path in sorted((folder / "CT").glob("*.png"), key=lambda p: int(p.stem)):
        pair = [
            np.asarray(
                Image.open(folder / m / path.name)
                .convert("L")
                .resize((SIZE, SIZE), Image.Resampling.BILINEAR),
                np.float32,
            )
            / 255
            for m in ("CT", "MRI")
        ]
        out.setdefault(int(path.stem) // 1000, []).append((pair[0], pair[1]))
    return out


class Tower(nn.Module):
    """(B, 1, SIZE, SIZE) → (B, SHARED) on the unit sphere, from the mean and the four quarters of the feature
    map."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder(8)
        self.project = Projection(5 * self.encoder.width, SHARED)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.encoder(x).flatten(1))


def stacked(slices: list[tuple[np.ndarray, np.ndarray]], which: int) -> Tensor:
    x = torch.from_numpy(np.stack([s[which] for s in slices]))[:, None]
    return (x - 0.25) / 0.25


def train(patients: list[list[tuple[np.ndarray, np.ndarray]]], steps: int, seed: int) -> nn.ModuleList:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    towers = nn.ModuleList([Tower(), Tower()])
    scale = nn.Parameter(torch.tensor(2.3))
    optimiser = torch.optim.AdamW([*towers.parameters(), scale], 2e-3, weight_decay=0.05)
    towers.train()
    weight = np.array([len(p) for p in patients], float)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(2e-3, step / steps)
        some = []
        for _ in range(2):  # many slices of two patients: neighbours are what must be told apart
            patient = patients[int(rng.choice(len(patients), p=weight / weight.sum()))]
            some += [patient[i] for i in rng.permutation(len(patient))[: BATCH // 2]]
        a, b = (augment(stacked(some, k), generator, mirror=False) for k in (0, 1))
        loss = info_nce_loss(towers[0](a), towers[1](b), scale.exp().clamp_max(50))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimiser.step()
    return towers.eval()


@torch.no_grad()
def by_model(towers: nn.ModuleList, slices: list) -> dict[str, dict[str, float]]:
    a, b = (towers[k](stacked(slices, k)).numpy() for k in (0, 1))
    return {"CT->MRI": recall(a, b), "MRI->CT": recall(b, a)}


def by_information(slices: list, bins: int = 24) -> dict[str, dict[str, float]]:
    """Mutual information of every CT slice with every MRI slice, as a similarity."""
    values = [[np.digitize(s[k].ravel(), np.linspace(0, 1, bins + 1)[1:-1]) for s in slices] for k in (0, 1)]
    matrix = np.zeros((len(slices), len(slices)))
    for i, a in enumerate(values[0]):
        for j, b in enumerate(values[1]):
            joint = np.bincount(a * bins + b, minlength=bins * bins).reshape(bins, bins) / a.size
            outer = joint.sum(1)[:, None] * joint.sum(0)[None]
            there = joint > 0
            matrix[i, j] = float((joint[there] * np.log(joint[there] / outer[there])).sum())
    eye = np.eye(len(slices))
    return {"CT->MRI": recall(matrix, eye), "MRI->CT": recall(matrix.T, eye)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    patients = read(options.data)
    rows: dict[str, list[tuple[int, dict]]] = {"trained": [], "untrained": [], "mutual information": []}
    for left_out, slices in patients.items():
        others = [p for k, p in patients.items() if k != left_out]
        torch.manual_seed(options.seed)
        rows["untrained"].append((len(slices), by_model(nn.ModuleList([Tower(), Tower()]).eval(), slices)))
        rows["trained"].append((len(slices), by_model(train(others, options.steps, options.seed), slices)))
        rows["mutual information"].append((len(slices), by_information(slices)))
        print(
            f"patient {left_out}, {len(slices)} slices: "
            + "; ".join(f"{k} {v[-1][1]['CT->MRI']}" for k, v in rows.items()),
            flush=True,
        )
    table = {}
    for name, got in rows.items():
        total = sum(n for n, _ in got)
        table[name] = {
            way: {k: round(sum(n * r[way][k] for n, r in got) / total, 4) for k in ("r1", "r5")}
            for way in ("CT->MRI", "MRI->CT")
        }
    total = sum(n for n, _ in rows["trained"])
    by_chance = {
        k: round(sum(min(n, c) for n, _ in rows["trained"]) / total, 4) for k, c in (("r1", 1), ("r5", 5))
    }
    result = {
        "patients": {
            p: {k: v[i][1] for k, v in rows.items()} | {"slices": rows["trained"][i][0]}
            for i, p in enumerate(patients)
        },
        "all": table,
        "chance": by_chance,
        "steps": options.steps,
        "seed": options.seed,
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}, medfuse {__version__}",
    }
    print("| R@1 / R@5 | CT → MRI | MRI → CT |\n|---|---|---|")
    for name, row in table.items():
        print(
            f"| {name} | "
            + " | ".join(f"{row[w]['r1']:.3f} / {row[w]['r5']:.3f}" for w in ("CT->MRI", "MRI->CT"))
            + " |"
        )
    print(f"| chance | {by_chance['r1']:.3f} / {by_chance['r5']:.3f} | the same |\n{result['machine']}")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "aanlib_retrieval.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
