"""Drawing on the images, in a real browser: marks are objects, keys are a person's own."""

from __future__ import annotations

import re
import shutil

import pytest
from playwright.sync_api import expect
from viewers import (
    CHROMIUM,
    browsing,
    measure,
    open_case,
    serving,
    settled,
    shot,
    sign_in,
    take_tool,
    until,
    viewport,
)

from medfuse.library import Library, accounts, desks, workbench

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def desk(viewer_library, tmp_path_factory):
    """A served copy of the library with one author; its home, address and case id."""
    home = tmp_path_factory.mktemp("marks") / "home"
    shutil.copytree(viewer_library[0], home)
    accounts.add_account(Library(home), "bo", "long enough", "author", full_name="Bo Chen")
    with serving(home) as url:
        yield home, url, viewer_library[1].prediction.case_id


def kept(page, home, case_id: str, wanted: list[str]) -> list:
    """The marks of the library, once they are of these kinds."""

    def now() -> list:
        marks = workbench.measurements(Library(home), case_id)
        return marks if [m.kind for m in marks] == wanted else []

    return until(now, f"{wanted} are kept", page)


def test_a_mark_is_drawn_moved_undone_listed_and_put_into_a_sentence(desk):
    home, url, case_id = desk
    bo = accounts.list_accounts(Library(home))[0]
    for left_over in workbench.measurements(Library(home), case_id):  # of a first try
        workbench.remove_measurement(Library(home), left_over.id, bo)
    with browsing(url) as page:
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        page.locator(".acts").first.wait_for()
        canvas = viewport(page, "CT")
        measure(page, canvas, (-60, -20), (-20, -20))
        (drawn,) = kept(page, home, case_id, ["distance"])
        assert drawn.author == "bo"
        # its end is taken and moved
        take_tool(page, "navigate")
        box = settled(canvas)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 20, y - 20)
        page.mouse.down()
        page.mouse.move(x + 20, y - 20, steps=4)
        page.mouse.up()

        def longer() -> list:
            return [m for m in workbench.measurements(Library(home), case_id) if m.value > drawn.value]

        (moved,) = until(longer, "the mark is longer", page)
        assert moved.value == pytest.approx(2 * drawn.value, rel=0.1)
        assert moved.id == drawn.id
        # an angle takes a line and a point
        take_tool(page, "angle")
        page.mouse.move(x - 40, y + 60)
        page.mouse.down()
        page.mouse.move(x, y + 60, steps=3)
        page.mouse.up()
        page.mouse.move(x, y + 20, steps=3)
        page.mouse.down()
        page.mouse.up()
        page.get_by_text("Measurements (2)").wait_for()
        angle = kept(page, home, case_id, ["distance", "angle"])[1]
        assert angle.value == pytest.approx(90, abs=3)
        page.keyboard.press("z")  # undone, and done again
        kept(page, home, case_id, ["distance"])
        page.get_by_text("Measurements (1)").wait_for()
        page.keyboard.press("y")
        kept(page, home, case_id, ["distance", "angle"])
        page.keyboard.press("s")  # the slice is a key image
        kept(page, home, case_id, ["distance", "angle", "key"])
        # the list leads back, and into the report
        here = canvas.get_attribute("data-index")
        canvas.hover()
        page.keyboard.press("ArrowUp")
        expect(canvas).not_to_have_attribute("data-index", here)
        page.locator(".marks summary").click()
        page.locator(".mark .jump").first.click()
        expect(canvas).to_have_attribute("data-index", here)
        page.locator(".sentence .text").first.click()
        page.locator("[aria-label='Put into the chosen sentence']").first.click()
        page.locator(".sentence textarea").wait_for()
        assert moved.text in page.locator(".sentence textarea").input_value()
        assert not page.problems


def test_a_region_is_drawn_by_hand_and_is_what_the_line_encloses(desk):
    home, url, case_id = desk
    bo = accounts.list_accounts(Library(home))[0]
    for left_over in workbench.measurements(Library(home), case_id):
        workbench.remove_measurement(Library(home), left_over.id, bo)
    with browsing(url) as page:
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        page.locator(".acts").first.wait_for()
        canvas = viewport(page, "CT")
        take_tool(page, "freehand")
        box = settled(canvas)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 60, y)
        page.mouse.down()
        for to in ((x, y - 60), (x + 60, y), (x, y + 60), (x - 55, y + 5)):
            page.mouse.move(*to, steps=8)
        page.mouse.up()
        (region,) = kept(page, home, case_id, ["freehand"])
        assert 25 <= len(region.points) <= 40
        sx, sy = (float(v) for v in canvas.get_attribute("data-fit").split(",")[2:])
        assert region.pixels == pytest.approx(2 * 60 * 60 / (sx * sy), rel=0.06)  # a square on its corner
        assert re.fullmatch(r"-?[\d.]+ ± [\d.]+ HU · \d+ mm²", region.text)
        page.locator(".mark small", has_text="bo 20").wait_for(state="attached")
        # moved as a whole
        take_tool(page, "navigate")
        page.mouse.move(x - 30, y - 30)
        page.mouse.down()
        page.mouse.move(x - 10, y - 30, steps=4)
        page.mouse.up()

        def moved() -> bool:
            now = workbench.measurements(Library(home), case_id)[0]
            return now.points[0][0] == pytest.approx(region.points[0][0] + 20 / sx, abs=0.2)

        until(moved, "the region is moved", page)
        page.keyboard.press("s")
        kept(page, home, case_id, ["freehand", "key"])
        page.get_by_text("Measurements (2)").wait_for()
        shot(page, "marks-en-1600")
        assert not page.problems


def test_a_window_is_kept_by_a_name_for_this_person(desk):
    home, url, case_id = desk
    with browsing(url) as page:
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        page.locator("[data-action=save]").wait_for()
        canvas = viewport(page, "CT")
        box = settled(canvas)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down(button="right")
        page.mouse.move(x + 40, y + 20, steps=4)
        page.mouse.up(button="right")
        shown = canvas.get_attribute("data-window")
        wanted = [float(v) for v in shown.split(",")]
        assert wanted != [40, 400]
        presets = page.locator(".pane[data-modality=CT] select[aria-label=Window]")
        presets.select_option("+")
        page.get_by_label("Name of this window, then Enter").fill("<b>mine")
        page.keyboard.press("Enter")

        def kept_window() -> dict:
            found = desks.desk_of(Library(home), accounts.list_accounts(Library(home))[0])
            return found.windows if found else {}

        until(kept_window, "the window is kept", page)
        assert list(kept_window()["CT"]["<b>mine"]) == pytest.approx(wanted)
        page.locator(".pane[data-modality=CT] option[value='<b>mine']").wait_for(state="attached")
        presets.select_option("Abdomen")
        expect(canvas).to_have_attribute("data-window", "40,400")
        presets.select_option("<b>mine")
        expect(canvas).to_have_attribute("data-window", shown)
        presets.select_option("-")
        until(lambda: not kept_window()["CT"], "the window is dropped", page)
        assert not page.problems


def test_the_page_of_keys_changes_them_for_this_person(desk):
    """A line above the images that came or went mounted them anew: tool, open dialog and keys were lost."""
    home, url, case_id = desk
    with browsing(url) as page:
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        page.locator("[data-action=save]").wait_for()
    with browsing(url) as page:
        open_case(page, url, case_id)
        page.get_by_text("Being read by bo").wait_for()
        take_tool(page, "angle")
        page.locator(".reader").evaluate("r => r.dataset.first = 1")
        sign_in(page, "bo", "long enough")
        page.locator("[data-action=save]").wait_for()
        page.get_by_text("Being read by bo").wait_for(state="detached")
        assert page.locator(".reader[data-first] [data-tool=angle][aria-pressed=true]").count() == 1
        page.wait_for_function(  # down to the end of the window again
            "window.innerHeight - document.querySelector('.st-key-paper').closest('[data-testid=stColumn]')"
            ".getBoundingClientRect().bottom < 25"
        )
        viewport(page, "CT").hover()
        page.keyboard.press("?")
        page.locator("dialog.keys[open]").wait_for()
        shot(page, "keys-en-1600")
        page.locator("dialog.keys [data-key=distance]").click()
        page.locator("dialog.keys [data-key=distance].on").wait_for()
        page.keyboard.press("D")
        page.locator("dialog.keys [data-key=distance]", has_text="D").wait_for()

        def kept_keys() -> bool:
            found = desks.desk_of(Library(home), accounts.list_accounts(Library(home))[0])
            return found is not None and found.keys == {"distance": "D"}

        until(kept_keys, "the key is kept", page)
        page.locator("dialog.keys").get_by_role("button", name="Close").click()
        page.keyboard.press("d")  # does nothing any more
        page.keyboard.press("D")
        page.locator("[data-tool=distance][aria-pressed=true]").wait_for()
        assert not page.problems


MOVED = """async () => {
  const { mount, unmount } = await import('/medfuse/ui/medfuse.js')
  const places = [0, 1].map(() => document.body.appendChild(document.createElement('div')))
  const data = { part: 'reader', key: 'moved', case_id: 'X', case_key: 'X', images: [],
    modalities: [], states: {}, places: [], measurements: [], taken: 0, whose: {}, hangings: [], heard: {},
    keys: { distance: 'd', angle: 'n', help: '?' }, words: { tools: {}, keys: {} } }
  const press = (key) => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))
  const at = (n) => mount({ parentElement: places[n], data, setTriggerValue: () => {} })
  at(0)
  const first = places[0].querySelector('.reader')
  press('?')
  unmount(places[0])
  press('Escape')
  at(1)
  const open = places[1].querySelector('dialog').matches(':modal')
  places[1].querySelector('dialog').close()
  press('n')
  unmount(places[1])
  press('d') // while it is nowhere
  const nowhere = document.querySelectorAll('.reader[data-case=X]').length
  at(0)
  const tool = places[0].querySelector('[aria-pressed=true][data-tool]')?.dataset.tool
  const same = places[0].querySelector('.reader') === first
  unmount(places[0])
  await new Promise((done) => setTimeout(done, 4000))
  at(1)
  return { open, tool, same, nowhere, anew: places[1].querySelector('.reader') !== first }
}"""


def test_what_is_mounted_in_another_place_goes_on_as_it_was(desk):
    _, url, _ = desk
    with browsing(url) as page:
        page.goto(url)
        found = page.evaluate(MOVED)
    assert found == {"open": True, "tool": "distance", "same": True, "nowhere": 0, "anew": True}


LOST = """async () => {
  const { mount } = await import('/medfuse/ui/medfuse.js')
  const root = document.body.appendChild(document.createElement('div'))
  const sentence = { text: 'No stone.', finding: '', assertion: 'absent', state: 'drafted', chips: [] }
  const sections = [{ id: 'findings', title: 'Findings', sentences: [sentence] }]
  const data = { part: 'report', key: 'lost', heard: {}, revision: 1, sections, may_edit: true, pending: null,
    words: { acts: {}, sentence_states: {} }, macros: {}, keys: {} }
  const sent = []
  const draw = (heard) => mount({ parentElement: root, data: { ...data, heard },
    setTriggerValue: (event, value) => sent.push([event, value.serial]) })
  const wait = (ms) => new Promise((done) => setTimeout(done, ms))
  draw({})
  root.querySelector('[data-act=accept]').click()
  await wait(2500)
  const again = [...sent]
  draw({ changed: sent[0][1] })
  await wait(4500)
  return [again, sent]
}"""


def test_a_message_that_is_lost_is_sent_again_until_it_was_heard(desk):
    home, url, case_id = desk
    with browsing(url) as page:
        open_case(page, url, case_id)
        again, sent = page.evaluate(LOST)
    assert [event for event, _ in again] == ["changed", "changed"]
    assert again[0] == again[1]
    assert sent == again
