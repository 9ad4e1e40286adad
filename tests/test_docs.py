"""The documentation says what the code says: every command and option, and no link to nowhere."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from house import ROOT
from reference_files import MODELS, parts_of_kinds, purpose, silent_fields
from reference_pages import DOCS, PAGES, commands, parameters
from reference_registries import FURTHER_VARIABLES, silent_entries, variables_in

from medfuse.settings import Settings

MARKDOWN = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
PLACES = [ROOT, ROOT / "medfuse", ROOT / "apps", ROOT / "apps" / "viewer", ROOT / "tests"]
SOURCE = re.compile(r"`([\w.-]+/[\w./-]+\.py)\b[^`]*`")
INSIDE = {"MEDFUSE_BATCH_PARENT"}  # set by medfuse for its own processes
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#([^)\s]*))?\)")


@pytest.mark.parametrize("name", PAGES)
def test_reference_pages_are_what_the_code_says(name):
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), (
        f"docs/{name} is old: run `python tests/reference_pages.py`"
    )


def test_every_command_and_option_says_what_it_does():
    silent = [name for name, command in commands() if not command.help]
    silent += [f"{n} {p.name}" for n, c in commands() for p in parameters(c) if not getattr(p, "help", None)]
    assert not silent, f"no help text: {silent}"


def test_every_setting_and_registry_entry_says_what_it_is():
    assert not silent_entries()


def test_every_environment_variable_is_on_the_page_of_settings():
    told = {f"MEDFUSE_{name.upper()}" for name in Settings.model_fields} | set(FURTHER_VARIABLES)
    assert variables_in(ROOT) <= told | INSIDE
    assert set(FURTHER_VARIABLES) <= variables_in(ROOT)


def test_every_kind_of_file_says_what_it_is():
    assert not [m.__name__ for m in {*MODELS.values(), *parts_of_kinds()} if not purpose(m)]


def test_every_field_of_a_file_says_what_it_is():
    assert not silent_fields()


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, _ in LINK.findall(page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / unquote(target)).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_source_files_that_a_page_names_exist(page):
    for name in SOURCE.findall(page.read_text(encoding="utf-8")):
        assert any((place / name).exists() for place in PLACES), f"{page.name} names {name}"


def test_changelog_has_this_version_with_its_date():
    newest = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", newest[1])
    assert f'version = "{newest[1].split()[0]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
