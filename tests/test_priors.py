"""Earlier cases of a patient: found though nobody predicted them, told by what people said where no model can
read them, and targets over time only of lesions that are one by their place."""

from __future__ import annotations

import shutil

import pydicom
import pytest
from pydicom.uid import generate_uid
from test_report import TASK, case, lesion, prediction, texts

from medfuse.bundles.bundle import load_bundle
from medfuse.drafting.compose import compose
from medfuse.drafting.priors import Prior
from medfuse.exports.pdf import report_pdf
from medfuse.exports.text import report_text
from medfuse.library import Library, results
from medfuse.library.ingest import ingest
from medfuse.prediction import LesionMatch
from medfuse.report import Report
from medfuse.workflows.predict import PredictOptions, predict_library_case

FOUND = {"focal_lesion": 0.97, "simple_cyst": 0.95}


def at(number, long, place=(10.0, 0.0, 0.0), side="right"):
    own = lesion("simple_cyst", long)
    return own.model_copy(update={"id": f"CT {number}", "side": side, "in_organ_mm": list(place)})


def earlier(*lesions, date="20230401", before=()):
    return Prior(prediction=prediction(FOUND, lesions=lesions), dates={"CT": date}, before=before)


FAR = (-60.0, 20.0, 0.0)
NOW = (at(1, 30.0), at(2, 18.0, FAR, "left"), at(3, 12.0, (0.0, 90.0, 0.0)))


def drafted(prior, language="en"):
    return compose(prediction(FOUND, lesions=NOW), case(), TASK, language, prior=prior)


def test_targets_are_the_lesions_that_are_one_by_their_place():
    report = drafted(
        earlier(at(1, 22.0, (14.0, 3.0, 0.0)), at(2, 18.5, FAR, "left"), at(3, 40.0, (80.0, 0.0, 0.0)))
    )
    found = report.targets
    assert [r.long_axis_mm for r in found.rows] == [[22.0, 30.0], [18.5, 18.0]]
    assert found.sums_mm == [40.5, 48.0]
    assert found.cells[0] == ["Target (longest axial diameter, mm)", "2023-04-01", "Now", "Change"]
    assert found.cells[1][1:] == ["22", "30", "+8 (+36 %)"]
    assert found.cells[-1][0] == "Sum of diameters"
    told = texts(report, "comparison")
    assert told[1] == (
        "Simple cyst, right hepatic lobe, larger: 30 mm on CT, 22 mm on 2023-04-01 (+8 mm, +36 %)."
    )
    assert "stable within the error" in told[2]
    assert told[3] == "Lesions of then and now are taken for one by their place in the organ."
    assert told[4].startswith("1 outline of today without a counterpart then; 1 of then")
    assert Report(**report.model_dump()) == report


def test_a_lesion_on_two_modalities_is_compared_in_one_sentence():
    """Each modality's outline was a lesion of its own, under the name that it had there."""
    on_mr = at(1, 42.0).model_copy(update={"id": "MR 1", "modality": "MR", "finding": "focal_lesion"})
    made = prediction(FOUND, lesions=[at(1, 44.4), on_mr])
    made.matches = [LesionMatch(lesions=["CT 1", "MR 1"], certainty="same", by="frame", distance_mm=3.0)]
    then = prediction(FOUND, lesions=[at(1, 35.6), on_mr.model_copy(update={"long_axis_mm": 29.0})])
    told = texts(
        compose(made, case(), TASK, prior=Prior(prediction=then, dates={"CT": "20230401", "MR": "20230402"})),
        "comparison",
    )
    assert told[1:3] == [
        "Simple cyst, right hepatic lobe, larger: 44 mm on CT, 36 mm on 2023-04-01 (+8 mm, +22 %); 42 mm on "
        "MR, 29 mm on 2023-04-02 (+13 mm, +45 %).",
        "Lesions of then and now are taken for one by their place in the organ.",
    ]


def test_sums_and_changes_are_of_the_lengths_that_are_shown():
    """70 and 86 stood over a change of +15."""
    then = earlier(at(1, 35.6), at(2, 34.4, FAR, "left"))
    now = (at(1, 44.4), at(2, 41.6, FAR, "left"))
    report = compose(prediction(FOUND, lesions=now), case(), TASK, prior=then)
    assert [r[1:] for r in report.targets.cells[1:]] == [
        ["36", "44", "+8 (+22 %)"],
        ["34", "42", "+8 (+24 %)"],
        ["70", "86", "+16 (+23 %)"],
    ]


@pytest.mark.parametrize(
    ("language", "both", "one", "alike"),
    [
        ("en", "all larger than on 2023-04-01.", "1 of them larger than on 2023-04-01.", "; stable since"),
        (
            "zh-TW",
            "均較 2023-04-01 增大。",
            "其中 1 處較 2023-04-01 增大。",
            "；與 2023-04-01 相比無明顯變化",
        ),
    ],
)
def test_the_impression_says_what_grew(language, both, one, alike):
    """It said nothing of the prior, and growth is why the patient came."""
    now = (at(1, 30.0), at(2, 28.0, FAR, "left"))

    def concluded(*then):
        report = compose(prediction(FOUND, lesions=now), case(), TASK, language, prior=earlier(*then))
        return " ".join(texts(report, "impression"))

    assert concluded(at(1, 22.0), at(2, 18.0, FAR, "left")).endswith(both)
    assert concluded(at(1, 22.0), at(2, 28.0, FAR, "left")).endswith(one)
    assert alike in concluded(at(1, 30.0), at(2, 28.0, FAR, "left"))
    assert "2023" not in concluded(at(1, 22.0, (80.0, 0.0, 0.0)))  # no match, nothing said


def test_two_targets_an_organ_and_none_that_was_small():
    """RECIST 1.1: at least 10 mm when it was first measured."""
    three = [at(n, size, (float(40 * n), 0.0, 0.0)) for n, size in ((1, 30.0), (2, 25.0), (3, 20.0))]
    then = earlier(*[x.model_copy(update={"long_axis_mm": 20.0}) for x in three])
    report = compose(prediction(FOUND, lesions=three), case(), TASK, prior=then)
    assert len(report.targets.rows) == 2
    small = earlier(*[x.model_copy(update={"long_axis_mm": 9.0}) for x in three])
    assert compose(prediction(FOUND, lesions=three), case(), TASK, prior=small).targets is None


def test_several_earlier_cases_are_columns_and_a_gap_has_no_sum():
    first = earlier(at(1, 20.0), date="20220101")
    report = drafted(earlier(at(1, 22.0), at(2, 18.0, FAR, "left"), before=(first,)))
    assert [r.long_axis_mm for r in report.targets.rows] == [[20.0, 22.0, 30.0], [None, 18.0, 18.0]]
    assert report.targets.sums_mm == [None, 40.0, 48.0]
    assert report.targets.columns[1:3] == ["2022-01-01", "2023-04-01"]


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_the_table_is_in_text_pdf_and_viewer_and_follows_its_sentences(language, tmp_path):
    from pypdf import PdfReader

    from apps.viewer.pages.report import _targets

    report = drafted(earlier(at(1, 22.0), at(2, 18.0, FAR, "left")), language)
    assert report.targets.rule in report_text(report)
    assert "| 22 | 30 | +8 (+36 %)" in report_text(report)
    assert "<td>+8 (+36 %)</td>" in _targets(report)
    path = tmp_path / "r.pdf"
    path.write_bytes(report_pdf(report, case(), [], task=TASK))
    words = "".join(page.extract_text() for page in PdfReader(path).pages)
    assert "36 %" in words
    rows = report.section("comparison").sentences
    next(x for x in rows if "22 mm" in x.text).state = "rejected"
    assert len(report.standing_targets.rows) == 1
    for x in rows:
        x.state = "edited"
    assert report.standing_targets is None
    assert _targets(report) == ""


def test_a_report_of_before_the_table_keeps_its_content():
    """Its signature is over what it dumps."""
    assert "targets" not in compose(prediction(), case(), TASK).model_dump_json()
    assert "in_organ_mm" not in lesion().model_dump_json()


def test_what_was_not_read_is_told_by_what_people_said_of_it():
    told = texts(drafted(Prior(dates={"CT": "20230401"})), "comparison")
    assert told == [
        "An earlier examination (CT 2023-04-01) is on file; neither the model nor a signed report says "
        "anything of it, and nothing is compared."
    ]
    signed = Prior(dates={"CT": "20230401"}, signed="Simple cyst.", measured=("22.0 × 20.0 mm (bo)",))
    told = texts(drafted(signed), "comparison")
    assert told[0].startswith("The earlier CT 2023-04-01 was not read by the model")
    assert told[1:] == [
        "Its signed impression: “Simple cyst.”",
        "Measured by readers then: 22.0 × 20.0 mm (bo).",
    ]
    assert drafted(signed).targets is None


def half_a_year_before(source, folder):
    shutil.copytree(source / "CT", folder)
    for path in folder.rglob("*.dcm"):
        ds = pydicom.dcmread(path)
        for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            setattr(ds, key, generate_uid(entropy_srcs=["old", str(getattr(ds, key))]))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.StudyDate = "20230601"
        ds.save_as(path)
    return folder


def test_a_prior_that_nobody_predicted_is_read_on_demand(patient_dicom, tmp_path, home):
    """It was "No prior available" until somebody predicted it by hand."""
    old = half_a_year_before(patient_dicom, tmp_path / "old")
    library = Library()
    (before,) = ingest(library, old).cases
    (case_id,) = ingest(library, patient_dicom).cases
    done = predict_library_case(case_id, load_bundle(), tmp_path / "out", PredictOptions(formats=("json",)))
    told = [x.text for x in done.report.section("comparison").sentences]
    assert told[:2] == [
        "Compared with CT 2023-06-01.",
        "Its images were read by this model for the comparison.",
    ]
    assert results.load_result(library, before) is not None
    assert results.prior_of(library, case_id).dates == {"CT": "20230601"}
