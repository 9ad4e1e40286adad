"""`medfuse generate BUNDLE`: images from claims, or a modality from those that a case has. Synthetic, marked
so, and refused wherever acquired images are asked for."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..bundles.bundle import Bundle, load_bundle
from ..errors import UserError, WrongUse
from ..generation.asked import claims_asked
from ..generation.boxes import box_of_input
from ..generation.config import GeneratedNote, GeneratorConfig
from ..generation.networks import Sampling
from ..generation.output import Picture, picture_of, write_dicom, write_nifti
from ..generation.saved import load_generator
from ..io.read import open_case
from ..library import Library
from ..library.made import MadeNote, keep_made
from ..modalities import stated
from ..preprocess.prepare import prepare
from ..preprocess.tensors import CineInput
from .outputs import check_folder

WRITERS = {"nifti": write_nifti, "dicom": write_dicom}


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What is asked: claims in words, or a case's path that is given, or both; the modalities to make (none:
    all that the generator makes, where nothing is given)."""

    bundle: str
    out: Path
    claims: str = ""
    given: Path | None = None
    to: tuple[str, ...] = ()
    seed: int = 1
    file_format: str = "nifti"


@dataclass(frozen=True, kw_only=True)
class GenerateResult:
    """files: what was written. synthetic: always."""

    files: tuple[str, ...]
    synthetic: bool = True

    def as_json(self) -> dict[str, object]:
        """As JSON data."""
        return {**asdict(self), "files": list(self.files)}


@dataclass(frozen=True, kw_only=True)
class _Given:
    """Boxes (1, 1, *shape) of a case, and SHA-256 and series of the image behind each, by modality."""

    boxes: dict[str, Tensor]
    sources: dict[str, str]
    series: dict[str, str] = field(default_factory=dict)


def generate(request: GenerateRequest) -> GenerateResult:
    """Make and write. Raises WrongUse for what the task or the generator does not know, or never saw."""
    if not request.claims and request.given is None:
        raise WrongUse("generate needs --claims, --from or both")
    if request.file_format not in WRITERS:
        raise WrongUse(f"--format {request.file_format}: give {' or '.join(WRITERS)}")
    check_folder(request.out)
    bundle = load_bundle(request.bundle)
    generator = load_generator(bundle)
    claims = claims_asked(request.claims, bundle.task) if request.claims else {}
    asked = _asked(request, generator.config)
    given = _given(request, bundle, generator.config, asked)
    _check_seen(generator.config, tuple(given.boxes), asked, claims)
    how = Sampling(seed=request.seed)
    boxes = generator.draw(given.boxes, asked, _vector(claims, generator.config), how)
    pictures = [picture_of(m, generator.config.modalities[m], boxes[m][0, 0].numpy()) for m in asked]
    return _written(request, bundle, pictures, claims, given, how)


def _vector(claims: dict[str, bool], config: GeneratorConfig) -> Tensor:
    """(1, F) of 1, 0 and -1 for not known."""
    return torch.tensor([[-1.0 if claims.get(f) is None else float(claims[f]) for f in config.findings]])


def _asked(request: GenerateRequest, config: GeneratorConfig) -> tuple[str, ...]:
    """The modalities to make."""
    known = ", ".join(config.modalities)
    if not request.to and request.given is not None:
        raise WrongUse(f"--from needs --to: the modality to make, of {known}")
    asked = []
    for word in request.to or tuple(config.modalities):
        code = stated(word)
        if code not in config.modalities:
            raise WrongUse(f"--to {word}: this generator never saw it; it makes {known}")
        asked.append(code)
    return tuple(dict.fromkeys(asked))


def _given(
    request: GenerateRequest, bundle: Bundle, config: GeneratorConfig, asked: tuple[str, ...]
) -> _Given:
    """What the case has of the modalities that are not asked for. Raises UserError where that is nothing."""
    if request.given is None:
        return _Given(boxes={}, sources={})
    case = open_case(str(request.given))
    boxes: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    series: dict[str, str] = {}
    for m, items in prepare(case, bundle.task).items():
        if m in asked or m not in config.modalities:
            continue
        found = box_of_input(items[0], bundle.task, config.modalities[m])
        if found is not None:
            boxes[m] = torch.from_numpy(found).float()[None, None]
            role = bundle.task.modalities[m].roles.index(config.modalities[m].role)
            place = items[0].image if isinstance(items[0], CineInput) else items[0].images[role]
            sources[m] = case.images[place].source.sha256
            series[m] = case.images[place].source.series_uid
    if not boxes:
        wanted = ", ".join(f"{m} {g.role}" for m, g in config.modalities.items() if m not in asked)
        raise UserError(f"{request.given}: holds none of what this generator starts from ({wanted})")
    return _Given(boxes=boxes, sources=sources, series=series)


def _check_seen(
    config: GeneratorConfig, given: tuple[str, ...], asked: tuple[str, ...], claims: dict[str, bool]
) -> None:
    """Raises WrongUse for what no training case showed."""
    every = (*given, *asked)
    if not config.saw(every):
        raise WrongUse(f"no training case had {' and '.join(every)} together; ask for fewer modalities")
    for finding, there in claims.items():
        if there and not config.positives.get(finding):
            raise WrongUse(f"--claims: no training case had {finding}, so nothing is known of how it looks")


def _written(
    request: GenerateRequest,
    bundle: Bundle,
    pictures: list[Picture],
    claims: dict[str, bool],
    given: _Given,
    how: Sampling,
) -> GenerateResult:
    """Images and provenance.json in ``request.out``."""
    out = request.out
    out.mkdir(parents=True, exist_ok=True)
    files = [path for p in pictures for path in WRITERS[request.file_format](p, out)]
    note = GeneratedNote(
        bundle=bundle.name,
        bundle_hash=bundle.hash,
        claims=claims,
        given=given.sources,
        asked=tuple(p.modality for p in pictures),
        seed=how.seed,
        steps=how.steps,
        guidance=how.guidance,
        files={p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
    )
    path = out / "provenance.json"
    path.write_text(note.model_dump_json(indent=1), encoding="utf-8")
    _remember(out, note, given.series)
    return GenerateResult(files=tuple(str(p) for p in (*files, path)))


def _remember(out: Path, note: GeneratedNote, series: dict[str, str]) -> None:
    """The library remembers what was made from images of its own, for the viewer to show beside them."""
    shown = {name: digest for name, digest in note.files.items() if name.endswith(".nii.gz")}
    if shown and series:
        made = MadeNote(
            sources=series, folder=str(out.resolve()), files=shown, bundle=note.bundle, claims=note.claims
        )
        keep_made(Library(), made)
