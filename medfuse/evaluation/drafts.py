"""`medfuse evaluate BUNDLE --stage report`: the words of the composer and the writer against the truth, with
the controls that BLEU forgets.

Clinical figures compare what a report says (by the labeller) with the labels of the manifest, never with what
a reference report says.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..bundles.bundle import Bundle, load_bundle
from ..drafting.check import check_sentence, checked_report
from ..drafting.compose import compose
from ..drafting.draft import written_words
from ..drafting.labeller import Lexicon, label, task_lexicon
from ..drafting.sections import parse_sections, split_sentences
from ..errors import UserError
from ..inference.predictor import Predictor
from ..inference.support import SUPPORTED
from ..io.manifest import ManifestRow, acquired_alone, read_manifest
from ..io.rows import LabelledCase, labelled
from ..models.feature_set import label_matrix
from ..prediction import Prediction
from ..report import Report
from ..task import Task
from .clinical import affirmed, narrative, said_of
from .draft_claims import Truth, count_draft
from .draft_markdown import report_markdown
from .draft_results import DraftEvaluation, TextPair
from .draft_tables import RANDOM_BUNDLE, Drafted, draft_tables
from .evaluate import wanted_split
from .planted_errors import Planted, plant
from .pointing import pointing_hits
from .results import ScoredBundle

RANDOMISED = 60  # patients that the control with randomised weights looks at: it takes as long as the model


def evaluate_reports(
    bundle: Bundle,
    manifest: Path,
    *,
    split: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    language: str = "en",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DraftEvaluation:
    """The table: clinical precision, recall and F1 by writer, text metrics, diversity, support, evidence, and
    the controls."""
    started = time.perf_counter()
    lexicon = task_lexicon(bundle.task)
    if lexicon is None:
        raise UserError(
            f"task {bundle.task.name} has no lexicon.yaml beside it; words cannot be labelled without one"
        )
    chosen, train, wanted = _rows(manifest, split, language)
    labels = label_matrix(bundle.task, chosen)
    random = randomised(bundle, seed)
    drafted: list[Drafted] = []
    planted = Planted()
    refused = []
    for n, row in enumerate(chosen):
        known = labelled(row)
        refused += [f"{row.case_id}: {r.path}: {r.reason}" for r in known.case.refused]
        if known.case.images:
            control = random if len(drafted) < RANDOMISED else None
            done = _one(bundle, control, row, known, labels[n], lexicon, language, planted)
            drafted.append(done)
        progress(n + 1, len(chosen))
    words = [r.words(language) for r in train]
    table = draft_tables(bundle, drafted, words, lexicon, language, seed, planted=planted)
    result = DraftEvaluation(
        **dict(table),
        refused=refused,
        manifest=str(manifest),
        split=wanted,
        language=language,
        seed=seed,
        bundle=ScoredBundle(name=bundle.name, hash=bundle.hash),
        seconds=round(time.perf_counter() - started, 1),
        machine=f"{platform.machine()}, torch {torch.__version__}, medfuse {__version__}",
    )
    if out is not None:
        _write(result, drafted, out)
    return result


def _rows(
    manifest: Path, split: str | None, language: str
) -> tuple[list[ManifestRow], list[ManifestRow], str | None]:
    """The cases to score and those to train on, of those with words, and the split that is scored."""
    every = read_manifest(manifest)
    wanted = wanted_split(every, split)
    with_words = [r for r in every if r.words(language)]
    chosen = [r for r in with_words if wanted is None or r.split == wanted]
    if len(chosen) < 2:
        raise UserError(
            f"{manifest}: fewer than two cases of split {wanted} have a report; there is nothing to compare"
        )
    acquired_alone(manifest, chosen)
    return chosen, [r for r in with_words if r.split == "train"] or chosen, wanted


def _write(result: DraftEvaluation, drafted: list[Drafted], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "reports.json").write_text(json.dumps(result.as_json(), indent=1), encoding="utf-8")
    (out / "reports.md").write_text(report_markdown(result), encoding="utf-8")
    texts = [TextPair(case_id=r.case_id, reference=r.reference, **r.texts) for r in drafted]
    lines = [json.dumps(x.as_json(), ensure_ascii=False) + "\n" for x in texts]
    (out / "texts.jsonl").write_text("".join(lines), encoding="utf-8")


def randomised(bundle: Bundle, seed: int) -> Bundle:
    """The same bundle with encoder weights drawn anew: evidence that stays right with them comes from
    anatomy, not the model."""
    other = load_bundle(bundle.path)
    torch.manual_seed(seed)
    for parameter in other.model.encoders.parameters():
        with torch.no_grad():
            parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    return other


def _one(
    bundle: Bundle,
    random: Bundle | None,
    row: ManifestRow,
    known: LabelledCase,
    labels: np.ndarray,
    lexicon: Lexicon,
    language: str,
    planted: Planted,
) -> Drafted:
    task = bundle.task
    case = known.case
    predicted = Predictor(bundle).details(case)
    prediction = predicted.prediction
    reference = row.words(language)
    out = Drafted(row.case_id, labels, reference, np.array(prediction.embedding.get("joint", [0.0])))
    if not prediction.in_domain:
        return out
    out.head = {f.id: f.assessed and (f.probability or 0) >= SUPPORTED for f in prediction.findings}
    composed = compose(prediction, case, task, language)
    out.texts["structured"] = narrative(composed)
    out.said["structured"] = affirmed(composed)
    true = {f.id: int(v) for f, v in zip(task.findings, labels, strict=True)}
    truth = Truth(case=case, labels=true, masks=known.masks)
    out.counts = count_draft(composed, prediction, truth, task, lexicon)
    plant(planted, prediction, case, task, lexicon)
    if bundle.writer is not None:
        started = time.perf_counter()
        words = written_words(bundle, predicted, language)
        report = checked_report(words, prediction, case, task, language, writer="learned")
        out.seconds = time.perf_counter() - started
        out.texts["learned, unchecked"] = words
        out.said["learned, unchecked"] = said_of(words, lexicon)
        out.texts["learned"] = narrative(report)
        out.said["learned"] = said_of(narrative(report), lexicon)
        _support(out, words, report, prediction, task, lexicon)
    _trace(out, composed, prediction)
    shown = {"model": prediction} | ({RANDOM_BUNDLE: Predictor(random)(case)} if random is not None else {})
    for who, looked in shown.items():
        if hits := pointing_hits(looked, case, known.masks, labels, task):
            out.hits[who] = hits
    return out


def _support(
    out: Drafted, words: str, report: Report, prediction: Prediction, task: Task, lexicon: Lexicon
) -> None:
    """Sentences that the checker would not let stand, as written and in the report that it made, by the same
    rule."""

    def bad(sentences: list[str]) -> tuple[int, int]:
        told = [x for x in sentences if any(label(x, lexicon).values())]
        verdicts = [check_sentence(x, prediction, task, lexicon).action for x in told]
        return sum(v in ("dropped", "hedged") for v in verdicts), len(told)

    out.unsupported_before = bad(
        [x for part in parse_sections(words).values() for x in split_sentences(part)]
    )
    out.unsupported_after = bad(split_sentences(narrative(report)))


def _trace(out: Drafted, report: Report, prediction: Prediction) -> None:
    """Every sentence that claims something must name a finding of the prediction."""
    known = {f.id for f in prediction.findings}
    for section in report.sections:
        if section.id in ("findings", "impression"):
            for x in section.sentences:
                if x.assertion in ("present", "possible", "absent"):
                    out.sentences += 1
                    out.untraced += x.finding not in known
