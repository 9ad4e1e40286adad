"""A task with its own classes in its own order: no code may know the shipped tasks' names and numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from medfuse.case import Case, Image, Source
from medfuse.drafting.compose import compose
from medfuse.errors import UserError
from medfuse.exports.codes import site_of
from medfuse.inference.evidence import with_evidence
from medfuse.inference.lesions import find_lesions
from medfuse.inference.predictor import look
from medfuse.models.features import DenseOutput
from medfuse.models.regions import lesion_components
from medfuse.prediction import FindingRecord, ImageRecord, Prediction
from medfuse.preprocess.tensors import VolumeInput
from medfuse.task import Task, load_task

SHAPE = (24, 24, 24)
FINDINGS = [
    {"id": "effusion", "group": "other", "region": "water"},
    {"id": "plug", "group": "other", "region": "airway"},
    {"id": "emphysema", "group": "diffuse"},
    {"id": "nodule", "group": "focal", "lesion_class": "nodule"},
    {"id": "cavity", "group": "focal", "lesion_class": "cavity"},
    {"id": "any_spot", "group": "focal", "derived_from": ["nodule", "cavity"]},
]


def own_task(**changes) -> Task:
    """Lesions first, the organ late, small structures between: the shipped task's numbers point elsewhere."""
    base = {
        "name": "chest",
        "title": {"en": "Chest"},
        "body_part": "chest",
        "organ": "lung",
        "modalities": {"CT": {"roles": ["portal"], "intensity": {"kind": "hu"}}},
        "dense": ["background", "cavity", "nodule", "water", "airway", "plug_mass", "heart", "spine", "lung"],
        "lesion_classes": ["nodule", "cavity"],
        "findings": [{"name": {"en": f["id"]}, "modalities": ["CT"], **f} for f in FINDINGS],
        "folder": load_task("upper-abdomen").folder,
    }
    return Task(**{**base, **changes})


TASK = own_task()
CLASS = {name: n for n, name in enumerate(TASK.dense)}


def case() -> Case:
    image = Image(
        "CT",
        np.zeros(SHAPE, np.float32),
        Source("x", series_uid="1.2"),
        affine=np.diag([4.0, 4, 4, 1]),
        frame_of_reference="F",
        role="portal",
    )
    return Case("c", images=[image])


def dense_output(lesion_class: str) -> DenseOutput:
    """A lung with one lesion of a class, water at its bottom, an airway with a plug, and a heart."""
    label = np.zeros(SHAPE, np.uint8)
    label[2:22, 2:22, 2:22] = CLASS["lung"]
    label[2:22, 2:22, 2:4] = CLASS["water"]
    label[4:8, 4:8, 10:20] = CLASS["airway"]
    label[5:7, 5:7, 15:18] = CLASS["plug_mass"]
    label[16:20, 4:8, 6:12] = CLASS["heart"]
    at = np.s_[12:18, 12:18, 12:18]
    label[at] = CLASS[lesion_class]
    probability = np.zeros(SHAPE, np.float32)
    probability[at] = 0.95
    source = VolumeInput("CT", np.zeros((1, *SHAPE)), np.ones(1, bool), np.diag([4.0, 4, 4, 1]), "F", (0,))
    per_class = np.eye(len(TASK.dense))[[CLASS[lesion_class]]]
    return DenseOutput("CT", source, 0, label, probability, lesion_components(probability), per_class)


def prediction(chances: dict[str, float], lesions=()) -> Prediction:
    return Prediction(
        case_id="c",
        simulated=False,
        in_domain=True,
        modalities={"CT": "present"},
        images=[ImageRecord(path="x", modality="CT", role="portal", in_domain=True, why="", code="inside")],
        findings=[
            FindingRecord(
                id=f.id,
                name=f.id,
                group=f.group,
                probability=chances.get(f.id, 0.02),
                calibrated=True,
                assessed=True,
                assessed_by=["CT"],
            )
            for f in TASK.findings
        ],
        lesions=list(lesions),
        bundle="b",
        bundle_hash="h" * 64,
    )


@pytest.mark.parametrize("lesion_class", ["nodule", "cavity"])
def test_lesions_have_the_names_of_their_own_task(lesion_class):
    (found,) = find_lesions([dense_output(lesion_class)], case(), TASK, lambda f, m: True)
    assert found.record.finding == lesion_class
    (found,) = find_lesions([dense_output(lesion_class)], case(), TASK, lambda f, m: f.id == "any_spot")
    assert found.record.finding == "any_spot"


def test_a_class_without_a_finding_is_any_lesion_and_not_whatever_stands_first():
    findings = [f for f in FINDINGS if f["id"] != "cavity"]
    findings[-1] = {**findings[-1], "derived_from": ["nodule"]}
    task = own_task(findings=[{"name": {"en": f["id"]}, "modalities": ["CT"], **f} for f in findings])
    (found,) = find_lesions([dense_output("cavity")], case(), task, lambda f, m: True)
    assert found.record.finding == "any_spot"


def test_evidence_lies_where_the_task_says():
    output = dense_output("nodule")
    lesions = [x.record for x in find_lesions([output], case(), TASK, lambda f, m: True)]
    drafted = prediction(dict.fromkeys((f["id"] for f in FINDINGS), 0.9), lesions)
    drafted.findings = with_evidence(drafted.findings, lesions, case(), TASK, [output])
    boxes = {f.id: f.evidence[0].box_mm for f in drafted.findings if f.evidence}
    assert boxes["effusion"] == [[8, 8, 8], [84, 84, 12]]
    assert boxes["plug"] == [[20, 20, 60], [24, 24, 68]]  # the plug itself, not all of the airway
    assert boxes["emphysema"] == [[8, 8, 16], [84, 84, 84]]  # no region: the organ
    assert drafted.finding("any_spot").evidence == drafted.finding("nodule").evidence != []
    assert drafted.finding("cavity").evidence == []


def test_evidence_lies_in_the_image_that_shows_it_where_others_are_left_out():
    output = dense_output("nodule")
    drafted = prediction(dict.fromkeys((f["id"] for f in FINDINGS), 0.9))
    bundle = SimpleNamespace(task=TASK, lesion_peaks={})
    seen = look(case(), [3], bundle, drafted.findings, [output])
    assert [x.place.image for x in seen.lesions] == [3]
    assert {p.image for f in seen.findings for p in f.evidence} == {3}


def test_every_lesion_is_evidence_of_the_general_finding():
    output = dense_output("nodule")
    lesions = [x.record for x in find_lesions([output], case(), TASK, lambda f, m: f.id == "any_spot")]
    drafted = prediction({"any_spot": 0.9}, lesions)
    drafted.findings = with_evidence(drafted.findings, lesions, case(), TASK, [output])
    assert drafted.finding("any_spot").evidence == [lesions[0].place]


def test_lesions_are_not_drafted_where_the_general_finding_denies_them():
    lesions = [x.record for x in find_lesions([dense_output("nodule")], case(), TASK, lambda f, m: True)]

    def sentences(chances):
        drafted = compose(prediction(chances, lesions), case(), TASK)
        return [s for s in drafted.section("findings").sentences if s.evidence]

    assert [s.finding for s in sentences({"any_spot": 0.95, "nodule": 0.95}) if "mm" in s.text] == ["nodule"]
    assert sentences({"any_spot": 0.05}) == []


def test_no_lesion_is_said_of_the_general_finding():
    drafted = compose(prediction({}), case(), TASK)
    assert drafted.said()["any_spot"].assertion == "absent"
    assert drafted.said()["any_spot"].modality
    assert {s.finding for s in drafted.section("findings").sentences} <= {"", *(f.id for f in TASK.findings)}


def test_the_task_says_what_training_looks_for():
    assert TASK.organ_index == CLASS["lung"]
    assert TASK.lesion_indices == [CLASS["nodule"], CLASS["cavity"]]
    assert TASK.small_indices == [CLASS["water"], CLASS["plug_mass"]]
    assert TASK.general_lesion.id == "any_spot"


def test_the_shipped_task_means_what_it_meant():
    task = load_task("upper-abdomen")
    assert task.organ_index == 1
    assert task.small_indices == [6, 7, 8]
    assert task.general_lesion.id == "focal_lesion"
    assert {f.id: task.shows_in(f.id) for f in task.findings if f.group != "focal"} == {
        "gallstone": "gallstone_mass",
        "dilated_ducts": "duct",
        "steatosis": "liver",
        "cirrhosis": "liver",
        "iron": "liver",
        "ascites": "fluid",
    }
    assert load_task("breast-ultrasound").general_lesion is None


def test_the_organ_is_coded_by_its_own_name():
    assert site_of(load_task("upper-abdomen")).value == "10200004"
    assert site_of(TASK).meaning == "Lung"
    assert site_of(own_task(organ="spine", dense=[*TASK.dense])) is not None
    assert site_of(load_task("breast-ultrasound")) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"organ": "liver"}, "must be among dense"),
        ({"organ": "background"}, "whose first is the background"),
        ({"dense": [*TASK.dense, "lung"]}, "each class once"),
        ({"lesion_classes": ["nodule"]}, "lesion_class cavity is not in lesion_classes"),
        ({"lesion_classes": ["nodule", "cavity", "heart"], "findings": FINDINGS[:5]}, "lesion_class heart"),
        ({"findings": [{**FINDINGS[0], "region": "wather"}]}, "region wather is not among"),
    ],
)
def test_a_task_that_does_not_fit_itself_is_refused(changes, why):
    if "findings" in changes:
        findings = [{"name": {"en": f["id"]}, "modalities": ["CT"], **f} for f in changes["findings"]]
        changes = {**changes, "findings": findings}
    with pytest.raises(ValidationError, match=why):
        own_task(**changes)


def test_a_wrong_region_is_named_when_the_file_is_read(tmp_path):
    data = own_task().model_dump(mode="json", exclude_defaults=True)
    data["findings"][0]["region"] = "wather"
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(
        UserError, match=r"task\.yaml: not a task: finding effusion: region wather is not among"
    ):
        load_task(tmp_path / "task.yaml")
