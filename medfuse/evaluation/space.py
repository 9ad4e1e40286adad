"""Retrieval from every sense to every other: images, case, words, claims, and words in phrasings kept back.

Two of images, case and words are compared in the learned space, by cosine. A pair with claims or with words
kept back is compared by claims: each side says how likely each finding is, and a pair is ranked by how much
likelier those are of one patient than of two (a product over the findings, taken as independent). Words
become claims by the labeller, so that how something is phrased does not matter as long as the lexicon knows
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from ..bundles.bound import bound_temperatures, load_bound
from ..bundles.bundle import Bundle
from ..bundles.calibration import calibrated
from ..drafting.labeller import Lexicon, label, task_lexicon
from ..models.feature_set import FeatureSet, FusionData, collect, predict_logits
from ..models.model import FusionModel
from ..models.subsets import name as subset_name
from ..models.subsets import use_only
from ..task import Task
from .results import Space, SpacePair
from .retrieval import KS, chance, recall

CASE = "case"
WORDS = "words"
CLAIMS = "claims"
UNSEEN_WORDS = "unseen_words"
SAID = {"present": 0.97, "possible": 0.85, "absent": 0.03, None: 0.03}  # a report names what is there
KNOWN = {1: 0.99, 0: 0.01}
LEAST = 0.01  # no probability is taken for surer than this


@dataclass
class Sensed:
    """What each sense says of N cases. embedding: sense → (N, D) unit rows of the learned space. chances:
    sense → (N, F) probabilities of `asked_findings`. there: sense → (N,) bool."""

    embedding: dict[str, Float[np.ndarray, "n d"]] = field(default_factory=dict)
    chances: dict[str, Float[np.ndarray, "n f"]] = field(default_factory=dict)
    there: dict[str, Bool[np.ndarray, " n"]] = field(default_factory=dict)


@torch.no_grad()
def embedded(model: FusionModel, fused: FusionData, data: FeatureSet, case: str, words: str) -> Sensed:
    """Each modality alone, the ``case`` (all of them together) and the ``words`` of the report in the learned
    space; nothing where the model has none."""
    out = Sensed()
    if "joint" not in model.projection:
        return out
    output = model.eval()(fused.batch)
    out.embedding = {case if m == "joint" else m: e.numpy() for m, e in output.embedding.items()}
    out.there = {m: data.has(m) for m in model.task_modalities}
    out.there[case] = np.ones(len(data.case_ids), bool)
    if fused.ids is not None and fused.ids_mask is not None:
        out.embedding[words] = model.embed_text(fused.ids, fused.ids_mask).numpy()
        out.there[words] = np.array([bool(r) for r in data.reports])
    return out


def case_chances(bundle: Bundle, fused: FusionData, data: FeatureSet) -> Float[np.ndarray, "n f"]:
    """(N, F) calibrated probabilities of every finding, each case by all senses that it has."""
    senses = bundle.task.senses
    has = np.stack([data.has(m) for m in senses], 1)
    patterns = [subset_name(tuple(np.array(senses)[row])) for row in has]
    temperature = np.array([[bundle.temperature(p)] for p in patterns])
    return calibrated(predict_logits(bundle.model, fused.batch) / temperature, 1.0, bundle.shifts)


def space(bundle: Bundle, fused: FusionData, data: FeatureSet, alone: Mapping[str, np.ndarray]) -> Space:
    """The matrix of all senses of these cases. alone: sense → (N, F) calibrated probabilities by it alone."""
    task = bundle.task
    asked = asked_findings(task)
    sensed = embedded(bundle.model, fused, data, CASE, WORDS)
    joint = case_chances(bundle, fused, data)[:, asked]
    prior = joint.mean(0)
    sensed.chances |= {m: alone[m][:, asked] for m in task.senses if m in alone} | {CASE: joint}
    sensed.there |= {m: data.has(m) for m in task.senses} | {CASE: np.ones(len(joint), bool)}
    for name, one in load_bound(bundle).items():
        if data.has(name).any():
            logits = one.logits(data.features).numpy()
            sensed.chances[name] = calibrated(logits, bound_temperatures(bundle)[name])[:, asked]
            sensed.there[name] = data.has(name)
    add_words(sensed, {WORDS: data.reports, UNSEEN_WORDS: data.rephrased}, task, prior)
    sensed.chances[CLAIMS] = claimed(data.labels[:, asked], prior)
    sensed.there[CLAIMS] = np.array((data.labels[:, asked] >= 0).any(1))
    return space_of(sensed, prior, bound=frozenset(load_bound(bundle)))


def space_of_bundle(bundle: Bundle, data: FeatureSet) -> Space:
    """`space` of cases, with what each sense says by itself."""
    fused = collect(bundle.task, bundle.model.sizes, data, bundle.tokenizer)
    senses = bundle.task.senses
    alone = {}
    for m in senses:
        logits = predict_logits(bundle.model, fused.batch, use_only((m,), senses, len(data.labels)))
        alone[m] = calibrated(logits, bundle.temperature(m), bundle.shifts)
    return space(bundle, fused, data, alone)


def asked_findings(task: Task) -> list[int]:
    """Numbers of the findings that claims are made of: those that no other finding decides."""
    return [n for n, f in enumerate(task.findings) if not f.derived_from]


def claimed(labels: Int[np.ndarray, "n f"], prior: Float[np.ndarray, " f"]) -> Float[np.ndarray, "n f"]:
    """Labels (N, F) of 0, 1, -1 as probabilities; unknown is as likely as ever."""
    return np.where(labels == 1, KNOWN[1], np.where(labels == 0, KNOWN[0], prior))


def read_words(
    texts: list[str], task: Task, lexicon: Lexicon, prior: Float[np.ndarray, " f"]
) -> Float[np.ndarray, "n f"]:
    """(N, F) probabilities of the findings of `asked_findings` by what the labeller reads; what the lexicon
    has no words for is as likely as ever."""
    out = np.tile(prior, (len(texts), 1))
    for row, text in zip(out, texts, strict=True):
        said = label(text, lexicon)
        for n, f in enumerate(asked_findings(task)):
            finding = task.findings[f].id
            if finding in said:
                row[n] = SAID[said[finding]]
    return out


def agreement(
    a: Float[np.ndarray, "n f"], b: Float[np.ndarray, "m f"], prior: Float[np.ndarray, " f"]
) -> Float[np.ndarray, "n m"]:
    """(N, M) log-odds that two sets of probabilities speak of one patient rather than of two, with a prior
    (F,) of each finding."""
    a = np.clip(a, LEAST, 1 - LEAST)
    b = np.clip(b, LEAST, 1 - LEAST)
    prior = np.clip(prior, LEAST, 1 - LEAST)
    same = a[:, None] * b[None] / prior + (1 - a[:, None]) * (1 - b[None]) / (1 - prior)
    return np.log(same).sum(-1)


def add_words(
    sensed: Sensed, texts: Mapping[str, list[str]], task: Task, prior: Float[np.ndarray, " f"]
) -> None:
    """Claims that the labeller reads from words, by sense; nothing where the task has no lexicon."""
    lexicon = task_lexicon(task)
    if lexicon is None:
        return
    for sense, rows in texts.items():
        there = np.array([bool(text) for text in rows])
        if there.any():
            sensed.chances[sense] = read_words(rows, task, lexicon, prior)
            sensed.there[sense] = there


def space_of(sensed: Sensed, prior: Float[np.ndarray, " f"], *, bound: frozenset[str] = frozenset()) -> Space:
    """The matrix of every ordered pair of senses that two cases at least have. bound: senses that learned
    from claims alone."""
    named = dict.fromkeys((*sensed.embedding, *sensed.chances))
    matrix: dict[str, SpacePair] = {}
    for a in named:
        for b in named:
            both = sensed.there[a] & sensed.there[b]
            if a != b and both.sum() > 1 and (found := _pair(sensed, a, b, both, prior)) is not None:
                trained = _trained(a, b, bound)
                matrix[f"{a}->{b}"] = found.model_copy(update={"trained": trained})
    counts = sorted({pair.n for pair in matrix.values()})
    senses = [s for s in named if any(s in pair.split("->") for pair in matrix)]
    return Space(senses=senses, matrix=matrix, chance={str(n): chance(n) for n in counts})


def _pair(
    sensed: Sensed, a: str, b: str, both: Bool[np.ndarray, " n"], prior: Float[np.ndarray, " f"]
) -> SpacePair | None:
    """One pair on the cases that have both senses; None where nothing compares them."""
    by_claims = not {CLAIMS, UNSEEN_WORDS}.isdisjoint((a, b))
    table = sensed.chances if by_claims else sensed.embedding
    if a not in table or b not in table:
        if a not in sensed.chances or b not in sensed.chances:
            return None
        by_claims = True  # a sense that the learned space does not hold
    if by_claims:
        similarity = agreement(sensed.chances[a][both], sensed.chances[b][both], prior)
        found = recall_of(similarity)
    else:
        found = recall(sensed.embedding[a][both], sensed.embedding[b][both])
    return SpacePair(n=int(both.sum()), trained=False, by="claims" if by_claims else "space", **found)


def recall_of(similarity: Float[np.ndarray, "n n"]) -> dict[str, float]:
    """Recall at 1, 5 and 10 of a matrix whose row i belongs to column i, as expected when those that are as
    alike as its own are in random order (identical claims do not say which patient it is)."""
    own = np.diag(similarity)[:, None]
    tied = np.isclose(similarity, own, rtol=0, atol=1e-9)
    before = ((similarity > own) & ~tied).sum(1)
    return {f"r{k}": round(float(np.clip((k - before) / tied.sum(1), 0, 1).mean()), 4) for k in KS}


def _trained(a: str, b: str, bound: frozenset[str]) -> bool:
    """Whether a training brought the two together: images with their report, and images with their labels.
    Two images, anything with phrasings kept back, and a bound sense with all but claims were not."""
    pair = {a, b}
    if pair & bound and CLAIMS not in pair:
        return False
    if UNSEEN_WORDS in pair or pair == {WORDS, CLAIMS}:
        return False
    return bool(pair & {WORDS, CLAIMS})
