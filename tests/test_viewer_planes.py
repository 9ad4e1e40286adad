"""Planes that know of each other, in a real browser: where one cuts another, and several slices as one."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from viewers import CHROMIUM, browsing, open_case, serving, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def desk(viewer_library):
    """The library, served; its address and case id."""
    with serving(viewer_library[0]) as url:
        yield url, viewer_library[1].prediction.case_id


def two_of_the_ct(page) -> tuple:
    """The same CT in two viewports, axial and coronal."""
    page.locator("select[aria-label=Grid]").select_option("1×2")
    first, second = (page.locator(".pane").nth(n) for n in (0, 1))
    series = page.locator(".strip button[aria-label^='CT ']").first
    for pane in (first, second):
        pane.hover()
        series.dblclick()
    second.locator("select[aria-label='Plane']").select_option("coronal")
    canvases = first.locator("canvas.viewport"), second.locator("canvas.viewport[data-plane=coronal]")
    for canvas in canvases:
        settled(canvas)
    return canvases


def test_the_active_plane_is_a_line_on_the_others(desk):
    url, case_id = desk
    with browsing(url) as page:
        open_case(page, url, case_id)
        axial, coronal = two_of_the_ct(page)
        slices = int(page.locator(".pane").first.locator("input[type=range]").get_attribute("max"))
        axial.hover()
        page.keyboard.press("ArrowUp")
        index = int(axial.get_attribute("data-index"))
        # the head is at the top of a coronal plane
        page.wait_for_function(
            "([c, v]) => c.dataset.reference.split(',').map(Number)[1] === v",
            arg=[coronal.element_handle(), slices - 1 - index + 0.5],
        )
        x0, y0, x1, y1 = (float(v) for v in coronal.get_attribute("data-reference").split(","))
        assert y0 == y1
        assert abs(x1 - x0) == 128  # the whole width of the simulated CT
        expect(axial).to_have_attribute("data-reference", "")  # none on itself
        coronal.hover()
        expect(coronal).to_have_attribute("data-reference", "")
        expect(axial).not_to_have_attribute("data-reference", "")
        page.keyboard.press("R")
        expect(axial).to_have_attribute("data-reference", "")
        assert not page.problems
