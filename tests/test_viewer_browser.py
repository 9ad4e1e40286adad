"""The viewer in a real browser: the right pixels, the way from a zip to a signed report, and what can go
wrong on it.

With MEDFUSE_SCREENSHOTS=docs/viewer the pictures of docs/viewer.md are made anew.
"""

from __future__ import annotations

import contextlib
import shutil

import numpy as np
import pytest
from PIL import Image as Picture
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect
from viewers import (
    CHROMIUM,
    browsing,
    choose_row,
    drawn,
    kept_measurements,
    measure,
    one_uploader,
    open_case,
    sampled,
    serving,
    settled,
    shot,
    sign_in,
    sign_up,
    until,
    viewport,
)

from medfuse.display.views import slice_array, view_of, window_of
from medfuse.library import Library, accounts, audit, reports, results, store

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture
def mine(viewer_library, tmp_path, monkeypatch):
    """A copy of the library for a test that changes it, served; home, address, case id."""
    home, done, _ = viewer_library
    shutil.copytree(home, tmp_path / "mine")
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "mine"))
    with serving(tmp_path / "mine") as url:
        yield tmp_path / "mine", url, done.prediction.case_id


@pytest.fixture(scope="module")
def server(viewer_library):
    with serving(viewer_library[0]) as url:
        yield url


def test_every_plane_shows_the_expected_pixels_on_the_expected_side(server, viewer_library):
    """Compared with the slice that the library's own display code makes: a flip, another slice or window
    would not pass."""
    _, done, case = viewer_library
    with browsing(server, width=1900, height=1100) as page:
        open_case(page, server, done.prediction.case_id)
        page.get_by_role("button", name="Evidence", exact=True).click()  # boxes off
        page.locator(".pane[data-modality=CT]").hover()
        page.get_by_role("button", name="One", exact=True).click()
        page.locator(".viewport[data-plane=sagittal][data-loaded='1']").wait_for()
        page.get_by_role("button", name="Crosshair").click()
        for plane in ("axial", "coronal", "sagittal"):
            canvas = viewport(page, "CT", plane)
            image = case.images[int(canvas.get_attribute("data-image"))]
            index = int(canvas.get_attribute("data-index"))
            centre, width = (float(v) for v in canvas.get_attribute("data-window").split(","))
            assert (centre, width) == window_of(image, "Abdomen")
            expected = slice_array(image, index, plane=plane, window=(centre, width))[0][..., 0].astype(int)
            shown = sampled(canvas, expected.shape)
            off = np.abs(shown - expected)
            assert np.percentile(off, 80) <= 3, plane  # marks, captions and crosshair cover the rest
            assert off.mean() < 0.5 * np.abs(shown - expected[:, ::-1]).mean(), f"{plane} is mirrored"
            if plane != "axial":
                assert off.mean() < 0.5 * np.abs(shown - expected[::-1]).mean(), f"{plane} is upside down"
        # the window that is chosen is the window that is shown
        page.locator(".pane[data-modality=CT] select[title=Window]").select_option("Bone")
        canvas = viewport(page, "CT")
        page.wait_for_timeout(300)
        expected = slice_array(
            image, int(canvas.get_attribute("data-index")), window=window_of(image, "Bone")
        )[0][..., 0].astype(int)
        assert np.percentile(np.abs(sampled(canvas, expected.shape) - expected), 80) <= 3
        # mirrored on request, and the letters with it
        page.get_by_role("button", name="Flip L/R").click()
        page.wait_for_timeout(300)
        shown = sampled(canvas, expected.shape)
        assert np.abs(shown - expected[:, ::-1]).mean() < np.abs(shown - expected).mean()
        assert not page.outside
        assert not page.problems


def test_keys_and_sentences_move_the_slices_and_values_are_original(server, viewer_library):
    _, done, case = viewer_library
    with browsing(server) as page:
        open_case(page, server, done.prediction.case_id)
        shot(page, "read-en-1600")
        canvas = viewport(page, "CT")
        truth = done.prediction.lesions[0].place
        view = view_of(case.images[truth.image])
        z = round(view.to_view[2, :3] @ [0, 0, truth.slice] + view.to_view[2, 3])
        assert int(canvas.get_attribute("data-index")) == z  # it opens on the evidence
        canvas.hover()
        page.keyboard.press("ArrowUp")
        page.locator(f".pane[data-modality=CT] .viewport[data-index='{z + 1}']").wait_for()
        # a lesion in the list leads back to it
        page.locator("[data-lesion='CT-true']").click()
        page.locator(f".pane[data-modality=CT] .viewport[data-index='{z}']").wait_for()
        yellow = drawn(canvas).astype(int)
        assert ((yellow[..., 0] > 200) & (yellow[..., 2] < 80)).sum() > 50  # the box is drawn
        # the value under the pointer is the value in the file
        box = canvas.bounding_box()
        x, y, sx, sy = (float(v) for v in canvas.get_attribute("data-fit").split(","))
        page.mouse.move(box["x"] + x + 30.5 * sx, box["y"] + y + 40.5 * sy)
        shown = page.locator(".pane[data-modality=CT] .readout").inner_text()
        assert float(shown.split(" HU")[0]) == view.pixels[30, 40, z]
        # the report on the page is the report on disk, sentence by sentence
        said = page.locator(".report").inner_text()
        for section in done.report.sections:
            for sentence in section.sentences:
                assert sentence.text in said
        # pixels crossed the wire once: a rerun of the page asks for none
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url) if "/medfuse/pixels/" in r.url else None)
        page.get_by_text("繁體中文").first.click()
        page.get_by_text("工作清單").first.wait_for()
        page.locator(".pane[data-modality=CT] header strong", has_text="電腦斷層").wait_for()
        page.wait_for_timeout(500)
        assert not asked
        assert not page.outside
        assert not page.problems


def test_the_first_visitor_gets_the_viewers_own_navigation(tmp_path):
    """Streamlit takes files in pages/ for pages of its own until the app has named its pages."""
    with serving(tmp_path) as url, browsing(url) as page:
        page.goto(f"{url}/search")
        page.locator("h3", has_text="Search").wait_for()
        links = page.locator("[data-testid=stSidebarNav] a")
        names = [text.split()[-1] for text in links.all_inner_texts()]
        assert names == ["Worklist", "Read", "Search", "Cohort", "reports", "People"]
        assert page.locator("[data-testid=stAlert], [data-testid=stException]").count() == 0


def test_pixels_are_for_the_session_alone(server, viewer_library):
    """A key dies with its session, and an address without one opens nothing."""
    import urllib.error
    import urllib.request

    home, done, _ = viewer_library
    with browsing(server) as page:
        urls: list[str] = []
        page.on("request", lambda r: urls.append(r.url) if "/medfuse/pixels/" in r.url else None)
        open_case(page, server, done.prediction.case_id)
        with urllib.request.urlopen(urls[0]) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
        folder = next(p for p in (home / "cache" / "viewer").iterdir() if not p.name.startswith("."))
        for bad in (
            f"{server}/medfuse/pixels/{'x' * 43}/0.0.gz",
            urls[0].rsplit("/", 1)[0] + "/case.json",
            f"{server}/medfuse/pixels/{folder.name}/0.0.gz",
        ):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(bad)
    for _ in range(60):  # the browser is gone; its session ends soon after
        try:
            urllib.request.urlopen(urls[0]).close()
        except urllib.error.HTTPError as e:
            e.close()
            break
        import time

        time.sleep(2.5)
    else:
        pytest.fail("the key outlived its session")


def test_without_webgl2_the_planes_stay_and_3d_says_so(server, viewer_library):
    with browsing(server, "--disable-3d-apis") as page:
        open_case(page, server, viewer_library[1].prediction.case_id)
        page.get_by_role("button", name="MPR + 3D").first.click()
        page.get_by_text("3D needs WebGL2").wait_for()
        assert drawn(viewport(page, "CT", "coronal")).std() > 10


def test_3d_is_rendered_and_a_measurement_is_kept(mine):
    home, url, case_id = mine
    accounts.add_account(Library(), "bo", "long enough", "author", full_name="Bo Chen")
    with browsing(url) as page:
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        page.get_by_text("Bo Chen (author)").wait_for()
        canvas = viewport(page, "CT")
        settled(canvas)
        sx = float(canvas.get_attribute("data-fit").split(",")[2])
        measure(page, canvas, (-10 * sx, 0), (10 * sx, 0))
        (kept,) = kept_measurements(case_id)
        spacing = view_of(store.load_case(Library(), case_id).images[kept.image]).spacing
        assert kept.unit == "mm"
        assert kept.value == pytest.approx(20 * spacing[0], abs=1.5 * spacing[0])
        page.locator(".pane[data-modality=CT]").get_by_role("button", name="MPR + 3D").click()
        page.get_by_role("button", name="Show in 3D").click()
        page.locator("canvas.three[data-rendered='1']").wait_for()
        page.wait_for_timeout(1500)
        shot(page, "mpr-en-1600")
        png = page.locator(".holder").screenshot()
        from io import BytesIO

        assert np.asarray(Picture.open(BytesIO(png)).convert("L")).std() > 8
        assert not page.problems


def click_until(button, wanted):
    """A click that meets the page being drawn anew is lost, and a person clicks again."""
    for _ in range(6):
        with contextlib.suppress(PlaywrightTimeout):
            button.click(timeout=15_000)
            wanted.wait_for(timeout=15_000)
        if wanted.count():
            return
    expect(wanted).to_have_count(1)


def test_from_a_zip_to_a_signed_pdf(patient_dicom, tmp_path, monkeypatch):
    """The whole way of a newcomer: no command, no docs."""
    home = tmp_path / "fresh"
    monkeypatch.setenv("MEDFUSE_HOME", str(home))
    packed = shutil.make_archive(str(tmp_path / "study"), "zip", patient_dicom)
    with serving(home) as url, browsing(url, width=1280, height=900) as page:
        page.goto(url)
        sign_up(page)
        page.locator("input[type=file]").set_input_files(packed)
        page.get_by_role("button", name="Add to the library").click()
        page.get_by_text("1 case(s) added").wait_for()
        shot(page, "worklist-uploading-en-1280")
        page.get_by_text("Predicting SIM").wait_for(state="detached", timeout=120_000)
        (row,) = store.list_cases(Library())
        until(lambda: results.load_result(Library(), row.case_id), "the prediction is kept", page)
        opening = page.locator(".st-key-open button")
        for _ in range(3):
            choose_row(page)
            with contextlib.suppress(PlaywrightTimeout):
                opening.wait_for(timeout=15_000)
                break
        opening.click()
        page.locator(".viewport[data-loaded='1']").nth(2).wait_for()
        # a sentence that names a place leads there
        now = reports.current(Library(), row.case_id)
        chip = page.locator(".chip").first
        wanted = int(chip.inner_text().split()[-1])
        sentence = page.locator(".sentence", has=page.locator(".chip")).first
        sentence.locator(".text").click()
        modality = chip.inner_text().split()[0]
        page.locator(f".pane[data-modality={modality}] .viewport[data-index='{wanted - 1}']").wait_for()
        page.keyboard.press("a")
        page.locator(".sentence.accepted").first.wait_for()
        page.locator(".sentence").nth(1).locator(".text").click()
        page.keyboard.press("Enter")
        page.locator(".sentence textarea").wait_for()
        page.keyboard.press("Control+End")
        page.keyboard.type(" Seen by hand.")
        page.keyboard.press("Enter")
        page.locator(".sentence.edited", has_text="Seen by hand.").wait_for()
        shot(page, "report-en-1280")
        sign = page.get_by_role("button", name="Sign", exact=True)
        expect(sign).to_be_disabled(timeout=30_000)  # sentences wait for a decision
        accepted = page.get_by_role("button", name="Accept the 0")
        click_until(page.get_by_role("button", name="Accept the"), accepted)
        now_sign = page.get_by_role("button", name="Sign now")
        click_until(sign, now_sign)
        shot(page, "sign-en-1280")
        looked = page.get_by_text("I have looked at each of these")
        if looked.count():
            looked.click()
        expect(now_sign).to_be_enabled(timeout=30_000)
        click_until(now_sign, page.get_by_text("Signed by Anna Lin"))
        # final: nothing to accept, edit or move any more
        expect(page.locator(".acts")).to_have_count(0, timeout=60_000)
        page.locator(".sentence").nth(1).locator(".text").dblclick()
        assert page.locator(".sentence textarea").count() == 0
        final = reports.final_version(Library(), row.case_id)
        assert final.report.signed_by == "Anna Lin"
        assert final.revision > now.revision
        assert any("Seen by hand." in x.text for s in final.report.sections for x in s.sentences)
        click_until(
            page.get_by_role("button", name="Make the file"), page.get_by_role("button", name="Download")
        )
        with page.expect_download(timeout=120_000) as download:
            page.get_by_role("button", name="Download").click()
        download.value.save_as(tmp_path / "report.pdf")
        assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
        import subprocess

        words = subprocess.run(
            ["pdftotext", str(tmp_path / "report.pdf"), "-"], capture_output=True, text=True, check=True
        ).stdout
        assert "Seen by hand." in " ".join(words.split())
        assert "Anna Lin" in words
        done = [e.event for e in audit.entries(Library())]
        assert {"account added", "case added", "case viewed", "report edited", "report signed"} <= set(done)
        assert not page.outside
        assert not page.problems


def test_two_readers_one_report(mine):
    """The slower of two is told, sees both, and loses nothing."""
    _, url, case_id = mine
    accounts.add_account(Library(), "bo", "long enough", "author", full_name="Bo Chen")
    cy = accounts.add_account(Library(), "cy", "long enough", "author", full_name="Cy Wu")
    with browsing(url) as page:
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        page.get_by_text("Bo Chen (author)").wait_for()
        page.locator(".acts").first.wait_for()
        now = reports.current(Library(), case_id)
        theirs = now.report.model_copy(deep=True)
        theirs.sections[-1].sentences[0].text += " By Cy."
        theirs.sections[-1].sentences[0].state = "edited"
        reports.save(Library(), case_id, now.revision, theirs, cy)
        page.locator(".sentence .text").first.click()
        page.keyboard.press("a")
        notice = page.get_by_text("cy saved another revision meanwhile")
        notice.wait_for()
        expect(notice).to_be_in_viewport()
        shot(page, "conflict-en-1600")
        page.get_by_role("button", name="Go on from theirs").click()
        page.locator(".sentence", has_text="By Cy.").wait_for()
        assert reports.current(Library(), case_id).author == "cy"


def test_a_lost_session_gives_back_what_was_typed(mine):
    _, url, case_id = mine
    accounts.add_account(Library(), "bo", "long enough", "author", full_name="Bo Chen")
    with browsing(url) as page:
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        page.locator(".acts").first.wait_for()
        page.locator(".sentence .text").nth(2).click()
        page.keyboard.press("Enter")
        page.keyboard.press("Control+End")
        page.keyboard.type(" Half a sent")
        page.wait_for_timeout(5000)  # what may be lost is less than this
    with browsing(url) as page:  # another browser, another session
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        page.locator(".sentence textarea").wait_for()
        assert page.locator(".sentence textarea").input_value().endswith("Half a sent")


def test_bad_uploads_and_a_case_that_went(mine, tmp_path):
    home, url, case_id = mine
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 not a zip")
    (tmp_path / "brain.nii").write_bytes(b"not a nifti")
    with browsing(url) as page:
        page.goto(url)
        page.get_by_text("Add studies").click()
        one_uploader(page).set_input_files([tmp_path / "broken.zip"])
        page.get_by_role("button", name="Add to the library").click()
        page.get_by_text("broken.zip:").wait_for()
        one_uploader(page).set_input_files([tmp_path / "brain.nii"])
        page.get_by_text("Modality of NIfTI files: brain.nii").wait_for()
        assert page.get_by_role(
            "button", name="Add to the library"
        ).is_disabled()  # its modality is not guessed
        page.goto(f"{url}/read?case=nobody")
        page.get_by_text("no longer in the library").wait_for()
        assert page.locator("[data-testid=stException]").count() == 0


WIDTHS = (1280, 1920)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_in_both_languages(mine, language):
    """Each page comes up whole at both widths: no error, nothing wider than the window."""
    _, url, case_id = mine
    accounts.add_account(
        Library(), "ad", "long enough", "admin", full_name="Ada Ho", background="radiologist, 20 years"
    )
    titles = {
        "en": ("Worklist", "Search", "Cohort", "Rate reports", "People"),
        "zh": ("工作清單", "搜尋", "世代", "報告評分", "人員"),
    }[language]
    with browsing(url, width=WIDTHS[0], height=1000) as page:
        page.goto(url)
        sign_in(page, "ad", "long enough")
        page.get_by_text("Ada Ho (admin)").wait_for()
        if language == "zh":
            page.get_by_text("繁體中文").first.click()
            page.get_by_text("工作清單").first.wait_for()
        for title, name in zip(titles, ("worklist", "search", "cohort", "rate", "people"), strict=True):
            page.locator("[data-testid=stSidebarNav]").get_by_role("link", name=title).click()
            page.locator("h3", has_text=title).first.wait_for()
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 1000})
                page.wait_for_timeout(800)
                assert page.locator("[data-testid=stException]").count() == 0, name
                assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
                if name == "search" and width == WIDTHS[-1]:
                    page.locator(".st-key-search-words input").fill("liver lesion")
                    page.locator(".st-key-search-words input").press("Enter")
                    page.locator(".st-key-search-go button").click()
                    page.locator("img[src^='data:image/png']").first.wait_for(timeout=60_000)
                shot(page, f"{name}-{language}-{width}")
            page.set_viewport_size({"width": WIDTHS[0], "height": 1000})
            if name == "rate":  # while a text is rated its case shows images alone
                page.locator(".st-key-rate-open button").first.click()
                page.locator(".viewport[data-loaded='1']").nth(2).wait_for()
                page.wait_for_timeout(500)
                assert page.locator(".report").count() == page.locator(".findings").count() == 0
                page.locator("[data-testid=stSidebarNav]").get_by_role("link", name=title).click()
                page.locator(".st-key-rate-open").first.wait_for()
        page.locator("[data-testid=stSidebarNav]").get_by_role("link", name=titles[0]).click()
        choose_row(page)
        page.locator(".st-key-open button").click()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 1000})
            page.locator(".viewport[data-loaded='1']").nth(2).wait_for()
            page.locator(".acts").first.wait_for()
            shot(page, f"read-{language}-{width}")
        assert not page.outside
        assert not page.problems


def test_loading_the_page_anew_signs_nobody_out(tmp_path, monkeypatch):
    """F5, and another window of the same browser; signing out in one window does so in all."""
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path))
    accounts.add_account(Library(), "bo", "long enough", "author", full_name="Bo Chen")
    with serving(tmp_path) as url, browsing(url) as page:
        page.goto(url)
        sign_in(page, "bo", "long enough")
        page.get_by_text("Bo Chen (author)").wait_for()
        page.get_by_text("繁體中文").first.click()
        page.get_by_text("Bo Chen（撰寫者）").wait_for()
        page.reload()
        page.get_by_text("Bo Chen（撰寫者）").wait_for()
        cookies = page.context.cookies()
        assert all(c["httpOnly"] and c["sameSite"] == "Lax" for c in cookies if "browser" in c["name"])
        with page.expect_popup() as opened:
            page.evaluate("url => { window.open(url) }", url)
        other = opened.value  # its address says no language: the account's own is spoken
        other.get_by_text("Bo Chen（撰寫者）").wait_for()
        other.get_by_role("button", name="登出").click()
        other.get_by_text("Bo Chen（撰寫者）").wait_for(state="detached")
        page.reload()
        page.get_by_label("密碼", exact=True).wait_for(state="attached")
        assert page.get_by_text("Bo Chen（撰寫者）").count() == 0


def test_a_rejected_finding_takes_its_impression_along_and_escape_leaves_nothing(mine):
    _, url, case_id = mine
    accounts.add_account(Library(), "bo", "long enough", "author", full_name="Bo Chen")
    report = reports.current(Library(), case_id).report
    concluded = {x.finding for x in report.section("impression").sentences} - {""}
    rows = report.section("findings").sentences
    finding = next(x.finding for x in rows if x.finding in concluded)
    with browsing(url) as page:
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        page.locator(".acts").first.wait_for()
        expect(page.locator(".report")).to_have_count(1)  # the one to look at has gone
        count = page.locator(".sentence").count()
        page.locator("[data-add=impression]").click()
        page.locator(".sentence textarea").wait_for()
        page.keyboard.press("Escape")
        page.locator(".sentence textarea").wait_for(state="detached")
        assert page.locator(".sentence").count() == count  # no empty line is left
        stops = "xs => xs.filter((x) => x.tabIndex >= 0).length"
        assert page.locator(".sentence button").evaluate_all(stops) <= 9  # those of the chosen sentence alone
        for n in [n for n, x in enumerate(rows) if x.finding == finding]:
            page.locator(f".sentence[data-section=findings][data-n='{n}'] .text").click()
            page.keyboard.press("x")
        page.locator(".sentence.rejected[data-section=impression]").wait_for()

        def gone() -> bool:
            impression = reports.current(Library(), case_id).report.section("impression").sentences
            return all(x.state == "rejected" for x in impression if x.finding == finding)

        until(gone, "the impression goes with its finding", page)
        expect(page.locator("html")).not_to_have_attribute("data-unsaved", "")
        page.keyboard.press("Control+z")  # the last rejection is taken back, and its impression with it
        until(lambda: not gone(), "both are back", page)
        page.locator(".sentence.rejected[data-section=impression]").wait_for(state="detached")
        assert not page.problems
