"""Metrics of text: BLEU-1..4, METEOR, ROUGE-L and CIDEr by pycocoevalcap, with the signature of how they were
scored.

Two conventions of BLEU are in use and differ by up to a third: ``ptb`` (Penn Treebank tokens, punctuation
    dropped, as COCO captions are scored) and ``whitespace`` (lower-cased, split at spaces, punctuation
    counted, as R2Gen and its heirs score reports).
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, WrongUse
from .draft_results import Diversity, TextScores

if TYPE_CHECKING:
    from pycocoevalcap.meteor.meteor import Meteor

TOKENIZERS = ("ptb", "whitespace")
METRICS = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider")


def text_scores(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: str = "ptb",
    meteor: bool = True,
) -> TextScores:
    """Corpus scores of ``hypotheses`` against one or several references each.

    METEOR and the Penn Treebank tokenizer need Java; UserError where it is missing. ``meteor`` is None
    without it.
    """
    _check(hypotheses, references, tokenizer, meteor=meteor)
    truth = {i: [str(r) for r in refs] for i, refs in enumerate(references)}
    said = {i: [str(h)] for i, h in enumerate(hypotheses)}
    truth = _tokenize(truth, tokenizer)
    said = _tokenize(said, tokenizer)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # the scorers print
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge

        bleu, _ = Bleu(4).compute_score(truth, said, verbose=0)
        rouge, _ = Rouge().compute_score(truth, said)
        cider, _ = Cider().compute_score(truth, said)
    bleu1, bleu2, bleu3, bleu4 = (round(float(b), 6) for b in bleu)
    counted = "punctuation dropped" if tokenizer == "ptb" else "lower-cased, punctuation counted"
    signature = (
        f"pycocoevalcap {version('pycocoevalcap')}, {tokenizer} tokens ({counted}), BLEU of the corpus "
        "(closest length), "
        f"METEOR 1.5{'' if meteor else ' left out'}, ROUGE-L beta 1.2, CIDEr; {len(hypotheses)} texts, "
        f"{max(len(r) for r in references)} reference(s)"
    )
    return TextScores(
        bleu1=bleu1,
        bleu2=bleu2,
        bleu3=bleu3,
        bleu4=bleu4,
        meteor=_meteor(truth, said) if meteor else None,
        rouge_l=round(float(rouge), 6),
        cider=round(float(cider), 6),
        signature=signature,
    )


def _check(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenizer: str, *, meteor: bool
) -> None:
    """Raises UserError where there is nothing to score, or nothing to score it with."""
    if tokenizer not in TOKENIZERS:
        raise WrongUse(f"--tokenizer {tokenizer}: give ptb or whitespace")
    if len(hypotheses) != len(references):
        raise UserError(
            f"{len(hypotheses)} hypotheses against {len(references)} references; every text needs its own"
        )
    if not hypotheses:
        raise UserError("no text to score; give files with one text a line or a JSON object {id: text}")
    if shutil.which("java") is None and (tokenizer == "ptb" or meteor):
        raise UserError("METEOR and the ptb tokenizer need Java; install default-jre-headless")


def item_scores(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenizer: str = "whitespace"
) -> dict[str, list[float]]:
    """Each text's own BLEU-1..4, ROUGE-L and CIDEr (document frequencies of all references), one reference a
    text."""
    truth = _tokenize({i: [r] for i, r in enumerate(references)}, tokenizer)
    said = _tokenize({i: [h] for i, h in enumerate(hypotheses)}, tokenizer)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge

        _, bleu = Bleu(4).compute_score(truth, said, verbose=0)
        _, rouge = Rouge().compute_score(truth, said)
        _, cider = Cider().compute_score(truth, said)
    out = {f"bleu{n}": [float(v) for v in row] for n, row in enumerate(bleu, 1)}
    return out | {"rouge_l": [float(v) for v in rouge], "cider": [float(v) for v in cider]}


def _tokenize(texts: dict[int, list[str]], tokenizer: str) -> dict[int, list[str]]:
    if tokenizer == "whitespace":
        # double spaces stay: ROUGE counts the empty tokens between them, and so do the published scores
        return {i: [t.lower().replace("\n", " ").strip() for t in rows] for i, rows in texts.items()}
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions = {i: [{"caption": " ".join(t.split())} for t in rows] for i, rows in texts.items()}
    with _quiet_children():
        return PTBTokenizer().tokenize(captions)


@contextmanager
def _quiet_children() -> Iterator[None]:
    """The Java tokenizer talks on our stderr; its speed is no news."""
    kept = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _meteor(truth: dict, said: dict) -> float:
    scorer = _meteor_scorer()
    try:
        score, _ = scorer.compute_score(truth, said)
    except (OSError, ValueError) as e:  # the process died, or said no number
        _meteor_scorer.cache_clear()
        scorer.lock.release()  # it was taken for the call that failed
        raise UserError(f"METEOR's Java process gave no score ({e}); see that java runs with 2 GB") from e
    return round(float(score), 6)


@cache
def _meteor_scorer() -> Meteor:
    """One Java process for all tables: it reads its paraphrases for seconds before it scores anything."""
    from pycocoevalcap.meteor.meteor import Meteor

    scorer = Meteor()
    atexit.register(_ended, scorer)
    return scorer


def _ended(scorer: Meteor) -> None:
    scorer.meteor_p.kill()
    scorer.meteor_p.wait()
    for pipe in (scorer.meteor_p.stdin, scorer.meteor_p.stdout, scorer.meteor_p.stderr):
        if pipe is not None:
            pipe.close()


def diversity(texts: Sequence[str]) -> Diversity:
    """How much a writer repeats itself."""
    from ..drafting.sections import split_sentences

    sentences = [s for t in texts for s in split_sentences(t)]
    return Diversity(
        distinct_reports=round(len(set(texts)) / max(1, len(texts)), 4),
        distinct_sentences=len(set(sentences)),
        sentences=len(sentences),
    )


def read_texts(path: Path) -> dict[str, list[str]]:
    """id → texts, from JSON ({id: text or [texts]}, a list of texts) or a text file with one text a line."""
    if not path.is_file():
        raise WrongUse(f"{path}: no such file; give texts as JSON or one a line")
    if path.suffix.lower() != ".json":
        return {str(n): [line] for n, line in enumerate(path.read_text(encoding="utf-8").splitlines())}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as e:
        raise UserError(f"{path}: not valid JSON ({e}); give {{id: text}} or a list of texts") from e
    rows = found.items() if isinstance(found, dict) else enumerate(found)
    return {str(k): [str(t) for t in v] if isinstance(v, list) else [str(v)] for k, v in rows}


def evaluate_files(hypothesis: Path, references: list[Path], *, tokenizer: str) -> TextScores:
    """`medfuse evaluate-text`: one file of texts against one or several files of references with the same ids
    or lines."""
    said = read_texts(hypothesis)
    truth: dict[str, list[str]] = {k: [] for k in said}
    for path in references:
        rows = read_texts(path)
        missing = sorted(set(said) ^ set(rows))
        if missing:
            where = "lines" if path.suffix.lower() != ".json" else "ids"
            raise UserError(
                f"{path}: its {where} are not those of {hypothesis} ({len(rows)} against {len(said)}, "
                f"first without a partner: {missing[0]})"
            )
        for k, texts in rows.items():
            truth[k] += texts
    return text_scores([v[0] for v in said.values()], [truth[k] for k in said], tokenizer=tokenizer)
