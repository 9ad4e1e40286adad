"""One case: its images, what was found, and the report to work on; every sentence and finding leads to its
place."""

from __future__ import annotations

import html
from pathlib import Path

import streamlit as st

from apps.viewer import jobs, made, people, pixels, referred, registrations
from apps.viewer.desk import library
from apps.viewer.evidence import Places
from apps.viewer.pages import ask, findings, images, report
from apps.viewer.presence import presence
from apps.viewer.words import dated, language, names, plain, w
from medfuse.display.contract import CaseImages
from medfuse.errors import UserError, WrongUse
from medfuse.library import results
from medfuse.library.outlines import outlines_of
from medfuse.prediction import Prediction
from medfuse.report import Report


def show() -> None:
    """The page: the chosen case, or what stands in the way of showing it."""
    case_id = _chosen()
    if case_id is None:
        st.info(w("worklist.choose"))
        st.page_link(st.session_state["pages"]["worklist"], label=w("pages.worklist"))
        return
    try:
        folder = pixels.case_pixels(case_id)
    except WrongUse:
        st.error(w("report.gone"))
        return
    except UserError as e:  # such as identifiers that wait for a person: its one sentence is what to show
        st.warning(plain(e))
        return
    people.viewed(case_id)
    who = people.account()
    others = [name for name in presence.at(case_id) if who is None or name != who.name]
    if who is not None:
        presence.here(case_id, who.name)
    with st.container():  # also when empty: a line that came above the images would mount them anew
        if others:
            st.warning(w("worklist.open_at", name=plain(", ".join(others))))
    _draw(case_id, folder)


def _draw(case_id: str, folder: Path) -> None:
    """Images and report, or the report alone in a window of its own."""
    case = CaseImages.model_validate_json((folder / "case.json").read_text(encoding="utf-8"))
    result = results.load_result(library(), case_id)
    prediction, drafted = result if result else (None, None)
    left, right = st.columns([1, 1.1], vertical_alignment="center")
    with left:
        _whose(case_id)
    with right:
        _banners(prediction, drafted)
    blind = st.session_state.get("blind") == case_id  # the report of this case is being rated
    outlines = {} if prediction is None else outlines_of(library(), prediction)
    places = Places(case.images, None if blind else prediction, outlines)
    if st.query_params.get("part") == "report":
        with st.container(key="alone"):
            _paper(case_id, case, prediction, drafted, places, blind=blind)
        return
    with st.container(key="desk"):
        left, right = st.columns([1.6, 1])
        with left, st.container(key="images"):
            images.show(case_id, case, folder, prediction, places)
        with right, st.container(key="paper"):
            _paper(case_id, case, prediction, drafted, places, blind=blind)


def _paper(
    case_id: str,
    case: CaseImages,
    prediction: Prediction | None,
    drafted: Report | None,
    places: Places,
    *,
    blind: bool,
) -> None:
    """What stands beside the images, in a column that is scrolled by itself."""
    if blind:
        st.info(w("rate.blind"))
        st.page_link(st.session_state["pages"]["rate"], label=w("pages.rate"))
        return
    above = st.container()  # also when empty, as what stands below keeps its place then
    with above:
        _prior(case_id)
    simulated = bool(case.images) and all(i.simulated for i in case.images)
    if prediction is None or drafted is None:
        with above:
            st.info(w("report.not_predicted"))
            _predict(case_id)
        report.show(case_id, places, drafted=False, simulated=simulated)
    else:
        report.show(case_id, places, drafted=True, simulated=simulated)
        findings.show(prediction, places)
        ask.show(case_id, places)
    referred.show(case_id, case)
    registrations.show(case_id, case.images)
    made.show(case_id, case.images)
    for refused in case.refused:
        st.caption(plain(f"⚠ {refused.path}: {refused.reason}"))


def _whose(case_id: str) -> None:
    """Whose images these are: it stands above them, so that nobody reads the wrong patient."""
    who = images.whose(case_id)
    parts = [who.name, who.patient_id, who.sex, dated(who.birth_date), who.age]
    parts += [f"{w('worklist.date')} {dated(who.study_date) or '–'}"]
    first, *others = who.accession.split(", ")
    parts += (
        [f"{w('worklist.accession')} {first}" + (f" (+{len(others)})" if others else "")] if first else []
    )
    told = " · ".join(p for p in parts if p).replace("`", "'")  # a back-tick would end the code that holds it
    with st.container(key="whose"):  # one line, whatever it holds: a second would be taken from the images
        st.markdown(f"**{w('worklist.patient')}** :blue[`{told}`]")


def _prior(case_id: str) -> None:
    """An earlier study that could be compared, and is not."""
    waiting = results.unpredicted_prior(library(), case_id)
    if waiting is None:
        return
    earlier, date = waiting
    st.info(w("reader.unread_prior", date=dated(date)))
    job = jobs.jobs.get(earlier)
    going = job is not None and job.state in ("queued", "waiting")
    if people.may_edit() and st.button(w("reader.predict_prior"), key="predict-prior", disabled=going):
        jobs.predict([earlier], language(), people.acts())
        st.rerun()


def _chosen() -> str | None:
    """The case of this session, or the one that a link names."""
    if "case" in st.query_params and st.session_state.get("case") is None:
        st.session_state["case"] = st.query_params["case"]
    chosen = st.session_state.get("case")
    if chosen:
        st.query_params["case"] = chosen
    return chosen


def _predict(case_id: str) -> None:
    job = jobs.jobs.get(case_id)
    if job and job.state in ("queued", "waiting"):

        @st.fragment(run_every=1.0)
        def watch() -> None:
            if job.state not in ("queued", "waiting"):
                st.rerun()
            # how much is done, nobody knows
            st.info(w("worklist.running", case=case_id[:24], seconds=job.seconds))

        watch()
        return
    if job and job.state == "failed":
        st.error(w("problems.model", why=job.why))
    if people.may_add() and st.button(w("worklist.predict"), key="predict", type="primary"):
        jobs.predict([case_id], language(), people.acts())
        st.rerun()


def _banners(prediction: Prediction | None, drafted: Report | None) -> None:
    if prediction is None or drafted is None:
        st.html(f'<div class="banner research">{w("research")}</div>')
        return
    kinds = (
        ["research"]
        + (["simulated"] if prediction.simulated else [])
        + ([] if prediction.in_domain else ["outside"])
    )
    said = dict(zip(kinds, drafted.banner, strict=False)) | names("banners")  # why outside, the draft says
    rows = [f'<div class="banner {kind}">{html.escape(said[kind])}</div>' for kind in kinds if kind in said]
    st.html(f'<div class="banners">{"".join(rows)}</div>')
