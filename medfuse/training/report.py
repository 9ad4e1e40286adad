"""`medfuse train --stage report`: the writer on (case, report) pairs, over a bundle whose encoders and fusion stay frozen."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..evaluation.feature_set import FeatureSet, FusionData, collect
from ..io.manifest import ManifestRow, read_manifest
from ..models.bundle import Bundle, card_text, half_weights, load_bundle, round_to_half
from ..models.writer import (
    ANSWER,
    END,
    Writer,
    WriterConfig,
    question_prefix,
    report_ids,
    token_id,
    train_writer_tokenizer,
)
from ..reporting.labeller import Lexicon, task_lexicon
from ..task import Task
from .budget import Budget, learning_rate
from .data import preprocess_manifest
from .extract import extract_features
from .fusion import draw_use
from .questions import questions_of

BATCH = 24
Log = Callable[[str], None]


def reports_of(row: ManifestRow) -> dict[str, str]:
    """Language → report text; a manifest with one text calls it English."""
    return dict(row.reports) or ({"en": row.report} if row.report else {})


def _sequences(
    rng: np.random.Generator, tokenizer: Tokenizer, rows: list[ManifestRow], labels: np.ndarray, index: list[int], task: Task,
    lexicon: Lexicon | None, length: int, *, questions: bool,
) -> tuple[list[int], list[list[int]], list[int], list[int]]:  # fmt: skip
    """For a batch of cases: case of each sequence, token ids, from which position on the loss counts, closed class.

    A report of each case in a language drawn for it, or two ``questions``: one kind a batch, since questions are short.
    """
    of, ids, begins, closed = [], [], [], []
    for i in index:
        texts = reports_of(rows[i])
        language = sorted(texts)[int(rng.integers(len(texts)))]
        if not questions:
            there = [f.id for n, f in enumerate(task.findings) if labels[i, n] == 1]
            of.append(i)
            ids.append(report_ids(tokenizer, language, there, texts[language], length))
            begins.append(1)
            closed.append(-1)
            continue
        for q in questions_of(rng, texts[language], labels[i], task, lexicon, language, most=2):
            prefix = question_prefix(tokenizer, language, q.question)
            of.append(i)
            ids.append([*prefix, *tokenizer.encode(q.answer).ids, token_id(tokenizer, END)][:length])
            begins.append(len(prefix) - 1)
            closed.append(q.closed)
    return of, ids, begins, closed


def _pad(ids: list[list[int]]) -> Tensor:
    out = torch.zeros(len(ids), max(len(r) for r in ids), dtype=torch.long)
    for b, row in enumerate(ids):
        out[b, : len(row)] = torch.tensor(row)
    return out


def sequence_loss(
    writer: Writer, memory, ids: Tensor, begins: list[int], closed: list[int], answer: int
) -> tuple[Tensor, Tensor]:
    """Cross-entropy a token from each sequence's begin on, and that of the closed-question head at the answer mark."""
    logits, states = writer(ids[:, :-1], memory)
    target = ids[:, 1:].clone()
    for b, begin in enumerate(begins):
        target[b, :begin] = 0
    words = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0, label_smoothing=0.05)
    asked = torch.tensor([c >= 0 for c in closed])
    if not asked.any():
        return words, words.new_zeros(())
    at = (ids[:, :-1] == answer).int().argmax(1)
    scores = writer.closed(states[torch.arange(len(ids)), at])[asked]
    return words, F.cross_entropy(scores, torch.tensor(closed)[asked])


def _batch_memory(writer: Writer, bundle: Bundle, data: FusionData, generator: torch.Generator | None):
    """Memory of a batch by the frozen fusion model; with a generator, of a random subset of what each case has."""
    use = None
    if generator is not None:
        use = draw_use(bundle.model.task_modalities, len(data.labels), generator)
        everything = torch.rand(len(data.labels), generator=generator) < 0.5
        use = {m: u | everything for m, u in use.items()}
    with torch.no_grad():
        output = bundle.model.eval()(data.batch, use)
    return writer.memory({m: t for m, t in output.fused.items()}, output.logits)


def train_writer(
    bundle: Bundle, tokenizer: Tokenizer, train: tuple[FeatureSet, list[ManifestRow]], val: tuple[FeatureSet, list[ManifestRow]],
    *, budget: Budget, seed: int, log: Log, peak: float = 1e-3, max_epochs: int = 120,
) -> tuple[Writer, float]:  # fmt: skip
    """Train and return the writer that was best on validation, with its loss a token there."""
    torch.manual_seed(seed)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    task, model = bundle.task, bundle.model
    lexicon = task_lexicon(task)
    config = WriterConfig(tokenizer.get_vocab_size(), model.config.width, len(task.findings), tuple(task.senses))
    writer = Writer(config)
    answer = token_id(tokenizer, ANSWER)
    sets = [(collect(task, model.sizes, fs), rows, fs.labels) for fs, rows in (train, val)]
    optimiser = torch.optim.AdamW(writer.parameters(), lr=peak, weight_decay=0.05, betas=(0.9, 0.98))
    per_epoch = math.ceil(len(sets[0][1]) / BATCH)
    best, best_state, step = math.inf, None, 0

    def loss_on(
        which: int, index: list[int], draw: np.random.Generator, some: torch.Generator | None, *, questions: bool
    ) -> Tensor:
        data, rows, labels = sets[which]
        of, ids, begins, closed = _sequences(
            draw, tokenizer, rows, labels, index, task, lexicon, config.length, questions=questions
        )
        words, head = sequence_loss(
            writer, _batch_memory(writer, bundle, data.pick(torch.tensor(of)), some), _pad(ids), begins, closed, answer
        )
        return words + 0.3 * head

    for epoch in range(max_epochs):
        writer.train()
        total = 0.0
        for index in torch.randperm(len(sets[0][1]), generator=generator).split(BATCH):
            fraction = max(budget.fraction(step), step / (per_epoch * max_epochs))
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(peak, fraction)
            loss = loss_on(0, index.tolist(), rng, generator, questions=step % 3 == 2)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(writer.parameters(), 1.0)
            optimiser.step()
            step += 1
            total += float(loss.detach())
        writer.eval()
        with torch.no_grad():  # the same questions every time
            draw = np.random.default_rng(0)
            parts = torch.arange(len(sets[1][1])).split(BATCH)
            score = float(
                np.mean([float(loss_on(1, p.tolist(), draw, None, questions=q)) for p in parts for q in (False, True)])
            )
        log(f"writer epoch {epoch} loss {total / per_epoch:.3f} validation {score:.3f}")
        if score < best:
            best, best_state = score, {k: v.clone() for k, v in writer.state_dict().items()}
        if budget.fraction(step) >= 1:
            break
    assert best_state is not None
    writer.load_state_dict(best_state)
    round_to_half(writer)
    return writer.eval(), best


def train_report_stage(
    task: Task, manifest: Path, out: Path, *, bundle: str | None, minutes: float, seed: int, work: Path | None, command: str, log: Log,
    steps: int | None = None,
) -> dict:  # fmt: skip
    """A copy of ``bundle`` at ``out`` with a writer trained on the manifest's reports; {"bundle", "validation", "seconds"}."""
    started = time.monotonic()
    loaded = load_bundle(bundle)
    if [f.id for f in loaded.task.findings] != [f.id for f in task.findings]:
        raise UserError(
            f"{loaded.path}: the bundle is of task {loaded.task.name}, which asks other findings than {task.name}"
        )
    rows = [r for r in read_manifest(manifest) if r.split in ("train", "val") and reports_of(r)]
    if not all(any(r.split == s for r in rows) for s in ("train", "val")):
        raise UserError(f"{manifest}: needs reports in cases of both splits, train and val")
    work = work or out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    folder, entries = preprocess_manifest(loaded.task, rows, work / "tensors", workers=2)
    features = extract_features(
        loaded.task, loaded.model.encoders, folder, entries, rows, device=torch.device("cpu"), cache=work, workers=2
    )
    is_train = np.array([r.split == "train" for r in rows])
    texts = [t for r in rows if r.split == "train" for t in reports_of(r).values()]
    languages = sorted({x for r in rows for x in reports_of(r)})
    tokenizer = train_writer_tokenizer(texts, loaded.task, languages)
    left = max(0.2, minutes - (time.monotonic() - started) / 60)
    budget = Budget(minutes=None if steps else left, steps=steps)
    parts = [(features.subset(k), [r for r, x in zip(rows, k, strict=True) if x]) for k in (is_train, ~is_train)]
    writer, best = train_writer(loaded, tokenizer, parts[0], parts[1], budget=budget, seed=seed, log=log)
    save_writer(loaded, out, writer, tokenizer)
    card = {
        "command": command, "seed": seed, "reports": len(texts), "languages": languages, "validation_loss": round(best, 4),
        "parameters": sum(p.numel() for p in writer.parameters()), "minutes": round((time.monotonic() - started) / 60, 1),
    }  # fmt: skip
    whole = json.loads((out / "card.json").read_text()) if (out / "card.json").exists() else {"name": out.name}
    (out / "card.json").write_text(json.dumps({**whole, "writer": card}, indent=1))
    (out / "MODEL_CARD.md").write_text(card_text({**whole, "writer": card}, loaded.domain))
    return {"bundle": str(out), "validation": {"loss": round(best, 4)}, "seconds": round(time.monotonic() - started, 1)}


def save_writer(bundle: Bundle, out: Path, writer: Writer, tokenizer: Tokenizer) -> None:
    """Copy the bundle to ``out`` (unless it lies there) and add the writer: weights, configuration, tokenizer."""
    if out.resolve() != bundle.path.resolve():
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(bundle.path, out)
    (out / "writer").mkdir(exist_ok=True)
    save_file(half_weights(writer), out / "writer" / "weights.safetensors")
    (out / "writer" / "config.json").write_text(json.dumps(asdict(writer.config), indent=1))
    tokenizer.save(str(out / "writer" / "tokenizer.json"))
