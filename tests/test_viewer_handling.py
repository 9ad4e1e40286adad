"""What hands do on the reading page, in a real browser: wheel, keys, pointer and measuring."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from playwright.sync_api import expect
from viewers import (
    CHROMIUM,
    browsing,
    drawn,
    measure,
    measurements,
    open_case,
    serving,
    settled,
    sign_in,
    viewport,
)

from medfuse.display.views import view_of
from medfuse.library import Library, accounts, reports, results
from medfuse.prediction import Place

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def desk(viewer_library, tmp_path_factory):
    """A served copy of the library with one author; address and case id."""
    home = tmp_path_factory.mktemp("desk") / "home"
    shutil.copytree(viewer_library[0], home)
    mark_ascites(Library(home), viewer_library[1].prediction.case_id)
    accounts.add_account(Library(home), "bo", "long enough", "author", full_name="Bo Chen")
    with serving(home) as url:
        yield home, url, viewer_library[1].prediction.case_id


def mark_ascites(library: Library, case_id: str) -> None:
    """Give a finding that has no lesion a place of its own in the CT."""
    prediction, report = results.load_result(library, case_id)
    n = next(i for i, image in enumerate(prediction.images) if image.modality == "CT")
    place = Place(image=n, slice=4, box_voxels=[[30, 30, 3], [60, 60, 5]])
    for f in prediction.findings:
        if f.id == "ascites":
            f.evidence = [place]
    results.save_result(library, prediction, report)


def at_the_desk(page, url: str, case_id: str) -> None:
    open_case(page, url, case_id)
    sign_in(page, "bo", "long enough")
    page.get_by_text("Bo Chen (author)").wait_for()
    page.locator(".acts").first.wait_for()


def plane(canvas) -> int:
    return int(canvas.get_attribute("data-index"))


def test_the_value_under_the_pointer_is_of_the_slice_shown_and_down_is_down(desk, viewer_library):
    """The readout kept the value of the slice before; wheel and keys went opposite ways; a trackpad raced."""
    _, url, case_id = desk
    view = view_of(viewer_library[2].images[viewer_library[1].prediction.lesions[0].place.image])
    with browsing(url) as page:
        open_case(page, url, case_id)
        canvas = viewport(page, "CT")
        start = plane(canvas)
        box = canvas.bounding_box()
        x, y, sx, sy = (float(v) for v in canvas.get_attribute("data-fit").split(","))
        # where the slices differ
        column, row = next(
            (c, r)
            for c in range(30, 90)
            for r in range(30, 90)
            if view.pixels[c, r, start] != view.pixels[c, r, start - 1]
        )
        page.mouse.move(box["x"] + x + (column + 0.5) * sx, box["y"] + y + (row + 0.5) * sy)

        def said(n: int) -> None:
            wanted = float(view.pixels[column, row, n])
            text = f"{wanted:.0f}" if wanted == round(wanted) else f"{wanted:.2f}"
            expect(page.locator(".pane[data-modality=CT] .readout")).to_have_text(re.compile(rf"^{text} HU"))

        def shows(n: int) -> None:
            expect(canvas).to_have_attribute("data-index", str(n))

        said(start)
        page.mouse.wheel(0, 100)  # one notch down: one slice towards the feet, like the key
        shows(start - 1)
        said(start - 1)
        page.keyboard.press("ArrowUp")
        shows(start)
        said(start)
        page.keyboard.press("ArrowDown")
        shows(start - 1)
        page.mouse.wheel(100, 0)  # sideways is no way through a stack
        page.wait_for_timeout(300)
        # a trackpad: 12 × 10 pixels are one notch; in one go, as a pause would begin anew
        canvas.evaluate(
            """el => { for (let i = 0; i < 12; i++)
              el.dispatchEvent(new WheelEvent('wheel', {deltaY: 10, bubbles: true, cancelable: true})) }"""
        )
        page.wait_for_timeout(300)
        shows(start - 2)
        assert not page.problems


def test_enter_and_space_press_the_button_that_has_the_focus(desk):
    home, url, case_id = desk
    with browsing(url) as page:
        at_the_desk(page, url, case_id)
        flip = page.get_by_role("button", name="Flip L/R")
        flip.focus()
        page.keyboard.press("Enter")
        expect(page.locator("button.on[aria-label='Flip L/R']")).to_have_count(1)
        assert page.locator(".sentence textarea").count() == 0  # Enter opened a sentence before
        page.locator(".pane[data-modality=US]").hover()
        page.get_by_role("button", name="Crosshair").focus()
        page.keyboard.press(" ")
        expect(page.locator("button.on[aria-label='Crosshair']")).to_have_count(1)
        assert "❚❚" not in page.locator(".pane[data-modality=US]").inner_text()  # Space played the cine
        slider = page.locator("input[aria-label='Opacity of evidence']")
        slider.focus()
        page.keyboard.press("ArrowDown")
        expect(slider).to_have_js_property("value", "0.9")


def test_a_finding_without_a_lesion_is_marked_where_it_lies(desk):
    _, url, case_id = desk
    with browsing(url) as page:
        open_case(page, url, case_id)
        page.locator("[data-finding=ascites]").click()
        canvas = viewport(page, "CT")
        expect(canvas).to_have_attribute("data-index", "4")
        page.wait_for_timeout(2000)  # the flash is over, the box stays
        yellow = drawn(canvas).astype(int)
        assert ((yellow[..., 0] > 200) & (yellow[..., 2] < 80)).sum() > 50
        assert re.fullmatch(r" · S[+−][\d.]+ mm · image \d+", canvas.get_attribute("data-where"))


def test_measuring_leaves_zoom_pan_and_3d_as_they_are(desk):
    home, url, case_id = desk
    with browsing(url, width=1800) as page:
        at_the_desk(page, url, case_id)
        pane = page.locator(".pane[data-modality=CT]")
        pane.get_by_role("button", name="MPR + 3D").click()
        page.get_by_role("button", name="Show in 3D").click()
        page.locator("canvas.three[data-rendered='1']").wait_for()
        canvas = viewport(page, "CT")
        canvas.hover()
        page.keyboard.down("Control")
        page.mouse.wheel(0, -100)
        page.mouse.wheel(0, -100)
        page.keyboard.up("Control")
        settled(canvas)
        fit = canvas.get_attribute("data-fit")
        measure(page, canvas, (-20, 0), (30, 0))
        settled(canvas)
        numbers = [[float(v) for v in text.split(",")] for text in (fit, canvas.get_attribute("data-fit"))]
        assert np.allclose(*numbers, atol=0.01)
        assert page.locator("canvas.three[data-rendered='1']").count() == 1
        assert not page.problems


def test_what_is_decided_on_can_be_read(desk):
    """The selected sentence went under the images, and keys accepted what nobody saw."""
    home, url, case_id = desk
    with browsing(url, width=1280, height=900) as page:
        at_the_desk(page, url, case_id)

        paper = page.locator("[data-testid=stColumn]:has(> * > * > .st-key-paper)").last

        def top() -> float:
            return paper.bounding_box()["y"]

        page.locator(".sentence .text").first.click()
        count = page.locator(".sentence").count()
        for key in ["j"] * (count - 1) + ["k"] * (count - 1):
            page.keyboard.press(key)
            page.wait_for_timeout(60)
            box = page.locator(".sentence.here").bounding_box()
            assert box["y"] >= top() - 1
            assert box["y"] < 900
        before = reports.current(Library(home), case_id).revision
        page.mouse.move(1150, 600)
        page.mouse.wheel(0, 3000)  # the reader looks at what lies below
        page.wait_for_timeout(300)
        assert page.locator(".sentence.here").bounding_box()["y"] < top()
        page.keyboard.press("a")  # the first brings it into sight
        page.wait_for_timeout(1500)
        assert page.locator(".sentence.here").bounding_box()["y"] >= top() - 1
        assert reports.current(Library(home), case_id).revision == before
        page.keyboard.press("a")
        page.locator(".sentence.accepted").first.wait_for()


def test_what_a_guest_measures_stays_through_the_next_one(desk):
    """The newest one vanished with the answer to it."""
    _, url, case_id = desk
    with browsing(url) as page:
        open_case(page, url, case_id)
        canvas = viewport(page, "CT")
        kept = measurements(page)  # by those who were here before
        measure(page, canvas, (-30, 0), (30, 0))
        page.get_by_text("Sign in as an author to keep measurements.").wait_for()  # the answer is here
        page.wait_for_timeout(1000)
        assert measurements(page) == kept + 1
        box = settled(canvas)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 30, y + 40)
        page.mouse.down()
        page.mouse.move(x + 30, y + 40, steps=4)
        page.mouse.up()
        page.get_by_text(f"Measurements ({kept + 2})").wait_for()
        page.wait_for_timeout(2500)  # the answer to it as well
        assert measurements(page) == kept + 2


STEPS = """async (canvas) => {
  const took = []
  for (let n = 0; n < 12; n++) {
    const [was, began] = [canvas.dataset.index, performance.now()]
    const key = n % 2 ? 'ArrowUp' : 'ArrowDown'
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))
    while (canvas.dataset.index === was) {
      if (performance.now() > began + 30000) throw new Error(`step ${n} from slice ${was} was not drawn`)
      await new Promise(requestAnimationFrame)
    }
    took.push(performance.now() - began)
  }
  return took.sort((a, b) => a - b)
}"""


def test_a_step_with_three_planes_and_3d_does_not_wait_for_the_rendering(desk):
    """It took up to 1.7 s: every step drew the rendering too, without a GPU."""
    _, url, case_id = desk
    with browsing(url, width=1800) as page:
        open_case(page, url, case_id)
        page.locator(".pane[data-modality=CT]").get_by_role("button", name="MPR + 3D").click()
        page.get_by_role("button", name="Show in 3D").click()
        page.locator("canvas.three[data-rendered='1']").wait_for()
        canvas = viewport(page, "CT")
        canvas.hover()
        settled(canvas)
        took = page.evaluate(STEPS, canvas.element_handle())
        assert took[6] < 300, took
        assert not page.problems


def test_no_tool_of_the_table_lies_over_the_buttons_of_the_worklist(desk):
    _, url, _ = desk
    with browsing(url, width=1280) as page:
        page.goto(url)
        page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
        page.locator("[data-testid=stDataFrame]").first.hover()
        page.wait_for_timeout(500)
        tools = page.locator("[class*='st-key-cases-'] [data-testid=stElementToolbar]")
        assert not any(x.is_visible() for x in tools.all())


def test_listeners_and_nodes_do_not_grow_with_openings(desk):
    """23 listeners stayed with each opening."""
    _, url, case_id = desk
    with browsing(url) as page:
        open_case(page, url, case_id)
        told = page.context.new_cdp_session(page)
        told.send("Performance.enable")
        counts = []
        for _ in range(4):
            page.locator("[data-testid=stSidebarNav] a").nth(0).click()
            page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
            page.wait_for_timeout(3500)  # a part that does not come back is closed
            told.send("HeapProfiler.collectGarbage")
            now = {x["name"]: x["value"] for x in told.send("Performance.getMetrics")["metrics"]}
            counts.append((now["JSEventListeners"], now["Nodes"]))
            page.locator("[data-testid=stSidebarNav] a").nth(1).click()
            page.locator(".viewport[data-loaded='1']").nth(2).wait_for()
    assert counts[-1][0] - counts[1][0] <= 10, counts
    assert counts[-1][1] - counts[1][1] <= 40, counts
