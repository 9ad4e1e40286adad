"""Faults that endangered a patient, each seen in a browser: whose case opens, what is said, who may what."""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib

import pytest
from playwright.sync_api import expect
from sqlalchemy import delete
from viewers import (
    CHROMIUM,
    as_earlier_study,
    browsing,
    choose_row,
    one_uploader,
    open_case,
    serving,
    sign_in,
    until,
    viewport,
)

from apps.viewer.words import dated
from medfuse.library import Library, accounts, audit, store
from medfuse.library.catalogue import CaseRow
from medfuse.library.ingest import ingest

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def desk(viewer_library, patient_dicom, tmp_path_factory):
    """A served copy of the library with an account and an earlier study of the patient that nobody predicted:
    home, address, the two cases."""
    home = tmp_path_factory.mktemp("safe") / "home"
    shutil.copytree(viewer_library[0], home)
    now = viewer_library[1].prediction.case_id
    as_earlier_study(patient_dicom / "CT", home.parent / "earlier")
    accounts.add_account(Library(home), "bo", "long enough", "author")
    (earlier,) = ingest(Library(home), home.parent / "earlier").cases
    with serving(home) as url:
        yield home, url, now, earlier


def test_the_chosen_patient_opens_when_a_newer_study_arrives_or_a_filter_is_typed(desk):
    home, url, now, _ = desk
    with Library(home).session() as s:  # of a first try
        s.execute(delete(CaseRow).where(CaseRow.id == "newer"))
    with browsing(url) as page:
        page.goto(url)
        choose_row(page)  # the newest study
        page.locator(".st-key-open button").wait_for()
        with Library(home).session() as s:
            s.merge(CaseRow(id="newer", patient_id="SOMEBODY-ELSE", study_date="20990101"))
        words = page.get_by_label("Patient or case", exact=True)
        words.fill(" ")
        words.press("Enter")  # the table is read anew, with another patient in its first row
        page.get_by_text(re.compile("^Cases: 3")).wait_for()
        page.wait_for_timeout(1500)
        opening = page.locator(".st-key-open button")
        if opening.count():  # what is still chosen is who was chosen
            opening.click()
            page.locator(".viewport[data-loaded='1']").nth(2).wait_for()
            page.wait_for_url(f"**case={now}*")
        else:
            page.locator(".st-key-open button").wait_for(state="detached")  # nothing is chosen by its number
        assert not page.problems
    with Library(home).session() as s:
        s.delete(s.get(CaseRow, "newer"))


def test_who_it_is_what_was_not_read_and_what_is_no_question_for_the_task(desk):
    home, url, now, _ = desk
    who = store.identity_of(Library(home), now)
    before = len([e for e in audit.entries(Library(home)) if e.event == "predicted"])
    with browsing(url) as page:
        open_case(page, url, now)
        told = page.locator("[data-testid=stMarkdown]", has_text="Patient").first
        for said in (who.patient_id, who.sex, dated(who.study_date)):
            expect(told).to_contain_text(said)
        page.get_by_text(
            "An earlier study of this patient (2019-01-02)"
        ).wait_for()  # in the library, not read yet
        question = page.get_by_placeholder(re.compile("Is there", re.IGNORECASE))
        for asked, refused in (
            (
                "Is the lesion malignant and what should be done next?",
                "one thing at a time|advice|several|two",
            ),
            ("Is there hydronephrosis?", "cannot tell"),
        ):
            question.fill(asked)
            question.press("Enter")
            answer = page.get_by_text(asked, exact=True).locator(
                "xpath=ancestor::*[@data-testid='stMarkdown'][1]"
            )
            answer.wait_for()
            assert not re.search(r"\byes\b", answer.inner_text()), answer.inner_text()
            assert re.search(refused, page.locator(".st-key-paper").inner_text()), asked
        place = viewport(page, "CT").get_attribute("data-where")
        assert re.search(r"S[+−][\d.]+ mm · image \d+", place)  # in the patient, and as a PACS counts
        assert not page.problems
    with browsing(url) as page:  # a guest predicts and uploads nothing
        page.goto(url)
        choose_row(page)
        page.locator(".st-key-open button").wait_for()
        expect(page.locator(".st-key-predict button")).to_be_disabled()
    assert len([e for e in audit.entries(Library(home)) if e.event == "predicted"]) == before


def test_without_a_draft_there_is_a_report_to_write_and_nothing_to_sign(desk):
    _, url, _, earlier = desk
    with browsing(url) as page:
        page.goto(f"{url}/read?case={earlier}")
        page.locator(".viewport[data-loaded='1']").first.wait_for()
        sign_in(page, "bo", "long enough")
        page.get_by_role("button", name="Write a report by hand").click()
        page.locator("[data-add=findings]").wait_for()
        page.locator("[data-add=impression]").wait_for()
        assert page.locator(".st-key-sign button:enabled").count() == 0
        assert not page.problems


def test_a_zip_with_a_damaged_member_is_one_sentence(desk, patient_dicom, tmp_path):
    _, url, _, _ = desk
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted((patient_dicom / "CT").rglob("*.dcm"))[:2]:
            packed.write(file, file.name)
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)  # inside the first member's deflated stream
    path.write_bytes(bytes(data))
    with zipfile.ZipFile(path) as packed, pytest.raises((zlib.error, zipfile.BadZipFile)):
        packed.read(packed.namelist()[0])
    with browsing(url) as page:
        page.goto(url)
        page.get_by_text("Add studies").click()
        one_uploader(page).set_input_files([path])
        button = page.get_by_role("button", name="Add to the library")
        if button.is_enabled():
            button.click()
            until(lambda: page.get_by_text("damaged.zip").count(), "it is named", page)
        assert page.locator("[data-testid=stException]").count() == 0
        assert not page.problems
