"""Invariants of fusion and heads: absent slots are inert, subsets are finite, order is irrelevant, fast
equals naive."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medfuse.models.feature_set import FusionData
from medfuse.models.fusion import FUSIONS, Attention, CoAttention
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.subsets import shapley, subsets, use_only
from medfuse.models.tokens import Tokens
from medfuse.task import load_task
from medfuse.training.budget import Budget
from medfuse.training.stages.fusion import (
    AUROC,
    LIKELIHOOD,
    FusionTraining,
    criterion,
    draw_use,
    train_fusion,
)

SENSES = ("US", "CT", "MR")
WIDTH = 16


def tokens(seed=0, batch=3, counts=(4, 5, 6)):
    g = torch.Generator().manual_seed(seed)
    return {
        m: Tokens(torch.randn(batch, n, WIDTH, generator=g), torch.ones(batch, n, dtype=torch.bool))
        for m, n in zip(SENSES, counts, strict=True)
    }


def make(kind, seed=0):
    torch.manual_seed(seed)
    return FUSIONS[kind](SENSES, WIDTH, 2, 4, 0.0).eval()


def readout(fusion, t):
    state, g = fusion(t)
    return torch.cat([g, *[(s.x * s.mask[..., None]).sum(1) for s in state.values()]], 1)


@pytest.mark.parametrize("kind", FUSIONS)
def test_noise_in_an_absent_slot_changes_nothing_and_has_no_gradient(kind):
    fusion = make(kind)
    t = tokens()
    t["CT"].mask[:] = False
    t["MR"].mask[:, 3:] = False
    quiet = readout(fusion, t)
    noisy = {m: Tokens(x.x.clone(), x.mask) for m, x in t.items()}
    noisy["CT"].x.normal_(0, 100)
    noisy["MR"].x[:, 3:].normal_(0, 100)
    for x in noisy.values():
        x.x.requires_grad_(True)
    loud = readout(fusion, noisy)
    assert torch.equal(quiet, loud)
    loud.sum().backward()
    assert torch.count_nonzero(noisy["CT"].x.grad) == 0
    assert torch.count_nonzero(noisy["MR"].x.grad[:, 3:]) == 0
    assert torch.count_nonzero(noisy["US"].x.grad) > 0


@pytest.mark.parametrize("kind", FUSIONS)
def test_every_subset_is_finite_even_none(kind):
    fusion = make(kind)
    for s in subsets(SENSES, empty=True):
        t = tokens()
        for m in SENSES:
            t[m].mask[:] = m in s
        assert torch.isfinite(readout(fusion, t)).all()


@pytest.mark.parametrize("kind", FUSIONS)
def test_mixed_batch_equals_one_by_one(kind):
    fusion = make(kind)
    t = tokens()
    for b, s in enumerate([("US",), ("CT", "MR"), SENSES]):
        for m in SENSES:
            t[m].mask[b] = m in s
    together = readout(fusion, t)
    alone = torch.cat(
        [
            readout(fusion, {m: Tokens(x.x[b : b + 1], x.mask[b : b + 1]) for m, x in t.items()})
            for b in range(3)
        ]
    )
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("kind", FUSIONS)
def test_order_of_modalities_and_of_tokens_is_irrelevant(kind):
    fusion = make(kind)
    t = tokens()
    _, g = fusion(t)
    turned = {m: Tokens(t[m].x.flip(1), t[m].mask.flip(1)) for m in reversed(SENSES)}
    _, h = fusion(turned)
    assert torch.allclose(g, h, atol=1e-5)


def test_attention_equals_a_naive_loop():
    torch.manual_seed(1)
    layer = Attention(WIDTH, 4, 0.0).eval()
    x = torch.randn(2, 3, WIDTH)
    context = torch.randn(2, 5, WIDTH)
    mask = torch.tensor([[True, True, False, True, False], [True] * 5])
    got = layer(x, context, mask).detach()
    q = layer.q(layer.norm(x)).detach()
    k, v = layer.kv(layer.norm_context(context)).detach().chunk(2, -1)
    d = WIDTH // 4
    want = torch.zeros(2, 3, WIDTH)
    for b in range(2):
        for h in range(4):
            part = slice(h * d, (h + 1) * d)
            for i in range(3):
                keys = [j for j in range(5) if mask[b, j]]
                score = torch.tensor(
                    [float(q[b, i, part] @ k[b, j, part]) / math.sqrt(d) for j in keys]
                ).softmax(0)
                want[b, i, part] = sum(w * v[b, j, part] for w, j in zip(score, keys, strict=True))
    assert torch.allclose(got, layer.out(want), atol=1e-5)


def test_co_attention_layer_equals_its_formula():
    fusion = make("co")
    t = tokens(batch=1)
    fusion = CoAttention(SENSES, WIDTH, 1, 4, 0.0).eval()
    entered, g = fusion.enter(t)
    x = {m: s.x for m, s in entered.items()}
    summary = {
        m: fusion.query[m] + F.softmax(fusion.query[m] @ x[m].transpose(1, 2) / WIDTH**0.5, -1) @ x[m]
        for m in SENSES
    }
    want = {}
    for m in SENSES:
        context = torch.cat([g, x[m]], 1)
        y = x[m] + fusion.private[0][m](x[m], context, torch.ones(context.shape[:2], dtype=torch.bool))
        others = torch.cat([g, *[summary[j] for j in SENSES if j != m]], 1)
        y = y + fusion.cross[0](y, others, torch.ones(others.shape[:2], dtype=torch.bool))
        want[m] = y + fusion.mlp[0](y)
    state, _ = fusion(t)
    for m in SENSES:
        assert torch.allclose(state[m].x, want[m], atol=1e-5)


@pytest.mark.parametrize("additive", [False, True])
def test_whole_model_absent_features_are_inert(additive):
    task = load_task("upper-abdomen")
    torch.manual_seed(0)
    model = FusionModel(
        task, ModelConfig(width=16, layers=1, heads=2, vocabulary=5, additive=additive), encoders=False
    ).eval()
    batch = {}
    for m, n in model.sizes.items():
        kind = torch.arange(1, 8).repeat(2, 1)
        batch[m] = (torch.randn(2, 7, n), torch.ones(2, 7, dtype=torch.bool), kind)
    use = {
        "US": torch.tensor([True, True]),
        "CT": torch.tensor([False, True]),
        "MR": torch.tensor([True, False]),
    }
    first = model(batch, use)
    noisy = {m: (f.clone(), mask, kind) for m, (f, mask, kind) in batch.items()}
    noisy["CT"][0][0].normal_(0, 50)
    noisy["MR"][0][1].normal_(0, 50)
    second = model(noisy, use)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.embedding["joint"], second.embedding["joint"])
    norms = first.embedding["joint"].norm(dim=-1)
    assert torch.allclose(norms, torch.ones(2), atol=1e-5)


def test_shapley_is_exact_and_adds_up():
    rng = np.random.default_rng(0)
    game = {frozenset(s): float(rng.random()) for s in subsets(SENSES, empty=True)}
    got = shapley(game, SENSES)
    assert sum(got.values()) == pytest.approx(game[frozenset(SENSES)] - game[frozenset()])
    import itertools

    for p in SENSES:  # the average over all orders of arrival
        gains = []
        for order in itertools.permutations(SENSES):
            before = frozenset(order[: order.index(p)])
            gains.append(game[before | {p}] - game[before])
        assert got[p] == pytest.approx(np.mean(gains))


def test_modality_dropout_draws_every_subset():
    use = draw_use(SENSES, 4000, torch.Generator().manual_seed(0))
    seen = {tuple(bool(use[m][b]) for m in SENSES) for b in range(4000)}
    assert len(seen) == 8
    sizes = torch.stack([use[m] for m in SENSES]).sum(0)
    shares = [(sizes == n).float().mean().item() for n in (1, 2, 3)]
    assert all(0.28 < s < 0.37 for s in shares)


def test_use_only_names_its_members():
    use = use_only(("CT",), SENSES, 2)
    assert use["CT"].all()
    assert not use["US"].any()


def test_the_three_fusions_have_as_many_parameters():
    counts = [
        sum(p.numel() for p in FUSIONS[k](("US", "CT", "MR"), 96, 2, 4, 0.0).parameters()) for k in FUSIONS
    ]
    assert max(counts) / min(counts) < 1.02


def test_additive_logits_are_the_fused_ones_plus_each_modalitys_own():
    from medfuse.models.model import pool

    task = load_task("upper-abdomen")
    torch.manual_seed(0)
    model = FusionModel(
        task, ModelConfig(width=16, layers=1, heads=2, vocabulary=5, additive=True), encoders=False
    ).eval()
    batch = {
        m: (torch.randn(2, 7, n), torch.ones(2, 7, dtype=torch.bool), torch.arange(1, 8).repeat(2, 1))
        for m, n in model.sizes.items()
    }
    use = {
        "US": torch.tensor([True, True]),
        "CT": torch.tensor([False, True]),
        "MR": torch.tensor([True, False]),
    }
    out = model(batch, use)
    parts = model.tokens(batch, use)
    expected = model.head(out.joint)
    for m in SENSES:
        for b in range(2):
            if use[m][b]:
                expected[b] += model.own[m](pool(parts[m]))[b]
    assert torch.allclose(out.logits, expected, atol=1e-5)
    out.logits[0].sum().backward()  # the first patient has no CT: nothing flows to its own logits
    assert torch.count_nonzero(model.own["CT"].bias.grad) == 0
    assert torch.count_nonzero(model.own["MR"].bias.grad) > 0


@pytest.mark.parametrize(("with_it", "named"), [(6, LIKELIHOOD), (3, AUROC)])
def test_where_nothing_can_be_ranked_the_likelihood_chooses(with_it, named):
    """Every patient has the mass that is outlined: an AUROC that is nowhere defined kept the first epoch."""
    task = load_task("upper-abdomen")
    torch.manual_seed(0)
    model = FusionModel(task, ModelConfig(width=32, layers=1, vocabulary=1), encoders=False)
    draw = torch.Generator().manual_seed(0)
    batch = {
        m: (torch.randn(6, 2, n, generator=draw), torch.ones(6, 2).bool(), torch.ones(6, 2).long())
        for m, n in model.sizes.items()
    }
    labels = torch.full((6, len(task.findings)), -1)
    labels[:with_it, 0] = 1
    labels[with_it:, 0] = 0
    data = FusionData(batch, labels, None, None)
    assert criterion(labels) == named
    scores = []
    kept = train_fusion(
        model,
        data,
        data,
        budget=Budget(steps=8),
        how=FusionTraining(seed=1, log=lambda epoch, loss, score: scores.append(score)),
    )
    assert kept == max(scores)
    if named == LIKELIHOOD:
        assert max(scores) <= 0
        assert scores.index(kept) > 0  # training helped, and what it gave is kept
