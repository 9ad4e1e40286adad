"""The composer: nothing without a reason, absence only with coverage, silence outside the domain."""

from __future__ import annotations

import json

import jsonschema
import pytest

from medfuse.case import Case, Image, Source
from medfuse.drafting.compose import compose
from medfuse.drafting.scale import wording
from medfuse.drafting.templates import Sentences, languages
from medfuse.errors import UserError
from medfuse.exports.text import report_text
from medfuse.prediction import FindingRecord, ImageRecord, LesionRecord, Place, Prediction
from medfuse.report import Report
from medfuse.task import load_task
from medfuse.workflows.schemas import schemas_json

TASK = load_task("upper-abdomen")


def prediction(
    p=None, *, modalities=None, in_domain=True, lesions=(), shown=False, limits=None, not_assessed=()
):
    p = p or {}
    return Prediction(
        case_id="c",
        simulated=True,
        in_domain=in_domain,
        outside_domain_shown=shown,
        limits=limits or {},
        modalities=modalities or {"US": "absent", "CT": "present", "MR": "absent"},
        images=[
            ImageRecord(
                path="x",
                modality="CT",
                role="portal",
                in_domain=in_domain,
                why="w",
                code="inside" if in_domain else "real",
            )
        ],
        findings=[
            FindingRecord(
                id=f.id,
                name=f.label("en"),
                group=f.group,
                probability=p.get(f.id, 0.02),
                calibrated=not shown,
                assessed=f.id not in not_assessed,
                assessed_by=["CT"],
                why_not={"CT": "lacks arterial"} if f.id in not_assessed else {},
            )
            for f in TASK.findings
        ]
        if in_domain or shown
        else [],
        lesions=list(lesions),
        bundle="b",
        bundle_hash="h" * 64,
    )


def case():
    import numpy as np

    return Case(
        "c",
        images=[
            Image(
                "CT", np.zeros((4, 4, 4), "f4"), Source("x", date="20240105"), affine=np.eye(4), role="portal"
            )
        ],
    )


def texts(report, section):
    return [s.text for s in report.section(section).sentences]


def lesion(finding="simple_cyst", long=31.6, p=0.93):
    return LesionRecord(
        id="CT-1",
        modality="CT",
        finding=finding,
        probability=p,
        long_axis_mm=long,
        short_axis_mm=22.2,
        volume_ml=3.0,
        place=Place(image=0, slice=12, series_uid="1.2", centre_mm=[0, 0, 0]),
    )


@pytest.mark.parametrize(
    ("p", "word"),
    [
        (0.95, "certain"),
        (0.9, "certain"),
        (0.75, "likely"),
        (0.5, "possible"),
        (0.2, "unlikely"),
        (0.1, "absent"),
    ],
)
def test_scale(p, word):
    assert wording(p) == word


def test_what_the_images_cannot_settle_is_said_one_step_softer():
    drafted = prediction({"ascites": 0.95, "steatosis": 0.05})
    for record in drafted.findings:
        record.answers = ["absent", "present"]
    found = texts(compose(drafted, case(), TASK), "findings")
    assert any(t.startswith("Ascites is likely") for t in found)
    doubt = next(t for t in found if t.startswith("No definite") and "hepatic steatosis" in t)
    assert doubt.endswith("; these cannot be excluded.")
    for record in drafted.findings:
        record.answers = ["present"]
    assert any(t.startswith("Ascites is present") for t in texts(compose(drafted, case(), TASK), "findings"))


def test_exclusive_findings_are_said_likeliest_first_and_denied_ones_not_at_all():
    task = load_task("breast-ultrasound")
    chances = {"malignant": 0.2, "benign": 0.75, "normal": 0.05}
    drafted = Prediction(
        case_id="c",
        simulated=False,
        in_domain=True,
        modalities={"US": "present"},
        images=[ImageRecord(path="x", modality="US", role="still", in_domain=True, why="w", code="inside")],
        findings=[
            FindingRecord(
                id=f.id,
                name=f.label("en"),
                group=f.group,
                probability=chances[f.id],
                calibrated=True,
                assessed=True,
                assessed_by=["US"],
            )
            for f in task.findings
        ],
        lesions=[],
        bundle="b",
        bundle_hash="h" * 64,
    )
    rows = texts(compose(drafted, case(), task), "findings")
    assert rows[0].startswith("Benign-appearing lesion is likely")
    assert rows[1].startswith("Malignant-appearing lesion is less likely")
    assert not any("without a lesion" in r for r in rows)
    assert texts(compose(drafted, case(), task), "impression")[0].startswith(
        "Benign-appearing lesion is likely"
    )


def test_no_lesion_needs_complete_coverage():
    whole = compose(prediction(), case(), TASK)
    assert any(t.startswith("No focal liver lesion") for t in texts(whole, "findings"))
    cut = compose(
        prediction(modalities={"US": "absent", "CT": "limited", "MR": "absent"}, limits={"CT": "cut top"}),
        case(),
        TASK,
    )
    assert not any(t.startswith("No focal liver lesion") for t in texts(cut, "findings"))
    assert any("not assessed" in t and "cut at the top" in t for t in texts(cut, "findings"))
    probe = compose(prediction(modalities={"US": "present", "CT": "absent", "MR": "absent"}), case(), TASK)
    assert any("ultrasound shows planes" in t for t in texts(probe, "findings"))


def test_impression_ranks_and_keeps_the_specific():
    r = compose(
        prediction({"focal_lesion": 0.95, "solid_lesion": 0.9, "hcc_like": 0.8, "steatosis": 0.92}),
        case(),
        TASK,
    )
    impression = texts(r, "impression")
    assert "arterial enhancement and washout" in impression[0]
    assert "steatosis" in impression[1]
    assert len(impression) == 2


def test_a_group_hides_behind_its_narrower_group():
    r = compose(prediction({"focal_lesion": 0.99, "solid_lesion": 0.95}), case(), TASK)
    assert [s.finding for s in r.section("impression").sentences] == ["solid_lesion"]


def test_lesions_are_named_as_the_findings_support():
    from medfuse.inference.evidence import agree

    p = prediction(
        {"focal_lesion": 0.99, "solid_lesion": 0.9, "metastasis_like": 0.2},
        lesions=[lesion("metastasis_like")],
    )
    assert agree(p.lesions, p.findings, TASK)[0].finding == "solid_lesion"
    p = prediction({"focal_lesion": 0.3}, lesions=[lesion("simple_cyst")])
    assert agree(p.lesions, p.findings, TASK)[0].finding == "focal_lesion"
    p = prediction({"focal_lesion": 0.9, "simple_cyst": 0.9}, lesions=[lesion("simple_cyst")])
    assert agree(p.lesions, p.findings, TASK)[0].finding == "simple_cyst"


def test_absent_and_failed_and_unassessed_never_look_the_same():
    r = compose(
        prediction(modalities={"US": "failed", "CT": "present", "MR": "absent"}, not_assessed=("hcc_like",)),
        case(),
        TASK,
    )
    rows = texts(r, "findings")
    assert rows[-1] == "Limits: Ultrasound acquired but unreadable; MR not acquired."
    assert any("CT lacks arterial phase" in t for t in rows)
    assert r.section("findings").sentences[-1].assertion == "not_assessed"


def test_lesion_sentence_has_size_place_and_evidence():
    r = compose(prediction({"focal_lesion": 0.97, "simple_cyst": 0.93}, lesions=[lesion()]), case(), TASK)
    sentence = next(s for s in r.section("findings").sentences if "32 × 22 mm" in s.text)
    assert "slice 13" in sentence.text
    assert sentence.evidence[0].series_uid == "1.2"
    r = compose(prediction({"focal_lesion": 0.97}, lesions=[lesion(long=None)]), case(), TASK)
    assert any("Size not measured" in t for t in texts(r, "findings"))


def test_outside_the_domain_nothing_is_drafted():
    r = compose(prediction(in_domain=False), case(), TASK)
    assert r.section("findings") is None
    assert r.section("impression") is None
    assert any("Outside the validated domain" in b for b in r.banner)
    shown = compose(prediction({"steatosis": 0.4}, in_domain=False, shown=True), case(), TASK)
    assert shown.section("findings") is None
    assert all("uncalibrated" in t for t in texts(shown, "notice"))


def test_banner_and_text():
    text = report_text(compose(prediction({"gallstone": 0.96}), case(), TASK))
    assert "not for clinical use" in text
    assert "Simulated patient" in text
    assert "Cholelithiasis is present" in text
    assert "2024-01-05" in text


def test_chinese_has_every_sentence():
    p = prediction(
        {"focal_lesion": 0.97, "simple_cyst": 0.93, "steatosis": 0.8},
        lesions=[lesion()],
        not_assessed=("hcc_like",),
        limits={"CT": "cut top"},
        modalities={"US": "failed", "CT": "limited", "MR": "absent"},
    )
    text = report_text(compose(p, case(), TASK, "zh-TW"))
    for words in ("研究用草稿", "單純性囊腫", "很可能有脂肪肝", "未評估", "電腦斷層缺少動脈期", "被截斷"):
        assert words in text
    assert languages(TASK) == ["en", "zh-TW"]


def test_unknown_language_and_broken_template(tmp_path):
    with pytest.raises(UserError, match="templates for en, zh-TW"):
        compose(prediction(), case(), TASK, "fr")
    bad = tmp_path / "xx.yaml"
    bad.write_text("a: ok\nsize: '{{ missing }}'\n")
    with pytest.raises(UserError, match="line 2"):
        Sentences(bad, "xx").render("size")
    with pytest.raises(UserError, match="lacks the entry"):
        Sentences(bad, "xx").get("other")
    bad.write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        Sentences(bad, "xx")


def test_schemas_are_checked_in_and_hold(request):
    folder = request.config.rootpath / "data_schemas"
    for name, schema in schemas_json().items():
        assert json.loads((folder / f"{name}.schema.json").read_text()) == schema, (
            f"run make schemas ({name})"
        )
    report = compose(prediction(), case(), TASK)
    jsonschema.validate(json.loads(report.model_dump_json()), schemas_json()["report"])
    assert Report(**json.loads(report.model_dump_json())) == report
