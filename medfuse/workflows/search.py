"""`medfuse search`: words → cases, an image → cases and reports, a case → similar cases, in the shared space
of one bundle; words that name what the task's knowledge graph knows are ranked by what they claim.

Vectors are those that predict stored with each result; only results of the same bundle compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import torch

from ..bundles.bundle import Bundle, load_bundle
from ..case import Case
from ..drafting.asked import Asked, asked
from ..drafting.held import Held, holds
from ..errors import WrongUse
from ..inference.predictor import Predictor
from ..inference.support import SUPPORTED
from ..io.read import open_case
from ..knowledge import task_graph
from ..library import Library, results, store
from ..models.text import tokenize
from .search_request import Hit, Meant, SearchRequest, SearchResult, Tag


def embed_words(bundle: Bundle, words: str) -> np.ndarray:
    """(D,) unit vector. Raises WrongUse where the bundle has no text tower."""
    if bundle.tokenizer is None:
        raise WrongUse(f"bundle {bundle.name} was trained without reports, so it cannot be searched by words")
    ids, mask = tokenize(bundle.tokenizer, [words])
    with torch.inference_mode():
        return bundle.model.eval().embed_text(ids, mask)[0].numpy()


def embed_case(bundle: Bundle, case: Case, modality: str = "") -> np.ndarray:
    """(D,) unit vector of what a case shows, or of one of its modalities alone."""
    prediction = Predictor(bundle)(case, outside_domain=True)
    sense = modality or "joint"
    if sense not in prediction.embedding:
        raise WrongUse(
            f"{case.case_id}: has no {modality} image; it has "
            f"{', '.join(s for s in prediction.embedding if s != 'joint')}"
        )
    return np.array(prediction.embedding[sense])


def rank(
    query: np.ndarray,
    bundle: Bundle,
    request: SearchRequest,
    *,
    library: Library | None = None,
    demands: Sequence[Asked] = (),
) -> list[Hit]:
    """Cases of the library by similarity to a unit vector (D,), each case once by its best sense; not the one
    that the request asks the like of. ``demands``: by the probability that they hold, then by similarity."""
    found = []
    held: dict[str, Held] = {}
    for case_id, prediction in results.latest_predictions(library or Library(), bundle.hash):
        if case_id == request.like or (request.finding and not _has(prediction, request.finding)):
            continue
        if demands:
            held[case_id] = holds(demands, prediction.chances, prediction.lesions, bundle.task)
        for sense, vector in prediction.embedding.items():
            if request.modality in ("", sense):
                found.append((case_id, float(np.dot(query, vector)), sense))
    found.sort(key=lambda f: (-held[f[0]].probability if demands else 0.0, -f[1]))
    out: dict[str, Hit] = {}
    for case_id, score, sense in found:
        out.setdefault(case_id, _hit(case_id, score, sense, held.get(case_id)))
    return list(out.values())[: request.top]


def _hit(case_id: str, score: float, sense: str, held: Held | None) -> Hit:
    """A ranked case. held: how surely it holds what was asked for; None where nothing was."""
    hit = Hit(case_id=case_id, score=round(score, 4), modality=sense)
    if held is None:
        return hit
    return replace(hit, claims=round(held.probability, 4), finding=held.finding)


def _has(prediction: results.Searchable, finding: str) -> bool:
    return any(f.id == finding and (f.probability or 0) >= SUPPORTED for f in prediction.findings)


def tags(bundle: Bundle, vector: np.ndarray, phrases: list[str]) -> list[Tag]:
    """P(text | image) of phrases, likeliest first: the sigmoid of the trained, scaled similarity (SigLIP)."""
    if bundle.tokenizer is None:
        raise WrongUse(f"bundle {bundle.name} was trained without reports, so it has no words for an image")
    ids, mask = tokenize(bundle.tokenizer, phrases)
    with torch.inference_mode():
        text = bundle.model.eval().embed_text(ids, mask).numpy()
        scale = bundle.model.log_scale.exp().item()
        bias = bundle.model.bias.item()
    p = 1 / (1 + np.exp(-(scale * text @ vector + bias)))
    return [Tag(text=phrases[i], probability=round(float(p[i]), 4)) for i in np.argsort(-p)]


def search(request: SearchRequest, *, library: Library | None = None) -> SearchResult:
    """The ranked cases, and for an image or case the findings' names as ranked tags. Raises WrongUse."""
    library = library or Library()
    if sum(q is not None for q in (request.words, request.image, request.like)) != 1:
        raise WrongUse('search needs one query: "words", --image PATH or --like CASE')
    bundle = load_bundle(request.bundle)
    _known(request, bundle)
    if request.words is not None:
        return _by_words(request.words, bundle, request, library)
    if request.like is not None:
        case = store.load_case(library, request.like)
    else:
        case = open_case(str(request.image), modality=request.query_modality)
    query = embed_case(bundle, case, request.query_modality)
    names = [f.label("en").capitalize() + "." for f in bundle.task.findings]
    return SearchResult(
        query=request.like or str(request.image),
        results=rank(query, bundle, request, library=library),
        tags=None if bundle.tokenizer is None else tags(bundle, query, names),
    )


def _by_words(words: str, bundle: Bundle, request: SearchRequest, library: Library) -> SearchResult:
    """Ranked by what the words claim where the task's graph knows it, else by likeness alone."""
    graph = task_graph(bundle.task) if request.by == "claims" else None
    demands = asked(words, graph) if graph is not None else []
    found = rank(embed_words(bundle, words), bundle, request, library=library, demands=demands)
    meant = [Meant(**asdict(d)) for d in demands] or None
    return SearchResult(query=words, results=found, meant=meant)


def _known(request: SearchRequest, bundle: Bundle) -> None:
    """Raises WrongUse for a finding or a modality that the bundle's task does not have."""
    task = bundle.task
    known = {f.id for f in task.findings}
    if request.finding and request.finding not in known:
        raise WrongUse(
            f"--finding {request.finding}: not a finding of {task.name}; known: {', '.join(sorted(known))}"
        )
    if request.modality and request.modality not in (*task.senses, "joint"):
        raise WrongUse(f"--modality {request.modality}: give one of {', '.join(task.senses)} or joint")
