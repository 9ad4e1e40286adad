"""The grid of viewports: whose images they are, which series stand where, the earlier study beside them."""

from __future__ import annotations

import shutil

import pytest
from viewers import CHROMIUM, as_earlier_study, browsing, open_case, serving, settled, sign_in

from apps.viewer import keys
from apps.viewer.hangings import SHIPPED, fitting, kind_of, load_protocols
from medfuse.display.hanging import Cell, Hanging
from medfuse.errors import UserError
from medfuse.library import Library, accounts, desks
from medfuse.library.ingest import ingest

BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@pytest.fixture(scope="module")
def desk(viewer_library, patient_dicom, tmp_path_factory):
    """A served copy of the library with an earlier study and one author; its home, address and case id."""
    folder = tmp_path_factory.mktemp("grid")
    home = folder / "home"
    shutil.copytree(viewer_library[0], home)
    as_earlier_study(patient_dicom, folder / "earlier")
    ingest(Library(home), folder / "earlier")
    accounts.add_account(Library(home), "bo", "long enough", "author", full_name="Bo Chen")
    with serving(home) as url:
        yield home, url, viewer_library[1].prediction.case_id


@BROWSER
@pytest.mark.browser
@pytest.mark.parametrize(("width", "share"), [(1280, 0.5), (1920, 0.6)])
def test_the_images_come_first(desk, width, share):
    """At least half of a narrow window and three fifths of a wide one, and nothing to scroll."""
    _, url, case_id = desk
    with browsing(url, width=width, height=1000) as page:
        open_case(page, url, case_id)
        settled(page.locator(".viewport").first)
        box = page.locator(".reader").bounding_box()
        assert box["width"] * box["height"] >= share * width * 1000
        assert box["y"] + box["height"] <= 1000
        assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight") <= 1000
        divider = page.locator("[role=separator]")
        divider.focus()
        page.keyboard.press("ArrowLeft")
        page.wait_for_function(
            "w => Number(document.documentElement.style.getPropertyValue('--images-width')"
            ".replace('px', '')) < w",
            arg=box["width"] - 5,
        )
        assert not page.problems


@BROWSER
@pytest.mark.browser
def test_any_series_into_any_viewport_and_the_prior_beside_it(desk):
    home, url, case_id = desk
    with browsing(url, width=1600) as page:
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        page.get_by_text("Bo Chen (author)").wait_for()
        page.locator("[aria-label='Open studies of this kind so']").wait_for()
        page.locator("select[aria-label=Grid]").select_option("2×2")
        page.locator(".pane").nth(3).wait_for()
        series = page.locator(".strip button[aria-label^='CT ']")
        shown = [page.locator(f".pane:nth-of-type({n})").first for n in (1, 2)]
        shown[0].hover()
        series.nth(0).dblclick()  # into the active viewport
        page.locator(".pane:nth-of-type(1)[data-modality=CT]").wait_for()
        series.nth(1).drag_to(page.locator(".pane:nth-of-type(2) canvas"))
        page.locator(".pane:nth-of-type(2)[data-modality=CT]").wait_for()
        page.locator(".pane:nth-of-type(3)").hover()
        series.nth(2).focus()
        page.keyboard.press("Enter")  # without a mouse
        page.locator(".pane:nth-of-type(3)[data-modality=CT] .viewport[data-loaded='1']").wait_for()
        # kept for studies of this kind
        page.locator("[data-action=save]").click()
        page.get_by_text("open so from now on").wait_for()
        kept = desks.desk_of(Library(home), accounts.list_accounts(Library(home))[0]).hangings["CT+MR+US"]
        assert (kept.rows, kept.columns) == (2, 2)
        assert [c.modality for c in kept.cells][:3] == ["CT", "CT", "CT"]
        # the earlier study on one click, synchronised
        page.locator("[data-action=prior]").click()
        page.locator(".strip button.prior").first.wait_for()
        both = page.locator(".board .viewport[data-loaded='1']")
        both.nth(1).wait_for()
        settled(both.nth(0))
        before = [int(both.nth(n).get_attribute("data-index")) for n in (0, 1)]
        both.nth(0).hover()
        page.keyboard.press("ArrowUp")
        for n in (0, 1):
            page.locator(f".pane:nth-of-type({n + 1}) .viewport[data-index='{before[n] + 1}']").wait_for()
        assert not page.problems
        assert not page.outside


def test_a_protocol_hangs_what_fits_and_a_person_comes_first():
    known = load_protocols(SHIPPED.parent / "nowhere")
    offered = fitting(known, {"CT"}, "zh-TW", "auto")
    assert offered[0].name == "auto"
    assert {"ct-planes", "ct-windows"} == {h.name for h in offered[1:]}
    own = Hanging(name="own", rows=1, columns=1, cells=[Cell(modality="CT")])
    assert fitting(known, {"CT"}, "en", "auto", own)[0] == own
    assert kind_of({"MR", "CT"}) == "CT+MR"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hangings: {x: {title: [a, b], rows: 4, columns: 1, cells: [{modality: CT}]}}", "rows"),
        ("hangings: {x: {title: [a, b], rows: 1, columns: 1, cells: [{plane: oblique}]}}", "plane"),
        ("hangings: [", "while parsing"),
    ],
)
def test_a_protocol_of_another_form_is_named(tmp_path, text, said):
    (tmp_path / "hangings.yaml").write_text(text)
    with pytest.raises(UserError, match=r"hangings.yaml: not valid .*; mend it") as e:
        load_protocols(tmp_path)
    assert said in str(e.value)


def test_a_protocol_of_ones_own_is_hung_first_where_it_says_so(tmp_path):
    (tmp_path / "hangings.yaml").write_text(
        "hangings: {mine: {title: [Mine, 我的], needs: [CT], default: true, rows: 1, columns: 2, "
        "cells: [{modality: CT}, {modality: CT, prior: true}]}}"
    )
    first = fitting(load_protocols(tmp_path), {"CT", "MR"}, "zh-TW", "auto")[0]
    assert (first.title, first.columns, first.cells[1].prior) == ("我的", 2, True)


def test_no_key_of_the_house_does_two_things():
    assert not keys.checked({})
    assert len(set(keys.table().values())) == len(keys.table())
