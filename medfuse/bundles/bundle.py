"""A bundle: a trained model on disk with its task, calibration, validated domain and card."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..case import Case
from ..errors import UserError, WrongUse
from ..models.baselines import LateConcat, LogitStack
from ..models.model import FusionModel, ModelConfig
from ..models.pretrained.borrowed import Borrowed, found_again
from ..models.writer import Writer
from ..task import Task, load_task
from .calibration import reliability
from .card import card_text
from .contracts import BundleConfig, Calibration, Card, DomainFile, WriterFile, read_contract
from .domain import Domain
from .persons import refuse_persons
from .registry import (
    DEFAULT,
    FILES,
    TASK,
    bundle_hash,
    check_bundle,
    encoders_home,
    find_bundle,
    has_writer,
    is_vqa,
    list_bundles,
)
from .seal import seal

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BACKENDS = ("torch", "openvino")
LEAST = 0.5  # a lesion is named only where it is at least as likely as not


def check_backend(backend: str) -> None:
    """Raises WrongUse for a backend that does not exist, UserError for one that is not installed."""
    if backend not in BACKENDS:
        raise WrongUse(f"--backend {backend}: give {' or '.join(BACKENDS)}")
    if backend == "openvino" and find_spec("openvino") is None:
        raise UserError("--backend openvino needs the extra; run pip install 'medfuse[openvino]'")


@dataclass
class Bundle:
    path: Path
    task: Task
    model: FusionModel
    calibration: dict[str, float]  # temperature by presence pattern
    conformal: dict[str, list[float]]  # by presence pattern, one threshold a finding
    domain: Domain
    card: dict
    tokenizer_path: Path | None = None
    # by modality: one false positive a validation case
    lesion_peaks: dict[str, float] = field(default_factory=dict)
    # by presence pattern, see calibration.reliability
    reliability: dict[str, list[list[int]]] = field(default_factory=dict)
    shift: dict[str, float] = field(default_factory=dict)  # by finding, see `shifts`
    _openvino: nn.ModuleDict | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The name on the card, or the folder's."""
        return str(self.card.get("name", self.path.name))

    @cached_property
    def hash(self) -> str:
        """SHA-256 over everything that decides an output."""
        return bundle_hash(self.path)

    @cached_property
    def borrowed(self) -> list[Borrowed]:
        """The encoders from disk that the bundle needs. Raises UserError that says which is missing or
        changed."""
        foreign = self.model.config.foreign
        return found_again(foreign, encoders_home(), self.name, self._adapters())

    def _adapters(self) -> dict[str, torch.Tensor]:
        """What the training learned of encoders from disk, by number/name. Raises UserError where that is
        damaged."""
        path = self.path / ADAPTERS
        if not path.is_file():
            return {}
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as e:
            raise UserError(f"{path}: the bundle is damaged ({e}); copy or train it again") from e

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the text tower, or None for a bundle without words."""
        from tokenizers import Tokenizer

        return None if self.tokenizer_path is None else Tokenizer.from_file(str(self.tokenizer_path))

    @cached_property
    def writer(self) -> tuple[Writer, Tokenizer] | None:
        """The learned writer and its tokenizer, where the bundle has one."""
        from tokenizers import Tokenizer

        folder = self.path / "writer"
        if not has_writer(self.path):
            return None
        config = read_contract(folder / "config.json", WriterFile).root
        try:
            writer = Writer(config)
            _load(writer, load_file(folder / "weights.safetensors"), "")
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as e:  # tokenizers raises bare Exception
            raise UserError(
                f"{folder}: the writer is damaged ({str(e).splitlines()[0]}); train it again"
            ) from e
        return writer, tokenizer

    def encoders_for(self, backend: str) -> nn.ModuleDict:
        """The encoders as torch modules, or compiled by OpenVINO behind the same interface."""
        check_backend(backend)
        if backend == "torch":
            return self.model.encoders
        if self._openvino is None:
            from ..models.openvino_backend import compiled

            self._openvino = compiled(self.model.encoders, self.task)
        return self._openvino

    def temperature(self, pattern: str) -> float:
        """What the logits of a presence pattern are divided by; 1 where it was never validated."""
        return self.calibration.get(pattern, 1.0)

    @cached_property
    def shifts(self) -> np.ndarray:
        """(F,) what people's signatures taught to add to each finding's calibrated logit; 0 where nothing
        did."""
        return np.array([self.shift.get(f.id, 0.0) for f in self.task.findings])

    def baselines(self) -> tuple[dict[str, FusionModel], LogitStack, LateConcat] | None:
        """The separately trained single-modality models, their stack, and late concatenation, where
        shipped."""
        path = self.path / "baselines.safetensors"
        if not path.exists():
            return None
        state = load_file(path)
        config = read_contract(self.path / "config.json", BundleConfig).baseline
        singles = {}
        for m in self.task.senses:
            singles[m] = FusionModel(self.task, config, modalities=(m,), encoders=False)
            _load(singles[m], state, f"single.{m}.")
        late = LateConcat(self.task, config)
        _load(late, state, "late.")
        stack = LogitStack(
            {k.removeprefix("stack."): v.numpy() for k, v in state.items() if k.startswith("stack.")}
        )
        return singles, stack, late


def _load(module: nn.Module, state: dict, prefix: str) -> None:
    module.load_state_dict(
        {
            k.removeprefix(prefix): v.float() if v.is_floating_point() else v
            for k, v in state.items()
            if k.startswith(prefix)
        }
    )
    module.eval()


def half_weights(module: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    """fp16 copies of the weights; buffers (statistics) stay as they are."""
    buffers = {n for n, _ in module.named_buffers()}
    return {
        prefix + n: (v if n in buffers or not v.is_floating_point() else v.half())
        .detach()
        .contiguous()
        .clone()
        for n, v in module.state_dict().items()
    }


def round_to_half(module: nn.Module) -> None:
    """Make the weights what they will be after saving, so that everything measured is of the saved model."""
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(p.half().float())


@dataclass(frozen=True, kw_only=True)
class NewBundle:
    """What a training made, ready to be written. ``singles``: a model by sense, for the baselines.
    ``adapters``: what it learned of encoders from disk, by number/name; never their weights. ``persons``: ids
    of patients and cases, of which none may stand in it."""

    task: Task
    model: FusionModel
    baseline_config: ModelConfig
    singles: dict[str, FusionModel] = field(default_factory=dict)
    stack: LogitStack = field(default_factory=LogitStack)
    late: LateConcat | None = None
    calibration: Calibration
    domain: Domain
    card: Card
    tokenizer: Tokenizer | None = None
    adapters: dict[str, torch.Tensor] = field(default_factory=dict)
    persons: frozenset[str] = frozenset()


def save_bundle(path: Path, made: NewBundle) -> None:
    """Write to a temporary folder beside ``path`` and rename it whole. Raises UserError where it would hold
    somebody's id; then nothing is written."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _save_weights(part, made)
    _save_contracts(part, made)
    if made.tokenizer is not None:
        made.tokenizer.save(str(part / "tokenizer.json"))
    _save_task(part / "task", made.task)
    try:
        refuse_persons(part, made.persons)
    except UserError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    seal(part)
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)


def _save_weights(folder: Path, made: NewBundle) -> None:
    """The model's weights, and those of the baselines where there are any."""
    save_file(half_weights(made.model), folder / "weights.safetensors")
    base: dict[str, torch.Tensor] = {}
    for m, single in made.singles.items():
        base |= half_weights(single, f"single.{m}.")
    if made.late is not None:
        base |= half_weights(made.late, "late.")
    stack = made.stack.coefficients
    base |= {f"stack.{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in stack.items()}
    if base:
        save_file(base, folder / "baselines.safetensors")
    if made.adapters:
        save_file({k: v.contiguous() for k, v in made.adapters.items()}, folder / ADAPTERS)


def _save_contracts(folder: Path, made: NewBundle) -> None:
    """config.json, calibration.json, domain.json and card.json, and the card for people."""
    unset = set() if made.calibration.lesion_peaks else {"lesion_peaks"}
    contracts = {
        "config.json": {"model": asdict(made.model.config), "baseline": asdict(made.baseline_config)},
        "calibration.json": made.calibration.model_dump(exclude=unset),
        "domain.json": asdict(made.domain),
        "card.json": made.card.model_dump(),
    }
    for name, values in contracts.items():
        (folder / name).write_text(json.dumps(values, indent=1), encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(card_text(made.card.model_dump(), made.domain), encoding="utf-8")


ADAPTERS = "adapters.safetensors"
TASK_FILES = ("task.yaml", "knowledge.yaml", "lexicon.yaml", "styles.yaml")


def _save_task(folder: Path, task: Task) -> None:
    """The files of a task and no other of its folder (a table of patients may lie beside them); task.yaml
    whole, since a bundle is what was trained and stands alone."""
    (folder / "templates").mkdir(parents=True)
    own = Path(task.folder)
    for file in (*(own / name for name in TASK_FILES), *own.glob("templates/*.yaml")):
        if file.is_file():
            shutil.copyfile(file, folder / file.relative_to(own))
    written = folder / "task.yaml"
    stands_alone = written.exists() and not task.extends
    if stands_alone and load_task(written).model_copy(update={"folder": task.folder}) == task:
        return
    whole = task.model_copy(update={"extends": ""}).model_dump(mode="json", exclude_defaults=True)
    written.write_text(yaml.safe_dump(whole, allow_unicode=True, sort_keys=False), encoding="utf-8")


def load_bundle(name: str | Path | None = None) -> Bundle:
    """Load by path, by name in MEDFUSE_HOME/bundles, or by the name of a shipped bundle (the default)."""
    path = find_bundle(name or DEFAULT)
    missing = [f for f in FILES if not (path / f).exists()]
    if missing:
        raise UserError(f"{path}: not a bundle, it lacks {', '.join(missing)}; make one with medfuse train")
    check_bundle(path)
    task = load_task(path / TASK)
    config = read_contract(path / "config.json", BundleConfig)
    calibration = read_contract(path / "calibration.json", Calibration)
    domain = read_contract(path / "domain.json", DomainFile)
    card = path / "card.json"
    try:
        model = FusionModel(task, config.model)
        _load(model, load_file(path / "weights.safetensors"), "")
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as e:
        raise UserError(
            f"{path}: the bundle is damaged ({str(e).splitlines()[0]}); copy or train it again"
        ) from e
    tokenizer = path / "tokenizer.json"
    return Bundle(
        path,
        task,
        model,
        calibration.temperature,
        calibration.conformal,
        Domain(**domain.model_dump()),
        read_contract(card, Card).model_dump() if card.exists() else {"name": path.name},
        tokenizer if tokenizer.exists() else None,
        calibration.lesion_peaks,
        calibration.reliability,
        calibration.shift,
    )


def set_lesion_peaks(bundle: Bundle, thresholds: dict[str, float | None]) -> dict[str, float]:
    """Write the thresholds of an evaluation's lesion table (on validation cases) into the bundle, by
    modality; return them. None: that modality had no lesion to learn from."""
    peaks = {m: max(LEAST, value) for m, value in thresholds.items() if value is not None}
    _change_calibration(bundle, {"lesion_peaks": peaks})
    return peaks


def set_reliability(bundle: Bundle, scored: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write how often probabilities came true on validation cases into the bundle; scored: subset → labels,
    probability."""
    _change_calibration(bundle, {"reliability": {s: reliability(*pair) for s, pair in scored.items()}})


def _change_calibration(bundle: Bundle, changes: dict[str, object]) -> None:
    """Change calibration.json on disk, and seal the bundle anew."""
    path = bundle.path / "calibration.json"
    now = read_contract(path, Calibration).model_copy(update=changes)
    path.write_text(now.model_dump_json(indent=1), encoding="utf-8")
    seal(bundle.path)


def choose_bundle(case: Case, default: Bundle) -> Bundle:
    """The bundle whose validated domain holds most of a case's images by their headers; ``default`` where
    none holds more. A bundle of volumes around one known thing is never chosen: that there is such a thing
    is for a person to say, by naming the bundle."""

    def inside(bundle: Bundle) -> int:
        return sum(bundle.domain.holds(image)[0] for image in case.images)

    best = default
    most = inside(default)
    if most == len(case.images):
        return default
    for path in list_bundles():
        if path != default.path and not is_vqa(path):
            other = load_bundle(path)
            if not other.task.around and inside(other) > most:
                best = other
                most = inside(other)
    return best
