"""The whole viewer in a browser: no English word in the Chinese one, nothing serious that axe finds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from viewers import CHROMIUM, browsing, choose_row, serving

from apps.viewer import words
from medfuse.library import Library, accounts

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]
FRONT_END = Path(words.__file__).parent / "frontend"
AXE = FRONT_END / "node_modules" / "axe-core" / "axe.min.js"
# what Streamlit says where nobody gives it words
FRAMEWORK = {"Choose an option", "Choose options", "No results", "Press Enter to apply"}
PAGES = ("worklist", "search", "cohort", "rate", "people", "read")
# what stands on the page as text, and in our own components also as a hint; a report is in its own language
TEXTS = """() => {
  const out = new Set()
  const walk = (node, ours) => {
    if (node.nodeType === 3) out.add(node.textContent.trim())
    if (node.nodeType !== 1 && node.nodeType !== 11) return
    if (node.classList?.contains('report') || ['STYLE', 'SCRIPT'].includes(node.tagName)) return
    const said = ours ? ['title', 'aria-label', 'placeholder'] : []
    for (const a of said) out.add((node.getAttribute?.(a) ?? '').trim())
    if (node.shadowRoot) walk(node.shadowRoot, true)
    node.childNodes.forEach((child) => walk(child, ours))
  }
  walk(document.body, false)
  return [...out]
}"""


@pytest.fixture(scope="module")
def desk(viewer_library, tmp_path_factory):
    """A served copy of the library with an admin; its address and case id."""
    home = tmp_path_factory.mktemp("whole") / "home"
    shutil.copytree(viewer_library[0], home)
    accounts.add_account(Library(home), "ad", "long enough", "admin", full_name="Ada Ho")
    with serving(home) as url:
        yield url, viewer_library[1].prediction.case_id


def translated() -> Iterator[str]:
    """Every English phrase that has other words in Chinese."""
    waiting = [yaml.safe_load((Path(words.__file__).parent / "words.yaml").read_text(encoding="utf-8"))]
    while waiting:
        for value in waiting.pop().values():
            if isinstance(value, dict):
                waiting.append(value)
            elif value[0] != value[1] and len(value[0]) > 2:
                yield str(value[0])


def signed_in(page, url: str) -> None:
    """As the admin, in Chinese."""
    page.goto(f"{url}/?language=zh-TW")
    page.get_by_text("登入", exact=True).first.click()
    page.get_by_label("帳號", exact=True).fill("ad")
    page.get_by_label("密碼", exact=True).fill("long enough")
    page.get_by_role("button", name="登入").click()
    page.get_by_text("Ada Ho（管理者）").wait_for()  # a page that is left before is a guest's


def go(page, url: str, name: str, case_id: str) -> None:
    """One page of the Chinese viewer, drawn."""
    path = "" if name == PAGES[0] else name
    page.goto(f"{url}/{path}?language=zh-TW" + (f"&case={case_id}" if name == "read" else ""))
    page.get_by_text("Ada Ho（管理者）").wait_for()
    if name == "read":
        page.locator(".viewport[data-loaded='1']").nth(2).wait_for()
        page.locator(".acts").first.wait_for()
        page.locator(".findings").wait_for()
    else:
        page.locator("h3").first.wait_for()


def test_no_english_word_is_left_in_the_chinese_viewer(desk):
    url, case_id = desk
    english = {*translated(), *FRAMEWORK} - set(
        words.LANGUAGES.values()
    )  # a language is called by its own name
    left: dict[str, set[str]] = {}
    with browsing(url) as page:
        signed_in(page, url)
        for name in PAGES:
            go(page, url, name, case_id)
            if name == PAGES[0]:
                choose_row(page)
                page.locator(".st-key-open button").wait_for()
            if name == "read":
                canvases = page.locator("canvas.viewport")
                said = canvases.evaluate_all("xs => xs.map((x) => [x.role, x.ariaLabel])")
                assert all(role == "img" and "SIM" in label and "/" in label for role, label in said), said
            left[name] = set(page.evaluate(TEXTS)) & english
    assert not any(left.values()), left


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core: npm ci in apps/viewer/frontend")
def test_axe_finds_nothing_serious_on_any_page(desk):
    """The whole of each page, also what Streamlit draws around our own parts."""
    url, case_id = desk
    serious: dict[str, dict[str, list[str]]] = {}
    with browsing(url) as page:
        signed_in(page, url)
        for name in PAGES:
            go(page, url, name, case_id)
            page.evaluate(AXE.read_text(encoding="utf-8"))
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            bad = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
            serious[name] = {v["id"]: [n["html"][:160] for n in v["nodes"]][:4] for v in bad}
    assert not any(serious.values()), serious
