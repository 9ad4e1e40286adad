"""What each page of the viewer says and does, without a browser (see test_viewer_browser for pixels and
clicks)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from isal import igzip
from sqlalchemy import text

from apps.viewer.words import table_of
from medfuse.bundles.bundle import load_bundle
from medfuse.case import Case, Image, Region, Source
from medfuse.display.contract import CaseImages, CineImage, Typing, VolumeImage, read_measurement
from medfuse.display.views import slice_array
from medfuse.library import (
    Library,
    accounts,
    audit,
    critical,
    queue,
    ratings,
    reports,
    results,
    store,
    training_records,
    workbench,
)
from medfuse.library.catalogue import CaseRow, ResultRow, SeriesRow
from medfuse.library.ingest import ingest
from medfuse.library.whose import Identity
from medfuse.library.worklist import Filters, worklist
from medfuse.workflows.predict import PredictOptions, predict_library_case
from medfuse.workflows.report import export_report

ROOT = Path(__file__).resolve().parent.parent
APP = str(ROOT / "apps" / "viewer" / "app.py")


@pytest.fixture(scope="module")
def predicted(patient_dicom, tmp_path_factory):
    """A library home with one predicted case, made once."""
    home = tmp_path_factory.mktemp("pages") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDFUSE_HOME", str(home))
        (case_id,) = ingest(Library(), patient_dicom).cases
        done = predict_library_case(case_id, load_bundle(), home.parent / "out", PredictOptions())
    return home, done


@pytest.fixture
def library(predicted, tmp_path, monkeypatch):
    """A copy to change, and the case's id."""
    home, done = predicted
    shutil.copytree(home, tmp_path / "copy")
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "copy"))
    return done.prediction.case_id


def page(name: str = "", *, who: accounts.Account | None = None, language: str = "en", **state):
    """The app at one of its pages, as a signed-in account or a guest."""
    from streamlit.testing.v1 import AppTest

    def script(name: str) -> None:
        import importlib
        import sys

        import streamlit as st

        if not name:
            sys.modules.pop("apps.viewer.app", None)
            importlib.import_module("apps.viewer.app")
        else:
            st.session_state.setdefault("pages", {})
            importlib.import_module(f"apps.viewer.pages.{name}").show()

    app = AppTest.from_function(script, default_timeout=90, args=(name,))
    if who is not None:
        app.session_state["account"] = who
    app.session_state["language"] = language
    for key, value in state.items():
        app.session_state[key] = value
    return app.run()


def texts(app) -> str:
    kinds = ("markdown", "caption", "info", "warning", "error", "success", "code", "text")
    return "\n".join(str(e.value) for kind in kinds for e in getattr(app, kind))


def test_an_empty_library_says_what_to_do():
    app = page("worklist")
    assert not app.exception
    assert "library is empty" in texts(app)
    assert "資料庫是空的" in texts(page("worklist", language="zh-TW"))


def test_every_word_has_both_languages():
    import yaml

    def leaves(node, path=()):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from leaves(value, (*path, key))
        else:
            yield path, node

    for path, pair in leaves(yaml.safe_load((ROOT / "apps" / "viewer" / "words.yaml").read_text())):
        assert isinstance(pair, list), path
        assert len(pair) == 2, path
        english, chinese = (str(x) for x in pair)
        assert set(_slots(english)) == set(_slots(chinese)), path


def _slots(text: str) -> list[str]:
    import re

    return re.findall(r"\{(\w+)\}", text)


def test_the_worklist_filters_by_modality_finding_state_and_date(home):
    with Library().session() as s:
        for n, (kinds, date, findings) in enumerate(
            [
                (("CT", "MR"), "20240105", {"steatosis": 0.9}),
                (("US",), "20240210", {"steatosis": 0.2}),
                (("US", "CT", "MR"), "20240301", {}),
            ]
        ):
            s.add(CaseRow(id=f"c{n}", patient_id=f"p{n}", study_date=date))
            for m in kinds:
                s.add(
                    SeriesRow(
                        uid=f"1.{n}.{m}",
                        case_id=f"c{n}",
                        modality=m,
                        role="portal" if m == "CT" else "unknown",
                    )
                )
            if findings:
                summary = {
                    "states": {m: "present" if m in kinds else "absent" for m in ("US", "CT", "MR")},
                    "in_domain": True,
                    "findings": findings,
                    "cannot_tell": [],
                }
                s.add(
                    ResultRow(
                        case_id=f"c{n}",
                        bundle_hash="0",
                        language="en",
                        prediction={},
                        report={},
                        summary=summary,
                    )
                )

    def found(**filters) -> set[str]:
        return {r.case_id for r in worklist(Library(), Filters(**filters))}

    assert [r.case_id for r in worklist(Library())] == ["c2", "c1", "c0"]  # newest first
    assert found(with_modality=("CT", "MR"), without=("US",)) == {"c0"}
    assert found(finding="steatosis") == {"c0"}
    assert found(finding="steatosis", least=0.1) == {"c0", "c1"}
    assert found(state="new") == {"c2"}
    assert found(since="2024-02-01", until="2024-02-28") == {"c1"}
    assert found(words="P2") == {"c2"}
    app = page("worklist")
    assert not app.exception
    assert list(app.dataframe[0].value["US"]) == ["●", "●", "–"]
    app.multiselect(key="lacks").set_value(["US"]).run()
    assert len(app.dataframe[0].value) == 1


def test_a_row_that_was_chosen_never_becomes_another_patients(home, monkeypatch):
    """The browser keeps a chosen row by number and table: a newer study on top must make it another table."""
    import streamlit as st

    tables: list[str] = []
    shown = st.dataframe
    monkeypatch.setattr(st, "dataframe", lambda *a, key, **k: tables.append(key) or shown(*a, key=key, **k))

    def table() -> str:
        assert not page("worklist").exception
        return tables[-1]

    with Library().session() as s:
        s.add(CaseRow(id="c1", patient_id="p1", study_date="20240101"))
    first = table()
    assert table() == first  # nothing new: what was chosen stays so
    with Library().session() as s:
        s.add(CaseRow(id="c2", patient_id="p2", study_date="20240201"))
    assert table() != first


def test_a_case_that_is_not_predicted_shows_its_images_and_offers_to(patient_dicom):
    (case_id,) = ingest(Library(), patient_dicom).cases
    app = page("reading", case=case_id)
    assert not app.exception
    assert "Not predicted yet" in texts(app)
    assert app.button(key="predict").label == "Predict"
    assert "case viewed" in [e.event for e in audit.entries(Library())]


def test_the_reading_page_has_banners_findings_and_report(library):
    app = page("reading", case=library)
    assert not app.exception
    whole = " ".join(h.proto.body for h in app.get("html"))
    assert "Research draft, not for clinical use" in whole
    assert "Simulated patient" in whole
    assert "Sign in as an author to accept" in texts(app)
    assert not [b for b in app.button if b.label == "Sign"]  # a guest signs nothing


def test_the_reading_page_says_whose_images_these_are(library):
    with Library().session() as s:
        row = s.get(CaseRow, library)
        row.patient_id, row.sex, row.birth_date, row.study_date = "P-7", "F", "19700615", "20240614"
    said = texts(page("reading", case=library))
    assert "P-7 · F · 1970-06-15 · 53 y · Date 2024-06-14 · Accession S0000050000" in said
    with Library().session() as s:
        s.get(CaseRow, library).birth_date = ""
    assert store.identity_of(Library(), library).age is None


def test_an_earlier_study_that_was_not_predicted_is_named(library):
    with Library().session() as s:
        now = s.get(CaseRow, library)
        earlier = CaseRow(
            id="earlier",
            patient_id=now.patient_id,
            study_date="20200203",
            sex=now.sex,
            birth_date=now.birth_date,
            simulated=now.simulated,
        )
        s.add(earlier)
    assert "An earlier study of this patient (2020-02-03)" in texts(page("reading", case=library))


def test_a_reader_may_look_and_an_author_may_sign(library):
    reader = accounts.add_account(Library(), "rae", "long enough", "reader")
    author = accounts.add_account(Library(), "ari", "long enough", "author", full_name="Ari Sung")
    assert not [b for b in page("reading", case=library, who=reader).button if b.label == "Sign"]
    app = page("reading", case=library, who=author)
    assert app.button(key="sign").disabled
    app.button(key="accept-all").click().run()
    assert not reports.waiting(reports.current(Library(), library).report)
    app = page("reading", case=library, who=author)
    app.button(key="sign").click().run()
    assert reports.current(Library(), library).state == "draft"  # it is shown first, as it will leave
    assert "To be read and signed" in texts(app)
    confirm(app)
    assert reports.current(Library(), library).state == "final"
    app = page("reading", case=library, who=author)
    assert "Signed by Ari Sung" in texts(app)
    app.text_input(key=f"why-{library}").set_value("a typing error").run()
    app.button(key="amend").click().run()
    assert (reports.current(Library(), library).state, reports.current(Library(), library).version) == (
        "draft",
        2,
    )
    assert reports.final_version(Library(), library).version == 1  # the signed one stays


def confirm(app) -> None:
    """Say that each doubt was looked at, and sign."""
    for box in app.checkbox:
        if box.key.startswith("looked-"):
            box.check().run()
    app.button(key="sign-now").click().run()


def test_sign_in_refuses_and_says_the_same_for_name_and_password(library):
    accounts.add_account(Library(), "ari", "long enough", "author", full_name="Ari Sung")
    app = page()
    app.text_input(key="sign-in-name").set_value("ari")
    app.text_input(key="sign-in-password").set_value("wrong")
    app = next(b for b in app.button if b.label == "Sign in").click().run()
    first = [e.value for e in app.error]
    app.text_input(key="sign-in-name").set_value("nobody")
    app = next(b for b in app.button if b.label == "Sign in").click().run()
    assert first == [e.value for e in app.error] != []
    assert "sign-in refused" in [e.event for e in audit.entries(Library())]


def test_roles_and_joins_are_corrected_by_a_person(library):
    author = accounts.add_account(Library(), "ari", "long enough", "author")
    with Library().session() as s:
        s.get(CaseRow, library).conflict = "birth dates disagree"
    (row,) = worklist(Library())
    assert row.conflict
    series = store.series_of(Library(), library)[0]
    store.set_role(Library(), series.uid, "delayed")
    assert store.series_of(Library(), library)[0].role == "delayed"
    assert store.series_of(Library(), library)[0].confidence == 1.0
    app = page("reading", case=library, who=author)
    assert "birth dates disagree" in texts(app)  # nothing of it is drawn before somebody has looked


def test_the_model_process_answers_and_its_death_is_said(library):
    from apps.viewer import jobs
    from medfuse.errors import UserError
    from medfuse.workflows.search_request import SearchRequest

    found = jobs.call(jobs.search, SearchRequest(words="cyst in the liver"))
    assert found.results[0].case_id == library
    made = jobs.call(jobs.export, library, "text", "en")
    assert (made.name, made.problems) == ("report.txt", ())
    assert b"NOT FOR CLINICAL USE" in made.data.upper()

    with pytest.raises(UserError, match="model's process stopped"):
        jobs.call(_die)
    assert jobs.call(jobs.search, SearchRequest(words="cyst")).results  # another took its place


def _die() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_measurements_and_typing_are_kept_by_account(library):
    author = accounts.add_account(Library(), "ari", "long enough", "author")
    reader = accounts.add_account(Library(), "rae", "long enough", "reader")
    data = {
        "kind": "distance",
        "text": "12.0 mm",
        "image": 0,
        "plane": "axial",
        "slice": 3,
        "points": [[1, 2], [3, 4]],
        "value": 12.0,
        "unit": "mm",
    }
    drawn = read_measurement(data)
    number = workbench.add_measurement(Library(), library, drawn, author)
    with pytest.raises(Exception, match="takes the role author"):
        workbench.add_measurement(Library(), library, drawn, reader)
    (kept,) = workbench.measurements(Library(), library)
    assert kept == drawn.model_copy(update={"id": number, "author": "ari", "made": kept.made})
    assert kept.made.startswith("20")
    longer = drawn.model_copy(update={"value": 14.0, "text": "14.0 mm"})
    workbench.change_measurement(Library(), number, longer, author)
    assert workbench.measurements(Library(), library)[0].value == 14.0
    workbench.remove_measurement(Library(), number, author)
    assert workbench.measurements(Library(), library) == []
    half = Typing(text="half", section=0, sentence=1, revision=1)
    workbench.keep_typing(Library(), library, half, author)
    more = half.model_copy(update={"text": "half a"})
    workbench.keep_typing(Library(), library, more, author)
    assert workbench.typed(Library(), library, author) == more
    workbench.forget_typing(Library(), library, author)
    assert workbench.typed(Library(), library, author) is None


def test_a_measurement_from_the_browser_that_lacks_something_is_refused_and_not_stored(library, monkeypatch):
    author = accounts.add_account(Library(), "ari", "long enough", "author")
    region = {
        "kind": "roi",
        "text": "55.0 HU",
        "image": 0,
        "series_uid": "",
        "plane": "axial",
        "slice": 3,
        "points": [[1, 2], [9, 8]],
        "value": 55.0,
        "sd": 2.0,
        "unit": "HU",
        "area": 30.0,
        "area_unit": "mm2",
        "pixels": 30,
    }
    broken = [{k: v for k, v in region.items() if k != "area"}, region | {"value": float("nan")}]
    broken += [region | {"kind": "volume"}, region | {"points": [[1, 2]]}, region | {"slice": -1}]
    for n, message in enumerate(broken):
        sent(monkeypatch, reader={"measured": {"drawings": [{"serial": n + 1, "measurement": message}]}})
        app = page("reading", case=library, who=author)
        assert not app.exception
        assert ["cannot be used (drawings.0.measurement" in e.value for e in app.error] == [True]
    assert (
        workbench.measurements(Library(), library)
        == workbench.unusable_measurements(Library(), library)
        == []
    )
    again = [{"serial": 9, "measurement": region}] * 2  # a message that came twice is one measurement
    shown = sent(monkeypatch, reader={"measured": {"drawings": again}})
    app = page("reading", case=library)  # a guest's stay in the session
    assert [m.area for m in shown["reader"][-1].measurements] == [30.0]  # the newest was missing from it
    assert shown["reader"][-1].taken == 9
    assert [x.area for x in app.session_state[f"loose-{library}"]] == [30.0]
    assert not app.error


def sent(monkeypatch, **messages) -> dict[str, list]:
    """From now on each named part of the page sends what is given, as if its browser had; what each was given
    to show."""
    from types import SimpleNamespace

    from apps.viewer import components

    shown: dict[str, list] = {"reader": [], "report": []}

    def part_of(name: str):
        def part(data, **asked) -> SimpleNamespace:
            shown[name].append(data)
            events = (key.removeprefix("on_").removesuffix("_change") for key in asked if key != "key")
            return SimpleNamespace(**dict.fromkeys(events) | messages.get(name, {}))

        return part

    for name in shown:
        monkeypatch.setattr(components, name, part_of(name))
    return shown


def written(section: str, text: str, revision: int, serial: int) -> dict:
    """A change of the browser: one sentence of a person in one section."""
    sentence = {"text": text, "assertion": "notice", "state": "edited"}
    return {
        "changed": {
            "revision": revision,
            "serial": serial,
            "sections": [{"id": section, "sentences": [sentence]}],
        }
    }


def test_a_case_without_a_prediction_is_reported_by_hand(patient_dicom, monkeypatch, tmp_path):
    (case_id,) = ingest(Library(), patient_dicom).cases
    author = accounts.add_account(Library(), "ari", "long enough", "author", full_name="Ari Sung")
    app = page("reading", case=case_id, who=author)
    app.button(key="write-by-hand").click().run()
    shown = sent(monkeypatch)
    app = page("reading", case=case_id, who=author)
    sections = [s.id for s in shown["report"][-1].sections]
    assert sections == ["indication", "technique", "comparison", "findings", "impression"]
    assert app.button(key="sign").disabled  # it says nothing
    now = reports.current(Library(), case_id)
    with pytest.raises(Exception, match="says nothing of the images"):
        reports.sign(Library(), case_id, now.revision, author)
    sent(monkeypatch, report=written("impression", "No acute disease.", now.revision, 1))
    page("reading", case=case_id, who=author)
    app = page("reading", case=case_id, who=author, **{"heard-changed": 1})
    assert not app.exception
    app.button(key="sign").click().run()
    assert "Findings or impression are empty" in texts(app)
    assert app.button(key="sign-now").disabled
    confirm(app)
    assert "one_empty" in [x for e in audit.entries(Library()) for x in e.details.get("looked_at", [])]
    signed = reports.final_version(Library(), case_id)
    assert [s.id for s in signed.report.sections] == ["impression"]
    assert signed.report.signed_by == "Ari Sung"
    made = export_report(
        case_id, ("text", "pdf", "fhir", "sr"), tmp_path
    )  # and it leaves, with no model behind it
    assert made.names == ("report.txt", "report.pdf", "report.fhir.json", "report.sr.dcm")
    told = (tmp_path / case_id / "report.txt").read_text()
    assert "No acute disease." in told
    assert f"Signed electronically by Ari Sung, {signed.made:%Y-%m-%d %H:%M} UTC, version 1" in told
    assert "To be read and signed" not in told


def test_outside_the_domain_findings_and_impression_can_be_written(library, monkeypatch):
    author = accounts.add_account(Library(), "ari", "long enough", "author")
    prediction, report = results.load_result(Library(), library)
    outside = [s for s in report.sections if s.id not in ("findings", "impression")]
    results.save_result(
        Library(),
        prediction.model_copy(update={"in_domain": False, "findings": [], "lesions": []}),
        report.model_copy(update={"in_domain": False, "sections": outside}),
    )
    shown = sent(monkeypatch)
    app = page("reading", case=library, who=author)
    assert [s.id for s in shown["report"][-1].sections][-2:] == ["findings", "impression"]
    app.button(key="accept-all").click().run()
    app = page("reading", case=library, who=author)
    assert app.button(key="sign").disabled  # all accepted, and still nothing said of the images


def test_another_language_keeps_the_filters_and_the_rows(library):
    app = page("worklist")
    app.selectbox(key="state-en").set_value("drafted").run()
    app.selectbox(key="finding-en").set_value("steatosis").run()
    rows = len(app.dataframe[0].value)
    assert rows == 1
    app.session_state["language"] = "zh-TW"
    app.run()
    assert not app.exception
    assert len(app.dataframe[0].value) == rows
    assert (app.selectbox(key="state-zh-TW").value, app.selectbox(key="finding-zh-TW").value) == (
        "drafted",
        "steatosis",
    )
    assert "steatosis" not in app.dataframe[0].value["found"][0]  # said in Chinese


def test_loading_the_page_anew_keeps_the_language(library):
    app = page("", language="zh-TW")
    assert app.query_params["language"] in ("zh-TW", ["zh-TW"])
    fresh = page("")
    del fresh.session_state["language"]
    fresh.query_params["language"] = "zh-TW"
    fresh.run()
    assert "登入" in texts(fresh)


def test_one_model_process_serves_every_session():
    """Each thread had one of its own, and started it anew for each call."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    from apps.viewer import jobs

    def ask(_: int) -> int:
        return jobs.call(os.getpid)

    pids = set()
    for n in range(3):
        with ThreadPoolExecutor(1) as thread:  # Streamlit runs each session in a thread of its own
            pids |= set(thread.map(ask, [n]))
    assert len(pids) == 1
    assert pids != {os.getpid()}


def test_a_question_does_not_predict_the_case_again(library, monkeypatch):
    from medfuse.inference.predictor import Predictor
    from medfuse.workflows.ask import ask

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "details", lambda *a, **k: pytest.fail("predicted again"))
        found = ask(library, "Is there ascites?")
    assert found.answer
    assert found.bundle_hash == load_bundle().hash


def test_the_model_process_works_in_the_library_of_who_asks(library, tmp_path, monkeypatch):
    """It lives longer than one setting of MEDFUSE_HOME: what is asked later is asked of the later library."""
    from apps.viewer import jobs

    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "empty"))
    with pytest.raises(Exception, match=library):
        jobs.call(jobs.ask, library, "Is there ascites?")
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "copy"))
    assert jobs.call(jobs.ask, library, "Is there ascites?").answer


def test_an_answer_is_judged_with_the_hash_of_the_bundle_that_gave_it(library):
    author = accounts.add_account(Library(), "ari", "long enough", "author")
    app = page("reading", case=library, who=author)
    app.text_input(key="question").set_value("Is there ascites?")
    next(b for b in app.button if b.label == "↵").click().run()
    assert not app.exception
    next(b for b in app.button if b.key.startswith("accept-") and b.key != "accept-all").click().run()
    (row,) = [r for r in training_records.training_records(Library()) if r.kind == "answer"]
    assert row.bundle_hash == load_bundle().hash
    with pytest.raises(Exception, match="not known which bundle"):
        training_records.note_answer(
            Library(), library, "Is there ascites?", "no", "no", "accepted", author, ""
        )


def test_rating_is_blind_and_counted(library):
    rater = accounts.add_account(Library(), "ria", "long enough", "author", background="radiologist, 5 years")
    nobody = accounts.add_account(Library(), "nod", "long enough", "author")
    now = reports.current(Library(), library)
    changed = now.report.model_copy(deep=True)
    changed.sections[-1].sentences[0].text = "Changed by a person."
    changed.sections[-1].sentences[0].state = "edited"
    impression = next(s for s in changed.sections if s.id == "impression")
    impression.sentences[0].text = "Another impression."
    impression.sentences[0].state = "edited"
    reports.save(Library(), library, now.revision, changed, nobody)
    left = ratings.waiting_for(Library(), rater)
    assert {i.kind for i in left} == {"drafted", "edited"}
    assert not any("draft" in i.text.lower() or "version" in i.text.lower() for i in left)
    app = page("rating", who=rater)
    assert not app.exception
    assert app.text[0].value == left[0].text
    assert not any(word in texts(app) for word in ("drafted", "edited"))
    scores = {"correctness": 4, "completeness": 3, "wording": 5}
    ratings.rate(Library(), left[0], rater, scores, seconds=61.0)
    assert len(ratings.waiting_for(Library(), rater)) == 1
    with pytest.raises(Exception, match="state a background"):
        ratings.rate(Library(), left[1], nobody, scores, seconds=1.0)
    (row,) = ratings.ratings(Library())
    assert row.bundle_hash == load_bundle().hash
    assert row.edit_distance == (0 if row.kind == "edited" else row.edit_distance)


def test_a_new_draft_beside_a_persons_work_is_offered_and_taken_up_by_choice(library):
    author = accounts.add_account(Library(), "ari", "long enough", "author")
    now = reports.current(Library(), library)
    changed = now.report.model_copy(deep=True)
    changed.sections[-1].sentences[0].text = "Changed by a person."
    changed.sections[-1].sentences[0].state = "edited"
    saved = reports.save(Library(), library, now.revision, changed, author)
    assert "predicted again" not in texts(page("reading", case=library, who=author))
    prediction, _ = results.load_result(Library(), library)
    results.save_result(Library(), prediction, now.report)
    app = page("reading", case=library, who=author)
    assert "predicted again" in texts(app)
    assert reports.current(Library(), library).revision == saved.revision
    app.button(key="take-beside").click().run()
    assert reports.current(Library(), library).report.sections == now.report.sections


def test_cohort_and_people(library, home):
    admin = accounts.add_account(Library(), "ada", "long enough", "admin")
    app = page("cohort")
    assert not app.exception
    assert len(app.get("vega_lite_chart")) + len(app.get("arrow_vega_lite_chart")) >= 3
    assert "Only an admin" in texts(page("accounts"))
    app = page("accounts", who=admin)
    assert "chain intact" in texts(app)
    told = page("accounts", who=admin, language="zh-TW").dataframe[1].value
    assert "新增帳號" in list(told["事件"])
    known = table_of("zh-TW")["people"]["events"]
    assert {*(e.event for e in audit.entries(Library())), *accounts.EVENTS, *critical.EVENTS} <= set(known)
    chart = page("cohort", language="zh-TW").get("vega_lite_chart")
    assert not any("hepatic steatosis" in str(c.proto) for c in chart)  # nor is a finding English there
    audit.record(Library(), "one", who="ada")
    audit.record(Library(), "two", who="ada")
    with Library().engine.begin() as c:
        c.execute(text("UPDATE audit SET event = 'won' WHERE event = 'one'"))
    assert "was changed, or written by somebody without the key" in texts(page("accounts", who=admin))


def test_search_page_and_its_filters(library):
    app = page("search")
    assert not app.exception
    assert app.text_input(key="search-words").label.startswith("What to look for")
    app.text_input(key="search-words").set_value("ascites").run()
    app.button(key="search-go").click().run()
    assert not app.exception
    assert library[:20] in texts(app)


# --- pixels
# ---------------------------------------------------------------------------------------------------------


def decoded(folder: Path, meta: VolumeImage | CineImage) -> np.ndarray:
    """What the browser holds: (Z, Y, X) or frames, in original values."""
    data = b"".join(
        igzip.decompress((folder / f"{meta.index}.{k}.gz").read_bytes()) for k in range(meta.chunks)
    )
    shape = meta.shape[::-1]
    if isinstance(meta, CineImage):
        return np.frombuffer(data, np.uint8).reshape(*shape, *((3,) if meta.rgb else ()))
    return np.frombuffer(data, "<i2").reshape(shape) * meta.slope + meta.intercept


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SAR", "PIL"])
def test_volumes_reach_the_browser_in_display_order_with_their_values(tmp_path, rng, codes):
    import nibabel as nib

    from apps.viewer import pixels

    values = rng.integers(-1000, 2000, (7, 9, 11)).astype(np.float32)
    back = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    affine = np.diag([0.7, 0.8, 2.5, 1.0]) @ np.eye(4)
    affine[:3, 3] = [10, -20, 30]
    turned = nib.orientations.apply_orientation(values, back)
    turned_affine = affine @ nib.orientations.inv_ornt_aff(back, values.shape)
    image = Image(
        "CT", np.ascontiguousarray(turned), Source("x"), affine=turned_affine, frame_of_reference="1.2"
    )
    pixels.write_case(Case("c", images=[image]), tmp_path / "case")
    (meta,) = CaseImages.model_validate_json((tmp_path / "case" / "case.json").read_text()).images
    shown = decoded(tmp_path / "case", meta)
    assert np.array_equal(shown[4], slice_values(image, 4))
    # voxel → mm is the same point of the patient in every order
    at = np.array(meta.affine) @ [2, 3, 4, 1]
    x, y, z = np.rint(np.linalg.inv(turned_affine) @ at)[:3].astype(int)
    assert shown[4, 3, 2] == turned[x, y, z]
    assert slice_array(image, 4, window=(500.0, 3000.0))[0].shape[:2] == shown[4].shape


def slice_values(image: Image, index: int) -> np.ndarray:
    from medfuse.display.views import view_of

    return view_of(image).pixels[:, :, index].T


def test_slices_have_the_number_that_a_pacs_shows(patient_dicom):
    import pydicom

    from apps.viewer import pixels
    from apps.viewer.evidence import Places
    from medfuse.prediction import Place

    (case_id,) = ingest(Library(), patient_dicom).cases
    case = store.load_case(Library(), case_id)
    data = CaseImages.model_validate_json((pixels.case_pixels(case_id) / "case.json").read_text())
    n = next(i for i, image in enumerate(case.images) if image.modality == "CT")
    heads = [pydicom.dcmread(f, stop_before_pixels=True) for f in case.images[n].source.files]
    by_height = sorted(heads, key=lambda d: float(d.ImagePositionPatient[2]))
    assert data.images[n].numbers == [int(d.InstanceNumber) for d in by_height]
    place = Place(image=n, slice=4, box_voxels=[[10, 10, 3], [20, 20, 5]])
    said = Places(data.images, None).where(place)
    up = float(by_height[4].ImagePositionPatient[2])
    height = float(said.split(" · S ")[1].split(" mm")[0].replace("−", "-"))
    assert height == pytest.approx(up, abs=1.0)  # of the middle of the box; the slices are a little tilted
    assert said.endswith(f"image {int(by_height[4].InstanceNumber)}")


def test_each_image_has_the_date_of_its_own_study(tmp_path, monkeypatch):
    """A case holds several studies: no date and no description of one of them stands at another's images."""
    from apps.viewer import pixels
    from apps.viewer.pages import images

    values = np.zeros((8, 8, 8), np.float32)
    sources = [Source(m, study_uid=f"1.2.{n}", date=f"2024060{n}") for n, m in ((3, "CT"), (7, "MR"))]
    case = Case("c", images=[Image(s.path, values, s, affine=np.eye(4)) for s in sources])
    pixels.write_case(case, tmp_path / "case")
    data = CaseImages.model_validate_json((tmp_path / "case" / "case.json").read_text())
    assert [i.date for i in data.images] == ["20240603", "20240607"]
    who = Identity(patient_id="P", sex="", birth_date="", study_date="20240607", description="CT thorax")
    monkeypatch.setattr(images.store, "identity_of", lambda *a: who)
    monkeypatch.setattr(images, "library", Library)
    assert images.whose("c", data.images[:1]).description == "CT thorax"
    assert images.whose("c", data.images).description == ""


def test_values_that_are_no_integers_keep_sixteen_bits(tmp_path, rng):
    from apps.viewer import pixels

    values = rng.normal(0, 1, (8, 8, 8)).astype(np.float32)
    pixels.write_case(
        Case("c", images=[Image("MR", values, Source("x"), affine=np.eye(4))]), tmp_path / "case"
    )
    (meta,) = CaseImages.model_validate_json((tmp_path / "case" / "case.json").read_text()).images
    step = float(np.ptp(values)) / 65535
    from medfuse.display.views import view_of

    original = view_of(Image("MR", values, Source("x"), affine=np.eye(4))).pixels.transpose(2, 1, 0)
    assert np.abs(decoded(tmp_path / "case", meta) - original).max() <= step


def test_cines_keep_colour_time_and_calibration(tmp_path, rng):
    from apps.viewer import pixels

    frames = rng.integers(0, 255, (5, 20, 30, 3), dtype=np.uint8)
    image = Image("US", frames, Source("x"), frame_ms=40.0, regions=(Region((2, 3, 20, 15), (0.2, 0.3)),))
    pixels.write_case(Case("c", images=[image]), tmp_path / "case")
    (meta,) = CaseImages.model_validate_json((tmp_path / "case" / "case.json").read_text()).images
    assert np.array_equal(decoded(tmp_path / "case", meta), frames)
    assert meta.frame_ms == 40.0
    assert [(r.box, r.mm) for r in meta.regions] == [((2, 3, 20, 15), (0.2, 0.3))]


def test_the_cache_is_bounded_and_made_anew(library, monkeypatch):
    from apps.viewer import pixels

    folder = pixels.case_pixels(library)
    stamp = (folder / "case.json").stat().st_mtime_ns
    assert pixels.case_pixels(library) == folder
    assert (folder / "case.json").stat().st_mtime_ns == stamp  # not made twice
    old = folder.with_name("0" * 64)
    shutil.copytree(folder, old)
    monkeypatch.setenv("MEDFUSE_VIEWER_CACHE_GIB", "0.0001")
    pixels._tidy(keep=folder)
    assert folder.exists()
    assert not old.exists()


def test_keys_open_what_their_living_session_may_see(tmp_path):
    from apps.viewer.pixels import Shelf

    living = {"s1", "s2"}
    shelf = Shelf(living.__contains__)
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "0.0.gz").write_bytes(b"x")
    (tmp_path / "secret.gz").write_bytes(b"x")
    key = shelf.lay("s1", tmp_path / "case")
    assert shelf.lay("s1", tmp_path / "case") == key != shelf.lay("s2", tmp_path / "case")
    assert shelf.find(key, "0.0.gz") == tmp_path / "case" / "0.0.gz"
    assert shelf.find(key, "../secret.gz") is None
    assert shelf.find("x" * 43, "0.0.gz") is None
    living.remove("s1")
    assert shelf.find(key, "0.0.gz") is None


def test_nifti_files_of_one_drop_are_one_case(patient_nifti, home):
    files = sorted(patient_nifti.glob("*.nii*"))
    ct = next(p for p in files if p.name.startswith("CT") and "mask" not in p.name)
    mr = next(p for p in files if p.name.startswith("MR") and "mask" not in p.name)
    case_id = store.add_nifti(Library(), [(ct, "CT"), (mr, "MR")])
    assert store.add_nifti(Library(), [(ct, "CT"), (mr, "MR")]) == case_id  # once
    case = store.load_case(Library(), case_id)
    assert sorted(i.modality for i in case.images) == ["CT", "MR"]
    from medfuse.io.nifti import read_nifti

    assert np.array_equal(case.images[0].pixels, read_nifti(ct, "CT").pixels)


def test_a_registration_is_shown_and_a_failed_one_is_not(library, tmp_path):
    import nibabel as nib

    from medfuse.registration.volume import to_array, to_sitk
    from medfuse.settings import settings

    case = store.load_case(Library(), library)
    moving, fixed = [i for i in case.images if i.modality == "MR"][:2]
    folder = tmp_path / "reg"
    folder.mkdir()
    pixels, affine = to_array(to_sitk(fixed))
    nib.save(nib.Nifti1Image(pixels, affine), folder / "moved.nii.gz")
    quality = {"overlap": 0.9, "shared_information": 0.3, "inverse_consistency_mm": 0.4}
    (folder / "quality.json").write_text(json.dumps(quality))
    notes = settings().home / "registrations"
    notes.mkdir()
    row = {
        "moving": moving.source.series_uid,
        "fixed": fixed.source.series_uid,
        "folder": str(folder),
        "verdict": "check",
        "reasons": ["look at it"],
    }
    (notes / "a.json").write_text(json.dumps(row))
    app = page("reading", case=library)
    app.toggle(key=f"overlay-{library}").set_value(True).run()
    assert not app.exception
    assert "check</span> look at it" in texts(app)
    for kind in ("checkerboard", "fused", "overlay"):
        app = app.radio[0].set_value(kind).run()
        assert not app.exception
    (notes / "a.json").write_text(json.dumps({**row, "verdict": "failed", "reasons": ["noise"]}))
    app = page("reading", case=library)
    app.toggle(key=f"overlay-{library}").set_value(True).run()
    assert "failed and is not used" in texts(app)
    assert not app.radio


def test_a_made_image_is_shown_only_beside_its_source_under_a_banner(library, tmp_path, rng):
    from apps.viewer.made import side_by_side
    from medfuse.generation.config import BOX, Generated
    from medfuse.generation.output import picture_of, write_nifti
    from medfuse.io.nifti import sha256
    from medfuse.library.made import MadeNote, keep_made

    assert not [t for t in page("reading", case=library).toggle if t.key == f"made-{library}"]
    of = {"role": "t1_in", "spacing_mm": (7.0, 7.0, 9.0), "centre": 300.0, "width": 100.0, "cases": 9}
    box = picture_of(
        "MR", Generated(shape=BOX, low=-3, high=5, **of), rng.normal(size=BOX).astype(np.float32)
    )
    path, _ = write_nifti(box, tmp_path)
    ct = next(i for i in store.load_case(Library(), library).images if i.modality == "CT")
    note = MadeNote(
        sources={"CT": ct.source.series_uid},
        folder=str(tmp_path),
        files={path.name: sha256(path)},
        bundle="with-generator",
        claims={"ascites": False},
    )
    assert not keep_made(Library(), note.model_copy(update={"sources": {"CT": "1.2.3"}}))
    assert not keep_made(Library(), note.model_copy(update={"sources": {}}))
    assert keep_made(Library(), note)
    app = page("reading", case=library)
    assert "SYNTHETIC" not in texts(app)
    app.toggle(key=f"made-{library}").set_value(True).run()
    assert not app.exception
    assert any("SYNTHETIC: made by a model" in str(e.proto) for e in app.get("html"))
    assert "no ascites" in texts(app)
    pair = side_by_side(np.full((40, 40), 90, np.uint8), np.full((40, 20), 200, np.uint8))
    assert pair.getpixel((60, 60)) == (90, 90, 90)
    assert pair.getpixel((pair.width - 60, 160)) == (200, 200, 200)
    path.write_bytes(b"exchanged")
    assert not [t for t in page("reading", case=library).toggle if t.key == f"made-{library}"]


def test_other_addresses_need_people(home):
    from medfuse.errors import WrongUse
    from medfuse.workflows.view import serve

    with pytest.raises(WrongUse, match="without accounts"):
        serve(port=1, home=home, address="0.0.0.0", log=lambda line: None)


def test_the_worklist_is_found_as_it_was_left(library):
    """Another session of the same account, such as after F5 or a restart, has its language and filters."""
    ari = accounts.add_account(Library(), "ari", "long enough", "author")
    bo = accounts.add_account(Library(), "bo", "long enough", "author")
    app = page("worklist", who=ari, language="zh-TW")
    app.text_input(key="words").set_value("nobody").run()
    app.selectbox(key="state-zh-TW").set_value("drafted").run()
    app.multiselect(key="has").set_value(["CT"]).run()
    again = page("worklist", who=ari, language="zh-TW")
    assert not again.exception
    assert again.text_input(key="words").value == "nobody"
    assert again.selectbox(key="state-zh-TW").value == "drafted"
    assert again.multiselect(key="has").value == ["CT"]
    assert page("worklist", who=bo).text_input(key="words").value == ""
    whole = page("", who=ari)
    del whole.session_state["desk-of"]
    whole.run()
    assert whole.session_state["language"] == "zh-TW"


def test_a_browser_stays_signed_in_when_the_page_is_loaded_anew():
    from apps.viewer.seats import IDLE_S, Seats

    known = accounts.Account("ari", "author")
    seats = Seats()
    browser = seats.new_browser()
    assert seats.knows(browser)
    assert seats.at(browser) is None
    seats.take(browser, known)
    assert seats.at(browser).account == known
    assert not seats.at(browser).over()
    assert seats.at(browser).over(seats.at(browser).seen + IDLE_S + 1)
    seats.leave(browser)
    assert seats.at(browser) is None
    forged = [browser[:-1] + "x", "", "a.b", Seats().new_browser()]
    for name in forged:  # a name that this server did not give is not remembered
        seats.take(name, known)
        assert not seats.knows(name)
        assert seats.at(name) is None


def test_a_template_fills_sections_and_an_old_revision_comes_back(library):
    author = accounts.add_account(Library(), "ari", "long enough", "author")
    first = reports.current(Library(), library)
    app = page("reading", case=library, who=author)
    app.selectbox(key=f"template-{library}").set_value("mr-soft-tissue").run()
    app.button(key="insert-template").click().run()
    now = reports.current(Library(), library)
    assert any(
        x.text.startswith("Mass in the [compartment]") for x in now.report.section("findings").sentences
    )
    app = page("reading", case=library, who=author)
    app.button(key=f"restore-{first.revision}").click().run()
    back = reports.current(Library(), library)
    assert back.report.sections == first.report.sections
    assert back.revision > now.revision  # nothing is taken out of the history


def test_templates_of_ones_own_stand_beside_the_shipped_ones(tmp_path):
    from apps.viewer.templates import fitting, load_templates
    from medfuse.errors import UserError

    shipped = load_templates(tmp_path)
    assert next(iter(fitting(shipped, {"CT", "PT"}))) == "pet-ct"
    assert "us-abdomen" not in fitting(shipped, {"CT"})
    (tmp_path / "templates.yaml").write_text("macros: {nad: [Mine., 我的。], x: [X., X。]}")
    mine = load_templates(tmp_path)
    assert mine.macros["nad"][0] == "Mine."
    assert mine.templates == shipped.templates
    (tmp_path / "templates.yaml").write_text("macros: {nad: [one language]}")
    with pytest.raises(UserError, match=r"templates.yaml: not valid .*; mend it"):
        load_templates(tmp_path)


def test_a_critical_result_is_flagged_told_and_lifted(library):
    author = accounts.add_account(Library(), "ari", "long enough", "author")
    app = page("reading", case=library, who=author)
    app.text_input(key="critical-what").set_value("free air")
    next(b for b in app.button if b.label == "Flag as critical").click().run()
    app = page("reading", case=library, who=author)
    assert "Critical result: free air" in texts(app)
    app.text_input(key="critical-to").set_value("Dr Wu, ward 5")
    app.text_input(key="critical-how").set_value("telephone")
    next(b for b in app.button if b.label == "Note that it was told").click().run()
    app = page("reading", case=library, who=author)
    assert "told · Dr Wu, ward 5 · telephone" in texts(app)
    next(b for b in app.button if b.label == "Lift the flag").click().run()
    assert "say why it is not critical" in texts(app)
    app = page("reading", case=library, who=author)
    app.text_input(key="critical-why").set_value("an artefact")
    next(b for b in app.button if b.label == "Lift the flag").click().run()
    log = critical.critical_log(Library(), library)
    assert [n.event for n in log] == list(critical.EVENTS)
    assert not critical.is_critical(log)
    assert critical.critical_cases(Library()) == {}
    with pytest.raises(Exception, match="flag it first"):
        critical.tell(Library(), library, "Dr Wu", "", author)


def test_the_worklist_names_finds_sorts_and_assigns(patient_dicom, tmp_path, monkeypatch):
    """Name, age, accession, body part, counts and reader; found by a name in any script."""
    import pydicom

    from apps.viewer.presence import presence

    monkeypatch.setattr(presence, "_seen", {})  # other tests of this process had the same case open
    shutil.copytree(patient_dicom, tmp_path / "named")
    for path in (p for p in (tmp_path / "named").rglob("*") if p.is_file()):
        ds = pydicom.dcmread(path)
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.PatientName = "García^José=陳^大文"
        ds.AccessionNumber, ds.BodyPartExamined = "A-77", "ABDOMEN"
        ds.save_as(path)
    (case_id,) = ingest(Library(), tmp_path / "named").cases
    author = accounts.add_account(Library(), "ari", "long enough", "author")
    with Library().session() as s:
        s.add(CaseRow(id="other", patient_id="p2", study_date="20200101"))
        summary = {"states": {"CT": "present"}, "in_domain": True, "cannot_tell": []}
        for case, p in ((case_id, 0.55), ("other", 0.97)):
            found = {**summary, "findings": {"steatosis": p}}
            row = ResultRow(case_id=case, bundle_hash="0", language="en", prediction={}, report={})
            row.summary = found
            s.add(row)
    app = page("worklist", who=author)
    assert not app.exception
    (row,) = [r for _, r in app.dataframe[0].value.iterrows() if r["accession"] == "A-77"]
    assert row["name"] == "García José 陳 大文"
    assert row["age"].split()[1].isdigit()
    assert row["study"].startswith("ABDOMEN")
    assert row["images"].split(" / ")[1].isdigit()

    def listed(words: str) -> list[str]:
        app.text_input(key="words").set_value(words).run()
        return list(app.dataframe[0].value["patient"])

    for words in ("jose garcia", "大文", "a-77", "abdomen"):
        assert len(listed(words)) == 1, words
    assert listed("nobody") == []
    assert len(listed("")) == 2

    def first(order: str) -> str:
        app.selectbox(key="order-en").set_value(order).run()
        return app.dataframe[0].value["patient"].iloc[0]

    assert first("urgency") == "p2"  # the likeliest finding
    assert first("unsure") != "p2"
    assert first("sure") == "p2"
    critical.flag(Library(), case_id, "free air", author)
    assert first("urgency") != "p2"  # a critical result that nobody was told of comes before all
    queue.assign(Library(), case_id, "ari", author)
    app.checkbox(key="mine").check().run()
    assert list(app.dataframe[0].value["reader"]) == ["ari"]
    queue.assign(Library(), case_id, "", author)
    app.run()
    assert len(app.dataframe[0].value) == 0
    with pytest.raises(Exception, match="no account that may report"):
        queue.assign(Library(), case_id, "nobody", author)


def test_a_stranger_is_told_of_nobody(library, monkeypatch):
    """What was asked before there were accounts was asked by nobody, as whom a stranger comes too."""
    from apps.viewer import jobs, people

    accounts.add_account(Library(), "ari", "long enough", "author")
    monkeypatch.setattr(people, "may_look", lambda: False)
    monkeypatch.setattr(jobs, "jobs", {library: jobs.Job(library, "waiting")})
    app = page()
    jobs.jobs[library].state = "done"
    app.run()
    assert not app.exception
    assert not app.toast


def test_a_reader_is_told_when_a_prediction_of_theirs_has_ended(library, monkeypatch):
    from apps.viewer import jobs

    ari = accounts.add_account(Library(), "ari", "long enough", "author")
    monkeypatch.setattr(jobs, "jobs", {library: jobs.Job(library, "waiting", by="ari")})
    app = page(who=ari)
    assert not app.exception
    assert not app.toast
    jobs.jobs[library].state = "done"
    app.run()
    (told,) = app.toast
    assert "the draft is ready" in told.value
    assert f"[Open](read?language=en&case={library})" in told.value
    assert not app.run().toast  # once
    jobs.jobs[library] = jobs.Job(library, "waiting", by="somebody else")
    app.run()
    jobs.jobs[library].state = "done"
    assert not app.run().toast


def test_a_case_says_who_reads_it():
    from apps.viewer.presence import STALE_S, Presence

    seen = Presence()
    seen.here("c1", "bo", now=0.0)
    seen.here("c1", "cy", now=1.0)
    assert seen.at("c1", now=2.0) == ["bo", "cy"]
    seen.here("c2", "bo", now=3.0)  # went on to another
    assert (seen.at("c1", now=4.0), seen.at("c2", now=4.0)) == (["cy"], ["bo"])
    assert seen.at("c1", now=1.0 + STALE_S) == []  # and stopped clicking
    seen.gone("bo")
    assert seen.at("c2", now=5.0) == []


def test_rows_are_read_again_only_after_a_change(home, monkeypatch):
    from apps.viewer import rows

    with Library().session() as s:
        s.add(CaseRow(id="c1", patient_id="p1", study_date="20240101"))
    first = rows.rows()
    assert [r.case_id for r in first] == ["c1"]
    assert rows.rows() is first
    with Library().session() as s:
        s.add(CaseRow(id="c2", patient_id="p2", study_date="20240102"))
    assert [r.case_id for r in rows.rows()] == ["c2", "c1"]
