"""What each page of the viewer says and does, without a browser (see test_viewer_browser for pixels and clicks)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from isal import igzip

from medfuse.case import Case, Image, Region, Source
from medfuse.library import accounts, audit, ratings, reports, store, workbench
from medfuse.library.catalogue import CaseRow, ResultRow, SeriesRow, session
from medfuse.library.ingest import ingest
from medfuse.library.worklist import Filters, worklist
from medfuse.models.bundle import load_bundle
from medfuse.pipeline import PredictOptions, predict_library_case
from medfuse.reporting.display import slice_array

ROOT = Path(__file__).resolve().parent.parent
APP = str(ROOT / "apps" / "viewer" / "app.py")


@pytest.fixture(scope="module")
def predicted(patient_dicom, tmp_path_factory):
    """A library home with one predicted case, made once."""
    home = tmp_path_factory.mktemp("pages") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDFUSE_HOME", str(home))
        (case_id,) = ingest(patient_dicom).cases
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
            importlib.import_module(f"apps.viewer.views.{name}").show()

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
    with session() as s:
        for n, (kinds, date, findings) in enumerate([
            (("CT", "MR"), "20240105", {"steatosis": 0.9}), (("US",), "20240210", {"steatosis": 0.2}), (("US", "CT", "MR"), "20240301", {}),
        ]):  # fmt: skip
            s.add(CaseRow(id=f"c{n}", patient_id=f"p{n}", study_date=date))
            for m in kinds:
                s.add(
                    SeriesRow(uid=f"1.{n}.{m}", case_id=f"c{n}", modality=m, role="portal" if m == "CT" else "unknown")
                )
            if findings:
                summary = {"states": {m: "present" if m in kinds else "absent" for m in ("US", "CT", "MR")}, "in_domain": True, "findings": findings, "cannot_tell": []}  # fmt: skip
                s.add(
                    ResultRow(
                        case_id=f"c{n}", bundle_hash="0", language="en", prediction={}, report={}, summary=summary
                    )
                )

    def found(**filters) -> set[str]:
        return {r.case_id for r in worklist(Filters(**filters))}

    assert [r.case_id for r in worklist()] == ["c2", "c1", "c0"]  # newest first
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


def test_a_case_that_is_not_predicted_shows_its_images_and_offers_to(patient_dicom):
    (case_id,) = ingest(patient_dicom).cases
    app = page("reading", case=case_id)
    assert not app.exception
    assert "Not predicted yet" in texts(app)
    assert app.button(key="predict").label == "Predict"
    assert "case viewed" in [e["event"] for e in audit.entries()]


def test_the_reading_page_has_banners_findings_and_report(library):
    app = page("reading", case=library)
    assert not app.exception
    whole = " ".join(h.proto.body for h in app.get("html"))
    assert "Research draft, not for clinical use" in whole
    assert "Simulated patient" in whole
    assert "Sign in as an author to accept" in texts(app)
    assert not [b for b in app.button if b.label == "Sign"]  # a guest signs nothing


def test_a_reader_may_look_and_an_author_may_sign(library):
    reader = accounts.add_account("rae", "long enough", "reader")
    author = accounts.add_account("ari", "long enough", "author", full_name="Ari Sung")
    assert not [b for b in page("reading", case=library, who=reader).button if b.label == "Sign"]
    app = page("reading", case=library, who=author)
    assert app.button(key="sign").disabled
    app.button(key="accept-all").click().run()
    assert not reports.waiting(reports.current(library).report)
    app = page("reading", case=library, who=author)
    app.button(key="sign").click().run()
    assert reports.current(library).state == "final"
    app = page("reading", case=library, who=author)
    assert "Signed by Ari Sung" in texts(app)
    app.text_input(key=f"why-{library}").set_value("a typing error").run()
    app.button(key="amend").click().run()
    assert (reports.current(library).state, reports.current(library).version) == ("draft", 2)
    assert reports.final_version(library).version == 1  # the signed one stays


def test_sign_in_refuses_and_says_the_same_for_name_and_password(library):
    accounts.add_account("ari", "long enough", "author", full_name="Ari Sung")
    app = page()
    app.text_input(key="sign-in-name").set_value("ari")
    app.text_input(key="sign-in-password").set_value("wrong")
    app = app.button[0].click().run()
    first = [e.value for e in app.error]
    app.text_input(key="sign-in-name").set_value("nobody")
    app = app.button[0].click().run()
    assert first == [e.value for e in app.error] != []
    assert "sign-in refused" in [e["event"] for e in audit.entries()]


def test_roles_and_joins_are_corrected_by_a_person(library):
    author = accounts.add_account("ari", "long enough", "author")
    with session() as s:
        s.get(CaseRow, library).conflict = "birth dates disagree"
    (row,) = worklist()
    assert row.conflict
    series = store.series_of(library)[0]
    store.set_role(series["uid"], "delayed")
    assert store.series_of(library)[0]["role"] == "delayed"
    assert store.series_of(library)[0]["confidence"] == 1.0
    app = page("reading", case=library, who=author)
    assert "birth dates disagree" in texts(app)  # nothing of it is drawn before somebody has looked


def test_the_model_process_answers_and_its_death_is_said(library):
    from apps.viewer import jobs
    from medfuse.errors import UserError

    found = jobs.call(jobs.search, "cyst in the liver", None, "", "", "", 5)
    assert found["results"][0]["case_id"] == library
    name, data = jobs.call(jobs.export, library, "text", "en")
    assert name == "report.txt"
    assert b"NOT FOR CLINICAL USE" in data.upper()

    with pytest.raises(UserError, match="model's process stopped"):
        jobs.call(_die)
    assert jobs.call(jobs.search, "cyst", None, "", "", "", 5)["results"]  # another took its place


def _die() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_measurements_and_typing_are_kept_by_account(library):
    author = accounts.add_account("ari", "long enough", "author")
    reader = accounts.add_account("rae", "long enough", "reader")
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
    number = workbench.add_measurement(library, data, author)
    with pytest.raises(Exception, match="takes the role author"):
        workbench.add_measurement(library, data, reader)
    assert workbench.measurements(library)[0] | {"id": number} == {**data, "id": number, "author": "ari"}
    workbench.remove_measurement(number, author)
    assert workbench.measurements(library) == []
    workbench.keep_typing(library, {"text": "half"}, author)
    workbench.keep_typing(library, {"text": "half a"}, author)
    assert workbench.typed(library, author) == {"text": "half a"}
    workbench.forget_typing(library, author)
    assert workbench.typed(library, author) is None


def test_rating_is_blind_and_counted(library):
    rater = accounts.add_account("ria", "long enough", "author", background="radiologist, 5 years")
    nobody = accounts.add_account("nod", "long enough", "author")
    now = reports.current(library)
    changed = now.report.model_copy(deep=True)
    changed.sections[-1].sentences[0].text = "Changed by a person."
    changed.sections[-1].sentences[0].state = "edited"
    impression = next(s for s in changed.sections if s.id == "impression")
    impression.sentences[0].text, impression.sentences[0].state = "Another impression.", "edited"
    reports.save(library, now.revision, changed, nobody)
    left = ratings.waiting_for(rater)
    assert {i.kind for i in left} == {"drafted", "edited"}
    assert not any("draft" in i.text.lower() or "version" in i.text.lower() for i in left)
    app = page("rating", who=rater)
    assert not app.exception
    assert app.text[0].value == left[0].text
    assert not any(word in texts(app) for word in ("drafted", "edited"))
    scores = {"correctness": 4, "completeness": 3, "wording": 5}
    ratings.rate(left[0], rater, scores, seconds=61.0)
    assert len(ratings.waiting_for(rater)) == 1
    with pytest.raises(Exception, match="state a background"):
        ratings.rate(left[1], nobody, scores, seconds=1.0)
    (row,) = ratings.ratings()
    assert row["edit_distance"] == (0 if row["kind"] == "edited" else row["edit_distance"])


def test_cohort_and_people(library, home):
    admin = accounts.add_account("ada", "long enough", "admin")
    app = page("cohort")
    assert not app.exception
    assert len(app.get("vega_lite_chart")) + len(app.get("arrow_vega_lite_chart")) >= 3
    assert "Only an admin" in texts(page("accounts"))
    app = page("accounts", who=admin)
    assert "chain intact" in texts(app)
    audit.record("one", who="ada")
    audit.record("two", who="ada")
    audit.audit_path().write_text(audit.audit_path().read_text().replace('"one"', '"won"'))
    assert "was changed or cut" in texts(page("accounts", who=admin))


def test_search_page_and_its_filters(library):
    app = page("search")
    assert not app.exception
    assert app.text_input(key="search-words").label.startswith("What to look for")
    app.text_input(key="search-words").set_value("ascites").run()
    app.button(key="search-go").click().run()
    assert not app.exception
    assert library[:20] in texts(app)


# --- pixels ---------------------------------------------------------------------------------------------------------


def decoded(folder: Path, meta: dict) -> np.ndarray:
    """What the browser holds: (Z, Y, X) or frames, in original values."""
    data = b"".join(igzip.decompress((folder / f"{meta['index']}.{k}.gz").read_bytes()) for k in range(meta["chunks"]))
    shape = meta["shape"][::-1]
    if meta["kind"] == "cine":
        return np.frombuffer(data, np.uint8).reshape(*shape, *((3,) if meta["rgb"] else ()))
    return np.frombuffer(data, "<i2").reshape(shape) * meta["slope"] + meta["intercept"]


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
    image = Image("CT", np.ascontiguousarray(turned), Source("x"), affine=turned_affine, frame_of_reference="1.2")
    pixels.write_case(Case("c", images=[image]), tmp_path / "case")
    (meta,) = json.loads((tmp_path / "case" / "case.json").read_text())["images"]
    shown = decoded(tmp_path / "case", meta)
    assert np.array_equal(shown[4], slice_values(image, 4))
    # voxel → mm is the same point of the patient in every order
    at = np.array(meta["affine"]) @ [2, 3, 4, 1]
    x, y, z = np.rint(np.linalg.inv(turned_affine) @ at)[:3].astype(int)
    assert shown[4, 3, 2] == turned[x, y, z]
    assert slice_array(image, 4, window=(500.0, 3000.0))[0].shape[:2] == shown[4].shape


def slice_values(image: Image, index: int) -> np.ndarray:
    from medfuse.reporting.display import view_of

    return view_of(image).pixels[:, :, index].T


def test_values_that_are_no_integers_keep_sixteen_bits(tmp_path, rng):
    from apps.viewer import pixels

    values = rng.normal(0, 1, (8, 8, 8)).astype(np.float32)
    pixels.write_case(Case("c", images=[Image("MR", values, Source("x"), affine=np.eye(4))]), tmp_path / "case")
    (meta,) = json.loads((tmp_path / "case" / "case.json").read_text())["images"]
    step = float(np.ptp(values)) / 65535
    from medfuse.reporting.display import view_of

    original = view_of(Image("MR", values, Source("x"), affine=np.eye(4))).pixels.transpose(2, 1, 0)
    assert np.abs(decoded(tmp_path / "case", meta) - original).max() <= step


def test_cines_keep_colour_time_and_calibration(tmp_path, rng):
    from apps.viewer import pixels

    frames = rng.integers(0, 255, (5, 20, 30, 3), dtype=np.uint8)
    image = Image("US", frames, Source("x"), frame_ms=40.0, regions=(Region((2, 3, 20, 15), (0.2, 0.3)),))
    pixels.write_case(Case("c", images=[image]), tmp_path / "case")
    (meta,) = json.loads((tmp_path / "case" / "case.json").read_text())["images"]
    assert np.array_equal(decoded(tmp_path / "case", meta), frames)
    assert meta["frame_ms"] == 40.0
    assert meta["regions"] == [{"box": [2, 3, 20, 15], "mm": [0.2, 0.3]}]


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
    case_id = store.add_nifti([(ct, "CT"), (mr, "MR")])
    assert store.add_nifti([(ct, "CT"), (mr, "MR")]) == case_id  # once
    case = store.load_case(case_id)
    assert sorted(i.modality for i in case.images) == ["CT", "MR"]
    from medfuse.io.nifti import read_nifti

    assert np.array_equal(case.images[0].pixels, read_nifti(ct, "CT").pixels)


def test_a_registration_is_shown_and_a_failed_one_is_not(library, tmp_path):
    import nibabel as nib

    from medfuse.registration.volume import to_array, to_sitk
    from medfuse.settings import settings

    case = store.load_case(library)
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


def test_other_addresses_need_people(home):
    from medfuse.errors import WrongUse
    from medfuse.viewer import serve

    with pytest.raises(WrongUse, match="without accounts"):
        serve(port=1, home=home, address="0.0.0.0", log=lambda line: None)
