"""What `medfuse report` does: a report of the library, exported."""

from __future__ import annotations

from pathlib import Path

from ..bundles.bundle import Bundle, load_bundle
from ..bundles.registry import find_by_hash
from ..case import Case
from ..drafting.compose import ANY, Wish, compose
from ..errors import OutputError, UserError, WrongUse, os_fault
from ..exports.registry import FORMATS, Written, check_formats
from ..exports.request import ExportRequest, write_exports
from ..inference.predictor import Predictor
from ..inference.second_look import LesionMask
from ..io.names import plain_name
from ..library import Library, results, store, workbench
from ..library.audit import record
from ..library.audit_check import check_case
from ..library.reports import current, final_version
from ..library.signatures import SIGNED
from ..prediction import Prediction
from ..report import Report, SignedOff


def _predicted(library: Library, case_id: str) -> tuple[Prediction, Report]:
    """The newest report with its prediction. Raises UserError for one that somebody has tampered with."""
    if store.has_case(library, case_id):
        check_case(library, case_id)
    result = results.load_result(library, case_id)
    by_hand = current(library, case_id) if result is None and store.has_case(library, case_id) else None
    if by_hand is not None:
        return _nothing_predicted(by_hand.report), by_hand.report
    if result is None:
        known = store.has_case(library, case_id)
        raise WrongUse(
            f"{case_id}: "
            + (
                "not predicted yet; run medfuse predict " + case_id
                if known
                else "no such case in the library; see medfuse cases"
            )
        )
    return result


def _nothing_predicted(report: Report) -> Prediction:
    """What stands in place of a prediction behind a report that a person wrote before any was made."""
    return Prediction(
        case_id=report.case_id,
        simulated=report.simulated,
        in_domain=False,
        modalities={},
        images=[],
        findings=[],
        lesions=[],
        bundle="",
        bundle_hash="",
    )


def signed_off(report: Report, library: Library) -> SignedOff | None:
    """Who signed this report and when; None where nobody did. Raises UserError for a signed report that was
    changed behind our back."""
    if report.state not in SIGNED:
        return None
    signed = final_version(library, report.case_id)
    return signed.signed if signed else None


def library_report(
    case_id: str, language: str | None, *, library: Library | None = None, wish: Wish = ANY
) -> Report:
    """The newest report of a library case, composed anew when another language, style or place of
    probabilities is asked for."""
    library = library or Library()
    prediction, report = _predicted(library, case_id)
    if wish == ANY and language in (None, report.language):
        return report
    language = language or report.language
    if not prediction.bundle:
        raise WrongUse(f"{case_id}: was written by hand in {report.language}; there is no draft to translate")
    task = _bundle_of(prediction).task
    return compose(
        prediction,
        store.load_case(library, case_id),
        task,
        language,
        prior=results.prior_of(library, case_id),
        wish=wish,
    )


def export_report(
    case_id: str,
    formats: tuple[str, ...],
    out: Path,
    language: str | None = None,
    *,
    library: Library | None = None,
    wish: Wish = ANY,
) -> Written:
    """Files of a library case's newest report in OUT/<case_id>, and what cannot be made. A signed version
    goes out as signed."""
    library = library or Library()
    check_formats(formats)
    prediction, _ = _predicted(library, case_id)
    report = library_report(case_id, language, library=library, wish=wish)
    signed = signed_off(report, library)
    bundle = _bundle_of(prediction) if prediction.bundle else load_bundle()
    outlined = bool(prediction.lesions) and any("masks" in FORMATS[f].needs for f in formats)
    if outlined and bundle.hash != prediction.bundle_hash:
        raise UserError(
            f"{case_id}: was predicted by another state of bundle {prediction.bundle}; predict it again"
        )
    case = store.load_case(library, case_id)
    prediction = _with_acquired(prediction, case)
    request = ExportRequest(
        folder=out / plain_name(case_id),
        prediction=prediction,
        report=report,
        case=case,
        task=bundle.task,
        masks=_outlines(bundle, prediction, case) if outlined else {},
        measured=workbench.measurements(library, case_id),
        signed=signed,
    )
    made = _written(request, formats, out)
    record(
        library,
        "report exported",
        case_id=case_id,
        state=report.state,
        version=report.version,
        files=list(made.names),
        folder=str(request.folder.resolve()),
    )
    left_out = _left_out(library, case_id) if "sr" in formats else []
    return Written(names=made.names, problems=(*made.problems, *left_out))


def _bundle_of(prediction: Prediction) -> Bundle:
    """The bundle that predicted. Raises WrongUse where it is gone."""
    return load_bundle(find_by_hash(prediction.bundle, prediction.bundle_hash))


def _with_acquired(prediction: Prediction, case: Case) -> Prediction:
    """Where no model said what was acquired, the images do."""
    if prediction.bundle:
        return prediction
    there = dict.fromkeys((i.modality for i in case.images), "present")
    return prediction.model_copy(update={"modalities": there})


def _left_out(library: Library, case_id: str) -> list[str]:
    """Measurements that an SR cannot hold, each with its reason."""
    unusable = workbench.unusable_measurements(library, case_id)
    return [f"sr: left out measurement {m.id} of {m.author}: {m.why}" for m in unusable]


def _outlines(bundle: Bundle, prediction: Prediction, case: Case) -> dict[str, LesionMask]:
    """The lesions' outlines by their id, found again by the bundle that found them."""
    return Predictor(bundle).details(case, outside_domain=prediction.outside_domain_shown).masks


def _written(request: ExportRequest, formats: tuple[str, ...], out: Path) -> Written:
    """Raises OutputError where the folder cannot be written."""
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
        return write_exports(request, formats)
    except OSError as e:
        raise OutputError(
            f"{out}: the report cannot be written ({os_fault(e)}); free space or choose another --out"
        ) from e
