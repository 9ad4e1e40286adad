"""Report → DICOM Structured Report: TID 1500 with the words of the report beside its measurements (highdicom;
PS3.16).

SCOORD3D in LPS mm with its FrameOfReferenceUID for volumes, SCOORD in pixels of a frame for ultrasound.
Unsigned reports are UNVERIFIED and PARTIAL.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    ContainerContentItem,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageRegion,
    ImageRegion3D,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset

from .. import __version__
from ..affine import Affine, other_frame
from ..case import Case, Image
from ..display.marks import AnyMark
from ..modalities import modality_of
from ..prediction import LesionRecord, Place, Prediction
from ..prediction import Measurement as Measured
from ..report import Report, SignedOff
from ..task import Task
from .codes import (
    ASSERTION,
    ASSERTIONS,
    DERIVED,
    GLYCOLYSIS,
    GRAM,
    LONG_AXIS,
    ML,
    MM,
    PROBABILITY,
    SHORT_AXIS,
    UNITY,
    VOLUME,
    code_of,
    site_of,
)
from .dicom_source import (
    MANUFACTURER,
    MODEL,
    dicom_images,
    from_dicom,
    headers_of,
    odd_names,
    report_key,
    uid_of,
)
from .sr_measurements import reader_groups

SECTIONS = {
    "indication": (("121109", "Indications for Procedure"), ("121110", "Indication Description")),
    "technique": (("121064", "Current Procedure Descriptions"), ("121065", "Procedure Description")),
    "comparison": (("121068", "Previous Findings"), ("121069", "Previous Finding")),
    "findings": (("121070", "Findings"), ("121071", "Finding")),
    "impression": (("121072", "Impressions"), ("121073", "Impression")),
    "notice": (("121074", "Recommendations"), ("121075", "Recommendation")),
}
LANGUAGES = {"en": ("en", "English"), "zh-TW": ("zh-TW", "Chinese, Traditional, Taiwan")}


def region_of(place: Place, image: Image) -> ImageRegion | ImageRegion3D | None:
    """The box of a place: a closed polygon on its slice in LPS mm, or a polyline in pixels of its ultrasound
    frame."""
    if place.box_voxels is None:
        return None
    (x0, y0, *_), (x1, y1, *_) = place.box_voxels
    if image.kind == "cine":
        corners = np.array([[x0, y0], [x1 + 1, y0], [x1 + 1, y1 + 1], [x0, y1 + 1], [x0, y0]], float)
        frames = [place.frame + 1] if place.frame is not None and len(image.pixels) > 1 else None
        sop_class = modality_of(image.modality).cine_classes[len(image.pixels) > 1]
        return ImageRegion(
            "POLYLINE", corners, SourceImageForRegion(sop_class, image.source.instance_uids[0], frames)
        )
    if image.affine is None or place.slice is None or not image.frame_of_reference[:1].isdigit():
        return None
    k = float(place.slice)
    voxels = np.array([[x0, y0, k], [x1, y0, k], [x1, y1, k], [x0, y1, k], [x0, y0, k]], float)
    mm = Affine(image.affine).points(voxels)
    return ImageRegion3D("POLYGON", other_frame(mm), image.frame_of_reference)


def _inside(measured: Measured, modality: str) -> Measurement:
    """What the image's own voxels say inside an outline: HU and SUV with how they were derived, and total
    lesion glycolysis."""
    if measured.kind == "tlg":
        return Measurement(GLYCOLYSIS, measured.value, GRAM)
    unit = modality_of(modality).unit
    assert unit is not None  # a modality without one is not measured (inference/measures.py)
    return Measurement(
        CodedConcept(*unit.quantity),
        measured.value,
        CodedConcept(*unit.ucum),
        derivation=DERIVED[measured.kind],
    )


def _lesion_group(
    lesion: LesionRecord, case: Case, task: Task, algorithm: AlgorithmIdentification, key: str
) -> PlanarROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations:
    values = [
        (LONG_AXIS, lesion.long_axis_mm, MM),
        (SHORT_AXIS, lesion.short_axis_mm, MM),
        (VOLUME, lesion.volume_ml, ML),
        (PROBABILITY, lesion.probability, UNITY),
    ]
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=uid_of("lesion", key, lesion.id), identifier=lesion.id),
        "finding_type": code_of(task.finding(lesion.finding)),
        "algorithm_id": algorithm,
        "finding_sites": [FindingSite(site)] if (site := site_of(task)) is not None else None,
        "measurements": [
            *(Measurement(name, float(v), unit) for name, v, unit in values if v is not None),
            *(_inside(m, lesion.modality) for m in lesion.measured),
        ],
    }
    region = region_of(lesion.place, case.images[lesion.place.image])
    if region is None:
        return MeasurementsAndQualitativeEvaluations(**common)
    return PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **common)


def _finding_groups(
    prediction: Prediction, report: Report, task: Task, algorithm: AlgorithmIdentification, key: str
) -> list:
    out = []
    said = {f: x.assertion for f, x in report.said().items()}
    for record in prediction.findings:
        if record.probability is None or said.get(record.id) not in ASSERTIONS:
            continue
        measured = [Measurement(PROBABILITY, float(record.probability), UNITY)] if record.assessed else None
        out.append(
            MeasurementsAndQualitativeEvaluations(
                tracking_identifier=TrackingIdentifier(
                    uid=uid_of("finding", key, record.id), identifier=record.id
                ),
                finding_type=code_of(task.finding(record.id)),
                algorithm_id=algorithm,
                measurements=measured,
                qualitative_evaluations=[QualitativeEvaluation(ASSERTION, ASSERTIONS[said[record.id]])],
            )
        )
    return out


def _algorithm(prediction: Prediction) -> AlgorithmIdentification:
    """The bundle that predicted, or medfuse itself."""
    return AlgorithmIdentification(
        name=prediction.bundle[:64] or MODEL,
        version=prediction.bundle_hash[:16] or __version__,
        parameters=[f"medfuse {__version__}"],
    )


def _model_groups(prediction: Prediction, report: Report, case: Case, task: Task, key: str) -> list:
    """What the model found: a group for each lesion on an image that came as DICOM, then for each finding."""
    algorithm = _algorithm(prediction)
    lesions = [
        _lesion_group(x, case, task, algorithm, key)
        for x in prediction.outlined
        if from_dicom(case.images[x.place.image])
    ]
    return [*lesions, *_finding_groups(prediction, report, task, algorithm, key)]


def _nothing_assessed(prediction: Prediction, key: str) -> MeasurementsAndQualitativeEvaluations:
    """The template wants a group: it says that no model assessed anything, and why."""
    why = "outside the validated domain" if prediction.bundle else "no model was used"
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid_of("nothing", key), identifier=why),
        algorithm_id=_algorithm(prediction),
        qualitative_evaluations=[QualitativeEvaluation(ASSERTION, ASSERTIONS["not_assessed"])],
    )


def _when(signed: SignedOff) -> str:
    """The time of a signature as DICOM writes it (DT), in UTC."""
    return f"{signed.at.replace(tzinfo=signed.at.tzinfo or UTC).astimezone(UTC):%Y%m%d%H%M%S}+0000"


def _words(report: Report, signed: SignedOff | None) -> list[ContainerContentItem]:
    """One container a section, one text a sentence; the banner stands first, under it the signature, the
    footer last."""
    out = []
    for section in report.sections:
        (code, meaning), (item_code, item_meaning) = SECTIONS[section.id]
        container = ContainerContentItem(
            CodedConcept(code, "DCM", meaning), relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
        )
        texts = [x.text for x in section.sentences if x.state != "rejected"]
        if section is report.sections[0]:
            texts = [*report.banner, *([signed.line(report.language)] if signed else []), *texts]
        if section is report.sections[-1]:
            texts = [*texts, *report.footer]
        items = [
            TextContentItem(
                CodedConcept(item_code, "DCM", item_meaning), t, hd.sr.RelationshipTypeValues.CONTAINS
            )
            for t in texts
        ] or [
            TextContentItem(
                CodedConcept(item_code, "DCM", item_meaning), "-", hd.sr.RelationshipTypeValues.CONTAINS
            )
        ]
        container.ContentSequence = items  # type: ignore[assignment]
        out.append(container)
    return out


def person_name(full_name: str) -> str:
    """A name as DICOM writes it (PN): family^given, from words whose last is the family name."""
    if "^" in full_name:
        return full_name
    *given, family = full_name.split() or [""]
    return f"{family}^{' '.join(given)}"


def _evidence(case: Case) -> list[Dataset]:
    """The header of each file of the case's images. Raises UserError where none came as DICOM."""
    headers = [ds for i in dicom_images(case, "DICOM SR") for ds in headers_of(case.images[i])]
    by_uid: dict[str, Dataset] = {}
    for ds in headers:
        by_uid.setdefault(ds.SOPInstanceUID, ds)  # one file may hold several images
    return list(by_uid.values())


def _observers(prediction: Prediction, signed_by: str) -> ObservationContext:
    """The model, and the person who signed; "" where nobody did."""
    device = DeviceObserverIdentifyingAttributes(
        uid=uid_of("bundle", prediction.bundle_hash),
        name=prediction.bundle[:64] or MODEL,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL,
    )
    person = None
    if signed_by:
        person = ObserverContext(
            CodedConcept("121006", "DCM", "Person"),
            PersonObserverIdentifyingAttributes(name=person_name(signed_by)),
        )
    return ObservationContext(
        observer_person_context=person,
        observer_device_context=ObserverContext(CodedConcept("121007", "DCM", "Device"), device),
    )


def write_sr(
    prediction: Prediction,
    report: Report,
    case: Case,
    task: Task,
    measured: list[AnyMark] | None = None,
    *,
    signed: SignedOff | None = None,
) -> Comprehensive3DSR:
    """The report as an SR object, with what readers ``measured`` on the images. ``signed``: by whom and when.
    Raises UserError where no image has DICOM identifiers."""
    evidence = _evidence(case)
    key = report_key(report)
    signer = report.signed_by if report.state in ("final", "amended") else ""
    verified = bool(signer)
    groups = _model_groups(prediction, report, case, task, key) + reader_groups(measured or [], case, key)
    tag, meaning = LANGUAGES.get(report.language, (report.language, report.language))
    content = MeasurementReport(
        observation_context=_observers(prediction, signer),
        procedure_reported=CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups or [_nothing_assessed(prediction, key)],
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept(tag, "RFC5646", meaning)
        ),
        title=CodedConcept("126000", "DCM", "Imaging Measurement Report"),
    )
    content[0].ContentSequence.extend(_words(report, signed))
    with odd_names():
        sr = Comprehensive3DSR(
            evidence=evidence,
            content=content[0],
            series_instance_uid=uid_of("sr-series", key),
            series_number=900,
            sop_instance_uid=uid_of("sr", key),
            instance_number=1,
            manufacturer=MANUFACTURER,
            is_complete=verified,
            is_final=verified,
            is_verified=verified,
            verifying_observer_name=person_name(signer) if verified else None,
            verifying_organization="medfuse local account" if verified else None,
            series_description="medfuse report" + ("" if verified else ", RESEARCH DRAFT"),
        )
    if signed is not None and verified:
        sr.VerifyingObserverSequence[0].VerificationDateTime = _when(signed)
    sr.SpecificCharacterSet = "ISO_IR 192"
    sr.SoftwareVersions = __version__
    sr.ManufacturerModelName = MODEL
    return sr
