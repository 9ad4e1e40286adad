"""Metrics of text: BLEU-1..4, METEOR, ROUGE-L and CIDEr by pycocoevalcap, with the signature of how they were scored.

Two conventions of BLEU are in use and differ by up to a third: ``ptb`` (Penn Treebank tokens, punctuation dropped, as COCO captions
are scored) and ``whitespace`` (lower-cased, split at spaces, punctuation counted, as R2Gen and its heirs score reports).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path

from ..errors import UserError, WrongUse

TOKENIZERS = ("ptb", "whitespace")
METRICS = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider")


def text_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, tokenizer: str = "ptb", meteor: bool = True
) -> dict:
    """Corpus scores of ``hypotheses`` against one or several references each, and their ``signature``.

    METEOR and the Penn Treebank tokenizer need Java; UserError where it is missing. ``meteor`` is None without it.
    """
    if tokenizer not in TOKENIZERS:
        raise WrongUse(f"--tokenizer {tokenizer}: give ptb or whitespace")
    if len(hypotheses) != len(references):
        raise UserError(f"{len(hypotheses)} hypotheses against {len(references)} references; every text needs its own")
    if not hypotheses:
        raise UserError("no text to score; give files with one text a line or a JSON object {id: text}")
    java = shutil.which("java") is not None
    if not java and (tokenizer == "ptb" or meteor):
        raise UserError("METEOR and the ptb tokenizer need Java; install default-jre-headless")
    truth = {i: [str(r) for r in refs] for i, refs in enumerate(references)}
    said = {i: [str(h)] for i, h in enumerate(hypotheses)}
    truth, said = _tokenize(truth, tokenizer), _tokenize(said, tokenizer)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # the scorers print
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge

        bleu, _ = Bleu(4).compute_score(truth, said, verbose=0)
        rouge, _ = Rouge().compute_score(truth, said)
        cider, _ = Cider().compute_score(truth, said)
    out: dict = {f"bleu{n}": round(float(b), 6) for n, b in enumerate(bleu, 1)}
    out |= {"meteor": _meteor(truth, said) if meteor else None, "rouge_l": round(float(rouge), 6), "cider": round(float(cider), 6)}  # fmt: skip
    counted = "punctuation dropped" if tokenizer == "ptb" else "lower-cased, punctuation counted"
    out["signature"] = (
        f"pycocoevalcap {version('pycocoevalcap')}, {tokenizer} tokens ({counted}), BLEU of the corpus (closest length), "
        f"METEOR 1.5{'' if meteor else ' left out'}, ROUGE-L beta 1.2, CIDEr; {len(hypotheses)} texts, "
        f"{max(len(r) for r in references)} reference(s)"
    )
    return out


def item_scores(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenizer: str = "whitespace"
) -> dict[str, list[float]]:
    """Each text's own BLEU-1..4, ROUGE-L and CIDEr (document frequencies of all references), one reference a text."""
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
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _meteor(truth: dict, said: dict) -> float:
    from pycocoevalcap.meteor.meteor import Meteor

    scorer = Meteor()
    try:
        score, _ = scorer.compute_score(truth, said)
    finally:
        with scorer.lock:
            scorer.meteor_p.kill()
            scorer.meteor_p.wait()
            for pipe in (scorer.meteor_p.stdin, scorer.meteor_p.stdout, scorer.meteor_p.stderr):
                if pipe is not None:
                    pipe.close()
    return round(float(score), 6)


def diversity(texts: Sequence[str]) -> dict:
    """How much a writer repeats itself: share of distinct reports, and of distinct sentences."""
    from ..reporting.sections import split_sentences

    sentences = [s for t in texts for s in split_sentences(t)]
    return {
        "distinct_reports": round(len(set(texts)) / max(1, len(texts)), 4),
        "distinct_sentences": len(set(sentences)),
        "sentences": len(sentences),
    }


def read_texts(path: Path) -> dict[str, list[str]]:
    """id → texts, from JSON ({id: text or [texts]}, a list of texts) or a text file with one text a line."""
    if not path.is_file():
        raise WrongUse(f"{path}: no such file; give texts as JSON or one a line")
    if path.suffix.lower() != ".json":
        return {str(n): [line] for n, line in enumerate(path.read_text().splitlines())}
    try:
        found = json.loads(path.read_text())
    except json.JSONDecodeError as e:
        raise UserError(f"{path}: not valid JSON ({e}); give {{id: text}} or a list of texts") from e
    rows = found.items() if isinstance(found, dict) else enumerate(found)
    return {str(k): [str(t) for t in v] if isinstance(v, list) else [str(v)] for k, v in rows}


def evaluate_files(hypothesis: Path, references: list[Path], *, tokenizer: str) -> dict:
    """`medfuse evaluate-text`: one file of texts against one or several files of references with the same ids or lines."""
    said = read_texts(hypothesis)
    truth: dict[str, list[str]] = {k: [] for k in said}
    for path in references:
        rows = read_texts(path)
        missing = sorted(set(said) ^ set(rows))
        if missing:
            where = "lines" if path.suffix.lower() != ".json" else "ids"
            raise UserError(
                f"{path}: its {where} are not those of {hypothesis} ({len(rows)} against {len(said)}, first without a partner: {missing[0]})"
            )
        for k, texts in rows.items():
            truth[k] += texts
    return text_scores([v[0] for v in said.values()], [truth[k] for k in said], tokenizer=tokenizer)
