"""Claims: who shows a finding is read from what each modality says by itself, never from who was asked."""

from __future__ import annotations

from test_report import TASK, case, lesion, prediction

from medfuse.drafting.claims import claims_of
from medfuse.drafting.compose import compose
from medfuse.prediction import LesionMatch
from medfuse.report import Report

EVERY = {"US": "present", "CT": "present", "MR": "present"}


def three(p, alone, *, share=None, lesions=(), matches=(), **more):
    """A prediction of three modalities; ``alone``: modality → finding → probability."""
    made = prediction(p, modalities=more.pop("modalities", EVERY), lesions=lesions, **more)
    images = [
        made.images[0].model_copy(update={"modality": m, "role": r})
        for m, r in (("US", "cine"), ("CT", "portal"), ("MR", "t2"), ("CT", "arterial"))
    ]
    rows = [
        f.model_copy(update={"contribution": (share or {}).get(f.id, {}), "assessed_by": list(EVERY)})
        for f in made.findings
    ]
    return made.model_copy(
        update={
            "images": images,
            "findings": rows,
            "matches": list(matches),
            "subset_probability": {m: {"ascites": 0.02, **alone.get(m, {})} for m in EVERY},
        }
    )


def on(modality, number, finding="simple_cyst", **more):
    return lesion(finding).model_copy(update={"id": f"{modality}-{number}", "modality": modality, **more})


def claim_of(made, name):
    return next(c for c in claims_of(made, TASK) if c.id == name)


def roles(claim):
    return {w.modality: w.role for w in claim.witnesses}


def test_who_was_asked_is_no_witness():
    made = three(
        {"solid_lesion": 0.8, "focal_lesion": 0.83},
        {"US": {"solid_lesion": 0.23}, "CT": {"solid_lesion": 0.09}, "MR": {"solid_lesion": 0.91}},
        share={"solid_lesion": {"US": -0.04, "CT": -0.19, "MR": 0.6}},
    )
    claim = claim_of(made, "solid_lesion")
    assert roles(claim) == {"US": "unclear", "CT": "does_not_show", "MR": "shows"}
    assert claim.shown_by() == ["MR"]
    assert not claim.joint


def test_a_modality_that_speaks_against_the_fused_reading_supports_nothing():
    made = three(
        {"ascites": 0.8}, {"CT": {"ascites": 0.9}, "US": {"ascites": 0.9}}, share={"ascites": {"CT": -0.3}}
    )
    assert roles(claim_of(made, "ascites")) == {"US": "shows", "CT": "unclear", "MR": "does_not_show"}


def test_a_finding_that_no_modality_shows_alone_is_joint():
    made = three({"ascites": 0.75}, {m: {"ascites": 0.3} for m in EVERY})
    assert claim_of(made, "ascites").joint
    assert not claim_of(made, "steatosis").joint


def test_what_cannot_show_what_was_not_acquired_and_what_failed_differ():
    made = three({"haemangioma": 0.8}, {}, modalities={"US": "present", "CT": "failed", "MR": "absent"})
    witnesses = {w.modality: (w.role, w.why) for w in claim_of(made, "haemangioma").witnesses}
    assert witnesses == {
        "US": ("cannot_show", "cannot_show"),
        "CT": ("cannot_show", "failed"),
        "MR": ("not_acquired", ""),
    }


def test_matched_lesions_are_one_claim_and_what_does_not_show_it_says_why():
    cyst = {"simple_cyst": 0.95, "focal_lesion": 0.97}
    made = three(
        cyst,
        {"CT": cyst, "MR": cyst, "US": {"simple_cyst": 0.1}},
        lesions=[on("CT", 1), on("MR", 1, long_axis_mm=30.0)],
        matches=[LesionMatch(lesions=["CT-1", "MR-1"], certainty="same", by="frame", distance_mm=3.0)],
    )
    made.organ_in_view = {"US": 0.3}
    (one,) = [c for c in claims_of(made, TASK) if c.lesions]
    assert (one.id, one.lesions, one.match) == ("simple_cyst 1", ["CT-1", "MR-1"], "same")
    assert roles(one) == {"US": "does_not_show", "CT": "shows", "MR": "shows"}
    assert one.witnesses[0].why == "window"
    apart = made.model_copy(update={"matches": []})
    two = [c for c in claims_of(apart, TASK) if c.lesions]
    assert [{w.modality: w.why for w in c.witnesses} for c in two] == [
        {"US": "window", "CT": "alone", "MR": "unmatched"},
        {"US": "window", "CT": "unmatched", "MR": "alone"},
    ]


def test_looks_alone_make_no_two_outlines_one_lesion():
    """An outline of a cine that was paired by its looks was named as a witness, and most lay on none."""
    cyst = {"simple_cyst": 0.95, "focal_lesion": 0.97}
    made = three(
        cyst,
        {"CT": cyst, "US": cyst},
        lesions=[on("CT", 1), on("US", 1)],
        matches=[LesionMatch(lesions=["CT-1", "US-1"], certainty="probable", by="appearance")],
    )
    assert sorted(c.lesions for c in claims_of(made, TASK) if c.lesions) == [["CT-1"], ["US-1"]]


def test_claims_that_exclude_each_other_are_possible_at_most():
    made = three({"hcc_like": 0.95, "solid_lesion": 0.05, "focal_lesion": 0.9}, {})
    claim = claim_of(made, "hcc_like")
    assert (claim.certainty, claim.contradicts) == ("possible", ["solid_lesion"])
    assert claim_of(made, "solid_lesion").certainty == "unlikely"


def test_a_report_carries_its_claims_and_one_of_before_is_still_read():
    report = compose(three({"ascites": 0.95}, {}), case(), TASK)
    assert {c.finding for c in report.claims} == {f.id for f in TASK.findings}
    old = report.model_dump(exclude={"claims", "style", "probabilities", "footer"})
    assert Report(**old).claims == []
    assert compose(prediction(in_domain=False), case(), TASK).claims == []
