"""A real patient with CT, MR and PET, from a zip to a signed report, in both languages of the viewer.

With MEDFUSE_SCREENSHOTS=docs/viewer the pictures of docs/viewer.md are made anew.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect
from viewers import (
    CHROMIUM,
    as_earlier_study,
    browsing,
    choose_row,
    drawn,
    kept_measurements,
    serving,
    settled,
    shot,
    take_tool,
    until,
    viewport,
)

from apps.viewer import words
from medfuse.library import Library, accounts, reports, results, store
from medfuse.library.ingest import ingest
from medfuse.workflows.report import export_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]
WORDS = yaml.safe_load((Path(words.__file__).parent / "words.yaml").read_text(encoding="utf-8"))


def word(name: str, language: str, **filled: object) -> str:
    """A phrase of the viewer by its dotted name."""
    at = WORDS
    for part in name.split("."):
        at = at[part]
    return at[0 if language == "en" else 1].format(**filled)


def signed_in(page, url: str, language: str) -> None:
    page.goto(url + ("" if language == "en" else f"/?language={language}"))
    page.get_by_text(word("sign_in", language), exact=True).first.click()
    page.get_by_label(word("name", language), exact=True).fill("bo")
    page.get_by_label(word("password", language), exact=True).fill("long enough")
    page.get_by_role("button", name=word("sign_in", language)).click()
    page.get_by_text("Bo Chen").first.wait_for()


def uploaded(page, packed: str, language: str) -> str:
    """The case that the zip became, once its prediction has ended."""
    known = {c.case_id for c in store.list_cases(Library())}
    page.get_by_text(word("worklist.upload", language)).first.click()
    page.locator("input[type=file]").set_input_files(packed)
    page.get_by_role("button", name=word("worklist.add", language)).click()
    page.get_by_text(word("worklist.added", language, n=1)).wait_for()
    shot(page, f"real-worklist-{language}-1920")
    (case_id,) = {c.case_id for c in store.list_cases(Library())} - known
    until(lambda: results.load_result(Library(), case_id), "the case went through the model", page, 240)
    return case_id


def opened(page) -> None:
    """The newest case of the worklist, read."""
    opening = page.locator(".st-key-open button")
    for _ in range(4):
        choose_row(page)
        with contextlib.suppress(PlaywrightTimeout):
            opening.wait_for(timeout=15_000)
            break
    opening.click()
    page.locator(".viewport[data-loaded='1']").nth(2).wait_for()
    page.locator(".acts, [data-add]").first.wait_for()


def fused(page, language: str) -> None:
    """PET over CT, in colour where it is high."""
    pane = page.locator(".pane[data-modality=CT]")
    canvas = viewport(page, "CT")
    settled(canvas)

    def coloured() -> int:
        red, _, blue = (drawn(canvas)[..., n].astype(int) for n in range(3))
        return int((red - blue > 60).sum())

    assert coloured() < 50
    pane.locator(f"select[aria-label='{word('reader.fused', language)}']").select_option(index=1)
    until(lambda: coloured() > 1000, "the PET lies over the CT", page)
    canvas.hover()
    expect(pane.locator(".readout")).to_contain_text("PT")  # the value of both
    shot(page, f"real-fused-{language}-1920")
    pane.locator(f"select[aria-label='{word('reader.fused', language)}']").select_option("")
    until(lambda: coloured() < 50, "the CT stands alone again", page)


def measured(page, case_id: str) -> str:
    """A distance on the CT, as the list names it, and its slice as a key image."""
    canvas = viewport(page, "CT")
    take_tool(page, "distance")
    box = settled(canvas)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x + 20, y + 10, steps=4)
    page.mouse.up()
    kept_measurements(case_id)
    page.keyboard.press("s")
    kinds = {m.kind: m for m in kept_measurements(case_id, 2)}
    assert set(kinds) == {"distance", "key"}
    take_tool(page, "navigate")
    return kinds["distance"].text


def compared(page, language: str) -> None:
    """The earlier study beside this one, and away again."""
    page.locator("[data-action=prior]").click()
    page.locator(".strip button.prior").first.wait_for()
    page.locator(".board .viewport[data-loaded='1']").nth(1).wait_for()
    shot(page, f"real-prior-{language}-1920")
    page.locator("[data-action=prior]").click()
    page.locator(".strip button.prior").first.wait_for(state="detached")
    page.locator(".board .viewport[data-loaded='1']").nth(2).wait_for()


def wrote(page, section: str, text: str, *fields: str) -> None:
    """A sentence at the end of a section. text: or a macro as .name and a space, whose fields are filled."""
    page.locator(f"[data-add={section}]").click()
    page.locator(".sentence textarea").wait_for()
    page.keyboard.type(text)
    for n, value in enumerate(fields):
        if n:
            page.keyboard.press("Tab")
        page.keyboard.type(value)
    page.keyboard.press("Enter")
    page.locator(".sentence textarea").wait_for(state="detached")


def signed(page, case_id: str) -> None:
    accept = page.locator(".st-key-accept-all button").first  # two for a moment, where the page is drawn anew
    for _ in range(5):
        if reports.waiting(reports.current(Library(), case_id).report):
            with contextlib.suppress(PlaywrightTimeout):
                accept.click(timeout=10_000)
            page.wait_for_timeout(2000)
    now = page.locator(".st-key-sign-now button").first
    for _ in range(5):
        with contextlib.suppress(PlaywrightTimeout):
            page.locator(".st-key-sign button").first.click(timeout=15_000)
            now.wait_for(timeout=15_000)
            break
    looked = page.locator("[class*='st-key-looked-'] label")
    if looked.count():
        looked.click()
    expect(now).to_be_enabled(timeout=30_000)
    now.click()
    until(lambda: reports.final_version(Library(), case_id), "the report is signed", page)


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_a_real_case_from_a_zip_to_a_signed_report(shared, tmp_path, monkeypatch, language):
    source = shared / "cohorts" / "sts_ct_mr_pet" / "dicom"
    if not source.is_dir():
        pytest.skip(f"no {source}")
    home = tmp_path / "home"
    monkeypatch.setenv("MEDFUSE_HOME", str(home))
    accounts.add_account(Library(home), "bo", "long enough", "author", full_name="Bo Chen")
    images = tmp_path / "images"
    for n, path in enumerate(sorted(p for p in source.rglob("image/*") if p.is_file())):
        images.mkdir(exist_ok=True)
        shutil.copyfile(path, images / f"{n}.dcm")
    as_earlier_study(images, tmp_path / "earlier", "20010102")
    ingest(Library(home), tmp_path / "earlier")
    packed = shutil.make_archive(str(tmp_path / "study"), "zip", images)
    with serving(home) as url, browsing(url, width=1920, patience_s=3600) as page:
        signed_in(page, url, language)
        case_id = uploaded(page, packed, language)
        opened(page)
        shot(page, f"real-read-{language}-1920")
        fused(page, language)
        length = measured(page, case_id)
        compared(page, language)
        wrote(page, "findings", "Mass of the left thigh, intensely avid.")
        page.locator(".sentence", has_text="left thigh").locator(".text").click()
        page.locator(".marks summary").click()
        page.locator(f"[aria-label='{word('reader.insert_mark', language)}']").first.click()
        page.locator(".sentence textarea").press("Enter")
        page.locator(".sentence.edited", has_text=length).wait_for()
        wrote(page, "impression", ".fu ", *(("MR", "3") if language == "en" else ("3", "MR")))
        page.locator(
            ".sentence.edited", has_text=re.compile("with MR in 3 months|3 個月後以MR追蹤")
        ).wait_for()
        shot(page, f"real-report-{language}-1920")
        signed(page, case_id)
        page.locator(".acts").first.wait_for(state="detached")
        shot(page, f"real-signed-{language}-1920")
        assert not page.outside
        assert not page.problems
    final = reports.final_version(Library(), case_id).report
    said = " ".join(x.text for s in final.sections for x in s.sentences)
    assert "left thigh" in said
    assert length in said
    done = export_report(case_id, ("pdf", "sr", "kos"), tmp_path / "out", final.language, library=Library())
    folder = tmp_path / "out" / case_id
    assert {"report.pdf", "report.sr.dcm", "key_images.1.kos.dcm"} <= set(done.names)
    text = subprocess.run(
        ["pdftotext", str(folder / "report.pdf"), "-"], capture_output=True, text=True, check=True
    ).stdout
    assert "left thigh" in " ".join(text.split())
    assert "Bo Chen" in text


def test_the_structure_set_of_a_real_patient_is_outlined(shared, tmp_path, monkeypatch):
    source = shared / "cohorts" / "sts_ct_mr_pet" / "dicom"
    if not source.is_dir():
        pytest.skip(f"no {source}")
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path))
    (case_id,) = ingest(Library(tmp_path), source).cases
    with serving(tmp_path) as url, browsing(url, width=1920, patience_s=900) as page:
        page.goto(f"{url}/read?case={case_id}")
        canvas = viewport(page, "CT")
        settled(canvas)
        listed = page.locator("[data-referred]").first
        listed.get_by_role("button", name=re.compile("^Show where it is largest")).first.click()
        expect(canvas).not_to_have_attribute("data-others", "")
        settled(canvas)
        shot(page, "real-outlines-en-1920")
        assert not page.problems
