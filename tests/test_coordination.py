"""Losses of the shared space against closed forms."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from medfuse.knowledge import task_graph
from medfuse.models.coordination import info_nce_loss, near_findings, same_findings, siglip_loss
from medfuse.models.text import TextTower, tokenize, train_tokenizer
from medfuse.task import load_task
from medfuse.training.stages.fusion import drop_words


def pair(n=4, d=6):
    torch.manual_seed(0)
    return F.normalize(torch.randn(n, d), dim=1), F.normalize(torch.randn(n, d), dim=1)


def test_siglip_equals_its_definition():
    a, b = pair()
    scale = torch.tensor(3.0)
    bias = torch.tensor(-1.0)
    want = 0.0
    for i in range(4):
        for j in range(4):
            z = 1 if i == j else -1
            want += math.log(1 + math.exp(-z * (3.0 * float(a[i] @ b[j]) - 1.0)))
    assert math.isclose(float(siglip_loss(a, b, scale, bias)), want / 4, rel_tol=1e-5)


def test_siglip_leaves_out_pairs_with_the_same_findings():
    a, b = pair()
    labels = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 0]])
    ignore = same_findings(labels)
    assert ignore[0, 1]
    assert not ignore[0, 2]
    full = siglip_loss(a, b, torch.tensor(3.0), torch.tensor(-1.0))
    part = siglip_loss(a, b, torch.tensor(3.0), torch.tensor(-1.0), ignore)
    dropped = sum(math.log(1 + math.exp(3.0 * float(a[i] @ b[j]) - 1.0)) for i, j in ((0, 1), (1, 0))) / 4
    assert math.isclose(float(full - part), dropped, rel_tol=1e-4)


def test_patients_near_in_the_graph_are_no_negatives():
    """A simple and a septated cyst are both cystic: near in the graph, and not the same findings."""
    task = load_task("upper-abdomen")
    graph = task_graph(task)
    up = torch.tensor(graph.one_up())
    names = [f.id for f in task.findings]
    labels = torch.zeros(5, len(names), dtype=torch.long)
    for row, found in enumerate(("simple_cyst", "septated_cyst", "hcc_like", "septated_cyst")):
        labels[row, names.index(found)] = 1
        labels[row, [names.index(w.id) for w in task.wider(task.finding(found).id)]] = 1
    labels[3, names.index("ascites")] = -1  # not known
    near = near_findings(labels, up)
    assert near[0, 1]
    assert not same_findings(labels)[0, 1]
    assert not near[0, 2]
    assert not near[1, 3]
    assert not near[0, 4]
    assert torch.equal(near, near.T)


def test_info_nce_equals_its_definition():
    a, b = pair()
    logits = 5.0 * a @ b.T
    want = 0.0
    for i in range(4):
        want -= float(logits[i, i] - logits[i].logsumexp(0)) + float(logits[i, i] - logits[:, i].logsumexp(0))
    assert math.isclose(float(info_nce_loss(a, b, torch.tensor(5.0))), want / 8, rel_tol=1e-5)


def test_info_nce_ignores_the_same_findings():
    a, b = pair(2)
    ignore = torch.ones(2, 2, dtype=torch.bool)
    assert float(info_nce_loss(a, b, torch.tensor(5.0), ignore)) == 0.0


def test_text_tower_ignores_padding():
    tokenizer = train_tokenizer(["Simple cyst in the liver.", "No focal lesion."], vocabulary=60)
    tower = TextTower(tokenizer.get_vocab_size(), 16).eval()
    alone = tower(*tokenize(tokenizer, ["No focal lesion."]))
    beside = tower(
        *tokenize(tokenizer, ["No focal lesion.", "Simple cyst in the liver. Simple cyst in the liver."])
    )
    assert torch.allclose(alone[0], beside[0], atol=1e-5)
    assert torch.isfinite(tower(*tokenize(tokenizer, [""]))).all()


def test_linear_cca_equals_scikit_learn():
    import numpy as np
    from sklearn.cross_decomposition import CCA

    from medfuse.models.coordination import LinearCCA

    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(400, 3))
    x = hidden @ rng.normal(size=(3, 6)) + 0.5 * rng.normal(size=(400, 6))
    y = hidden @ rng.normal(size=(3, 5)) + 0.5 * rng.normal(size=(400, 5))
    ours = LinearCCA.fit(torch.tensor(x), torch.tensor(y), 3)
    u, v = CCA(n_components=3, max_iter=5000, tol=1e-10).fit_transform(x, y)
    theirs = [abs(np.corrcoef(u[:, k], v[:, k])[0, 1]) for k in range(3)]
    assert np.allclose(ours.correlation.numpy(), theirs, atol=1e-3)
    a = ours.embed_a(torch.tensor(x).float())
    b = ours.embed_b(torch.tensor(y).float())
    assert torch.allclose(a.norm(dim=1), torch.ones(400), atol=1e-4)
    top = (a @ b.T).topk(10, dim=1).indices
    assert sum(i in row for i, row in enumerate(top.tolist())) > 100  # chance is 10


def test_dropped_words_are_a_share_and_never_all():
    mask = torch.zeros(200, 50, dtype=torch.bool)
    mask[:, :30] = True
    mask[0, 1:] = False  # a report of one token
    kept = drop_words(mask, 0.4, torch.Generator().manual_seed(0))
    assert not (kept & ~mask).any()
    assert kept[:, 0].all()
    assert 0.55 < kept[1:, 1:30].float().mean() < 0.65
    assert drop_words(mask, 0.0, torch.Generator()) is mask
