"""`medfuse train TASK --stage generate`: a small autoencoder a modality, then the flow over all latents,
beside a bundle whose own weights stay as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..bundles.bundle import Bundle, load_bundle
from ..errors import UserError, WrongUse
from ..io.manifest import ManifestRow, read_manifest
from ..task import Task
from ..training.budget import Budget
from ..training.checkpoint import Resume
from ..training.data.tensors import preprocess_manifest
from ..training.draws import Draws
from ..training.identity import Identity, files_of, opened, written_whole
from ..training.keep import AllWeights
from ..training.loop import Plan, Stage, fit
from ..training.options import Log, Trained
from .boxes import Boxes, describe, read_boxes
from .config import GeneratorConfig
from .networks import BoxAutoencoder, Generator, LatentFlow, Latents, flow_loss
from .saved import save_generator

BATCH = 4  # boxes a step of an autoencoder
CASES = 16  # a step of the flow
FEWEST = 4  # training cases of a modality, below which it is not generated


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How the generator is trained: the bundle to add it to (None: the default one), minutes in all (or exact
    steps of each stage), the seed, the folder of what is kept on the way, and the command for the card."""

    bundle: str | None
    minutes: float
    seed: int
    work: Path | None
    command: str
    steps: int | None = None


class AutoencoderStage(Stage[Tensor]):
    """One modality's autoencoder on random boxes (N, 1, *shape)."""

    state: AllWeights

    def __init__(self, modality: str, net: BoxAutoencoder, boxes: Tensor, seed: int, log: Log) -> None:
        self.name = f"autoencoder {modality}"
        self.net = net
        self.boxes = boxes
        self.state = AllWeights(net)
        self.draws = Draws(seed)
        self.log = log
        self.plan = Plan(peak=2e-3, weight_decay=1e-4)

    def parameters(self) -> list[nn.Parameter]:
        """All of the autoencoder's."""
        return list(self.net.parameters())

    def batches(self, epoch: int, done: int) -> Iterator[Tensor]:
        """Random boxes (B, 1, *shape), without end."""
        while True:
            yield self.boxes[torch.randint(len(self.boxes), (BATCH,), generator=self.draws.torch)]

    def loss(self, batch: Tensor, step: int) -> Tensor:
        """See `BoxAutoencoder.loss`."""
        return self.net.loss(batch)

    def report(self, step: int, loss: float, fraction: float) -> None:
        """Hand the running mean on."""
        self.log(f"{self.name} step {step} loss {loss:.4f} spent {fraction:.2f}")


class FlowStage(Stage[Tensor]):
    """The flow on the latents of whole cases."""

    name = "flow"
    state: AllWeights

    def __init__(self, flow: LatentFlow, latents: Latents, boxes: Boxes, seed: int, log: Log) -> None:
        self.flow = flow
        self.latents = latents
        self.boxes = boxes
        self.state = AllWeights(flow)
        self.draws = Draws(seed)
        self.log = log
        self.plan = Plan(peak=2e-3, weight_decay=1e-2)

    def parameters(self) -> list[nn.Parameter]:
        """All of the flow's."""
        return list(self.flow.parameters())

    def batches(self, epoch: int, done: int) -> Iterator[Tensor]:
        """Numbers of random cases (B,), without end."""
        while True:
            yield torch.randint(len(self.boxes), (CASES,), generator=self.draws.torch)

    def loss(self, batch: Tensor, step: int) -> Tensor:
        """See `networks.flow_loss`."""
        z = {m: x[batch] for m, x in self.latents.items()}
        there = self.boxes.there[batch]
        return flow_loss(self.flow, z, there, self.boxes.claims[batch], self.draws.torch)

    def report(self, step: int, loss: float, fraction: float) -> None:
        """Hand the running mean on."""
        self.log(f"flow step {step} loss {loss:.4f} spent {fraction:.2f}")


@dataclass(frozen=True, kw_only=True)
class GeneratorTraining:
    """One training: its boxes, and what its checkpoints are made from. ends: by time.monotonic."""

    boxes: Boxes
    made_from: Identity
    work: Path
    seed: int
    steps: int | None
    ends: float
    log: Log

    def budget(self, share: float) -> Budget:
        """So much of the time that is left, or the exact steps."""
        left = max(0.02, share * (self.ends - time.monotonic()) / 60)
        return Budget(minutes=None if self.steps else left, steps=self.steps)

    def resume(self, name: str) -> Resume:
        """Where a stage that was stopped goes on."""
        return Resume(self.work / f"generate_{name}.resume", self.made_from)


def train_generator(config: GeneratorConfig, run: GeneratorTraining) -> Generator:
    """Autoencoders in half of the time, the flow in the rest; each goes on where it was stopped."""
    torch.manual_seed(run.seed)
    generator = Generator(config)
    codes = tuple(config.modalities)
    latents: Latents = {}
    for n, m in enumerate(codes):
        net = generator.autoencoders[m]
        assert isinstance(net, BoxAutoencoder)
        has = run.boxes.there[:, n]
        _autoencoder(m, net, run.boxes.values[m][has], run, share=0.5 / (len(codes) - 0.5 * n))
        parts = [net.encode(x) for x in run.boxes.values[m].split(8)]
        latents[m] = torch.cat(parts)
    torch.manual_seed(run.seed + 1)
    generator.flow = LatentFlow(config)  # its first weights do not depend on what the autoencoders drew
    resume = run.resume("flow")
    fit(FlowStage(generator.flow, latents, run.boxes, run.seed, run.log), run.budget(1.0), resume=resume)
    resume.delete()
    for m in codes:
        (run.work / f"generate_{m}.safetensors").unlink(missing_ok=True)
    return generator.eval()


def _autoencoder(
    modality: str, net: BoxAutoencoder, boxes: Tensor, run: GeneratorTraining, *, share: float
) -> None:
    """Train it, or take it from ``work`` where a stopped training had finished it."""
    done = run.work / f"generate_{modality}.safetensors"
    if done.exists():
        with opened(done, "pt") as file:
            run.made_from.check(done, file.metadata())
            net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        return
    resume = run.resume(modality)
    fit(AutoencoderStage(modality, net, boxes, run.seed, run.log), run.budget(share), resume=resume)
    net.eval()
    net.standardise(torch.cat([net.encode(x) for x in boxes.split(8)]))
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    written_whole(done, lambda part: save_file(state, part, run.made_from.metadata))
    resume.delete()


def train_generate_stage(
    task: Task, manifest: Path, out: Path, options: GenerateOptions, *, log: Log
) -> Trained:
    """A copy of the bundle at ``out`` with a generator trained on the manifest's training cases. Raises
    UserError where there are too few."""
    started = time.monotonic()
    bundle = load_bundle(options.bundle)
    rows = _rows(bundle, task, manifest)
    work = options.work or out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    folder, entries = preprocess_manifest(task, rows, work / "tensors", workers=1)
    config = describe(task, folder, rows, entries)
    few = [m for m, g in config.modalities.items() if g.cases < FEWEST]
    config = config.model_copy(
        update={"modalities": {m: g for m, g in config.modalities.items() if m not in few}}
    )
    if not config.modalities:
        raise UserError(f"{manifest}: no modality has {FEWEST} training cases to learn to generate from")
    boxes = read_boxes(task, folder, rows, entries, config)
    config = config.model_copy(update={"together": boxes.patterns(tuple(config.modalities))})
    run = GeneratorTraining(
        boxes=boxes,
        made_from=_made_from(task, rows, config, options),
        work=work,
        seed=options.seed,
        steps=options.steps,
        ends=started + 60 * options.minutes,
        log=log,
    )
    generator = train_generator(config, run)
    seconds = round(time.monotonic() - started, 1)
    note: dict[str, object] = {
        "command": options.command,
        "seed": options.seed,
        "cases": len(boxes),
        "roles": {m: g.role for m, g in config.modalities.items()},
        "simulated": all(r.simulated for r in rows),
        "use": "synthetic images only: no evidence, no measurement, no training data by default",
    }
    save_generator(bundle, out, generator, note)
    return Trained(bundle=str(out), validation={"generated": sorted(config.modalities)}, seconds=seconds)


def _rows(bundle: Bundle, task: Task, manifest: Path) -> list[ManifestRow]:
    if task.name != bundle.task.name:
        raise WrongUse(f"bundle {bundle.name} is of task {bundle.task.name}, not of {task.name}")
    rows = [r for r in read_manifest(manifest) if r.split in ("train", "")]
    if len(rows) < FEWEST:
        raise UserError(f"{manifest}: {len(rows)} training cases; {FEWEST} are needed to learn to generate")
    return rows


def _made_from(
    task: Task, rows: list[ManifestRow], config: GeneratorConfig, options: GenerateOptions
) -> Identity:
    return Identity.of(
        {
            "the task": task.model_dump(mode="json"),
            "the cases and their labels": [[r.case_id, r.split, r.labels] for r in rows],
            "their files": files_of(rows),
            "the generator": config.model_dump(mode="json"),
            "the seed": options.seed,
        }
    )
