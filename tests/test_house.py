"""The house itself: rooms import downward only, files stay small, README says what commands say."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Top floor first. A room may import itself and what stands below it.
FLOORS = [
    ["cli", "__main__"],
    ["commands"],
    ["demo", "viewer", "info", "schemas", "search", "asking", "fusing"],
    ["network"],
    ["batch", "registering"],
    ["pipeline"],
    ["intake"],
    ["training"],
    ["evaluation"],
    ["drafting"],
    ["predict"],
    ["library"],
    ["reporting"],
    ["registration"],
    ["models"],
    ["simulation", "preprocess", "deidentify"],
    ["io"],
    ["case", "task", "prediction", "report", "errors", "settings"],
]


def floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path):
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level]
            module = [*base, *(node.module.split(".") if node.module else [])]
            if len(module) > 1:
                yield module[1]
            else:
                yield from (a.name for a in node.names if a.name != "__version__")


@pytest.mark.parametrize("path", sorted((ROOT / "medfuse").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_imports_upward(path):
    parts = path.relative_to(ROOT / "medfuse").with_suffix("").parts
    if parts == ("__init__",):
        return
    here = floor(parts[0])
    for target in imports(path):
        assert floor(target) >= here, f"{path} imports {target}, which stands above it"


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
        "Makefile",
        "README.md",
        "CHANGELOG.md",
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
