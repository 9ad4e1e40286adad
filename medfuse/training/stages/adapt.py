"""Encoders from disk that the task tunes: their last blocks learn the findings of the training cases, before
tokens are made. What is learned is kept beside the bundle's weights, never the encoder's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from ...errors import UserError
from ...io.names import plain_name
from ...io.read import open_case
from ...learning import Tuning
from ...models.feature_set import label_matrix
from ...models.pretrained.adapted import adapt
from ...models.pretrained.borrowed import Borrowed
from ...models.pretrained.encoder import Encoder, load_encoder
from ..budget import Budget
from ..checkpoint import Resume
from ..distributed import first_alone, share
from ..draws import Draws
from ..identity import Identity, files_of, written_whole
from ..keep import KeepBest
from ..loop import Plan, Stage, fit
from ..options import TrainingRun
from .fusion import masked_bce

BATCH = 8  # cases a step
PIECES = 6  # inputs of the network that are kept of a series, evenly over it
SEEN = 2  # of them that a step looks at
EPOCHS = 40
SHARE = 0.3  # of the time that is left, for all tuned encoders together
PEAK = {"lora": 1e-3, "last_blocks": 1e-4}


def tuned(run: TrainingRun, encoders: list[Borrowed]) -> list[Borrowed]:
    """The encoders, those that the task tunes changed by what they learned from the run's training cases.
    Raises UserError for one whose blocks cannot be tuned."""
    many = len(run.task.tune)
    out = []
    for one in encoders:
        how = run.task.tune.get(one.used.id)
        out.append(one if how is None else _tuned(run, one, how, many))
    return out


def _tuned(run: TrainingRun, one: Borrowed, how: Tuning, many: int) -> Borrowed:
    place = run.work / "adapt" / f"{plain_name(one.used.id)}-{one.used.hash[:16]}"
    with first_alone():
        cases = _Pieces.laid(run, one, place)
    if not cases.files:
        return one  # no case has an image of it
    encoder = load_encoder(one.folder, device=run.options.device, expected=one.used.hash)
    learned = adapt(encoder.network, how, f"encoder {one.used.id}")
    before = {name: p.detach().clone() for name, p in learned.items()}
    stage = AdaptStage(encoder, learned, cases, run, PEAK[how.how])
    stage.check()
    steps = run.options.encoder_steps
    minutes = max(0.1, SHARE / many * run.minutes_left())
    fit(
        stage,
        Budget(minutes=None if steps else minutes, steps=steps),
        device=torch.device(run.options.device),
        resume=Resume(run.work / f"{place.name}.resume", _identity(run, one, how)),
    )
    stage.state.take_best()
    # as it is kept: in half precision, and of the encoder's own weights their change alone
    own = how.how == "last_blocks"
    adapter = {n: (p.detach() - own * before[n]).cpu().half().float() for n, p in learned.items()}
    used = replace(one.used, tuning=how.model_dump(mode="json"))
    return replace(one, used=used, adapter=adapter, _ready={})


class _Pieces:
    """Inputs of the network on disk: of each case (B) that has any, as float16, in a file of its own."""

    def __init__(self, files: dict[int, Path]) -> None:
        self.files = files

    @classmethod
    def laid(cls, run: TrainingRun, one: Borrowed, place: Path) -> _Pieces:
        """Lay out the series of every case; what is there already is not laid out again."""
        place.mkdir(parents=True, exist_ok=True)
        files: dict[int, Path] = {}
        for n, row in enumerate(run.rows):
            path = place / f"{plain_name(row.case_id)}.safetensors"
            made_from = Identity.of({"the encoder": one.used.hash, "their files": files_of([row])})
            if not path.is_file() or _differs(path, made_from):
                _lay(run, one, n, path, made_from)
            with safe_open(path, "np") as file:
                if list(file.keys()):
                    files[n] = path
        return cls(files)

    def take(self, case: int, generator: np.random.Generator | None) -> np.ndarray:
        """(P, C, *size) float32: some inputs of a case drawn at random, or all of them."""
        with safe_open(self.files[case], "np") as file:
            names = sorted(file.keys())
            if generator is not None and len(names) > SEEN:
                names = list(generator.choice(names, SEEN, replace=False))
            return np.stack([file.get_tensor(name) for name in names]).astype(np.float32)


def _differs(path: Path, made_from: Identity) -> bool:
    with safe_open(path, "np") as file:
        return bool(made_from.differences(file.metadata()))


def _lay(run: TrainingRun, one: Borrowed, case: int, path: Path, made_from: Identity) -> None:
    images = open_case(run.rows[case], allow_empty=True).images
    kept: dict[str, np.ndarray] = {}
    for s, (_, laid) in enumerate(one.laid(images, run.task.modalities[one.used.modality].roles)):
        wanted = set(np.linspace(0, len(laid.starts) - 1, PIECES).round().astype(int).tolist())
        for n, piece in enumerate(laid.pieces()):
            if n in wanted:
                kept[f"{s:03d}-{n:05d}"] = np.ascontiguousarray(piece.values.astype(np.float16))
    written_whole(path, lambda part: save_file(kept, part, made_from.metadata))


def _identity(run: TrainingRun, one: Borrowed, how: Tuning) -> Identity:
    return Identity.of(
        {
            "the encoder": one.used.hash,
            "the tuning": how.model_dump(mode="json"),
            "the cases and their labels": [[r.case_id, r.split, r.labels] for r in run.rows],
            "their files": files_of(run.rows),
            "the findings": [f.id for f in run.task.findings],
            "the seed": run.options.seed,
        }
    )


class _Learns(nn.Module):
    """What learns: the changes of the encoder, and a head that is thrown away."""

    def __init__(self, learned: dict[str, nn.Parameter], width: int, findings: int) -> None:
        super().__init__()
        self.changes = nn.ParameterList(list(learned.values()))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, findings))


class AdaptStage(Stage[Tensor]):
    """An encoder from disk on inputs of the training cases, chosen by its loss on the validation cases."""

    state: KeepBest

    def __init__(
        self,
        encoder: Encoder,
        learned: dict[str, nn.Parameter],
        cases: _Pieces,
        run: TrainingRun,
        peak: float,
    ) -> None:
        self.name = f"tuning {encoder.file.id}"
        self.encoder = encoder
        self.cases = cases
        self.log: Callable[[str], None] = run.log
        self.labels = torch.from_numpy(label_matrix(run.task, run.rows))
        there = np.array(sorted(cases.files))
        self.train = torch.from_numpy(there[run.is_train[there]])
        self.val = there[~run.is_train[there]]
        self.draws = Draws(run.options.seed)
        self.learns = _Learns(learned, encoder.file.gives.width, self.labels.shape[1])
        self.learns.head.to(encoder.device)
        self.state = KeepBest(self.learns)
        self.plan = Plan(
            peak=peak,
            weight_decay=0.01,
            per_epoch=max(1, -(-len(self.train) // BATCH)),
            max_epochs=EPOCHS,
        )

    def check(self) -> None:
        """Raises UserError where no case is there to learn from, or what learns does not reach the output."""
        if not len(self.train):
            raise UserError(f"{self.name}: no training case has an image of it; leave it out of tune")
        found = self._loss(self.train[:1].tolist(), None)
        reached = torch.autograd.grad(found, list(self.learns.changes), allow_unused=True)
        if all(g is None for g in reached):
            raise UserError(
                f"{self.name}: its last blocks do not lead to the output that encoder.yaml names; ask for "
                "more blocks, or leave it out of tune"
            )

    def begin(self, epoch: int) -> None:
        """The encoder stays in evaluation mode: statistics of a few cases would spoil its own."""

    def parameters(self) -> list[nn.Parameter]:
        """The changes and the head."""
        return list(self.learns.parameters())

    def batches(self, epoch: int, done: int) -> Iterator[Tensor]:
        """The training cases in a new order; under torchrun each process has its share of a batch."""
        for index in torch.randperm(len(self.train), generator=self.draws.order).split(BATCH):
            yield share(self.train[index])

    def loss(self, batch: Tensor, step: int) -> Tensor:
        """Of what is known of the findings."""
        return self._loss(batch.tolist(), self.draws.numpy)

    def _loss(self, cases: list[int], generator: np.random.Generator | None) -> Tensor:
        """Cross-entropy of cases by the mean of their tokens; all inputs of each without a generator."""
        rows = []
        for case in cases:
            values = torch.from_numpy(self.cases.take(case, generator))
            parts = [self.encoder.means(v) for v in values.split(self.encoder.file.compute.batch)]
            rows.append(torch.cat(parts).mean(0))
        if not rows:
            return 0.0 * sum((p.sum() for p in self.learns.parameters()), torch.zeros(()))
        logits = self.learns.head(torch.stack(rows))
        return masked_bce(logits, self.labels[cases].to(logits.device))

    @torch.no_grad()
    def score(self, epoch: int, loss: float) -> dict[str, float]:
        """Minus the loss on the validation cases (of the training cases where there are none)."""
        cases = self.val.tolist() or self.train.tolist()
        found = sum(float(self._loss([c], None)) for c in cases) / len(cases)
        self.log(f"{self.name}: epoch {epoch} loss {loss:.3f} validation loss {found:.3f}")
        self.state.offer(-found)
        return {"validation_loss": found}
