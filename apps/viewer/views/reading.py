"""One case: its images, what was found, and the report to work on; every sentence and finding leads to its place."""

from __future__ import annotations

import json
import secrets

import streamlit as st

from apps.viewer import components, jobs, people, pixels, registrations
from apps.viewer.evidence import Places
from apps.viewer.views import asking, findings, report
from apps.viewer.words import branch, language, w
from medfuse.errors import UserError, WrongUse
from medfuse.library import store, workbench
from medfuse.prediction import Prediction
from medfuse.report import Report


def show() -> None:
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
        st.warning(str(e))
        return
    people.viewed(case_id)
    case = json.loads((folder / "case.json").read_text())
    result = store.load_result(case_id)
    prediction, drafted = result if result else (None, None)
    _banners(prediction, drafted)
    blind = st.session_state.get("blind") == case_id  # the report of this case is being rated
    places = Places(case["images"], None if blind else prediction)
    with st.container(key="images"):  # stays in sight while findings and report are scrolled
        _images(case_id, case, folder, prediction, places)
    for refused in case["refused"]:
        st.caption(f"⚠ {refused['path']}: {refused['reason']}")
    registrations.show(case_id, case["images"])
    if blind:
        st.info(w("rate.blind"))
        st.page_link(st.session_state["pages"]["rate"], label=w("pages.rate"))
        return
    if prediction is None or drafted is None:
        st.info(w("report.not_predicted"))
        _predict(case_id)
        return
    left, right = st.columns([1, 1.15], gap="large")
    with left:
        findings.show(prediction, places)
        asking.show(case_id, places)
    with right:
        report.show(case_id, prediction, places)


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
            st.info(w("worklist.running", case=case_id[:24], seconds=job.seconds))  # how much is done, nobody knows

        watch()
        return
    if job and job.state == "failed":
        st.error(w("problems.model", why=job.why))
    if st.button(w("worklist.predict"), key="predict", type="primary"):
        jobs.predict([case_id], language())
        st.rerun()


def _banners(prediction: Prediction | None, drafted: Report | None) -> None:
    if prediction is None or drafted is None:
        st.html(f'<div class="banner research">{w("research")}</div>')
        return
    kinds = (
        ["research"] + (["simulated"] if prediction.simulated else []) + ([] if prediction.in_domain else ["outside"])
    )
    rows = [f'<div class="banner {kind}">{text}</div>' for kind, text in zip(kinds, drafted.banner, strict=False)]
    st.html(f'<div class="banners">{"".join(rows)}</div>')


@st.fragment
def _images(case_id: str, case: dict, folder, prediction: Prediction | None, places: Places) -> None:
    """The reader: pixels by URL, everything else by message. A measurement reruns this part of the page alone."""
    key = pixels.shelf.lay(people.session_id(), folder)
    states = prediction.modalities if prediction else case["states"]
    limits = prediction.limits if prediction else {}
    images = [{**i, "url": f"/medfuse/pixels/{key}"} for i in case["images"]]
    done = components.reader(
        {
            "case_id": case_id, "case_key": folder.name, "images": images,
            "states": {m: {"state": s, "why": limits.get(m, "").replace("_", " ")} for m, s in states.items()},
            "places": places.boxes, "measurements": workbench.measurements(case_id) + st.session_state.get(f"loose-{case_id}", []),
            "words": branch("reader") | {"modalities": branch("modalities"), "states": branch("states")},
        },
        key=f"reader-{folder.name}",
        on_measured_change=lambda: None, on_expired_change=lambda: None,
    )  # fmt: skip
    if done.measured:
        _measured(case_id, done.measured)
    if done.expired:
        pixels.shelf.take(people.session_id())
        st.rerun()  # the whole page: it makes the images anew where the cache has dropped them, and lays a new key
    _measurements(case_id)


def _measured(case_id: str, found: dict) -> None:
    serial = found.pop("serial")
    if st.session_state.get("measured") == serial:
        return
    st.session_state["measured"] = serial
    who = people.account()
    if who is not None and who.may("author"):
        workbench.add_measurement(case_id, found, who)
        st.toast(w("reader.measured"))
        st.rerun(scope="fragment")
    st.session_state.setdefault(f"loose-{case_id}", []).append({**found, "id": -secrets.randbelow(2**31)})
    st.toast(w("reader.measure_login"))


def _measurements(case_id: str) -> None:
    kept = workbench.measurements(case_id)
    if not kept:
        return
    with st.expander(f"{w('reader.measurements')} ({len(kept)})"):
        for m in kept:
            left, right = st.columns([6, 1], vertical_alignment="center")
            left.caption(f"{m['id']} · {m['kind']} {m['text']} · {m['plane']} {m['slice'] + 1} · {m['author']}")
            if people.may_edit() and right.button(w("reader.remove"), key=f"remove-{m['id']}"):
                workbench.remove_measurement(m["id"], people.account())  # type: ignore[arg-type]
                st.rerun(scope="fragment")
