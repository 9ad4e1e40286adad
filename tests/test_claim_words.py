"""From claims to words: a lesion is told once over all modalities, and only who shows it is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from test_claims import EVERY, on, three
from test_report import TASK, case, prediction, texts

from medfuse.drafting.check import checked_report
from medfuse.drafting.compose import Wish, compose
from medfuse.drafting.styles import styles
from medfuse.drafting.templates import sentences, spaced
from medfuse.errors import UserError, WrongUse
from medfuse.exports.text import report_text
from medfuse.prediction import LesionMatch, Place
from medfuse.task import load_task

CYST = {"simple_cyst": 0.95, "focal_lesion": 0.97}


def cyst_on_two(**more):
    made = three(
        CYST,
        {"CT": CYST, "MR": CYST, "US": {"simple_cyst": 0.1}},
        lesions=[on("CT", 1, side="right"), on("MR", 1, long_axis_mm=30.0, side="right")],
        matches=[LesionMatch(lesions=["CT-1", "MR-1"], certainty="same", by="frame", distance_mm=3.0)],
        **more,
    )
    made.organ_in_view = {"US": 0.3}
    return made


def drafted(made, section="findings", language="en", **wish):
    return texts(compose(made, case(), TASK, language, wish=Wish(**wish)), section)


def test_a_lesion_is_one_paragraph_and_one_line_over_all_modalities():
    found = drafted(cyst_on_two())
    assert found[0] == (
        "Right hepatic lobe, 32 × 22 mm on CT, 30 × 22 mm on MR: water density without enhancement on CT, "
        "T2 bright on MR; simple cyst is present. One lesion on CT (series cine, slice 13) and MR (series "
        "cine, slice 13); not visible on ultrasound, where the window is limited."
    )
    assert sum("cyst" in x for x in found) == 1
    assert drafted(cyst_on_two(), "impression") == ["Simple cyst is present: 32 × 22 mm, right hepatic lobe."]
    chinese = drafted(cyst_on_two(), language="zh-TW")
    assert "於超音波（視窗受限）未顯示" in chinese[0]
    assert "所見為同一病灶" in chinese[0]


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_enhancement_is_told_of_series_after_contrast_alone(language):
    """A plain MR was said to show no enhancement, and a CT of one phase a fill-in."""
    words = sentences(TASK, language)
    none, fills = {"en": ("enhancement", "fill-in"), "zh-TW": ("顯影", "填滿")}[language]
    for finding in ("simple_cyst", "haemangioma"):
        for modality, plain, late in (
            ("CT", ["unenhanced"], ["arterial", "delayed"]),
            ("MR", ["t1_in", "t2", "dwi"], ["t2", "t1_arterial", "t1_portal"]),
        ):
            assert none not in words.features(finding, modality, plain)
            assert none in words.features(finding, modality, late)
    assert fills in words.features("haemangioma", "CT", ["arterial", "portal"])
    assert fills not in words.features("haemangioma", "CT", ["portal"])
    assert words.features("simple_cyst", "MR", ["t1_in"]) == ""


def test_a_lesion_is_not_called_twice_what_its_name_says():
    """Hyperenhancement with washout stood before "lesion with arterial enhancement and washout"."""
    made = cyst_on_two()
    sure = {"hcc_like": 0.95, "solid_lesion": 0.97, "focal_lesion": 0.97}
    named = [x.model_copy(update={"finding": "hcc_like"}) for x in made.lesions]
    one = three(sure, {"CT": sure}, lesions=named, matches=made.matches)
    assert drafted(one)[0].lower().count("washout") == 1


def test_who_speaks_against_a_finding_is_no_witness_of_it():
    made = three(
        {"solid_lesion": 0.8, "focal_lesion": 0.83},
        {"US": {"solid_lesion": 0.23}, "CT": {"solid_lesion": 0.09}, "MR": {"solid_lesion": 0.91}},
        share={"solid_lesion": {"US": -0.04, "CT": -0.19, "MR": 0.6}},
    )
    report = compose(made, case(), TASK)
    told = next(x for x in report.section("findings").sentences if x.finding == "solid_lesion")
    assert told.modality == ["MR"]
    assert "shown on MR; uncertain on ultrasound; not visible on CT" in told.text


def test_what_no_modality_shows_alone_is_said_to_be_so():
    made = three({"ascites": 0.75}, {m: {"ascites": 0.3} for m in EVERY})
    assert "Ascites is likely; no modality shows it alone, together they do." in drafted(made)
    perhaps = three({"ascites": 0.5}, {m: {"ascites": 0.3} for m in EVERY})
    assert "Ascites is possible; suggested by the modalities together, by none alone." in drafted(perhaps)


def test_negatives_are_one_sentence_an_organ_without_a_number():
    found = drafted(prediction())
    assert found[:4] == [
        "No focal liver lesion, hepatic steatosis, cirrhotic liver morphology or hepatic iron overload.",
        "No cholelithiasis.",
        "No intrahepatic bile duct dilatation.",
        "No ascites.",
    ]
    report = compose(prediction(), case(), TASK)
    assert not any("probability" in x.text for s in report.sections for x in s.sentences)
    assert report.said()["hcc_like"].assertion == "absent"  # no lesion at all: none of any name
    assert report_text(report).count("Only these questions were asked") == 1


def test_a_patient_below_all_thresholds_has_a_whole_report():
    task = load_task("breast-ultrasound")
    apart = task.model_copy(update={"exclusive": ()})
    low = prediction()
    low = low.model_copy(
        update={
            "findings": [
                low.findings[0].model_copy(update={"id": f.id, "group": f.group, "probability": 0.05})
                for f in apart.findings
            ]
        }
    )
    (said,) = [x for x in texts(compose(low, case(), apart), "findings") if x.startswith("No ")]
    assert all(f.label("en") in said for f in apart.findings)
    doubt = prediction({"focal_lesion": 0.32})
    assert "No definite focal liver lesion; it cannot be excluded." in drafted(doubt)


@pytest.mark.parametrize(
    ("language", "said"), [("en", "Probably no lesion in this image."), ("zh-TW", "本影像中應無病灶。")]
)
def test_an_image_without_a_lesion_is_said_in_a_sentence_of_its_own(language, said):
    """ "Breast tissue without a lesion in this image is likely" stood there."""
    task = load_task("breast-ultrasound")
    low = prediction()
    rows = {"normal": 0.8, "benign": 0.1, "malignant": 0.1}
    found = [
        low.findings[0].model_copy(update={"id": f, "group": "other", "probability": p})
        for f, p in rows.items()
    ]
    report = compose(low.model_copy(update={"findings": found}), case(), task, language)
    assert said in texts(report, "findings")
    assert said in texts(report, "impression")


def test_the_impression_puts_the_sure_before_the_possible():
    made = prediction({"abscess": 0.5, "focal_lesion": 0.97, "simple_cyst": 0.95, "ascites": 0.75})
    report = compose(made, case(), TASK)
    assert [x.finding for x in report.section("impression").sentences] == [
        "ascites",
        "simple_cyst",
        "abscess",
    ]


def test_what_the_only_lesion_may_be_is_said_with_it():
    """A lesion of a wider name stood beside a finding "which of the lesions it is cannot be told"."""
    pair = [on(m, 1, "solid_lesion", side="right") for m in ("CT", "MR")]
    same = [LesionMatch(lesions=["CT-1", "MR-1"], certainty="same", by="frame", distance_mm=3.0)]
    sure = {"haemangioma": 0.95, "solid_lesion": 0.97, "focal_lesion": 0.97}
    made = three(sure, {"MR": sure}, lesions=pair, matches=same)
    assert any(
        "Haemangioma is present" in x and x.endswith("perhaps the lesion above.") for x in drafted(made)
    )
    assert drafted(made, "impression") == [
        "Haemangioma is present: perhaps the lesion of 32 × 22 mm, right hepatic lobe."
    ]
    assert drafted(made, "impression", "zh-TW") == ["可見血管瘤：可能即 32 × 22 mm、肝右葉之病灶。"]
    both = three({**sure, "fnh_like": 0.92}, {"MR": sure}, lesions=pair, matches=same)
    assert sum("32 × 22 mm" in x for x in drafted(both, "impression")) == 1  # one lesion, named once


def test_a_sure_lesion_of_unsure_nature_is_one_line():
    """It was two problems: the lesion without its size, and what it may be with it."""
    pair = [on(m, 1, "abscess", side="right") for m in ("CT", "MR")]
    same = [LesionMatch(lesions=["CT-1", "MR-1"], certainty="same", by="frame", distance_mm=3.0)]
    unsure = {"abscess": 0.5, "septated_cyst": 0.45, "focal_lesion": 0.97}
    made = three(unsure, {"CT": unsure}, lesions=pair, matches=same)
    assert drafted(made, "impression") == [
        "Focal liver lesion is present: 32 × 22 mm, right hepatic lobe; rim-enhancing collection, "
        "abscess-like or septated cyst is possible."
    ]
    (told,) = [x for x in drafted(made) if x.startswith("Focal liver lesion")]
    assert told.endswith("described above.")
    written = "FINDINGS: Focal liver lesion is present.\nIMPRESSION: Focal liver lesion is present."
    checked = checked_report(written, made, case(), TASK, "en", writer="learned")
    assert any("abscess-like" in x for x in texts(checked, "impression"))  # what it may be is not lost


def test_outlines_of_a_cine_are_told_together():
    """Each frame's outline was told as another lesion of its own."""
    frames = [
        on("US", n, "solid_lesion", long_axis_mm=20.0 + n, place=Place(image=0, frame=n)) for n in range(5)
    ]
    sure = {"solid_lesion": 0.95, "focal_lesion": 0.97}
    made = three(sure, {m: sure for m in EVERY}, lesions=[*frames, on("CT", 1, "solid_lesion")])
    found = drafted(made)
    assert found[-1] == (
        "Outlined on one modality alone and not confirmed on another: 5 on ultrasound, the largest 24 × 22 "
        "mm, frame 5."
    )
    assert "perhaps the outline on CT alone (32 × 22 mm, series cine, slice 13)" in found[0]
    pair = [on(m, 1, "solid_lesion") for m in ("CT", "MR")]
    same = [LesionMatch(lesions=["CT-1", "MR-1"], certainty="same", by="frame", distance_mm=3.0)]
    beside = drafted(three(sure, {m: sure for m in EVERY}, lesions=[*frames, *pair], matches=same))
    assert beside[-1].endswith("24 × 22 mm, frame 5 (perhaps described above).")
    assert drafted(made, "impression") == ["Solid liver lesion is present."]


def test_what_was_not_assessed_and_what_limits_are_one_sentence_each():
    """Each reason had a sentence of its own, and a limit two colons."""
    made = three({}, {}, modalities={"US": "absent", "CT": "limited", "MR": "absent"})
    made.limits = {"CT": "cut top"}
    for f, why in (("hcc_like", {"CT": "lacks arterial"}), ("iron", {"MR": "not_acquired"})):
        record = made.finding(f)
        record.assessed, record.why_not = False, why
    found = drafted(made)
    (told,) = [x for x in found if x.startswith("Not assessed")]
    assert told == (
        "Not assessed: lesion with arterial enhancement and washout (CT lacks arterial phase), hepatic iron "
        "overload (MR not acquired)."
    )
    assert "CT (the liver is cut at the top of the images)" in found[-1]


def test_a_lesion_without_features_goes_on_in_small_letters():
    sure = {"focal_lesion": 0.97}
    made = three(sure, {"CT": sure}, lesions=[on("CT", 1, "focal_lesion", side="right")])
    made.modalities.update({"US": "absent", "MR": "absent"})
    assert ": focal liver lesion is" in " ".join(drafted(made))


def test_sixty_lesions_are_counted_not_listed():
    many = [on("CT", n, long_axis_mm=10.0 + n) for n in range(60)]
    found = drafted(three(CYST, {m: CYST for m in EVERY}, lesions=many))
    assert "59 on CT, the largest 68 × 22 mm" in found[-1]
    (paired, *_) = [three(CYST, {m: CYST for m in EVERY}, lesions=many, modalities={"CT": "present"})]
    one_by_one = drafted(paired)
    assert sum("mm" in x for x in one_by_one) == 7  # six, and how large the largest of the rest is
    assert any(x.startswith("54 further lesions, the largest ") for x in one_by_one)


def test_contradictory_claims_are_said_to_be_so():
    found = drafted(three({"hcc_like": 0.95, "solid_lesion": 0.05, "focal_lesion": 0.9}, {}))
    assert any("possible" in x and "this contradicts solid liver lesion" in x for x in found)


@pytest.mark.parametrize("style", list(styles()))
@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_every_style_says_the_same(style, language):
    made = cyst_on_two()
    plain = compose(made, case(), TASK, language)
    other = compose(made, case(), TASK, language, wish=Wish(style=style, probabilities="shown"))
    assert other.style == style
    said = {f: x.assertion for f, x in plain.said().items()}
    assert {f: x.assertion for f, x in other.said().items()} == said
    assert any("0.95" in x.text for x in other.section("impression").sentences)


def test_styles_differ_and_a_table_holds_every_probability():
    made = cyst_on_two()
    assert drafted(made, style="bulleted")[0].startswith("• Right hepatic lobe")
    two = three({**CYST, "ascites": 0.95}, {m: CYST for m in EVERY})
    concluded = texts(compose(two, case(), TASK, wish=Wish(style="bulleted")), "impression")
    assert len(concluded) == 2
    assert not any("•" in x for x in concluded)  # they are numbered: "1. • Ascites is present."
    assert "Gallbladder: No cholelithiasis." in drafted(made, style="structured")
    assert len(drafted(made, style="short")) < len(drafted(made))
    footer = compose(made, case(), TASK, wish=Wish(probabilities="table")).footer
    assert "ascites 0.02" in footer[0]
    with pytest.raises(WrongUse, match="give one of prose, bulleted"):
        drafted(made, style="sonnet")
    with pytest.raises(WrongUse, match="give one of hidden"):
        drafted(made, probabilities="maybe")


@pytest.fixture
def own(tmp_path):
    """The shipped task in a folder of one's own."""
    shutil.copytree(TASK.folder, tmp_path / "task")
    return load_task(tmp_path / "task")


def test_a_template_that_lacks_an_entry_is_named_when_it_is_read(own, tmp_path):
    words = yaml.safe_load((tmp_path / "task/templates/en.yaml").read_text())
    (tmp_path / "task/templates/xx.yaml").write_text(yaml.safe_dump(words))
    with pytest.raises(UserError, match=r"xx\.yaml: lacks the entry outside\.extent"):
        sentences(own, "xx")
    (tmp_path / "task/templates/en.yaml").write_text("size: '{{ long }} mm'\n")
    assert sentences(own, "en").render("size", long=3) == "3 mm"  # what it does not say is as everywhere
    (tmp_path / "task/templates/zh-TW.yaml").write_text("claim: {joint: '{% include \"x\" %}'}\n")
    with pytest.raises(UserError, match=r"template claim\.joint"):
        sentences(own, "zh-TW")


def test_a_third_language_comes_through_a_template_alone(own, tmp_path):
    import io

    from pypdf import PdfReader

    from medfuse.display.key_images import key_images
    from medfuse.exports.pdf import report_pdf

    shutil.copy(Path(__file__).parent / "templates" / "de.yaml", tmp_path / "task/templates/de.yaml")
    report = compose(cyst_on_two(), case(), own, "de")
    text = report_text(report)
    assert "Nachweis: einfache Zyste: 32 × 22 mm, rechter Leberlappen." in text
    assert "nicht sichtbar in Ultraschall bei eingeschränktem Schallfenster" in text
    assert "Kein Anhalt für Steatosis hepatis, Leberzirrhose oder Eisenüberladung." in text
    picture = key_images(cyst_on_two(), case())[0]
    pdf = PdfReader(io.BytesIO(report_pdf(report, case(), [picture], task=own)))
    shown = "".join(page.extract_text() for page in pdf.pages)
    assert "Radiologischer Befund" in shown
    assert "Untersuchungen" in shown  # it broke in the middle
    assert "Entwurf" in shown
    assert "einfache Zyste, CT, Serie portalvenös, Schicht 4" in shown  # not as the file is called
    with pytest.raises(WrongUse, match="templates for en, zh-TW"):
        compose(cyst_on_two(), case(), TASK, "de")


def test_the_viewer_shows_a_report_of_a_language_that_is_not_its_own():
    """The report's page ended in a KeyError."""
    from apps.viewer.blank import with_every_section
    from apps.viewer.words import task_languages

    report = compose(prediction(), case(), TASK).model_copy(update={"language": "de", "sections": []})
    assert [s.title for s in with_every_section(report).sections][-1] == "Impression"
    assert task_languages("upper-abdomen-simulated") == ("en", "zh-TW")
    assert task_languages("not-here") == ("en", "zh-TW")


def test_the_outline_that_is_named_is_of_a_modality_that_shows_the_finding():
    """CT was uncertain, MR showed it, and the larger outline of CT was named."""
    p = {"solid_lesion": 0.95, "focal_lesion": 0.97}
    made = three(
        p,
        {"CT": {"solid_lesion": 0.3, "focal_lesion": 0.9}, "MR": p, "US": {"solid_lesion": 0.3}},
        lesions=[
            on("CT", 1, "solid_lesion", long_axis_mm=64.0),
            on("MR", 1, "solid_lesion", long_axis_mm=42.0),
        ],
    )
    (told,) = [x for x in texts(compose(made, case(), TASK), "findings") if "outline on" in x]
    assert "perhaps the outline on MR alone (42 × 22 mm" in told


def test_chinese_words_stand_without_spaces_and_letters_with():
    assert spaced("缺少T1 反相位") == "缺少 T1 反相位"
    assert spaced("綜合 電腦斷層 之輪廓，CT 之輪廓") == "綜合電腦斷層之輪廓，CT 之輪廓"
    assert spaced("CT 30 × 27 mm, right") == "CT 30 × 27 mm, right"
