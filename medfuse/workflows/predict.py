"""From what a user names to a written result: find the case, predict, draft, write, remember."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ..bundles.bundle import Bundle, check_backend, choose_bundle, load_bundle
from ..bundles.registry import is_vqa, list_bundles
from ..case import Case, Lab
from ..drafting.compose import ANY, Wish
from ..drafting.draft import LocalModel, check_writer, draft
from ..drafting.priors import Prior
from ..drafting.styles import check_wish
from ..drafting.templates import languages
from ..errors import UserError, WrongUse
from ..exports.case_folder import BatchNote, write_case
from ..exports.registry import FORMATS
from ..exports.text import report_text
from ..inference.matching import Links
from ..inference.predictor import Encoded, Predictor
from ..inference.second_look import LesionMask
from ..io.labs import read_labs
from ..io.names import plain_name
from ..io.read import is_one_file, open_case
from ..library import Library, results, store
from ..library.outlines import keep_outlines
from ..library.registrations import links_of
from ..prediction import Prediction
from ..report import Report
from .outputs import check_folder
from .priors import prior_read
from .result import CommandResult


@dataclass
class Done:
    """One predicted and written case."""

    prediction: Prediction
    report: Report
    folder: Path
    files: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    masks: dict[str, LesionMask] = field(default_factory=dict)  # by lesion id


@dataclass(frozen=True)
class PredictOptions:
    """How a case is predicted and drafted; the same for one case and for thousands."""

    language: str = "en"
    device: str = "cpu"
    outside_domain: bool = False
    writer: str = "structured"
    llm: Path | None = None  # folder of a local causal language model, for writer local-llm
    formats: tuple[str, ...] = field(default_factory=lambda: tuple(FORMATS))
    backend: str = "torch"
    micro_batch: int = 1  # cases of a batch that pass the encoders together
    wish: Wish = ANY  # style of the draft, and where probabilities stand


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a case beside its files. read_seconds: how long reading took. prior: the patient's
    earlier report. links: registrations between its images. encoded: encoders that several cases share."""

    read_seconds: float = 0.0
    prior: Prior | None = None
    links: Links | None = None
    encoded: Encoded | None = None


NOTHING_KNOWN = Known()


def predict_and_write(
    case: Case,
    bundle: Bundle,
    out: Path,
    options: PredictOptions,
    *,
    known: Known = NOTHING_KNOWN,
    network: AbstractContextManager | None = None,
    batch: BatchNote | None = None,
) -> Done:
    """Predict one case and write its folder whole. ``network``: held while the model runs, where several
    cases share it."""
    check_writer(bundle, options.writer, options.language, options.llm)  # refused before any work
    check_wish(options.wish, bundle.task)
    predicted = Predictor(bundle, device=options.device, backend=options.backend).details(
        case,
        outside_domain=options.outside_domain,
        links=known.links,
        network=network,
        encoded=known.encoded,
    )
    started = time.perf_counter()
    report = draft(
        predicted,
        case,
        bundle,
        options.language,
        writer=options.writer,
        llm=LocalModel(options.llm, options.device),
        prior=known.prior,
        wish=options.wish,
    )
    seconds = {"read": known.read_seconds, **predicted.seconds, "draft": time.perf_counter() - started}
    started = time.perf_counter()
    written = write_case(
        out, predicted, report, case, bundle.task, seconds=seconds, formats=options.formats, batch=batch
    )
    seconds["write"] = time.perf_counter() - started
    return Done(predicted.prediction, report, written.folder, written.files, seconds, masks=predicted.masks)


def predict_library_case(
    case_id: str,
    bundle: Bundle,
    out: Path,
    options: PredictOptions,
    *,
    choose: bool = False,
    library: Library | None = None,
) -> Done:
    """Predict a case of the library and keep the result there. ``choose``: by another bundle, where one fits
    better."""
    library = library or Library()
    started = time.perf_counter()
    case = store.load_case(library, case_id)
    if not case.images:
        raise UserError(f"{case_id}: no usable image: " + "; ".join(r.reason for r in case.refused))
    bundle = _chosen(case, bundle, library) if choose else bundle
    read = time.perf_counter() - started
    done = predict_and_write(
        case,
        bundle,
        out,
        options,
        known=Known(
            read_seconds=read,
            prior=prior_read(
                library, case_id, bundle, options.language, device=options.device, wish=options.wish
            ),
            links=links_of(library, case),
        ),
    )
    results.save_result(library, done.prediction, done.report)
    keep_outlines(library, done.prediction, done.masks)
    return done


def _chosen(case: Case, default: Bundle, library: Library) -> Bundle:
    """The bundle around one known thing that a person named for the case before; else the one that fits."""
    before = results.load_result(library, case.case_id)
    path = next((p for p in list_bundles() if before is not None and p.name == before[0].bundle), None)
    if path is not None and not is_vqa(path):
        named = load_bundle(path)
        if named.task.around:
            return named
    return choose_bundle(case, default)


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """What `medfuse predict` is asked: a library case or ``path``, or else ``parts`` (modality → files).

    out: the folder above the case's own. bundle: None lets the case choose. add: keep the case and its result
    in the library. window: days within which studies are one case. indication, risk, labs: what is known of
    the patient; labs is a CSV file.
    """

    path: str | None = None
    parts: Mapping[str, list[Path]] = field(default_factory=dict)
    out: Path
    bundle: str | None = None
    options: PredictOptions = field(default_factory=PredictOptions)
    add: bool = False
    window: int = 30
    indication: str = ""
    risk: str = ""
    labs: Path | None = None

    @property
    def in_parts(self) -> bool:
        """Whether the images are given modality by modality."""
        return any(self.parts.values())


def predict_command(
    request: PredictRequest, *, log: Callable[[str], None], library: Library | None = None
) -> CommandResult:
    """`medfuse predict`: a library case, a path, or stated parts. What was refused goes to ``log``."""
    library = library or Library()
    bundle = _refused_first(request)
    labs = read_labs(request.labs) if request.labs is not None else None
    path = request.path
    if path is not None and not Path(path).exists() and store.has_case(library, path):
        return _predict_kept(path, request, bundle, labs, library)
    return _predict_files(request, bundle, labs, log, library)


def _refused_first(request: PredictRequest) -> Bundle:
    """The bundle. What cannot work is refused before anything is read: WrongUse, OutputError."""
    if request.in_parts == (request.path is not None):
        raise WrongUse("predict needs either a case or path, or images by --us, --ct, --mr and --pt")
    options = request.options
    bundle = load_bundle(request.bundle)
    if request.bundle or not _spoken_elsewhere(bundle, options.language):
        check_writer(bundle, options.writer, options.language, options.llm)
        check_wish(options.wish, bundle.task)
    check_backend(options.backend)
    _ = bundle.borrowed  # raises where an encoder from disk is missing
    if request.add and (request.in_parts or is_one_file(Path(str(request.path)))):
        raise WrongUse(
            "--add takes a folder, DICOMDIR or zip; images given one by one (--us, --ct, --mr, --pt) have no "
            "study to file them under; add their folder"
        )
    check_folder(request.out)
    return bundle


def _spoken_elsewhere(bundle: Bundle, language: str) -> bool:
    """Whether only another bundle than this one, which the case may choose, has templates in a language."""
    if language in languages(bundle.task):
        return False
    tasks = (p / "task" / "task.yaml" for p in list_bundles())
    return any((t.parent / "templates" / f"{plain_name(language)}.yaml").is_file() for t in tasks)


def _predict_kept(
    case_id: str, request: PredictRequest, bundle: Bundle, labs: list[Lab] | None, library: Library
) -> CommandResult:
    """A case of the library, which keeps what the user says of the patient."""
    if request.indication or request.risk or labs:
        store.set_words(
            library, case_id, indication=request.indication or None, risk=request.risk or None, labs=labs
        )
    done = predict_library_case(
        case_id, bundle, request.out, request.options, choose=not request.bundle, library=library
    )
    return _result(done)


def _predict_files(
    request: PredictRequest,
    bundle: Bundle,
    labs: list[Lab] | None,
    log: Callable[[str], None],
    library: Library,
) -> CommandResult:
    """A case from files; the library gets it where the request says so."""
    started = time.perf_counter()
    with ExitStack() as stack:  # a zip stays unpacked until everything that refers to its files is written
        source = request.path or dict(request.parts)
        case = open_case(source, window=request.window, keep=stack, allow_empty=True)
        case.indication = request.indication or case.indication
        case.risk = request.risk or case.risk
        case.labs = labs or case.labs
        known = Known(read_seconds=time.perf_counter() - started)
        if not case.images:
            return _nothing(case, bundle, log)
        bundle = bundle if request.bundle else choose_bundle(case, bundle)
        done = predict_and_write(case, bundle, request.out, request.options, known=known)
        if request.add:
            with library.session() as s:
                store.add_case(library, s, case, _files_of(case))
            results.save_result(library, done.prediction, done.report)
            keep_outlines(library, done.prediction, done.masks)
    for r in case.refused:
        log(f"medfuse: {r.path}: {r.reason}")
    return _result(done)


def _files_of(case: Case) -> dict[str, list[Path]]:
    """SeriesInstanceUID → the files of it that became part of an image."""
    files: dict[str, dict[str, None]] = {}
    for image in case.images:
        if image.source.series_uid:
            files.setdefault(image.source.series_uid, {}).update(dict.fromkeys(image.source.files))
    return {uid: [Path(f) for f in names] for uid, names in files.items()}


def _nothing(case: Case, bundle: Bundle, log: Callable[[str], None]) -> CommandResult:
    refused = [{"path": r.path, "reason": r.reason} for r in case.refused]
    for row in refused:
        log(f"medfuse: {row['path']}: {row['reason']}")
    data = {
        "case_id": case.case_id,
        "modalities": {m: case.state(m) for m in bundle.task.image_senses},
        "images": [],
        "findings": [],
        "lesions": [],
        "files": [],
        "refused": refused,
    }
    return CommandResult(data, "nothing could be read", 1)


def _result(done: Done) -> CommandResult:
    p = done.prediction
    data = {
        "case_id": p.case_id,
        "modalities": dict(p.modalities),
        "in_domain": p.in_domain,
        "images": [
            i.model_dump(include={"path", "modality", "role", "in_domain", "why", "geometry", "warnings"})
            for i in p.images
        ],
        "findings": [
            f.model_dump(include={"id", "name", "probability", "calibrated", "assessed", "contribution"})
            for f in p.findings
        ],
        "lesions": [x.model_dump() for x in p.lesions],
        "files": [str(done.folder / f) for f in done.files],
        "refused": [r.model_dump() for r in p.refused],
    }
    return CommandResult(data, report_text(done.report) + f"\n{done.folder}", 3 if p.refused else 0)
