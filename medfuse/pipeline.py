"""From what a user names to a written result: find the case, predict, draft, write, remember."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from .case import Case, Refusal
from .drafting import check_writer, draft
from .errors import UnreadableError, UserError, WrongUse
from .intake import CommandResult
from .io import nifti, picture
from .io.cases import Found, find_cases
from .io.labs import read_labs
from .io.scan import opened, scan
from .library import store, workbench
from .library.catalogue import session
from .library.registrations import links_of
from .library.reports import final_version
from .models.bundle import Bundle, choose_bundle, load_bundle
from .models.features import CaseFeatures, DenseOutput, Inputs
from .models.matching import Links
from .predict import predict_case
from .prediction import Prediction
from .report import Report
from .reporting.compose import compose
from .reporting.exports import FORMATS, write_exports
from .reporting.output import write_case
from .reporting.priors import Prior
from .reporting.text import report_text


@dataclass
class Done:
    """One predicted and written case."""

    prediction: Prediction
    report: Report
    folder: Path
    files: list[str]
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PredictOptions:
    """How a case is predicted and drafted; the same for one case and for thousands."""

    language: str = "en"
    device: str = "cpu"
    outside_domain: bool = False
    writer: str = "structured"
    llm: Path | None = None  # folder of a local causal language model, for writer local-llm
    formats: tuple[str, ...] = FORMATS
    backend: str = "torch"
    micro_batch: int = 1  # cases of a batch that pass the encoders together


def predict_and_write(
    case: Case, bundle: Bundle, out: Path, options: PredictOptions, *, read_seconds: float = 0.0, prior: Prior | None = None,
    network: AbstractContextManager | None = None, note: dict | None = None, links: Links | None = None,
    encoded: Callable[[Inputs], tuple[CaseFeatures, list[DenseOutput]]] | None = None,
) -> Done:  # fmt: skip
    """Predict one case and write its folder whole. ``network``: held while the model runs, where several cases share it."""
    check_writer(bundle, options.writer, options.language, options.llm)  # refused before any work
    predicted = predict_case(
        case,
        bundle,
        device=options.device,
        outside_domain=options.outside_domain,
        network=network,
        backend=options.backend,
        links=links,
        encoded=encoded,
    )
    started = time.perf_counter()
    report = draft(
        predicted,
        case,
        bundle,
        options.language,
        writer=options.writer,
        llm=options.llm,
        prior=prior,
        device=options.device,
    )
    seconds = {"read": read_seconds, **predicted.seconds, "draft": time.perf_counter() - started}
    started = time.perf_counter()
    folder, files = write_case(
        out,
        predicted.prediction,
        seconds,
        report,
        case,
        bundle.task,
        predicted.masks,
        formats=options.formats,
        note=note,
    )
    seconds["write"] = time.perf_counter() - started
    return Done(predicted.prediction, report, folder, files, seconds)


def predict_library_case(
    case_id: str, bundle: Bundle, out: Path, options: PredictOptions, *, choose: bool = False
) -> Done:
    """Predict a case of the library and keep the result there. ``choose``: by another bundle, where one fits better."""
    started = time.perf_counter()
    case = store.load_case(case_id)
    if not case.images:
        raise UserError(f"{case_id}: no usable image: " + "; ".join(r.reason for r in case.refused))
    bundle = choose_bundle(case, bundle) if choose else bundle
    read = time.perf_counter() - started
    done = predict_and_write(
        case, bundle, out, options, read_seconds=read, prior=store.prior_of(case_id), links=links_of(case)
    )
    store.save_result(done.prediction, done.report)
    return done


def case_from_parts(parts: dict[str, list[Path]]) -> Case:
    """One case from paths whose modality the user states. Two patients are refused, nothing is guessed."""
    case = Case("")
    patients: dict[str, str] = {}
    digest = hashlib.sha256()
    for modality, paths in parts.items():
        for path in paths:
            if not path.exists():
                raise WrongUse(f"{path}: no such file or folder; check the path")
            images, refused, patient = _read_part(path, modality)
            case.images += images
            case.refused += refused
            for image in images:
                digest.update(image.source.sha256.encode())
            if patient:
                patients.setdefault(patient, str(path))
    if len(patients) > 1:
        (a, at_a), (b, at_b), *_ = patients.items()
        raise WrongUse(f"{at_a} is of patient {a} and {at_b} of patient {b}; one case is one patient")
    case.patient_id = next(iter(patients), "")
    first = next((p for ps in parts.values() for p in ps), Path("case"))
    case.case_id = f"{first.name.split('.')[0]}-{digest.hexdigest()[:8]}"
    return case


def _read_part(path: Path, modality: str) -> tuple[list, list[Refusal], str]:
    try:
        if nifti.is_volume_file(path):
            return [nifti.read_nifti(path, modality)], [], ""
        if path.suffix.lower() in picture.SUFFIXES:
            return [picture.read_picture(path, modality)], [], ""
    except UnreadableError as e:
        return [], [Refusal(e.path, e.reason, modality)], ""
    with opened(path) as inside:
        found = scan(inside)
        every = found.read_all()
    wrong = [i for i in every if i.modality != modality]
    refused = [Refusal(r.path, r.reason, r.modality or modality) for r in found.refused]
    refused += [Refusal(i.source.path, f"is {i.modality}, but was given as {modality}", i.modality) for i in wrong]
    if not every and not refused:
        refused = [Refusal(str(path), _nothing_in(found.ledger), modality)]
    ids = {i.patient_id for i in found.identity.values()} - {""}
    if len(ids) > 1:
        raise WrongUse(
            f"{path}: holds images of {len(ids)} patients ({', '.join(sorted(ids))}); give one patient's folder"
        )
    return [i for i in every if i.modality == modality], refused, next(iter(ids), "")


def _nothing_in(ledger: dict[str, int]) -> str:
    total = sum(ledger.values())
    if not total:
        return "the folder is empty; give a folder with DICOM or NIfTI files"
    what = ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in ledger.items() if n)
    return f"holds no image that can be read ({total} file{'s' if total > 1 else ''}: {what}); give DICOM or NIfTI of US, CT or MR"


def predict_command(
    path: str | None, parts: dict[str, list[Path]], *, out: Path, bundle: str | None, options: PredictOptions, add: bool,
    window: int, log: Callable[[str], None], indication: str = "", risk: str = "", labs: Path | None = None,
) -> CommandResult:  # fmt: skip
    """`medfuse predict`: a library case, a path, or stated parts."""
    stated = any(parts.values())
    if stated == (path is not None):
        raise WrongUse("predict needs either a case or path, or images by --us, --ct and --mr")
    loaded = load_bundle(bundle)  # a wrong name is refused before anything is read
    check_writer(loaded, options.writer, options.language, options.llm)
    values = read_labs(labs) if labs is not None else None
    if path is not None and not Path(path).exists() and store.has_case(path):
        if indication or risk or values:
            store.set_words(path, indication=indication or None, risk=risk or None, labs=values)
        return _result(predict_library_case(path, loaded, out, options, choose=not bundle))
    started = time.perf_counter()
    with ExitStack() as stack:  # a zip stays unpacked until everything that refers to its files is written
        found: Found | None = None
        if stated:
            inside = {m: [stack.enter_context(opened(p)) if p.exists() else p for p in ps] for m, ps in parts.items()}
            case = case_from_parts(inside)
        else:
            assert path is not None
            case, found = _case_at(Path(path), window=window, stack=stack)
        case.indication, case.risk = indication or case.indication, risk or case.risk
        case.labs = values or case.labs
        read_seconds = time.perf_counter() - started
        if not case.images:
            return _nothing(case, loaded, log)
        loaded = loaded if bundle else choose_bundle(case, loaded)
        done = predict_and_write(case, loaded, out, options, read_seconds=read_seconds)
        if add:
            if found is None:
                raise WrongUse(
                    "--add takes a DICOM path; images given by --us, --ct, --mr have no study to file them under"
                )
            with session() as s:
                store.add_case(s, case, found.scan.used_files(found.scan.series))
            store.save_result(done.prediction, done.report)
    for r in case.refused:
        log(f"medfuse: {r.path}: {r.reason}")
    return _result(done)


def _nothing(case: Case, bundle: Bundle, log: Callable[[str], None]) -> CommandResult:
    refused = [{"path": r.path, "reason": r.reason} for r in case.refused]
    for row in refused:
        log(f"medfuse: {row['path']}: {row['reason']}")
    data = {
        "case_id": case.case_id, "modalities": {m: case.state(m) for m in bundle.task.image_senses}, "images": [], "findings": [],
        "lesions": [], "files": [], "refused": refused,
    }  # fmt: skip
    return CommandResult(data, "nothing could be read", 1)


def read_case(path: Path, modality: str = "") -> Case:
    """The one case at a path. Raises UserError where nothing can be read, WrongUse where there are several."""
    if not path.exists():
        raise WrongUse(f"{path}: no such file or folder; check the path")
    case, _ = _case_at(path, modality=modality)
    if not case.images:
        raise UserError(f"{path}: " + "; ".join(r.reason for r in case.refused))
    return case


def _case_at(
    path: Path, *, window: int = 30, modality: str = "", stack: ExitStack | None = None
) -> tuple[Case, Found | None]:
    """The case at a path; ``stack`` keeps a zip unpacked as long as the caller needs its files."""
    if nifti.is_volume_file(path) or path.suffix.lower() in picture.SUFFIXES:
        return _single_file(path, modality), None
    found = find_cases(path if stack is None else stack.enter_context(opened(path)), window=window)
    if len(found.cases) > 1:
        listed = ", ".join(f"{c.case_id} ({'+'.join(sorted({i.modality for i in c.images}))})" for c in found.cases)
        why = "; ".join(found.conflicts)
        raise WrongUse(
            f"{path}: holds {len(found.cases)} cases: {listed}; give one of them, or use medfuse ingest"
            + (f" ({why})" if why else "")
        )
    if found.cases:
        return found.cases[0], found
    return Case(path.name, refused=found.scan.refused or [Refusal(str(path), _nothing_in(found.scan.ledger))]), found


def _single_file(path: Path, modality: str = "") -> Case:
    case = Case(path.name.split(".")[0])
    try:
        image = nifti.read_nifti(path, modality) if nifti.is_volume_file(path) else picture.read_picture(path, modality)
        case.images.append(image)
        case.case_id = f"{case.case_id}-{image.source.sha256[:8]}"
    except UnreadableError as e:
        case.refused.append(Refusal(e.path, e.reason))
    return case


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


def _predicted(case_id: str) -> tuple[Prediction, Report]:
    result = store.load_result(case_id)
    if result is None:
        known = store.has_case(case_id)
        raise WrongUse(
            f"{case_id}: "
            + (
                "not predicted yet; run medfuse predict " + case_id
                if known
                else "no such case in the library; see medfuse cases"
            )
        )
    return result


def library_report(case_id: str, language: str | None) -> Report:
    """The newest report of a library case, composed anew when another language is asked for."""
    prediction, report = _predicted(case_id)
    if language is None or language == report.language:
        return report
    task = load_bundle(prediction.bundle).task
    return compose(prediction, store.load_case(case_id), task, language, prior=store.prior_of(case_id))


def export_report(
    case_id: str, formats: tuple[str, ...], out: Path, language: str | None = None
) -> tuple[list[str], list[str]]:
    """Files of a library case's newest report in OUT/<case_id>, and what cannot be made. A signed version goes out as signed."""
    prediction, _ = _predicted(case_id)
    report = library_report(case_id, language)
    if report.state in ("final", "amended"):
        final_version(case_id)  # refuses one that was changed behind our back
    bundle, case = load_bundle(prediction.bundle), store.load_case(case_id)
    masks = {}
    if "seg" in formats and prediction.lesions:
        again = predict_case(case, bundle, outside_domain=prediction.outside_domain_shown)
        if bundle.hash != prediction.bundle_hash:
            raise UserError(
                f"{case_id}: was predicted by another state of bundle {prediction.bundle}; predict it again"
            )
        masks = again.masks
    folder = out / case_id
    folder.mkdir(parents=True, exist_ok=True)
    return write_exports(
        folder, prediction, report, case, bundle.task, masks, formats, measured=workbench.measurements(case_id)
    )
