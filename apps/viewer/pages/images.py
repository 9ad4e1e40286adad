"""The images of a case on the reading page: what the browser is told of them, and what it tells back."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from apps.viewer import components, hangings, keys, people, pixels, presented, referred, remembered, tags
from apps.viewer.desk import library
from apps.viewer.evidence import Places
from apps.viewer.fragments import redraw
from apps.viewer.post import fresh, heard
from apps.viewer.words import branch, language, modality_words, plain, w
from medfuse.display.contract import (
    Asked,
    CaseImages,
    CineImage,
    Drawing,
    Keyed,
    Measured,
    ModalityState,
    ReaderData,
    VolumeImage,
    read_message,
)
from medfuse.display.frames import FrameLink
from medfuse.display.hanging import Hanging, Hung, WhoseImages, Windowed
from medfuse.errors import UserError
from medfuse.library import registrations, results, store, workbench
from medfuse.library.accounts import Account
from medfuse.modalities import MODALITIES
from medfuse.prediction import Prediction

Images = list[VolumeImage | CineImage]


def whose(case_id: str, images: Sequence[VolumeImage | CineImage] = ()) -> WhoseImages:
    """Whose images these are, as the headers say. Where ``images`` are of several studies, none is named for
    all of them."""
    who = store.identity_of(library(), case_id)
    return WhoseImages(
        patient_id=who.patient_id or case_id,
        name=who.name,
        sex=who.sex,
        age="" if who.age is None else w("reader.years", n=who.age),
        birth_date=who.birth_date,
        study_date=who.study_date,
        accession=who.accession,
        description=who.description if len({i.study_uid for i in images}) <= 1 else "",
    )


@st.fragment
def show(case_id: str, case: CaseImages, folder: Path, prediction: Prediction | None, places: Places) -> None:
    """The reader: pixels by URL, everything else by message. A measurement reruns this part of the page
    alone."""
    with st.container():  # also when empty: what is said here must not move the reader, which mounts it anew
        told = _told(case_id, case, folder, prediction, places)
    done = components.reader(
        told,
        key=f"reader-{folder.name}",
        on_measured_change=lambda: None,
        on_expired_change=lambda: None,
        on_prior_change=lambda: None,
        on_hung_change=lambda: None,
        on_keyed_change=lambda: None,
        on_tags_change=lambda: None,
        on_windowed_change=lambda: None,
        on_refresh_change=lambda: None,
    )
    if done.measured:
        _measured(case_id, done.measured)
    try:
        _wishes(case_id, {i.modality for i in case.images}, done, prior_open=told.prior_open)
        if tags.wished(folder.name, done.tags, [case, *_earlier_images(case_id, told.prior_open)]):
            redraw()
    except UserError as e:
        st.error(plain(e))
    _unusable(case_id)


def _wishes(case_id: str, modalities: set[str], done: Any, *, prior_open: bool) -> None:
    """Do what the browser asked for in single messages."""
    if hung := fresh("hung", Hung, done.hung):
        _hung(modalities, hung)
    if keyed := fresh("keyed", Keyed, done.keyed):
        remembered.keep(keys=keys.checked(keyed.keys))
        st.rerun()
    if windowed := fresh("windowed", Windowed, done.windowed):
        remembered.keep_window(windowed)
        redraw()
    if fresh("prior", Asked, done.prior):
        st.session_state[f"prior-{case_id}"] = not prior_open
        redraw()
    if fresh("refresh", Asked, done.refresh):
        st.rerun()  # the report comes back from a window of its own
    if fresh("expired", Asked, done.expired):
        pixels.shelf.take(people.session_id())
        # the whole page: it makes the images anew where the cache has dropped them, and lays a new key
        st.rerun()


def _told(
    case_id: str, case: CaseImages, folder: Path, prediction: Prediction | None, places: Places
) -> ReaderData:
    """All that the browser is told of a case's images, and of the earlier study's where it is open."""
    states = prediction.modalities if prediction else {m: s for m, s in case.states.items() if s != "absent"}
    earlier = results.earlier_study(library(), case_id)
    prior = _prior_images(earlier) if earlier and st.session_state.get(f"prior-{case_id}") else []
    own = [*_served(referred.with_windows(case_id, case.images), folder)]
    return ReaderData(
        case_id=case_id,
        case_key=folder.name,
        images=[*own, *(i.model_copy(update={"index": len(own) + i.index}) for i in prior)],
        modalities=_shown(case.images, states),
        states=_with_reasons(states, prediction.limits if prediction else {}),
        places=places.boxes,
        measurements=[
            *workbench.measurements(library(), case_id),
            *st.session_state.get(f"loose-{case_id}", []),
        ],
        taken=st.session_state.get("drawing", 0),
        whose=whose(case_id, case.images),
        earlier=whose(earlier[0]) if earlier and prior else None,
        prior_date=earlier[1] or "–" if earlier else "",
        prior_open=bool(prior),
        hangings=_hangings({i.modality for i in case.images}),
        may_save=people.account() is not None,
        keys=keys.of_person(),
        heard=heard("hung", "keyed", "prior", "expired", "refresh", "tags", "windowed"),
        tags=tags.shown(folder.name),
        windows=remembered.desk().windows,
        presented=presented.drawn_states(case_id, case),
        structures=case.structures,
        links=_links([*case.images, *prior]),
        words=branch("reader") | {"modalities": modality_words(), "states": branch("states")},
    )


def _links(images: Sequence[VolumeImage | CineImage]) -> list[FrameLink]:
    """Frames of reference that accepted registrations bring onto each other."""
    frames = {i.series_uid: i.frame_of_reference for i in images if i.series_uid and i.kind == "volume"}
    try:
        return registrations.accepted_links(library(), frames)
    except UserError as e:
        st.warning(plain(e))
        return []


def _with_reasons(states: Mapping[str, str], limits: Mapping[str, str]) -> dict[str, ModalityState]:
    """The state of each modality, and in words what limits it."""
    return {m: ModalityState(state=s, why=limits.get(m, "").replace("_", " ")) for m, s in states.items()}


def _served(images: Images, folder: Path) -> Images:
    """With the address of their pixels, which holds a key of this session."""
    key = pixels.shelf.lay(people.session_id(), folder, people.still_looking())
    return [i.model_copy(update={"url": f"/medfuse/pixels/{key}/{i.index}"}) for i in images]


def _prior_images(earlier: tuple[str, str]) -> Images:
    """The images of the earlier study, which is looked at from now on; none where they cannot be read."""
    case_id, date = earlier
    try:
        folder = pixels.case_pixels(case_id)
    except UserError as e:
        st.warning(plain(e))
        return []
    people.viewed(case_id)
    images = CaseImages.model_validate_json((folder / "case.json").read_text(encoding="utf-8")).images
    return [i.model_copy(update={"prior": date or "–"}) for i in _served(images, folder)]


def _earlier_images(case_id: str, shown: bool) -> list[CaseImages]:
    """The earlier study, where it is shown; nothing where it cannot be read."""
    earlier = results.earlier_study(library(), case_id) if shown else None
    if earlier is None:
        return []
    try:
        return [
            CaseImages.model_validate_json(
                (pixels.case_pixels(earlier[0]) / "case.json").read_text(encoding="utf-8")
            )
        ]
    except UserError:
        return []


def _hangings(modalities: set[str]) -> list[Hanging]:
    """What the study can be hung as, this person's own way first."""
    try:
        known = hangings.load_protocols(library().home)
    except UserError as e:
        st.error(plain(e))
        known = {}
    own = remembered.desk().hangings.get(hangings.kind_of(modalities))
    if own is not None:
        own = own.model_copy(update={"title": w("reader.my_hanging")})
    return hangings.fitting(known, modalities, language(), w("reader.hanging_auto"), own)


def _hung(modalities: set[str], wanted: Hung) -> None:
    """Keep how this person wants studies of this kind."""
    kept = remembered.desk().hangings
    hanging = wanted.hanging.model_copy(update={"name": "own", "title": ""})
    remembered.keep(hangings={**kept, hangings.kind_of(modalities): hanging})
    st.toast(w("reader.hanging_kept"))


def _shown(images: Images, states: Mapping[str, str]) -> list[str]:
    """The modalities that have a pane: those of the images, and those that are missed."""
    there = {i.modality for i in images}
    return [m for m in MODALITIES if m in there or m in states] or list(MODALITIES)


def _measured(case_id: str, message: object) -> None:
    """Keep what was drawn, for an account that may; for others it stays in their session."""
    newest = st.session_state.get("drawing", 0)
    try:
        fresh = [d for d in read_message(Measured, message).drawings if d.serial > newest]
    except UserError as e:
        st.error(plain(e))
        st.session_state["drawing"] = max(
            [newest, *_serials(message)]
        )  # or the browser would send it for ever
        return
    if not fresh:
        return
    who = people.account()
    may = who is not None and who.may("author")
    for drawing in fresh:
        if drawing.serial <= st.session_state.get("drawing", 0):
            continue
        st.session_state["drawing"] = drawing.serial
        if who is None or not may:
            _in_session(case_id, drawing)
            continue
        try:
            _in_library(case_id, drawing, who)
        except UserError as e:
            st.error(plain(e))
            return
    st.toast(w("reader.measured") if may else w("reader.measure_login"))
    redraw()  # or the newest would be missing from what the browser is told to draw


def _serials(message: object) -> list[int]:
    """The numbers of drawings in a message that could not be read otherwise."""
    drawings = message.get("drawings") if isinstance(message, Mapping) else None
    named = (
        [d.get("serial") for d in drawings if isinstance(d, Mapping)] if isinstance(drawings, list) else []
    )
    return [n for n in named if isinstance(n, int)]


def _in_library(case_id: str, drawing: Drawing, who: Account) -> None:
    """Keep, change or take away what an author drew."""
    mark = drawing.measurement
    if drawing.act == "add":
        workbench.add_measurement(library(), case_id, mark, who)
    elif drawing.act == "change":
        workbench.change_measurement(library(), mark.id, mark, who)
    else:
        workbench.remove_measurement(library(), mark.id, who)


def _in_session(case_id: str, drawing: Drawing) -> None:
    """What a guest drew lasts as long as the session."""
    mark = drawing.measurement
    loose = st.session_state.setdefault(f"loose-{case_id}", [])
    if drawing.act != "add":
        loose[:] = [m for m in loose if m.id != mark.id]
    if drawing.act != "remove":
        number = mark.id if drawing.act == "change" else -1 - secrets.randbelow(2**31)
        loose.append(mark.model_copy(update={"id": number}))


def _unusable(case_id: str) -> None:
    """Measurements of older versions that no export can hold: named, and a way to take them away."""
    who = people.account()
    for row in workbench.unusable_measurements(library(), case_id):
        st.caption(plain(f"⚠ {row.id} · {row.author}: {row.why}"))
        if who is not None and people.may_edit() and st.button(w("reader.remove"), key=f"remove-{row.id}"):
            workbench.remove_measurement(library(), row.id, who)
            redraw()
