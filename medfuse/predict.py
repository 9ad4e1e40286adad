"""One case: read → tensors → model → prediction. Everything above calls this."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from .case import Case
from .models.bundle import Bundle
from .models.calibration import calibrated, interval
from .models.conformal import answer_sets
from .models.coverage import coverage_limit
from .models.features import CaseFeatures, DenseOutput, Inputs, collate, encode
from .models.lesions import LesionMask, find_lesions, place_of
from .models.matching import Links, match_lesions, organs_of
from .models.model import Output
from .models.senses import add_senses
from .models.subsets import name as subset_name
from .models.subsets import shapley, subsets
from .models.tokens import Tokens
from .prediction import FindingRecord, ImageRecord, Place, Prediction, RefusedRecord
from .preprocess.prepare import prepare
from .preprocess.tensors import VolumeInput
from .task import Finding, Task

SUPPORTED = 0.4  # calibrated probability from which a finding is named


@dataclass
class Predicted:
    """The prediction, and what the overlays and the timing table are made from."""

    prediction: Prediction
    dense: list[DenseOutput]
    masks: dict[str, LesionMask] = field(default_factory=dict)  # by lesion id
    seconds: dict[str, float] = field(default_factory=dict)
    fused: dict[str, Tokens] = field(default_factory=dict)  # of all that is there, for the writer
    logits: torch.Tensor | None = None  # (1, F), the findings head's


def predict_case(
    case: Case, bundle: Bundle, *, device: str = "cpu", outside_domain: bool = False, network: AbstractContextManager | None = None,
    backend: str = "torch", links: Links | None = None,
    encoded: Callable[[Inputs], tuple[CaseFeatures, list[DenseOutput]]] | None = None,
) -> Predicted:  # fmt: skip
    """Predict one case with whatever modalities it has.

    links: frames of reference that accepted registrations bring onto each other, for matching lesions.
    encoded: in place of the bundle's encoders, one that puts several cases together (`models.microbatch`).
    network: held while the encoders and the fusion run, so that threads may share a model and read meanwhile.

    Images outside the validated domain are not used, unless ``outside_domain`` asks for their uncalibrated scores.
    """
    task = bundle.task
    judged = [bundle.domain.holds(image) for image in case.images]
    records = [
        ImageRecord(
            path=image.source.path, modality=image.modality, role=image.role, series_uid=image.source.series_uid,
            in_domain=ok, why=why, code=code, geometry=image.geometry.outcome, warnings=list(image.warnings),
        )
        for image, (ok, code, why) in zip(case.images, judged, strict=True)
    ]  # fmt: skip
    states = {m: case.state(m) for m in task.image_senses}
    in_domain = any(ok for ok, *_ in judged)
    use = [ok or outside_domain for ok, *_ in judged]
    prediction = Prediction(
        case_id=case.case_id, simulated=case.simulated, in_domain=in_domain and not (outside_domain and not all(ok for ok, *_ in judged)),
        outside_domain_shown=outside_domain and not all(ok for ok, *_ in judged),
        modalities=states, images=records, findings=[], lesions=[],
        refused=[RefusedRecord(path=r.path, reason=r.reason) for r in case.refused], bundle=bundle.name, bundle_hash=bundle.hash,
    )  # fmt: skip
    out = Predicted(prediction, [])
    if not any(use):
        return out
    encoders = bundle.encoders_for(backend)
    _run(
        out,
        case,
        bundle,
        use,
        device,
        encoders,
        network or nullcontext(),
        encoded,
        calibrate=not prediction.outside_domain_shown,
    )
    _match(out, task, links)
    return out


def _run(
    out: Predicted, case: Case, bundle: Bundle, use: list[bool], device: str, encoders, network: AbstractContextManager, encoded, *,
    calibrate: bool,
) -> None:  # fmt: skip
    bundle.model.eval()
    task, prediction = bundle.task, out.prediction
    started = time.perf_counter()
    visible = Case(case.case_id, case.patient_id, [i for i, u in zip(case.images, use, strict=True) if u])
    back = [i for i, u in enumerate(use) if u]  # visible place → place in the case
    inputs = prepare(visible, task)
    out.seconds["preprocess"] = time.perf_counter() - started
    started = time.perf_counter()
    ready = encoded(inputs) if encoded is not None else None
    with network, torch.inference_mode():
        if ready is None:
            started = time.perf_counter()  # not the wait for others
            ready = encode(encoders.to(device), inputs, task, torch.device(device))
        features, dense = ready
        dense = _familiar(prediction, bundle, features, dense, keep=not calibrate)
        if not features.features:
            return
        add_senses(features, task.further, case)
        fused = _findings(prediction, case, bundle, features, calibrate)
        out.fused = {m: Tokens(t.x[-1:], t.mask[-1:]) for m, t in fused.fused.items()}
        out.logits = fused.logits[-1:]
        out.seconds["network"] = time.perf_counter() - started
    started = time.perf_counter()
    for output in dense:
        if isinstance(output.source, VolumeInput):
            limit = coverage_limit(output, task)
            if limit and prediction.modalities[output.modality] == "present":
                prediction.modalities[output.modality] = "limited"
                prediction.limits[output.modality] = limit
    roles = _roles(visible)
    found = find_lesions(dense, visible, task, lambda f, m: support(f, m, roles)[0], bundle.lesion_peaks)
    prediction.lesions = [x.record for x in found]
    out.masks = {x.record.id: x.mask for x in found if x.mask is not None}
    prediction.organ_in_view = _organ_in_view(dense, bundle)
    _agree(prediction, bundle)
    _evidence(prediction, visible, bundle, dense)
    for lesion in prediction.lesions:
        lesion.place.image = back[lesion.place.image]
    for finding in prediction.findings:
        finding.evidence = [p.model_copy(update={"image": back[p.image]}) for p in finding.evidence]
    out.dense = dense
    out.seconds["lesions"] = time.perf_counter() - started


def _match(out: Predicted, task: Task, links: Links | None) -> None:
    """After names have settled: which lesions of two modalities are one."""
    out.prediction.matches = match_lesions(out.prediction.lesions, organs_of(out.dense, task), task, links)


def _familiar(
    prediction: Prediction, bundle: Bundle, features: CaseFeatures, dense: list[DenseOutput], *, keep: bool
) -> list[DenseOutput]:
    """Modalities whose features lie far from the validated ones leave the case (unless ``keep``), and their images say why."""
    for modality in list(features.features):
        inside, code, why = bundle.domain.looks_familiar(modality, features)
        if inside:
            continue
        for image in prediction.images:
            if image.modality == modality and image.in_domain:
                image.in_domain, image.code, image.why = False, code, why
        if not keep:
            for part in (features.features, features.mask, features.kind):
                part.pop(modality)
            dense = [d for d in dense if d.modality != modality]
    prediction.in_domain = prediction.in_domain and any(i.in_domain for i in prediction.images)
    return dense


def _agree(prediction: Prediction, bundle: Bundle) -> None:
    """A lesion keeps its name only where the findings of the whole case support it; else it is named more widely."""
    task = bundle.task
    for lesion in prediction.lesions:
        wider = task.wider(lesion.finding)
        for finding_id in (lesion.finding, *(f.id for f in wider)):
            if (prediction.finding(finding_id).probability or 0.0) >= SUPPORTED:
                lesion.finding = finding_id
                break
        else:
            lesion.finding = wider[-1].id if wider else lesion.finding


VISIBLE = 0.05  # of a frame's pixels


def _organ_in_view(dense: list[DenseOutput], bundle: Bundle) -> dict[str, float]:
    """Share of the ultrasound frames in which the organ fills at least VISIBLE of the frame."""
    if not bundle.task.dense:
        return {}
    organ = bundle.task.dense.index(bundle.task.organ)
    shown = [float((d.label == organ).mean()) >= VISIBLE for d in dense if d.modality == "US"]
    return {"US": round(float(np.mean(shown)), 3)} if shown else {}


def _roles(case: Case) -> dict[str, set[str]]:
    roles: dict[str, set[str]] = {}
    for image in case.images:
        roles.setdefault(image.modality, set()).add(image.role)
    return roles


def support(finding: Finding, modality: str, roles: dict[str, set[str]]) -> tuple[bool, str]:
    """Whether what was acquired of a modality can answer a finding; if not, why: not_acquired, cannot_show, lacks ROLES."""
    if modality not in roles:
        return False, "not_acquired"
    if modality not in finding.modalities:
        return False, "cannot_show"
    for needed in finding.requires.get(modality, ()):
        if not roles[modality] & set(needed):
            return False, "lacks " + " ".join(needed)
    return True, ""


def _findings(prediction: Prediction, case: Case, bundle: Bundle, features: CaseFeatures, calibrate: bool) -> Output:
    """All subsets of what is present in one batch: probabilities, Shapley contributions, embeddings."""
    task, model = bundle.task, bundle.model
    there = tuple(m for m in task.senses if m in features.mask and features.mask[m].any())
    every = subsets(there, empty=True)
    batch = collate([features] * len(every), task.senses, model.sizes)
    use = {m: torch.tensor([m in s for s in every]) for m in task.senses}
    output = model(batch, use)
    logits = output.logits.numpy()
    probability = np.stack(
        [calibrated(logits[i], bundle.temperature(subset_name(s)) if calibrate else 1.0) for i, s in enumerate(every)]
    )
    roles = _roles(case)
    thresholds = bundle.conformal.get(subset_name(every[-1])) if calibrate else None
    reliable = bundle.reliability.get(subset_name(every[-1])) if calibrate else None
    for f, finding in enumerate(task.findings):
        game = {frozenset(s): float(probability[i, f]) for i, s in enumerate(every)}
        judged = {m: support(finding, m, roles) for m in task.image_senses}
        by = [m for m in there if m in judged and judged[m][0]]  # words and numbers colour a finding, images assess it
        reasons = {m: why for m, (_, why) in judged.items() if why and m in finding.modalities}
        prediction.findings.append(
            FindingRecord(
                id=finding.id, name=finding.label("en"), group=finding.group, probability=round(float(probability[-1, f]), 4),
                calibrated=calibrate, answers=_answers(float(probability[-1, f]), thresholds[f] if thresholds else None), assessed=bool(by), assessed_by=by,
                interval=interval(float(probability[-1, f]), reliable) if reliable else None, why_not={} if by else reasons,
                contribution={m: round(v, 4) for m, v in shapley(game, there).items()},
            )
        )  # fmt: skip
    prediction.baseline_probability = {t.id: round(float(probability[0, f]), 4) for f, t in enumerate(task.findings)}
    prediction.subset_probability = {
        subset_name(s): {t.id: round(float(probability[i, f]), 4) for f, t in enumerate(task.findings)}
        for i, s in enumerate(every)
        if s
    }
    last = len(every) - 1
    prediction.embedding = {
        sense: [round(float(v), 5) for v in output.embedding[sense][last]] for sense in (*there, "joint")
    }
    return output


def _answers(p: float, threshold: float | None) -> list[Literal["absent", "present"]]:
    if threshold is None:
        return []
    absent, present = answer_sets(np.array([p]), np.array([threshold]))[0]
    both: tuple[tuple[Literal["absent", "present"], bool], ...] = (("absent", bool(absent)), ("present", bool(present)))
    return [answer for answer, possible in both if possible]


def _evidence(prediction: Prediction, case: Case, bundle: Bundle, dense: list[DenseOutput]) -> None:
    """Where each finding shows: its lesions, else the region of the dense prediction that the task names for it."""
    task = bundle.task
    for record in prediction.findings:
        finding = task.finding(record.id)
        if record.probability is None or record.probability < SUPPORTED:
            continue
        if finding.group == "focal":
            parts = {finding.id, *finding.derived_from}
            record.evidence = [
                x.place for x in prediction.lesions if x.finding in parts or finding.id in ("focal_lesion",)
            ]
        else:
            record.evidence = [
                p for d in dense if (p := _region_place(d, case, task.dense.index(_region(finding, task)))) is not None
            ][:3]


def _region(finding: Finding, task) -> str:
    return "gallstone_mass" if finding.id == "gallstone" and "gallstone_mass" in task.dense else finding.region


def _region_place(output: DenseOutput, case: Case, dense_class: int) -> Place | None:
    source = output.source
    if not isinstance(source, VolumeInput):
        return None
    at = np.argwhere(output.label == dense_class)
    if len(at) < 3:
        return None
    mm = at @ source.affine[:3, :3].T + source.affine[:3, 3]
    return place_of(case, next(i for i in source.images if i >= 0), mm, source.frame_of_reference)
