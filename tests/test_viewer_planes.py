"""Planes that know of each other, in a real browser: where one cuts another, and several slices as one."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect
from viewers import CHROMIUM, browsing, open_case, sampled, serving, settled, shot, viewport

from medfuse.display.views import view_of, window_of

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
        shot(page, "reference-en-1600")
        assert abs(x1 - x0) == 128  # the whole width of the simulated CT
        expect(axial).to_have_attribute("data-reference", "")  # none on itself
        coronal.hover()
        expect(coronal).to_have_attribute("data-reference", "")
        expect(axial).not_to_have_attribute("data-reference", "")
        page.keyboard.press("R")
        expect(axial).to_have_attribute("data-reference", "")
        assert not page.problems


STRANGE = """async () => {
  const { mount, unmount } = await import('/medfuse/ui/medfuse.js')
  const root = document.body.appendChild(document.createElement('div'))
  const line = { depth: 0, tag: '(0010,0010)', name: '<b id=bold>', vr: 'PN', value: '<img src=x id=image>' }
  const data = { part: 'reader', key: 'strange', case_id: 'X', case_key: 'X', images: [], modalities: [],
    states: {}, places: [], measurements: [], taken: 0, whose: {}, hangings: [], keys: {}, heard: {},
    words: { tools: {}, keys: {}, tags_count: '{n} of {all}' },
    tags: { image: 0, slice: 0, lines: [line], left: 0, problem: '' } }
  mount({ parentElement: root, data, setTriggerValue: () => {} })
  const said = root.querySelector('dialog.tags table').textContent
  const made = root.querySelectorAll('#bold, #image').length
  root.querySelector('dialog.tags').close()
  unmount(root)
  return [said, made]
}"""


def test_the_header_of_a_slice_is_shown_searched_and_put_away(desk):
    url, case_id = desk
    with browsing(url) as page:
        open_case(page, url, case_id)
        said, made = page.evaluate(STRANGE)
        assert said == "(0010,0010)PN<b id=bold><img src=x id=image>"
        assert made == 0
        page.locator(".pane[data-modality=CT] canvas").hover()
        index = page.locator(".pane[data-modality=CT] canvas").get_attribute("data-index")
        number = page.locator(".pane[data-modality=CT] canvas").get_attribute("data-where").split()[-1]
        page.keyboard.press("T")
        dialog = page.locator("dialog.tags[open]")
        dialog.wait_for()
        shot(page, "tags-en-1600")
        every = dialog.locator("tr").count()
        assert every > 40
        dialog.locator("input").fill("instance number")
        row = dialog.locator("tr", has_text="Instance Number")
        expect(row).to_contain_text(number)  # of the slice that was shown
        assert dialog.locator("tr").count() < 5
        dialog.locator("input").fill("00100020")
        expect(dialog.locator("tr")).to_have_count(1)
        dialog.locator("input").press("d")  # letters are for the search alone
        assert page.locator("[data-tool=navigate][aria-pressed=true]").count() == 1
        page.keyboard.press("Escape")
        dialog.wait_for(state="detached")
        page.wait_for_timeout(500)
        assert page.locator("dialog.tags[open]").count() == 0
        expect(page.locator(".pane[data-modality=CT] canvas")).to_have_attribute("data-index", index)
        assert not page.problems


def test_a_thick_slab_is_the_largest_smallest_or_mean_value(desk, viewer_library):
    url, case_id = desk
    with browsing(url) as page:
        open_case(page, url, case_id)
        pane = page.locator(".pane[data-modality=CT]")
        canvas = viewport(page, "CT")
        image = viewer_library[2].images[int(canvas.get_attribute("data-image"))]
        view = view_of(image)
        page.locator("[data-action=evidence]").click()  # boxes off
        pane.locator("select[aria-label='Thick slab']").select_option("mip")
        pane.locator("select[aria-label=Thickness]").select_option("50")
        index = int(canvas.get_attribute("data-index"))
        half = int(50 / view.spacing[2] / 2)
        assert half >= 2
        slab = view.pixels[:, :, index - half : index + half + 1]
        centre, width = window_of(image)
        for kind, of in (("mip", np.max), ("minip", np.min), ("mean", np.mean)):
            pane.locator("select[aria-label='Thick slab']").select_option(kind)
            page.mouse.move(5, 5)
            settled(canvas)
            values = of(slab, axis=2).T
            wanted = np.clip((np.round(values) - centre + width / 2) / width, 0, 1) * 255
            found = sampled(canvas, wanted.shape)
            inner = tuple(np.s_[n // 3 : -(n // 3)] for n in wanted.shape)  # no word stands there
            off = np.abs(found[inner] - wanted[inner])
            assert np.median(off) <= 2, kind
            assert np.mean(off <= 12) > 0.95, kind  # smoothed between pixels
            assert np.abs(view.pixels[:, :, index].T[inner] - values[inner]).mean() > 1
        assert not page.problems
