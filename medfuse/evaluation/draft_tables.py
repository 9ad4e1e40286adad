"""The tables of an evaluation of words: each writer beside the controls that BLEU forgets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ..bundles.bundle import Bundle
from ..drafting.draft import written_words
from ..drafting.labeller import Lexicon
from ..errors import UserError
from ..inference.predictor import Predicted
from ..prediction import Prediction
from .clinical import clinical, said_of, widen
from .draft_claims import DraftCounts
from .draft_results import (
    Caught,
    ClinicalScores,
    DraftScores,
    DraftTables,
    Pointing,
    Recalled,
    TextScores,
    Unsupported,
    UnsupportedShare,
)
from .planted_errors import Planted
from .text_metrics import diversity, text_scores

RANDOM_BUNDLE = "randomised weights"


@dataclass
class Drafted:
    """What one case gave: the truth, and the texts by who wrote them. Counts are (unsupported, all)."""

    case_id: str
    labels: np.ndarray
    reference: str
    embedding: np.ndarray
    texts: dict[str, str] = field(default_factory=dict)
    said: dict[str, dict[str, bool]] = field(default_factory=dict)  # by writer: finding → affirmed
    head: dict[str, bool] = field(default_factory=dict)
    untraced: int = 0
    sentences: int = 0
    unsupported_before: tuple[int, int] = (0, 0)
    unsupported_after: tuple[int, int] = (0, 0)
    hits: dict[str, list[bool]] = field(default_factory=dict)
    counts: DraftCounts | None = None
    seconds: float = 0.0


def draft_tables(
    bundle: Bundle,
    rows: list[Drafted],
    train: list[str],
    lexicon: Lexicon,
    language: str,
    seed: int,
    *,
    planted: Planted,
) -> DraftTables:
    """Score what was drafted. ``train``: reports of the training set, of which one becomes the constant
    report. Raises UserError where no case lies in the validated domain."""
    task = bundle.task
    kept = [r for r in rows if r.texts]
    if not kept:
        raise UserError(
            f"bundle {bundle.name}: none of the cases lies in its validated domain; nothing was written"
        )
    labels = np.stack([r.labels for r in kept])
    references = [r.reference for r in kept]
    texts = {w: [r.texts[w] for r in kept] for w in kept[0].texts}
    controls = _controls(bundle, kept, texts, _constant(train, lexicon), language, seed)
    said = _affirmed(kept, controls, lexicon)
    texts |= controls
    scored = {w: clinical([widen(x, task) for x in s], labels, task) for w, s in said.items()}
    return DraftTables(
        n=len(kept),
        draft=_draft(kept, scored),
        checker=_checker(planted),
        clinical=scored,
        text={w: _scored(told, references) for w, told in texts.items()},
        diversity={w: diversity(told) for w, told in texts.items()},
        unsupported=_unsupported(kept) if bundle.writer is not None else Unsupported(),
        untraced_sentences=(sum(r.untraced for r in kept), sum(r.sentences for r in kept)),
        pointing={w: _pointing(kept, w) for w in ("model", RANDOM_BUNDLE)},
        retrieval=_retrieved(bundle, kept, texts),
        seconds_a_report=_seconds(kept),
    )


def _affirmed(
    kept: list[Drafted], controls: dict[str, list[str]], lexicon: Lexicon
) -> dict[str, list[dict[str, bool]]]:
    """By writer, what each report affirms: of the drafts, the controls and the findings head."""
    drafted = {w: [r.said[w] for r in kept] for w in kept[0].texts}
    controlled = {w: [said_of(t, lexicon) for t in told] for w, told in controls.items()}
    return {**drafted, **controlled, "findings head": [r.head for r in kept]}


def _seconds(kept: list[Drafted]) -> float | None:
    """The median time that the writer took; None where nothing was written."""
    written = [r.seconds for r in kept if r.seconds]
    return round(float(np.median(written)), 3) if written else None


def _draft(kept: list[Drafted], scored: dict[str, ClinicalScores]) -> DraftScores:
    counts = [r.counts for r in kept if r.counts is not None]
    named = sum(c.named for c in counts)
    true = sum(c.true_named for c in counts)
    return DraftScores(
        claim_f1=scored["structured"].micro.f1,
        findings_head_f1=scored["findings head"].micro.f1,
        witness_accuracy=round(true / named, 4) if named else None,
        witnesses=named,
        lesions_twice=sum(c.twice for c in counts),
        impression_disorder=sum(c.disorder for c in counts),
        side_errors=sum(c.sides for c in counts),
        size_errors=sum(c.sizes for c in counts),
        sentences_per_report=round(float(np.mean([c.sentences for c in counts])), 2) if counts else 0.0,
    )


def _checker(planted: Planted) -> dict[str, Caught | float | None]:
    out: dict[str, Caught | float | None] = {
        kind: Caught(caught=caught, n=n) for kind, (caught, n) in planted.caught.items()
    }
    out["true_touched"] = round(planted.touched / planted.true, 4) if planted.true else None
    return out


def _controls(
    bundle: Bundle,
    kept: list[Drafted],
    texts: dict[str, list[str]],
    constant: str,
    language: str,
    seed: int,
) -> dict[str, list[str]]:
    """Texts that owe nothing, or the wrong thing, to a case's images."""
    embeddings = np.stack([r.embedding for r in kept])
    similar = embeddings @ embeddings.T
    np.fill_diagonal(similar, -np.inf)
    best = texts[list(texts)[-1]]
    out = {
        "nearest neighbour's report": [kept[i].reference for i in similar.argmax(1)],
        "constant report": [constant] * len(kept),
        "another patient's images": [best[i] for i in np.random.default_rng(seed).permutation(len(kept))],
    }
    if bundle.writer is not None:
        out["blank images"] = [_blank(bundle, language)] * len(kept)
    return out


def _scored(told: list[str], references: list[str]) -> dict[str, TextScores]:
    return {
        t: text_scores(told, [[r] for r in references], tokenizer=t, meteor=t == "ptb")
        for t in ("ptb", "whitespace")
    }


def _unsupported(kept: list[Drafted]) -> Unsupported:
    def share(counts: list[tuple[int, int]]) -> UnsupportedShare:
        wrong, total = (sum(c) for c in zip(*counts, strict=True))
        return UnsupportedShare(
            sentences=total, unsupported=wrong, share=round(wrong / total, 4) if total else None
        )

    return Unsupported(
        before=share([r.unsupported_before for r in kept]), after=share([r.unsupported_after for r in kept])
    )


def _pointing(kept: list[Drafted], who: str) -> Pointing:
    hits = [h for r in kept for h in r.hits.get(who, [])]
    return Pointing(hit=round(float(np.mean(hits)), 4) if hits else None, n=len(hits))


def _constant(reports: list[str], lexicon: Lexicon) -> str:
    """The report of the training set that affirms least: what a writer that never looks would learn to
    say."""
    return min(reports, key=lambda t: (sum(said_of(t, lexicon).values()), len(t), t))


def _blank(bundle: Bundle, language: str) -> str:
    """What the writer says with no image at all."""
    from ..models.features import CaseFeatures, collate

    sizes = bundle.model.sizes
    batch = collate([CaseFeatures()], tuple(sizes), sizes)
    with torch.inference_mode():
        output = bundle.model.eval()(batch)
    nothing = Predicted(
        Prediction(
            case_id="",
            simulated=True,
            in_domain=True,
            modalities={},
            images=[],
            findings=[],
            lesions=[],
            bundle="",
            bundle_hash="",
        ),
        [],
        fused=output.fused,
        logits=output.logits,
    )
    return written_words(bundle, nothing, language)


def _retrieved(bundle: Bundle, rows: list[Drafted], texts: dict[str, list[str]]) -> dict[str, Recalled]:
    """Retrieval-based evaluation: does a written text find its own case's images in the shared space?"""
    if bundle.tokenizer is None:
        return {}
    from ..models.text import tokenize

    images = np.stack([r.embedding for r in rows])
    out: dict[str, Recalled] = {}
    for name in ("structured", "learned", "constant report"):
        if name in texts:
            ids, mask = tokenize(bundle.tokenizer, texts[name])
            with torch.inference_mode():
                words = bundle.model.eval().embed_text(ids, mask).numpy()
            score = words @ images.T
            own = np.diag(score)
            worse = (score > own[:, None]).sum(1)
            same = (score == own[:, None]).sum(1)
            rank = worse + (same - 1) / 2  # a text that everybody has does not find anyone
            r1, r5, r10 = (round(float((rank < k).mean()), 4) for k in (1, 5, 10))
            out[name] = Recalled(r1=r1, r5=r5, r10=r10)
    return out
