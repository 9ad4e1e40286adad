"""What an evaluation of words finds, as types; reports.json, texts.jsonl and their schemas come from them.

A writer is named by what it is ("structured", "learned", "constant report" …). A value that is None could
not be measured.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field

from .results import Result, ScoredBundle


class TextScores(Result):
    """Corpus scores of texts against references, and the ``signature`` of how they were scored. ``meteor``
    is None where it was left out.

    bleu1, bleu2, bleu3, bleu4, meteor, rouge_l, cider: the scores of these names. signature: of sacreBLEU.
    """

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    meteor: float | None
    rouge_l: float
    cider: float
    signature: str


class Diversity(Result):
    """How much a writer repeats itself: share of distinct reports, and counts of sentences.

    distinct_reports: share of reports that are like no other. distinct_sentences: how many there are.
    sentences: how many in all.
    """

    distinct_reports: float
    distinct_sentences: int
    sentences: int


class FindingScores(Result):
    """Precision, recall and F1, 0 to 1, and how many cases truly have the finding.

    precision, recall, f1: 0 to 1. n: cases that truly have the finding.
    """

    precision: float
    recall: float
    f1: float
    n: int


class ClinicalScores(Result):
    """Over all findings together (micro), the mean of those that occur (macro), and by finding.

    micro: precision, recall and F1 of all findings together. macro_f1: mean F1 of those that occur. findings:
    by finding.
    """

    micro: FindingScores
    macro_f1: float | None
    findings: dict[str, FindingScores]


class UnsupportedShare(Result):
    """Sentences that name a finding, and how many of them the findings do not support.

    unsupported: how many. share: of the sentences.
    """

    sentences: int
    unsupported: int
    share: float | None


class Unsupported(Result):
    """As the learned writer wrote, and after the checker; unset where nothing was written.

    before: as it wrote. after: the checker.
    """

    before: UnsupportedShare | None = None
    after: UnsupportedShare | None = None


class Pointing(Result):
    """Share of places that lie on a true lesion, of ``n`` places.

    hit: the share. n: places.
    """

    hit: float | None
    n: int


class Recalled(Result):
    """Share of texts that find their own case's images among the first 1, 5 and 10.

    r1, r5, r10: share among the first 1, 5 and 10.
    """

    r1: float
    r5: float
    r10: float


class DraftScores(Result):
    """The composed draft, claim by claim.

    claim_f1: micro F1 of what it affirms. findings_head_f1: the same of the probabilities themselves.
    witness_accuracy: share of the named modalities whose own label map holds the finding, or on whose own the
    outline lies on a lesion. witnesses: how many were named. lesions_twice: lesions that two sentences of one
    section speak of. impression_disorder: impressions that are not ranked by certainty and weight.
    side_errors: sentences that state another side than their claims. size_errors: another size.
    sentences_per_report: of findings and impression.
    """

    claim_f1: float
    findings_head_f1: float
    witness_accuracy: float | None
    witnesses: int
    lesions_twice: int
    impression_disorder: int
    side_errors: int
    size_errors: int
    sentences_per_report: float


class Caught(Result):
    """Planted errors of one kind. caught: how many the checker did not let stand. n: how many there were."""

    caught: int
    n: int


class DraftTables(Result):
    """Each writer's words against labels, against references and against the images.

    draft: the composed one, claim by claim. checker: by kind of planted error (in each language), with
    ``true_touched``, the share of true sentences that it did not leave as they were.
    ``text``: by writer, then by tokenizer (ptb, whitespace). ``untraced_sentences``: sentences that claim
    something without a finding behind them, and all that claim something.
    """

    n: int
    draft: DraftScores
    checker: dict[str, Caught | float | None]
    clinical: dict[str, ClinicalScores]
    text: dict[str, dict[str, TextScores]]
    diversity: dict[str, Diversity]
    unsupported: Unsupported
    untraced_sentences: tuple[int, int]
    pointing: dict[str, Pointing]
    retrieval: dict[str, Recalled]
    seconds_a_report: float | None


class DraftEvaluation(DraftTables):
    """reports.json: the tables, and what was run on what.

    n: cases. clinical, diversity: by writer. unsupported: sentences of the learned writer that the findings
    do not support. pointing: whether places lie on lesions. retrieval: whether a text finds its own case.
    seconds_a_report: of the learned writer.
    """

    refused: list[str]
    manifest: str
    split: str | None
    language: str
    seed: int
    bundle: ScoredBundle
    seconds: float
    machine: str


class TextPair(Result):
    """A line of texts.jsonl: a case, its reference report, and what each writer said (further keys).

    reference: the reference report.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, str] = Field(init=False)
    case_id: str
    reference: str
