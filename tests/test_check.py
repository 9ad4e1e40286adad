"""The checker and the rule layers: nothing unsupported stays, measured sides and sizes win, LI-RADS only
where it applies."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from test_report import TASK, case, lesion, prediction, texts

from medfuse.drafting.check import check_sentence, checked_report
from medfuse.drafting.compose import compose
from medfuse.drafting.labeller import task_lexicon
from medfuse.drafting.lirads import categorise, visualisation
from medfuse.drafting.priors import Prior
from medfuse.drafting.sections import split_sentences
from medfuse.drafting.statements import statements
from medfuse.evaluation.planted_errors import KINDS
from medfuse.prediction import Place

LEXICON = task_lexicon(TASK)
ROOT = Path(__file__).parent.parent


def check(text, p=None, *, lesions=(), prior=None, **more):
    return check_sentence(text, prediction(p, lesions=lesions, **more), TASK, LEXICON, prior=prior)


def cyst(side="right", long=30.0):
    return lesion().model_copy(update={"side": side, "long_axis_mm": long})


CYST = {"simple_cyst": 0.95, "focal_lesion": 0.97}


@pytest.mark.parametrize(
    ("text", "p", "action"),
    [
        ("Ascites is present.", {"ascites": 0.9}, "kept"),
        ("Ascites is present.", {"ascites": 0.2}, "hedged"),
        ("Ascites is present.", {"ascites": 0.05}, "dropped"),
        ("No ascites.", {"ascites": 0.05}, "kept"),
        ("No ascites.", {"ascites": 0.9}, "dropped"),
        ("Possible cirrhosis.", {"cirrhosis": 0.3}, "kept"),
        ("The patient is tall.", {}, "dropped"),
        ("Ascites has increased.", {"ascites": 0.9}, "dropped"),
        ("Stable hepatic steatosis.", {"steatosis": 0.9}, "dropped"),
        ("A 30 mm simple hepatic cyst is seen in the right hepatic lobe.", CYST, "kept"),
        ("A 12 mm simple hepatic cyst is seen in the right hepatic lobe.", CYST, "mended"),
        ("A 30 mm simple hepatic cyst is seen in the left hepatic lobe.", CYST, "mended"),
    ],
)
def test_what_becomes_of_a_sentence(text, p, action):
    assert check(text, p, lesions=[cyst()]).action == action


def test_measured_side_and_size_win():
    got = check("A 12 mm simple hepatic cyst is seen in the left hepatic lobe.", CYST, lesions=[cyst()])
    assert got.text == "A 30 mm simple hepatic cyst is seen in the right hepatic lobe."
    assert "side left → right" in got.why
    assert "size 12 → 30" in got.why
    chinese = check("肝左葉有一 12 mm 單純性肝囊腫。", CYST, lesions=[cyst()])
    assert chinese.text == "肝右葉有一 30 mm 單純性肝囊腫。"


def test_a_side_that_nobody_measured_is_not_stated():
    got = check("A 30 mm simple hepatic cyst is seen in the right hepatic lobe.", CYST)
    assert (got.action, got.text) == ("hedged", "")


def earlier(p=None, *, lesions=()):
    return Prior(prediction=prediction(p, lesions=lesions), dates={"CT": "20230401"})


def there(side="right", long=30.0, at=(10.0, 0.0, 0.0)):
    return cyst(side, long).model_copy(update={"in_organ_mm": list(at)})


@pytest.mark.parametrize(
    "text",
    [
        "Ascites has increased.",
        "New ascites.",
        "The simple cyst is larger than on the last examination.",
        "The simple cyst has grown.",
        "Unchanged simple cyst.",
        "Simple cyst, compared with the CT of March, is smaller.",
        "Interval development of ascites.",
        "Simple cyst, again noted.",
        "The ascites has worsened.",
        "Ascites has resolved since the last scan.",
        "腹水較前增加。",
        "新發現單純性囊腫。",
        "單純性囊腫與前次相比變大。",
        "單純性囊腫無明顯變化。",
        "腹水已消失。",
        "單純性囊腫較上次縮小。",
        "追蹤檢查顯示單純性囊腫穩定。",
    ],
)
def test_nobody_compares_without_a_prior(text):
    """Nor with one whose images nobody read."""
    p = {**CYST, "ascites": 0.95}
    for prior in (None, Prior(dates={"CT": "20230401"}, signed="Simple cyst of 22 mm.")):
        got = check(text, p, lesions=[cyst()], prior=prior)
        assert (got.action, "no prior" in got.why) == ("dropped", True), got


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("Simple cyst has grown.", "kept"),
        ("單純性囊腫較前增大。", "kept"),
        ("Simple cyst is unchanged.", "dropped"),
        ("Simple cyst has regressed.", "dropped"),
        ("New simple cyst.", "dropped"),
        ("New ascites.", "kept"),
        ("新出現腹水。", "kept"),
        ("Ascites has increased.", "dropped"),
        ("Stable steatosis.", "kept"),
        ("Steatosis with increased hepatic echogenicity.", "kept"),
    ],
)
def test_with_a_prior_a_change_is_said_where_it_is_proven(text, action):
    """It was enough that there was one, whatever it had measured."""
    p = {**CYST, "ascites": 0.95, "steatosis": 0.95}
    prior = earlier({**CYST, "steatosis": 0.95}, lesions=[there(long=20.0)])
    assert check(text, p, lesions=[there()], prior=prior).action == action


def test_growth_is_said_of_lesions_at_one_place_alone():
    p = {**CYST}
    elsewhere = earlier(CYST, lesions=[there(long=20.0, at=(60.0, 0.0, 0.0))])
    assert check("Simple cyst has grown.", p, lesions=[there()], prior=elsewhere).action == "dropped"
    unplaced = earlier(CYST, lesions=[cyst(long=20.0)])
    assert check("Simple cyst has grown.", p, lesions=[cyst()], prior=unplaced).action == "dropped"
    assert check("Increased signal of the simple cyst.", p, lesions=[cyst()]).action == "kept"
    assert check("Shrunken nodular liver of cirrhosis.", {"cirrhosis": 0.95}).action == "kept"


def test_what_was_not_assessed_passes_the_checker_in_both_languages():
    """In Chinese the second reason was taken for a sentence of its own."""
    made = prediction({}, not_assessed=("iron", "hcc_like", "haemangioma"))
    made.finding("iron").why_not = {"CT": "cannot_show", "MR": "not_acquired"}
    for language in ("en", "zh-TW"):
        rows = [
            x.text for x in compose(made, case(), TASK, language).section("findings").sentences if x.claims
        ]
        for text in (s for x in rows for s in split_sentences(x)):
            got = check_sentence(text, made, TASK, LEXICON)
            assert got.action == "kept", (text, got.why)


def test_absence_needs_coverage_and_unassessed_findings_are_not_named():
    assert check("No focal liver lesion.").action == "kept"
    assert (
        check("No focal liver lesion.", modalities={"US": "present", "CT": "absent", "MR": "absent"}).action
        == "dropped"
    )
    assert (
        check(
            "Suspicious for hepatocellular carcinoma.", {"hcc_like": 0.9}, not_assessed=("hcc_like",)
        ).action
        == "dropped"
    )


def test_a_checked_report_says_everything_that_is_supported_and_where_it_comes_from():
    p = {**CYST, "steatosis": 0.95, "ascites": 0.02}
    words = (
        "FINDINGS: A 30 mm simple hepatic cyst is seen in the left hepatic lobe. Ascites is present. Iron "
        "deposition in the liver. IMPRESSION: Cirrhosis."
    )
    report = checked_report(words, prediction(p, lesions=[cyst()]), case(), TASK, "en", writer="learned")
    found = texts(report, "findings")
    assert "A 30 mm simple hepatic cyst is seen in the right hepatic lobe." in found
    assert any("steatosis is present" in t for t in found)  # supported, though nobody wrote it
    assert not any("scites is present" in t or "ron deposition" in t for t in found)
    actions = {(c.written, c.action) for c in report.provenance}
    assert ("Ascites is present.", "dropped") in actions
    assert any(a == "added" for _, a in actions)
    assert report.writer == "learned"
    sentence = next(s for s in report.section("findings").sentences if "cyst is seen" in s.text)
    assert sentence.evidence == [cyst().place]
    assert sentence.probability == 0.95
    assert not any(t == "irrhosis." for t in texts(report, "impression"))


def test_outside_the_domain_nothing_is_written():
    report = checked_report(
        "FINDINGS: Ascites.", prediction(in_domain=False), case(), TASK, "en", writer="learned"
    )
    assert report.section("findings") is None
    assert report.writer == "structured"
    assert "outside" in report.provenance[0].why


def roles(*names):
    return [
        {"path": "x", "modality": "CT", "role": r, "in_domain": True, "why": "w", "code": "inside"}
        for r in names
    ]


def with_roles(p, lesions, *names):
    made = prediction(p, lesions=lesions)
    return type(made)(**{**made.model_dump(), "images": roles(*names)})


@pytest.mark.parametrize(
    ("finding", "long", "category"),
    [
        ("hcc_like", 25.0, "LR-5"),
        ("hcc_like", 12.0, "LR-5"),
        ("hcc_like", 8.0, "LR-4"),
        ("fnh_like", 25.0, "LR-4"),
        ("fnh_like", 12.0, "LR-3"),
        ("metastasis_like", 20.0, "LR-M"),
        ("simple_cyst", 20.0, "LR-1"),
        ("septated_cyst", 20.0, ""),
    ],
)
def test_lirads_core_table(finding, long, category):
    one = lesion(finding, long)
    assert categorise(one, prediction({finding: 0.95}), TASK).category == category
    assert categorise(one, prediction({finding: 0.5}), TASK).category == ""  # features uncertain


@pytest.mark.parametrize(
    ("risk", "phases", "said"),
    [
        ("cirrhosis", ("arterial", "portal", "delayed"), "LR-5"),
        ("Cirrhosis; chronic hepatitis B", ("arterial", "portal", "delayed"), "LR-5"),
        ("", ("arterial", "portal", "delayed"), "no risk status is documented"),
        ("none known", ("arterial", "portal", "delayed"), "no risk factor is known"),
        ("no cirrhosis", ("arterial", "portal", "delayed"), "the documented risk status is no cirrhosis"),
        ("cirrhosis", ("arterial", "portal"), "the series lack delayed phase"),
    ],
)
def test_lirads_only_where_its_conditions_are_documented(risk, phases, said):
    who = case()
    who.risk = risk
    made = with_roles(
        {"hcc_like": 0.95, "focal_lesion": 0.97, "solid_lesion": 0.97}, [lesion("hcc_like", 25.0)], *phases
    )
    report = compose(made, who, TASK)
    asked = risk not in ("", "none known")  # nobody asks for it without a risk
    place = texts(report, "findings") if asked else report.footer
    found = [t for t in place if "LI-RADS" in t]
    assert len(found) == 1
    assert said in found[0]


def test_children_get_no_category_and_ultrasound_its_own_score():
    who = case()
    who.risk = "cirrhosis"
    who.birth_date = "20200101"
    made = with_roles(
        {"hcc_like": 0.95, "focal_lesion": 0.97}, [lesion("hcc_like", 25.0)], "arterial", "portal", "delayed"
    )
    assert any("under 18" in t for t in texts(compose(made, who, TASK), "findings"))
    made.organ_in_view = {"US": 0.5}
    assert visualisation(made, who).category == "B"
    for risk, why in (("", "no_risk"), ("None known.", "none_known")):
        who.risk = risk
        assert visualisation(made, who).reason == why


def test_priors_are_compared_with_both_measurements_and_dates():
    now = prediction(CYST, lesions=[cyst()])
    then = prediction(CYST, lesions=[cyst(long=22.0)])
    report = compose(now, case(), TASK, prior=Prior(prediction=then, dates={"CT": "20230401"}))
    found = texts(report, "comparison")
    assert found[0] == "Compared with CT 2023-04-01."
    assert "30 mm now, 22 mm on 2023-04-01" in found[1]
    assert "not proven" in found[1]
    assert texts(compose(now, case(), TASK), "comparison") == ["No prior available."]
    elsewhere = prediction(CYST, lesions=[cyst("left", 22.0)])
    assert (
        len(
            texts(
                compose(now, case(), TASK, prior=Prior(prediction=elsewhere, dates={"CT": "20230401"})),
                "comparison",
            )
        )
        == 1
    )


def test_features_stand_before_the_diagnosis():
    found = texts(compose(prediction(CYST, lesions=[cyst()]), case(), TASK), "findings")
    assert found[0].index("water density") < found[0].index("simple cyst")
    assert "Right hepatic lobe" in found[0]
    assert Place(image=0).box_mm is None


THREE = {"US": "present", "CT": "present", "MR": "present"}


@pytest.mark.parametrize(
    ("text", "action", "why"),
    [
        ("Ascites is present.", "hedged", "as possible only"),
        ("Possible ascites.", "kept", "supported"),
        ("腹水見於電腦斷層，可能。", "kept", "supported"),
        ("Simple cyst in the spleen is present.", "hedged", "not looked for in the spleen"),
        ("Simple cyst is shown on PET.", "kept", "supported"),  # the task has no PET: nothing to compare with
        ("Simple cyst is shown on MRI.", "kept", "supported"),
        ("Simple cyst, not visible on ultrasound.", "kept", "supported"),
        ("A simple cyst is seen on ultrasound.", "hedged", "US is said to show simple_cyst"),
        ("超音波顯示單純性囊腫。", "hedged", "US is said to show simple_cyst"),
        ("Simple cyst, not visible on MRI.", "hedged", "MR is said not to show simple_cyst"),
        ("Not assessed: ascites.", "dropped", "ascites is assessed"),
    ],
)
def test_claims_are_checked_for_any_writer(text, action, why):
    """Certainty, organ and modality: what a writer says of each is held against the claims."""
    from test_claims import three

    own = {"simple_cyst": 0.95, "focal_lesion": 0.97}
    made = three({**own, "ascites": 0.5}, {"CT": own, "MR": own, "US": {"simple_cyst": 0.02}})
    got = check_sentence(text, made, TASK, LEXICON)
    assert (got.action, why in got.why) == (action, True), got.why


def test_a_wider_finding_is_not_denied_where_a_narrower_one_is_claimed():
    """It was kept where the wider one's own probability was below .40."""
    made = prediction({"haemangioma": 0.45, "solid_lesion": 0.3, "focal_lesion": 0.6})
    verdict = check_sentence("No solid liver lesion.", made, TASK, LEXICON)
    assert (verdict.text, verdict.action) == ("", "dropped")
    assert "haemangioma is possible" in verdict.why
    low = prediction({"haemangioma": 0.2, "solid_lesion": 0.3, "focal_lesion": 0.6})
    assert check_sentence("No solid liver lesion.", low, TASK, LEXICON).action == "kept"


def test_planted_errors_are_caught_and_true_sentences_left_alone():
    from test_claims import three

    from medfuse.evaluation.planted_errors import Planted, plant

    own = {"simple_cyst": 0.95, "focal_lesion": 0.97}
    made = three(
        {**own, "ascites": 0.5, "iron": 0.3},
        {"CT": own, "MR": own, "US": {"simple_cyst": 0.02}},
        lesions=[cyst()],
    )
    found = Planted()
    plant(found, made, case(), TASK, LEXICON)
    assert set(found.caught) == set(KINDS)
    assert all(n and caught == n for caught, n in found.caught.values()), found.caught
    assert found.true
    assert found.touched == 0


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_a_category_of_lirads_is_no_finding_that_was_not_assessed(language):
    """Its rule says that growth was not assessed, and the whole sentence was dropped."""
    who = case()
    who.risk = "cirrhosis"
    p = {"hcc_like": 0.95, "focal_lesion": 0.97, "solid_lesion": 0.97}
    made = with_roles(p, [lesion("hcc_like", 25.0)], "arterial", "portal", "delayed")
    report = compose(made, who, TASK, language)
    (told,) = [x.text for x in report.section("findings").sentences if "LR-5" in x.text]
    first = split_sentences(told)[0]
    assert check_sentence(first, made, TASK, LEXICON).action == "kept"


def long_sentences():
    spec = importlib.util.spec_from_file_location("long", ROOT / "benchmarks" / "long_sentences.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize("half", ["first", "kept"])
def test_long_sentences_are_read_statement_by_statement(half, capsys):
    """A denial reached over the rest of the sentence, and the largest size stood for every lesion: of 24 true
    sentences 17 were touched."""
    found = long_sentences().scored(half, missed=True)
    out = capsys.readouterr().out
    assert found.pop("true")[0] == 0, out
    assert set(found) == set(KINDS)
    assert all(caught == n for caught, n in found.values()), out


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("No ascites, gallstones or duct dilatation is seen.", 1),
        ("There is no ascites, and a 30 mm cyst is seen in the right lobe.", 2),
        ("Cysts lie in the right and left hepatic lobes.", 2),
        ("A simple cyst (30 mm, right lobe), not seen on ultrasound.", 1),
        ("未見腹水，膽結石及脂肪肝。", 1),
        ("可見腹水，無脂肪肝，膽囊內有結石。", 3),
    ],
)
def test_a_sentence_is_cut_where_a_new_statement_begins(text, parts):
    found = statements(text, LEXICON)
    assert len(found) == parts
    assert "".join(x.text for x in found) == text


def test_each_lesion_of_a_sentence_keeps_its_own_side_and_size():
    both = [cyst(), cyst("left", 17.0).model_copy(update={"id": "CT-2"})]
    text = "There is a 12 mm simple cyst in the right lobe and a 17 mm simple cyst in the left lobe."
    got = check(text, CYST, lesions=[cyst(), both[1]])
    assert got.text == text.replace("12 mm", "30 mm")
    other = check("Simple cyst in segment III.", CYST, lesions=[cyst()])
    assert (other.action, "side of simple_cyst" in other.why) == ("hedged", True)


@pytest.mark.parametrize(
    ("text", "p", "why"),
    [
        ("Possible ascites.", 0.97, "is called possible"),
        ("Ascites is likely.", 0.5, "as possible only"),
        ("很可能有腹水。", 0.5, "as possible only"),
        ("Ascites is present, with splenomegaly.", 0.97, "splenomegaly"),
        ("可見腹水及肋膜積液。", 0.97, "肋膜積液"),
        ("Ascites is unlikely.", 0.97, "is denied"),
    ],
)
def test_certainty_is_held_against_the_scale_and_other_findings_are_not_said(text, p, why):
    got = check(text, {"ascites": p})
    assert got.action in ("hedged", "dropped")
    assert why in got.why


def test_that_nothing_could_be_outlined_denies_no_lesion():
    """The composer's own sentence was dropped where another lesion is sure."""
    p = {"abscess": 0.5, "focal_lesion": 0.99}
    text = "Rim-enhancing collection, abscess-like is possible; no lesion could be outlined."
    assert check(text, p).action == "kept"
    assert check("No focal lesion.", p).action == "dropped"
