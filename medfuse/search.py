"""`medfuse search`: words → cases, an image → cases and reports, a case → similar cases, in the shared space of one bundle.

Vectors are those that predict stored with each result; only results of the same bundle compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .case import Case
from .errors import WrongUse
from .library import store
from .models.bundle import Bundle, load_bundle
from .models.text import tokenize
from .pipeline import read_case
from .predict import SUPPORTED, predict_case


@dataclass(frozen=True)
class Filters:
    """modality: compare with this sense's vector alone (default: the joint one and every modality); finding: only cases
    where it was found (calibrated probability of at least SUPPORTED)."""

    modality: str = ""
    finding: str = ""


def embed_words(bundle: Bundle, words: str) -> np.ndarray:
    """(D,) unit vector. Raises WrongUse where the bundle has no text tower."""
    if bundle.tokenizer is None:
        raise WrongUse(f"bundle {bundle.name} was trained without reports, so it cannot be searched by words")
    ids, mask = tokenize(bundle.tokenizer, [words])
    with torch.inference_mode():
        return bundle.model.eval().embed_text(ids, mask)[0].numpy()


def embed_case(bundle: Bundle, case: Case, modality: str = "") -> np.ndarray:
    """(D,) unit vector of what a case shows, or of one of its modalities alone."""
    prediction = predict_case(case, bundle, outside_domain=True).prediction
    sense = modality or "joint"
    if sense not in prediction.embedding:
        raise WrongUse(
            f"{case.case_id}: has no {modality} image; it has {', '.join(s for s in prediction.embedding if s != 'joint')}"
        )
    return np.array(prediction.embedding[sense])


def rank(query: np.ndarray, bundle: Bundle, filters: Filters, top: int, leave_out: str = "") -> list[dict]:
    """Cases of the library by similarity: {"case_id", "score", "modality"}, each case once by its best sense."""
    found = []
    for case_id, prediction in store.latest_predictions(bundle.hash):
        if case_id == leave_out or (filters.finding and not _has(prediction, filters.finding)):
            continue
        for sense, vector in prediction["embedding"].items():
            if filters.modality in ("", sense):
                found.append((case_id, float(np.dot(query, vector)), sense))
    found.sort(key=lambda f: -f[1])
    out: dict[str, dict] = {}
    for case_id, score, sense in found:
        out.setdefault(case_id, {"case_id": case_id, "score": round(score, 4), "modality": sense})
    return list(out.values())[:top]


def _has(prediction: dict, finding: str) -> bool:
    return any(f["id"] == finding and (f["probability"] or 0) >= SUPPORTED for f in prediction["findings"])


def tags(bundle: Bundle, vector: np.ndarray, phrases: list[str]) -> list[dict]:
    """P(text | image) of phrases, likeliest first: the sigmoid of the trained, scaled similarity (SigLIP)."""
    ids, mask = tokenize(bundle.tokenizer, phrases)
    with torch.inference_mode():
        text = bundle.model.eval().embed_text(ids, mask).numpy()
        scale, bias = bundle.model.log_scale.exp().item(), bundle.model.bias.item()
    p = 1 / (1 + np.exp(-(scale * text @ vector + bias)))
    return [{"text": phrases[i], "probability": round(float(p[i]), 4)} for i in np.argsort(-p)]


def search(
    words: str | None, image: Path | None, case_id: str | None, *, bundle: str | None, filters: Filters, query_modality: str, top: int
) -> dict:  # fmt: skip
    """The ranked cases, and for an image or case the findings' names as ranked tags."""
    if sum(q is not None for q in (words, image, case_id)) != 1:
        raise WrongUse('search needs one query: "words", --image PATH or --like CASE')
    loaded = load_bundle(bundle)
    known = {f.id for f in loaded.task.findings}
    if filters.finding and filters.finding not in known:
        raise WrongUse(
            f"--finding {filters.finding}: not a finding of {loaded.task.name}; known: {', '.join(sorted(known))}"
        )
    if filters.modality and filters.modality not in (*loaded.task.senses, "joint"):
        raise WrongUse(f"--modality {filters.modality}: give one of {', '.join(loaded.task.senses)} or joint")
    if words is not None:
        return {"query": words, "results": rank(embed_words(loaded, words), loaded, filters, top)}
    if case_id is not None:
        case = store.load_case(case_id)
    else:
        assert image is not None
        case = read_case(image, query_modality)
    query = embed_case(loaded, case, query_modality)
    names = [f.label("en").capitalize() + "." for f in loaded.task.findings]
    out = {"query": case_id or str(image), "results": rank(query, loaded, filters, top, leave_out=case_id or "")}
    return out | ({"tags": tags(loaded, query, names)} if loaded.tokenizer is not None else {})
