"""The house itself: rooms import downward only, files stay small, README says what commands say."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import LONGEST
from house import NO_ROOM, ROOT, Module, floor, imports, modules, room_of

SOURCES = modules()
KNOWN = {m.name for m in SOURCES}


@pytest.mark.parametrize("module", SOURCES, ids=lambda m: str(m.path))
def test_nothing_imports_upward(module: Module) -> None:
    if module.room in NO_ROOM:
        return
    here = floor(module.room)
    assert here is not None, f"{module.path}: no floor names the room {module.room}; add it to tests/house.py"
    for imported in imports(module, KNOWN):
        if (room := room_of(imported.name)) in NO_ROOM:
            continue
        there = floor(room)
        assert there is not None, f"{module.path}:{imported.line}: no floor names the room {room}"
        assert there >= here, f"{module.path}:{imported.line} imports {imported.name}, which stands above it"


# Doors: what they read is handed on as an argument. Below them this list only shrinks.
SETTINGS_MAY_BE_READ = (
    "medfuse/settings.py",
    "medfuse/commands/",
    "apps/viewer/desk.py",
    "medfuse/library/library.py",  # a Library without a home
    "medfuse/bundles/registry.py",  # the user's own bundles
    "medfuse/exports/request.py",  # the letterhead
    "medfuse/io/",  # the limits of the processes that read foreign files
)


def test_settings_are_read_at_the_doors():
    deep = [
        f"{module.path}:{node.lineno}"
        for module in SOURCES
        for node in module.nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "settings"
        if not str(module.path).startswith(SETTINGS_MAY_BE_READ)
    ]
    assert not deep, f"take the value as an argument: {deep}"


TEXT = {"read_text": 0, "write_text": 1}  # how many arguments come before the encoding


def test_text_files_say_how_they_are_written():
    """Else a machine whose locale is not UTF-8 cannot read our own."""
    unsaid = [
        f"{module.path}:{node.lineno}"
        for module in SOURCES
        for node in module.nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in TEXT
        if len(node.args) <= TEXT[node.func.attr] and "encoding" not in {k.arg for k in node.keywords}
    ]
    assert not unsaid, f"give encoding: {unsaid}"


def test_no_line_escapes_the_formatter():
    for top in ("medfuse", "apps", "tests", "benchmarks"):
        for path in (ROOT / top).rglob("*.py"):
            assert not re.search(r"#\s*fmt:", path.read_text(encoding="utf-8")), path


def test_the_files_that_begin_first_are_there():
    for name in LONGEST:
        assert (ROOT / "tests" / f"{name}.py").is_file(), f"tests/conftest.py names {name}, which is gone"


def test_files_stay_small():
    for path in [*(ROOT / "medfuse").rglob("*.py"), *(ROOT / "apps").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path


def test_top_level_is_the_house():
    known = {
        "medfuse",
        "apps",
        "data_schemas",
        "tests",
        "benchmarks",
        "docs",
        "pyproject.toml",
        "constraints.txt",
        "requirements.lock",
        "Makefile",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "LICENSE",
    }
    here = {
        p.name
        for p in ROOT.iterdir()
        if not p.name.startswith(".")
        and not p.name.endswith((".egg-info", ".log"))
        and p.name not in ("demo", "build", "dist", "runs")
    }
    assert here <= known, here - known


@pytest.mark.parametrize("package", sorted({m.path.parent for m in SOURCES}), ids=str)
def test_every_package_says_what_it_is(package):
    assert ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text())), package
