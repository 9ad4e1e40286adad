"""Bundle: a model on disk. Weights (safetensors), task, config, calibration, validated domain, model card, hash."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..case import Case
from ..errors import UserError, WrongUse
from ..settings import settings
from ..task import Task, load_task
from .baselines import LateConcat, LogitStack
from .calibration import reliability
from .domain import Domain
from .model import FusionModel, ModelConfig
from .writer import Writer, WriterConfig

LEAST = 0.5  # a lesion is named only where it is at least as likely as not
DEFAULT = "upper-abdomen-simulated"
FILES = ("weights.safetensors", "config.json", "calibration.json", "domain.json", "task/task.yaml")


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
    lesion_peaks: dict[str, float] = field(default_factory=dict)  # by modality: one false positive a validation case
    reliability: dict[str, list[list[int]]] = field(
        default_factory=dict
    )  # by presence pattern, see calibration.reliability
    _openvino: nn.ModuleDict | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return str(self.card.get("name", self.path.name))

    @cached_property
    def hash(self) -> str:
        return bundle_hash(self.path)

    @cached_property
    def tokenizer(self):
        from tokenizers import Tokenizer

        return None if self.tokenizer_path is None else Tokenizer.from_file(str(self.tokenizer_path))

    @cached_property
    def writer(self) -> tuple[Writer, Any] | None:
        """The learned writer and its tokenizer, where the bundle has one."""
        from tokenizers import Tokenizer

        folder = self.path / "writer"
        if not (folder / "config.json").exists():
            return None
        try:
            config = json.loads((folder / "config.json").read_text())
            writer = Writer(WriterConfig(**{**config, "modalities": tuple(config["modalities"])}))
            _load(writer, load_file(folder / "weights.safetensors"), "")
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as e:  # tokenizers raises bare Exception
            raise UserError(f"{folder}: the writer is damaged ({str(e).splitlines()[0]}); train it again") from e
        return writer, tokenizer

    def encoders_for(self, backend: str) -> nn.ModuleDict:
        """The encoders as torch modules, or compiled by OpenVINO behind the same interface."""
        if backend == "torch":
            return self.model.encoders
        if backend != "openvino":
            raise WrongUse(f"--backend {backend}: give torch or openvino")
        if self._openvino is None:
            from .openvino_backend import compiled

            self._openvino = compiled(self.model.encoders, self.task)
        return self._openvino

    def temperature(self, pattern: str) -> float:
        return self.calibration.get(pattern, 1.0)

    def baselines(self) -> tuple[dict[str, FusionModel], LogitStack, LateConcat] | None:
        """The separately trained single-modality models, their stack, and late concatenation, where shipped."""
        path = self.path / "baselines.safetensors"
        if not path.exists():
            return None
        state = load_file(path)
        config = ModelConfig(**json.loads((self.path / "config.json").read_text())["baseline"])
        singles = {}
        for m in self.task.senses:
            singles[m] = FusionModel(self.task, config, modalities=(m,), encoders=False)
            _load(singles[m], state, f"single.{m}.")
        late = LateConcat(self.task, config)
        _load(late, state, "late.")
        stack = LogitStack({k.removeprefix("stack."): v.numpy() for k, v in state.items() if k.startswith("stack.")})
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
        prefix + n: (v if n in buffers or not v.is_floating_point() else v.half()).detach().contiguous().clone()
        for n, v in module.state_dict().items()
    }


def round_to_half(module: nn.Module) -> None:
    """Make the weights what they will be after saving, so that everything measured is of the saved model."""
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(p.half().float())


def save_bundle(
    path: Path,
    *,
    task: Task,
    model: FusionModel,
    baseline_config: ModelConfig,
    singles: dict[str, FusionModel],
    stack: LogitStack,
    late: LateConcat | None,
    calibration: dict[str, float],
    conformal: dict[str, list[float]],
    domain: Domain,
    card: dict,
    tokenizer=None,
    reliable: dict[str, list[list[int]]] | None = None,
) -> None:
    """Write to a temporary folder beside ``path`` and rename it whole."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file(half_weights(model), part / "weights.safetensors")
    base: dict[str, torch.Tensor] = {}
    for m, single in singles.items():
        base |= half_weights(single, f"single.{m}.")
    if late is not None:
        base |= half_weights(late, "late.")
    base |= {f"stack.{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in stack.coefficients.items()}
    if base:
        save_file(base, part / "baselines.safetensors")
    config = {"model": asdict(model.config), "baseline": asdict(baseline_config)}
    (part / "config.json").write_text(json.dumps(config, indent=1))
    (part / "calibration.json").write_text(
        json.dumps({"temperature": calibration, "conformal": conformal, "reliability": reliable or {}}, indent=1)
    )
    (part / "domain.json").write_text(json.dumps(asdict(domain), indent=1))
    (part / "card.json").write_text(json.dumps(card, indent=1))
    (part / "MODEL_CARD.md").write_text(card_text(card, domain))
    if tokenizer is not None:
        tokenizer.save(str(part / "tokenizer.json"))
    shutil.copytree(task.folder, part / "task")
    written = part / "task" / "task.yaml"  # a bundle is what was trained, and stands alone
    if task.extends or not written.exists() or load_task(written).model_copy(update={"folder": task.folder}) != task:
        whole = task.model_copy(update={"extends": ""}).model_dump(mode="json", exclude_defaults=True)
        written.write_text(yaml.safe_dump(whole, allow_unicode=True, sort_keys=False))
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)


def card_text(card: dict, domain: Domain) -> str:
    lines = [f"# {card['name']}", "", card["summary"], ""]
    if domain.simulated:
        lines += [
            "**Trained and validated on simulated patients only. It is outside its domain on every real image.**",
            "",
        ]
    lines += ["Research use only; not a medical device.", "", "| | |", "|---|---|"]
    for key, value in card.items():
        if key not in ("name", "summary"):
            lines.append(
                f"| {key.replace('_', ' ')} | {value if isinstance(value, str) else '`' + json.dumps(value) + '`'} |"
            )
    return "\n".join(lines) + "\n"


def load_bundle(name: str | Path | None = None) -> Bundle:
    """Load by path, by name in MEDFUSE_HOME/bundles, or by the name of a shipped bundle (the default)."""
    path = find_bundle(name or DEFAULT)
    missing = [f for f in FILES if not (path / f).exists()]
    if missing:
        raise UserError(f"{path}: not a bundle, it lacks {', '.join(missing)}; make one with medfuse train")
    try:
        task = load_task(path / "task" / "task.yaml")
        config = ModelConfig(**json.loads((path / "config.json").read_text())["model"])
        model = FusionModel(task, config)
        _load(model, load_file(path / "weights.safetensors"), "")
        calibration = json.loads((path / "calibration.json").read_text())
        temperature, conformal = calibration["temperature"], calibration.get("conformal", {})
        peaks = {m: float(v) for m, v in calibration.get("lesion_peaks", {}).items()}
        domain_fields = json.loads((path / "domain.json").read_text())
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as e:
        raise UserError(f"{path}: the bundle is damaged ({str(e).splitlines()[0]}); copy or train it again") from e
    domain = Domain(
        domain_fields["simulated"],
        tuple(domain_fields["modalities"]),
        domain_fields["body_part"],
        {k: tuple(v) for k, v in domain_fields.get("roles", {}).items()},
        domain_fields.get("features", {}),
        tuple(domain_fields.get("body_parts", ())),
    )
    tokenizer = path / "tokenizer.json"
    card = json.loads((path / "card.json").read_text()) if (path / "card.json").exists() else {"name": path.name}
    return Bundle(
        path,
        task,
        model,
        temperature,
        conformal,
        domain,
        card,
        tokenizer if tokenizer.exists() else None,
        peaks,
        calibration.get("reliability", {}),
    )


def is_vqa(path: Path) -> bool:
    """Whether a bundle answers questions on pictures (a task of kind vqa) and has no findings."""
    return (path / "examples.json").exists()


def set_lesion_peaks(bundle: Bundle, lesions: dict[str, dict]) -> dict[str, float]:
    """Write the thresholds of an evaluation's lesion table (on validation cases) into the bundle; return them."""
    peaks = {m: max(LEAST, row["threshold"]) for m, row in lesions.items() if row.get("threshold") is not None}
    path = bundle.path / "calibration.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lesion_peaks": peaks}, indent=1))
    return peaks


def set_reliability(bundle: Bundle, scored: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write how often probabilities came true on validation cases into the bundle; scored: subset → labels, probability."""
    path = bundle.path / "calibration.json"
    tables = {subset: reliability(*pair) for subset, pair in scored.items()}
    path.write_text(json.dumps({**json.loads(path.read_text()), "reliability": tables}, indent=1))


def choose_bundle(case: Case, default: Bundle) -> Bundle:
    """The bundle whose validated domain holds most of a case's images by their headers; ``default`` where none holds more."""

    def inside(bundle: Bundle) -> int:
        return sum(bundle.domain.holds(image)[0] for image in case.images)

    best, most = default, inside(default)
    if most == len(case.images):
        return default
    for path in list_bundles():
        if path != default.path and not is_vqa(path):
            other = load_bundle(path)
            if inside(other) > most:
                best, most = other, inside(other)
    return best


def bundle_hash(path: Path) -> str:
    """SHA-256 over the names and contents of everything that decides an output."""
    digest = hashlib.sha256()
    for f in sorted(p for p in path.rglob("*") if p.is_file() and p.name not in ("MODEL_CARD.md", "card.json")):
        digest.update(f.relative_to(path).as_posix().encode())
        digest.update(f.read_bytes())
    return digest.hexdigest()


def shipped_folder() -> Path:
    return Path(str(files("medfuse"))) / "bundles"


def list_bundles() -> list[Path]:
    roots = [shipped_folder(), settings().home / "bundles"]
    return [p for r in roots if r.is_dir() for p in sorted(r.iterdir()) if (p / "weights.safetensors").exists()]


def find_bundle(name: str | Path) -> Path:
    if Path(name).is_dir():
        return Path(name)
    for path in list_bundles():
        if path.name == str(name):
            return path
    known = ", ".join(p.name for p in list_bundles()) or "none"
    raise WrongUse(f"{name}: no such bundle; give a folder, or one of: {known}")
