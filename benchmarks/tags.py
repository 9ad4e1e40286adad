"""Claims from images: the fused model's calibrated probabilities, beside a multimodal deep Boltzmann machine.

    medfuse simulate --cases 150 --seed 250025 --format nifti --split train --out TRAIN
    medfuse simulate --cases 60 --seed 250026 --format nifti --split test --out TEST
    python benchmarks/tags.py --train TRAIN/manifest.jsonl --test TEST/manifest.jsonl --work DIR

All on the same region features of the shipped encoders, pooled (mean and maximum) and reduced to 24 principal
components a modality for all but the shipped model, which reads every region. The Boltzmann machine
(Srivastava and Salakhutdinov 2012) has a Gaussian layer and a binary one for each modality and one joint
layer above them and the claims; it is trained layer by layer, and asked for P(claims | images) by mean field,
whatever is missing. It and the logistic regressions learn from the same cases, four fifths of TRAIN; the
other fifth gives all findings together one slope and one offset. The shipped model was trained on many more
and is calibrated as it is shipped. Ranking precision: of a patient's claims put in order of their probability
(label ranking average precision). Intervals: 95 %, bootstrap by patient.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from coordination import features, pooled
from scipy.special import expit, logit
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import label_ranking_average_precision_score
from torch import Tensor, nn

from medfuse.bundles.bundle import Bundle, load_bundle
from medfuse.bundles.calibration import calibrated, expected_calibration_error
from medfuse.evaluation.findings import finding_auroc
from medfuse.models.feature_set import FeatureSet, collect, predict_logits
from medfuse.models.subsets import name as subset_name
from medfuse.models.subsets import use_only

PARTS = 24  # principal components of a modality
ROUNDS = 500
Inputs = dict[str, Tensor]  # modality → (B, PARTS); rows of NaN where it is missing


class Boltzmann(nn.Module):
    """Two layers a modality, one joint layer over them and the claims. Weights are set by `fit`."""

    def __init__(self, modalities: tuple[str, ...], claims: int, hidden: int = 32, joint: int = 48) -> None:
        super().__init__()
        self.modalities = modalities
        self.hidden = hidden
        self.below = nn.ParameterDict(
            {m: nn.Parameter(0.05 * torch.randn(PARTS, hidden)) for m in modalities}
        )
        self.bias = nn.ParameterDict({m: nn.Parameter(torch.zeros(hidden)) for m in modalities})
        width = hidden * len(modalities) + claims
        self.above = nn.Parameter(0.05 * torch.randn(width, joint))
        self.middle = nn.Parameter(torch.zeros(width))
        self.top = nn.Parameter(torch.zeros(joint))

    @torch.no_grad()
    def fit(self, x: Inputs, claims: Tensor, epochs: int, seed: int, rate: float = 0.05) -> None:
        """Contrastive divergence, layer by layer. claims (B, F) of 0, 1 and -1, which counts as how often."""
        draws = torch.Generator().manual_seed(seed)
        base = torch.where(claims >= 0, claims, torch.nan).nanmean(0).clamp(0.02, 0.98)
        self.middle[-claims.shape[1] :] = torch.logit(base)
        for m in self.modalities:
            there = ~x[m].isnan().any(1)
            for _ in range(epochs):
                for v in x[m][there][torch.randperm(int(there.sum()), generator=draws)].split(16):
                    self._step_below(m, v, rate, draws)
        deep = self._bottom_up(x)
        full = torch.cat([*deep.values(), torch.where(claims >= 0, claims, base)], 1)
        for _ in range(epochs):
            for v in full[torch.randperm(len(full), generator=draws)].split(16):
                self._step_above(v, rate, draws)

    def _step_below(self, m: str, v: Tensor, rate: float, draws: torch.Generator) -> None:
        w, b = self.below[m], self.bias[m]
        h = torch.sigmoid(v @ w + b)
        again = torch.bernoulli(h, generator=draws) @ w.T
        h2 = torch.sigmoid(again @ w + b)
        w += rate / len(v) * (v.T @ h - again.T @ h2) - rate * 1e-3 * w
        b += rate * (h - h2).mean(0)

    def _step_above(self, v: Tensor, rate: float, draws: torch.Generator) -> None:
        h = torch.sigmoid(v @ self.above + self.top)
        again = torch.sigmoid(torch.bernoulli(h, generator=draws) @ self.above.T + self.middle)
        h2 = torch.sigmoid(again @ self.above + self.top)
        self.above += rate / len(v) * (v.T @ h - again.T @ h2) - rate * 1e-3 * self.above
        self.middle += rate * (v - again).mean(0)
        self.top += rate * (h - h2).mean(0)

    def _bottom_up(self, x: Inputs) -> dict[str, Tensor]:
        """(B, hidden) by modality; a half where it is missing."""
        out = {}
        for m in self.modalities:
            h = torch.sigmoid(x[m].nan_to_num() @ self.below[m] + self.bias[m])
            out[m] = torch.where(x[m].isnan().any(1, keepdim=True), 0.5, h)
        return out

    @torch.no_grad()
    def logits(self, x: Inputs, rounds: int = 20) -> Tensor:
        """(B, F) of P(claims | images) by mean field: layers below and above tell the middle one."""
        start = self._bottom_up(x)
        count = len(self.middle) - self.hidden * len(self.modalities)
        middle = torch.cat(
            [*start.values(), torch.sigmoid(self.middle[-count:]).expand(len(start[self.modalities[0]]), -1)],
            1,
        )
        said = self.middle[-count:]
        for _ in range(rounds):
            top = torch.sigmoid(middle @ self.above + self.top)
            down = top @ self.above.T + self.middle
            said = down[:, -count:]
            parts = []
            for n, m in enumerate(self.modalities):
                told = down[:, n * self.hidden : (n + 1) * self.hidden]
                up = (x[m].nan_to_num() @ self.below[m]) * ~x[m].isnan().any(1, keepdim=True)
                parts.append(torch.sigmoid(up + told))
            middle = torch.cat([*parts, torch.sigmoid(said)], 1)
        return said


def inputs(sets: list[FeatureSet], fit_on: int, bundle: Bundle) -> list[Inputs]:
    """Pooled features of each set by modality, standardised and reduced on the ``fit_on`` first cases of the
    first."""
    out: list[Inputs] = [{} for _ in sets]
    for m in bundle.task.own_senses:
        width = 2 * bundle.model.sizes[m]
        raw = [pooled(s, m, width) for s in sets]
        there = [s.has(m) for s in sets]
        known = raw[0][:fit_on][there[0][:fit_on]]
        mean, sd = known.mean(0), known.std(0) + 1e-6
        reduce = PCA(PARTS, whiten=True, random_state=0).fit((known - mean) / sd)
        for o, x, has in zip(out, raw, there, strict=True):
            z = reduce.transform((x - mean) / sd)
            z[~has] = np.nan
            o[m] = torch.from_numpy(z).float().clamp(-4, 4)
    return out


def regressions(x: Inputs, claims: np.ndarray, others: list[Inputs]) -> list[np.ndarray]:
    """Logits (B, F) of a logistic regression a finding on all modalities, zeros where one is missing."""

    def flat(i: Inputs) -> np.ndarray:
        return torch.cat([v.nan_to_num() for v in i.values()], 1).numpy()

    out = [np.zeros((len(flat(o)), claims.shape[1])) for o in others]
    for f in range(claims.shape[1]):
        known = claims[:, f] >= 0
        y = claims[known, f]
        share = float(np.clip(y.mean(), 0.01, 0.99))
        for o, of in zip(out, others, strict=True):
            o[:, f] = logit(share)
            if 0 < y.sum() < len(y):
                o[:, f] = (
                    LogisticRegression(C=0.03, max_iter=500)
                    .fit(flat(x)[known], y)
                    .decision_function(flat(of))
                )
    return out


def cooled(val: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Probabilities after one slope and one offset for all findings together, learned on validation cases."""
    known = labels >= 0
    fitted = LogisticRegression(C=1.0).fit(val[known][:, None], labels[known])
    return expit(test * fitted.coef_[0, 0] + fitted.intercept_[0])


def scores(labels: np.ndarray, probability: np.ndarray) -> dict:
    """Macro AUROC, calibration error and ranking of a case's claims, each with 95 % by patient."""

    some = np.flatnonzero((labels == 1).any(1))
    ranked = np.full(len(labels), np.nan)
    for n in some:
        row = (labels[n : n + 1] == 1).astype(int)
        ranked[n] = label_ranking_average_precision_score(row, probability[n : n + 1])

    def of(rows: np.ndarray) -> list[float]:
        y, p = labels[rows], probability[rows]
        auroc = float(np.nanmean(finding_auroc(y, p)))
        return [auroc, expected_calibration_error(y, p), float(np.nanmean(ranked[rows]))]

    whole = of(np.arange(len(labels)))
    draws = np.random.default_rng(0)
    several = np.array([of(draws.integers(0, len(labels), len(labels))) for _ in range(ROUNDS)])
    low, high = np.percentile(several, [2.5, 97.5], axis=0)
    names = ("AUROC", "ECE", "ranking precision")
    return {name: [round(float(v), 3) for v in (whole[k], low[k], high[k])] for k, name in enumerate(names)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="caches, in train/ and test/")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/tags.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundle = load_bundle("upper-abdomen-simulated")
    encoders = bundle.model.encoders
    train, _ = features(bundle.task, encoders, options.train, options.work / "train", ("train",))
    test, _ = features(bundle.task, encoders, options.test, options.work / "test", ("test",))
    fit_on = 4 * len(train.labels) // 5
    every, held = inputs([train, test], fit_on, bundle)
    first = {m: v[:fit_on] for m, v in every.items()}
    last = {m: v[fit_on:] for m, v in every.items()}
    known = train.labels[:fit_on]
    torch.manual_seed(1)
    machine = Boltzmann(bundle.task.own_senses, known.shape[1])
    machine.fit(first, torch.from_numpy(known).float(), options.epochs, seed=1)
    data = collect(bundle.task, bundle.model.sizes, test)
    rows: dict[str, dict] = {}
    for senses in (bundle.task.own_senses, *((m,) for m in bundle.task.own_senses)):
        key = subset_name(senses)
        there = np.all([test.has(m) for m in senses], 0)
        cut = [
            {m: v if m in senses else torch.full_like(v, torch.nan) for m, v in x.items()}
            for x in (last, held)
        ]
        logits = predict_logits(
            bundle.model, data.batch, use_only(senses, bundle.task.senses, len(test.labels))
        )
        found = {"fused model, as shipped": calibrated(logits, bundle.temperature(key), bundle.shifts)}
        ways = {
            "deep Boltzmann machine": [machine.logits(x).numpy() for x in cut],
            "logistic regressions": regressions(first, known, cut),
        }
        found |= {n: cooled(v, train.labels[fit_on:], t) for n, (v, t) in ways.items()}
        found["how often"] = np.broadcast_to(np.where(known >= 0, known, 0).mean(0), test.labels.shape)
        rows[key] = {n: scores(test.labels[there], p[there]) for n, p in found.items()} | {
            "n": int(there.sum())
        }
    print("| images | n | claims by | AUROC | ECE | ranking precision |\n|---|---|---|---|---|---|")
    for key, row in rows.items():
        for name, found in row.items():
            if name != "n":
                told = " | ".join(f"{a:.3f} [{b:.3f}, {c:.3f}]" for a, b, c in found.values())
                print(f"| {key} | {row['n']} | {name} | {told} |")
    print(f"{fit_on} patients to learn from, {len(train.labels) - fit_on} to calibrate on")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
