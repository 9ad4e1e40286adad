"""`medfuse train --stage report`: the writer on (case, report) pairs, over a bundle whose encoders and fusion
stay frozen."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from ...bundles.bundle import Bundle, half_weights, load_bundle, round_to_half
from ...bundles.card import card_text
from ...bundles.seal import seal
from ...drafting.labeller import task_lexicon
from ...errors import UserError
from ...io.manifest import ManifestRow, read_manifest
from ...models.feature_set import FeatureSet, FusionData, collect
from ...models.writer import (
    ANSWER,
    END,
    Memory,
    Writer,
    WriterConfig,
    question_prefix,
    report_ids,
    token_id,
    train_writer_tokenizer,
)
from ...task import Task
from ..budget import Budget
from ..checkpoint import Resume
from ..data.features import extract_features
from ..data.foreign import with_foreign
from ..data.questions import questions_of
from ..data.tensors import PreparedCases, preprocess_manifest
from ..data.words import names_its_patient
from ..distributed import finish, first_alone, of_first, rank, share
from ..distributed import start as start_together
from ..draws import Draws
from ..identity import Identity, files_of, weights_digest
from ..keep import KeepBest
from ..loop import Plan, Stage, fit
from ..options import Trained
from .fusion import draw_use

BATCH = 24
Log = Callable[[str], None]


def reports_of(row: ManifestRow) -> dict[str, str]:
    """Language → report text; a manifest with one text calls it English."""
    return dict(row.reports) or ({"en": row.report} if row.report else {})


@dataclass(frozen=True, kw_only=True)
class WriterTraining:
    """How the writer is trained."""

    seed: int
    log: Log
    peak: float = 1e-3
    max_epochs: int = 120


@dataclass
class Sequences:
    """Of a batch of cases: the case of each sequence, token ids, from which position on the loss counts, and
    the answer to a closed question (-1: none)."""

    of: list[int] = field(default_factory=list)
    ids: list[list[int]] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)

    def add(self, case: int, ids: list[int], begin: int, closed: int = -1) -> None:
        """One more sequence."""
        self.of.append(case)
        self.ids.append(ids)
        self.begins.append(begin)
        self.closed.append(closed)


def _sequences(
    rng: np.random.Generator,
    tokenizer: Tokenizer,
    written: Written,
    index: list[int],
    stage: WriterStage,
    *,
    questions: bool,
) -> Sequences:
    """A report of each case in a language drawn for it, or two ``questions``: one kind a batch, since
    questions are short."""
    out = Sequences()
    task = stage.bundle.task
    length = stage.writer.config.length
    for i in index:
        texts = reports_of(written.rows[i])
        language = sorted(texts)[int(rng.integers(len(texts)))]
        if not questions:
            present = [f.id for n, f in enumerate(task.findings) if written.labels[i, n] == 1]
            out.add(i, report_ids(tokenizer, language, present, texts[language], length), 1)
            continue
        asked = questions_of(rng, texts[language], written.labels[i], task, stage.lexicon, language, most=2)
        for q in asked:
            prefix = question_prefix(tokenizer, language, q.question)
            ids = [*prefix, *tokenizer.encode(q.answer).ids, token_id(tokenizer, END)][:length]
            out.add(i, ids, len(prefix) - 1, q.closed)
    return out


def _pad(ids: list[list[int]]) -> Tensor:
    out = torch.zeros(len(ids), max(len(r) for r in ids), dtype=torch.long)
    for b, row in enumerate(ids):
        out[b, : len(row)] = torch.tensor(row)
    return out


def sequence_loss(writer: Writer, memory: Memory, sequences: Sequences, answer: int) -> tuple[Tensor, Tensor]:
    """Cross-entropy a token from each sequence's begin on, and that of the closed-question head at the answer
    mark."""
    ids = _pad(sequences.ids)
    logits, states = writer(ids[:, :-1], memory)
    target = ids[:, 1:].clone()
    for b, begin in enumerate(sequences.begins):
        target[b, :begin] = 0
    words = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0, label_smoothing=0.05)
    asked = torch.tensor([c >= 0 for c in sequences.closed])
    if not asked.any():
        return words, words.new_zeros(())
    at = (ids[:, :-1] == answer).int().argmax(1)
    scores = writer.closed(states[torch.arange(len(ids)), at])[asked]
    return words, F.cross_entropy(scores, torch.tensor(sequences.closed)[asked])


def _batch_memory(
    writer: Writer, bundle: Bundle, data: FusionData, generator: torch.Generator | None
) -> Memory:
    """Memory of a batch by the frozen fusion model; with a generator, of a random subset of what each case
    has."""
    use = None
    if generator is not None:
        use = draw_use(bundle.model.task_modalities, len(data.labels), generator)
        everything = torch.rand(len(data.labels), generator=generator) < 0.5
        use = {m: u | everything for m, u in use.items()}
    with torch.no_grad():
        output = bundle.model.eval()(data.batch, use)
    return writer.memory({m: t for m, t in output.fused.items()}, output.logits)


@dataclass(frozen=True)
class Written:
    """Cases with their reports: features, their rows of the manifest, labels (B, F)."""

    data: FusionData
    rows: list[ManifestRow]
    labels: np.ndarray

    @classmethod
    def of(cls, bundle: Bundle, features: FeatureSet, rows: list[ManifestRow]) -> Written:
        """Collated for the bundle's model."""
        return cls(collect(bundle.task, bundle.model.sizes, features), rows, features.labels)


class WriterStage(Stage[list[int]]):
    """The writer on reports and, every third step, on questions; fusion stays frozen."""

    name = "writer"
    state: KeepBest

    def __init__(
        self, bundle: Bundle, tokenizer: Tokenizer, sets: tuple[Written, Written], how: WriterTraining
    ) -> None:
        self.bundle = bundle
        self.tokenizer = tokenizer
        self.train, self.val = sets
        self.log = how.log
        self.draws = Draws(how.seed)  # first: the writer's first weights and its dropout follow from it
        task = bundle.task
        self.writer = Writer(
            WriterConfig(
                tokenizer.get_vocab_size(),
                bundle.model.config.width,
                len(task.findings),
                tuple(task.senses),
            )
        )
        self.state = KeepBest(self.writer)
        self.lexicon = task_lexicon(task)
        self.plan = Plan(
            peak=how.peak,
            weight_decay=0.05,
            betas=(0.9, 0.98),
            per_epoch=math.ceil(len(self.train.rows) / BATCH),
            max_epochs=how.max_epochs,
        )

    def parameters(self) -> list[nn.Parameter]:
        """All of the writer's."""
        return list(self.writer.parameters())

    def batches(self, epoch: int, done: int) -> Iterator[list[int]]:
        """Numbers of cases, in a new order."""
        for index in torch.randperm(len(self.train.rows), generator=self.draws.order).split(BATCH):
            yield share(index).tolist()

    def loss(self, batch: list[int], step: int) -> Tensor:
        """Of words, and of closed questions."""
        return self._loss_on(self.train, batch, self.draws.numpy, self.draws.torch, questions=step % 3 == 2)

    def _loss_on(
        self,
        written: Written,
        index: list[int],
        draw: np.random.Generator,
        some: torch.Generator | None,
        *,
        questions: bool,
    ) -> Tensor:
        sequences = _sequences(draw, self.tokenizer, written, index, self, questions=questions)
        memory = _batch_memory(self.writer, self.bundle, written.data.pick(torch.tensor(sequences.of)), some)
        words, head = sequence_loss(self.writer, memory, sequences, token_id(self.tokenizer, ANSWER))
        return words + 0.3 * head

    @torch.no_grad()
    def score(self, epoch: int, loss: float) -> dict[str, float]:
        """Mean loss on the validation cases, with the same questions every time; the lowest is kept."""
        self.writer.eval()
        draw = np.random.default_rng(0)
        parts = torch.arange(len(self.val.rows)).split(BATCH)
        found = [
            float(self._loss_on(self.val, p.tolist(), draw, None, questions=q))
            for p in parts
            for q in (False, True)
        ]
        mean = float(np.mean(found))
        self.log(f"writer epoch {epoch} loss {loss:.3f} validation {mean:.3f}")
        self.state.offer(-mean)
        return {"validation_loss": mean}


def train_writer(
    bundle: Bundle,
    tokenizer: Tokenizer,
    train: tuple[FeatureSet, list[ManifestRow]],
    val: tuple[FeatureSet, list[ManifestRow]],
    *,
    budget: Budget,
    how: WriterTraining,
    resume: Resume | None = None,
) -> tuple[Writer, float]:
    """Train and return the writer that was best on validation, with its loss a token there. ``resume``: where
    a stopped training goes on; it is deleted at the end."""
    sets = (Written.of(bundle, *train), Written.of(bundle, *val))
    stage = WriterStage(bundle, tokenizer, sets, how)
    fit(stage, budget, resume=resume)
    if resume is not None:
        resume.delete()
    best = -stage.state.take_best()
    round_to_half(stage.writer)
    return stage.writer.eval(), best


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """How the report stage is trained: the bundle to write for (None: the default one), minutes (or steps),
    the seed, the folder of what is kept on the way, and the command for the card."""

    bundle: str | None
    minutes: float
    seed: int
    work: Path | None
    command: str
    steps: int | None = None


def train_report_stage(task: Task, manifest: Path, out: Path, options: ReportOptions, *, log: Log) -> Trained:
    """A copy of the bundle at ``out`` with a writer trained on the manifest's reports; nothing is returned in
    all but torchrun's first process."""
    started = time.monotonic()
    loaded = load_bundle(options.bundle)
    rows = _rows_with_reports(loaded, task, manifest)
    work = options.work or out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    start_together(torch.device("cpu"))
    with first_alone():
        features = _features(loaded, rows, work)
    texts = [t for r in rows if r.split == "train" for t in reports_of(r).values()]
    languages = sorted({x for r in rows for x in reports_of(r)})
    left = max(0.2, options.minutes - (time.monotonic() - started) / 60)
    is_train = np.array([r.split == "train" for r in rows])
    train, val = (
        (features.subset(k), [r for r, x in zip(rows, k, strict=True) if x]) for k in (is_train, ~is_train)
    )
    tokenizer = train_writer_tokenizer(texts, loaded.task, languages)
    writer, best = train_writer(
        loaded,
        tokenizer,
        train,
        val,
        budget=Budget(minutes=None if options.steps else left, steps=options.steps),
        how=WriterTraining(seed=options.seed, log=of_first(log)),
        resume=Resume(work / "writer.resume", _made_from(loaded, rows, options.seed)),
    )
    finish()
    if rank() > 0:
        return {}
    save_writer(loaded, out, writer, tokenizer)
    card = {"command": options.command, "seed": options.seed, "reports": len(texts), "languages": languages}
    return _described(out, loaded, writer, best, card, started)


def _described(
    out: Path,
    bundle: Bundle,
    writer: Writer,
    best: float,
    card: dict[str, object],
    started: float,
) -> Trained:
    """Add what became of a writer to the new bundle's cards, and say it."""
    seconds = time.monotonic() - started
    card |= {
        "validation_loss": round(best, 4),
        "parameters": sum(p.numel() for p in writer.parameters()),
        "minutes": round(seconds / 60, 1),
    }
    _add_to_card(out, bundle, card)
    return Trained(bundle=str(out), validation={"loss": round(best, 4)}, seconds=round(seconds, 1))


def _rows_with_reports(bundle: Bundle, task: Task, manifest: Path) -> list[ManifestRow]:
    """The cases with a report. Raises UserError where the bundle asks other findings than the task, or a
    split has no report."""
    if [f.id for f in bundle.task.findings] != [f.id for f in task.findings]:
        raise UserError(
            f"{bundle.path}: the bundle is of task {bundle.task.name}, which asks other findings than "
            f"{task.name}"
        )
    rows = [r for r in read_manifest(manifest) if r.split in ("train", "val") and reports_of(r)]
    for row in rows:
        if named := names_its_patient(row):
            raise UserError(f"{manifest}: {row.at}: {named}")
    if not all(any(r.split == s for r in rows) for s in ("train", "val")):
        raise UserError(f"{manifest}: needs reports in cases of both splits, train and val")
    return rows


def _features(bundle: Bundle, rows: list[ManifestRow], work: Path) -> FeatureSet:
    """What the bundle's encoders see of all cases, kept in ``work``."""
    folder, entries = preprocess_manifest(bundle.task, rows, work / "tensors", workers=2)
    cpu = torch.device("cpu")
    cases = PreparedCases(rows=rows, folder=folder, entries=entries)
    every = extract_features(bundle.task, bundle.model.encoders, cases, device=cpu, cache=work, workers=2)
    return with_foreign(every, bundle.task, bundle.borrowed, rows, work)


def _made_from(bundle: Bundle, rows: list[ManifestRow], seed: int) -> Identity:
    """What the writer is made from."""
    return Identity.of(
        {
            "the task": bundle.task.model_dump(mode="json"),
            "the cases and their reports": [[r.case_id, r.split, reports_of(r)] for r in rows],
            "their files": files_of(rows),
            "the bundle's weights": weights_digest(bundle.model.state_dict()),
            "the seed": seed,
        }
    )


def _add_to_card(out: Path, bundle: Bundle, writer: dict[str, object]) -> None:
    """Say in the new bundle's cards how its writer was trained, and seal it."""
    path = out / "card.json"
    whole = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"name": out.name}
    whole = {**whole, "writer": writer}
    path.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    (out / "MODEL_CARD.md").write_text(card_text(whole, bundle.domain), encoding="utf-8")
    seal(out)


def save_writer(bundle: Bundle, out: Path, writer: Writer, tokenizer: Tokenizer) -> None:
    """Copy the bundle to ``out`` (unless it lies there) and add the writer: weights, configuration,
    tokenizer."""
    if out.resolve() != bundle.path.resolve():
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(bundle.path, out)
    (out / "writer").mkdir(exist_ok=True)
    save_file(half_weights(writer), out / "writer" / "weights.safetensors")
    (out / "writer" / "config.json").write_text(json.dumps(asdict(writer.config), indent=1), encoding="utf-8")
    tokenizer.save(str(out / "writer" / "tokenizer.json"))
