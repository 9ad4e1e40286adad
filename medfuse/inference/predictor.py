"""One case through one bundle: which images may be used → tensors → model → findings, lesions, evidence.

Each stage returns a value of its own (`Judged`, `Familiar`, `Findings`, `Seen`); the `Prediction` is built
once, at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from ..bundles.bundle import Bundle, check_backend
from ..case import Case, Refusal
from ..errors import UserError
from ..io.names import shown as as_text
from ..models.features import CaseFeatures, DenseOutput, Inputs, encode
from ..models.pretrained.borrowed import add_borrowed
from ..models.senses import add_senses
from ..models.tokens import Tokens
from ..prediction import FindingRecord, LesionRecord, Place, Prediction, RefusedRecord, Together
from ..preprocess.prepare import prepare
from ..task import Finding
from .coverage import limits_of
from .evidence import agree, organ_in_view, with_evidence
from .findings import Findings, find
from .judged import Familiar, Judged, familiar, judge
from .lesions import find_lesions
from .matching import Links, match_lesions, organs_of, placed_in_organs
from .second_look import LesionMask
from .support import roles_of, support
from .together import outlined_together

# in place of a bundle's encoders: one that puts the inputs of several cases together
Encoded = Callable[[Inputs], tuple[CaseFeatures, list[DenseOutput]]]


@dataclass(frozen=True)
class Predicted:
    """The prediction, and what the overlays, the writer and the timing table are made from."""

    prediction: Prediction
    dense: list[DenseOutput]
    masks: dict[str, LesionMask] = field(default_factory=dict)  # by lesion id
    seconds: dict[str, float] = field(default_factory=dict)
    fused: dict[str, Tokens] = field(default_factory=dict)  # of all that is there, for the writer
    logits: torch.Tensor | None = None  # (1, F), the findings head's


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the dense predictions show: lesions with their outlines, findings with their places in the case,
    and how far each modality covers the organ."""

    lesions: list[LesionRecord]
    masks: dict[str, LesionMask]
    findings: list[FindingRecord]
    limits: dict[str, str]
    organ_in_view: dict[str, float]
    together: list[Together]


class Predictor:
    """A bundle ready to be asked: ``Predictor(bundle)(case)`` is the case's `Prediction`.

    device: cpu or cuda. backend: torch, or openvino on a CPU. Raises WrongUse or UserError for a backend that
    is not there.
    """

    def __init__(self, bundle: Bundle, *, device: str = "cpu", backend: str = "torch") -> None:
        check_backend(backend)
        self.bundle = bundle
        self.device = device
        self.backend = backend

    def __call__(self, case: Case, *, outside_domain: bool = False, links: Links | None = None) -> Prediction:
        """Predict one case with whatever modalities it has; arguments as of `details`."""
        return self.details(case, outside_domain=outside_domain, links=links).prediction

    def details(
        self,
        case: Case,
        *,
        outside_domain: bool = False,
        links: Links | None = None,
        network: AbstractContextManager | None = None,
        encoded: Encoded | None = None,
    ) -> Predicted:
        """The prediction with its masks, dense outputs, times and what the writer reads.

        outside_domain: also use images outside the validated domain, whose scores are then uncalibrated.
        links: frames of reference that accepted registrations bring onto each other, for matching lesions.
        network: held while the encoders and the fusion run, so that threads may share a model. Raises
        UserError for a synthetic image.
        """
        if any(image.source.synthetic for image in case.images):
            raise UserError(f"{case.case_id}: holds a synthetic image, which is no evidence; leave it out")
        judged = judge(case, self.bundle, outside_domain=outside_domain)
        if not any(judged.use):
            nothing = Familiar(
                records=judged.records, in_domain=judged.in_domain, features=CaseFeatures(), dense=[]
            )
            return Predicted(self._prediction(case, judged, nothing, Findings(), None, links), [])
        self.bundle.model.eval()
        visible = judged.visible(case)
        started = time.perf_counter()
        inputs = prepare(visible, self.bundle.task)
        seconds = {"preprocess": time.perf_counter() - started}
        ready = encoded(inputs) if encoded is not None else None
        with network or nullcontext(), torch.inference_mode():
            started = time.perf_counter()  # not the wait for others
            features, dense = ready or self._encode(inputs)
            add_borrowed(features, self.bundle.borrowed, self.bundle.task, visible.images, self.device)
            known = familiar(judged, self.bundle, features, dense)
            if not known.features.features:
                empty = self._prediction(case, judged, known, Findings(), None, links)
                return Predicted(empty, [], seconds=seconds)
            add_senses(known.features, self.bundle.task.further, case)
            found = find(case, self.bundle, known.features, calibrate=not judged.shown_outside)
            seconds["network"] = time.perf_counter() - started
        started = time.perf_counter()
        seen = look(visible, judged.places, self.bundle, found.records, known.dense)
        seconds["lesions"] = time.perf_counter() - started
        prediction = self._prediction(case, judged, known, found, seen, links)
        return Predicted(prediction, known.dense, seen.masks, seconds, found.fused, found.logits)

    def _encode(self, inputs: Inputs) -> tuple[CaseFeatures, list[DenseOutput]]:
        encoders = self.bundle.encoders_for(self.backend)
        return encode(encoders.to(self.device), inputs, self.bundle.task, torch.device(self.device))

    def _prediction(
        self,
        case: Case,
        judged: Judged,
        known: Familiar,
        found: Findings,
        seen: Seen | None,
        links: Links | None,
    ) -> Prediction:
        """The only place where a prediction is built; ``seen``: None where no image was used."""
        task = self.bundle.task
        states = {m: case.state(m) for m in task.image_senses}
        limits = seen.limits if seen else {}
        organs = organs_of(known.dense, task) if seen else {}
        lesions = placed_in_organs(seen.lesions, organs) if seen else []
        return Prediction(
            case_id=case.case_id,
            simulated=case.simulated,
            in_domain=known.in_domain,
            outside_domain_shown=judged.shown_outside,
            modalities={m: "limited" if m in limits else state for m, state in states.items()},
            limits=limits,
            images=list(known.records),
            organ_in_view=seen.organ_in_view if seen else {},
            findings=seen.findings if seen else [],
            lesions=lesions,
            matches=match_lesions(lesions, organs, task, links),
            together=seen.together if seen else [],
            refused=[_refused(r) for r in case.refused],
            bundle=self.bundle.name,
            bundle_hash=self.bundle.hash,
            baseline_probability=found.baseline,
            subset_probability=found.by_subset,
            embedding=found.embedding,
        )


def look(
    visible: Case,
    places: list[int],
    bundle: Bundle,
    findings: list[FindingRecord],
    dense: list[DenseOutput],
) -> Seen:
    """Lesions and evidence of the used images. ``places``: of these images in the whole case, where the
    records then say that things lie."""
    task = bundle.task
    roles = roles_of(visible)

    def can_show(finding: Finding, modality: str) -> bool:
        return support(finding, modality, roles)[0]

    found = find_lesions(dense, visible, task, can_show, bundle.lesion_peaks)
    joint = outlined_together(dense, visible, task, can_show) if task.around else []
    lesions = agree([x.record for x in found], findings, task)
    shown = with_evidence(findings, lesions, visible, task, dense)
    return Seen(
        lesions=[x.model_copy(update={"place": _moved(x.place, places)}) for x in lesions],
        masks={x.record.id: x.mask for x in (*found, *(f for _, f in joint)) if x.mask is not None},
        findings=[f.model_copy(update={"evidence": [_moved(p, places) for p in f.evidence]}) for f in shown],
        limits=limits_of(dense, task),
        organ_in_view=organ_in_view(dense, task),
        together=[_joint_moved(t, places) for t, _ in joint],
    )


def _joint_moved(together: Together, places: list[int]) -> Together:
    """The same with its place in all images of the case."""
    lesion = together.lesion
    moved = lesion.model_copy(update={"place": _moved(lesion.place, places)})
    return together.model_copy(update={"lesion": moved})


def _moved(place: Place, places: list[int]) -> Place:
    """A place in the used images → the same in all images of the case."""
    return place.model_copy(update={"image": places[place.image]})


def _refused(refusal: Refusal) -> RefusedRecord:
    """As text that every file takes: a name may hold bytes that are no UTF-8."""
    return RefusedRecord(path=as_text(refusal.path), reason=as_text(refusal.reason))
