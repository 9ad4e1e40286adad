"""The joint baseline of the tags direction: a plain deep Boltzmann machine asked for claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medfuse.evaluation.findings import finding_auroc

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def tags(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import tags

    return tags


def planted(tags, count, seed):
    """Two senses that each show one of two claims, and both a third."""
    draws = torch.Generator().manual_seed(seed)
    claims = torch.randint(2, (count, 3), generator=draws).float()
    x = {m: 0.7 * torch.randn(count, tags.PARTS, generator=draws) for m in ("A", "B")}
    for n, m in enumerate(x):
        x[m][:, :4] += 2 * claims[:, n : n + 1] - 1
        x[m][:, 4:8] += 2 * claims[:, 2:] - 1
    return x, claims


def test_the_boltzmann_machine_learns_claims_and_does_without_a_sense(tags):
    x, claims = planted(tags, 160, 1)
    torch.manual_seed(0)
    machine = tags.Boltzmann(("A", "B"), 3, hidden=32, joint=32)
    machine.fit(x, claims, 40, seed=1)
    new, truth = planted(tags, 200, 2)
    auroc = finding_auroc(truth.int().numpy(), machine.logits(new).numpy())
    assert auroc.min() > 0.85
    alone = machine.logits({"A": new["A"], "B": torch.full_like(new["B"], torch.nan)}).numpy()
    lost = finding_auroc(truth.int().numpy(), alone)
    assert lost[0] > 0.85
    assert lost[2] > 0.8
    assert abs(lost[1] - 0.5) < 0.12  # what the missing sense alone shows is not known


def test_probabilities_are_calibrated_on_cases_of_their_own(tags):
    rng = np.random.default_rng(0)
    truth = rng.random((400, 3))
    labels = (rng.random(truth.shape) < truth).astype(int)
    loud = 4 * np.log(truth / (1 - truth))  # four times too sure
    found = tags.cooled(loud[:200], labels[:200], loud[200:])
    rows = [tags.scores(labels[200:], p) for p in (1 / (1 + np.exp(-loud[200:])), found)]
    assert rows[1]["ECE"][0] < 0.5 * rows[0]["ECE"][0]
    assert rows[1]["AUROC"] == rows[0]["AUROC"]  # one slope changes no order
    low, high = rows[1]["AUROC"][1:]
    assert low < rows[1]["AUROC"][0] < high
