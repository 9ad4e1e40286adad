"""The floors of the house, and its source files as parsed modules that know their room and their imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VIEWER = "apps/viewer"
# Top floor first. A room may import itself, its neighbours on the same floor and what stands below.
FLOORS = [
    [VIEWER],
    ["cli", "__main__"],
    ["commands"],
    ["network"],
    ["batch"],
    ["workflows"],
    ["crossvalidation"],
    ["pixelfusion", "vqa", "cohort", "generation"],
    ["training"],
    ["evaluation"],
    ["exports"],
    ["library"],
    ["drafting"],
    ["inference"],
    ["bundles"],
    ["models"],
    ["registration", "display"],
    ["simulation", "preprocess", "deidentify"],
    ["io"],
    [
        "case",
        "task",
        "knowledge",
        "learning",
        "pattern",
        "foreign",
        "plotting",
        "prediction",
        "claim",
        "report",
        "modalities",
        "affine",
        "errors",
        "faults",
        "settings",
    ],
]
NO_ROOM = ("medfuse", "apps")  # the packages' own __init__.py: the door of the house, on no floor


def floor(room: str) -> int | None:
    """The place of a room in FLOORS, 0 at the top; None for a room that no floor names."""
    return next((i for i, rooms in enumerate(FLOORS) if room in rooms), None)


def room_of(name: str) -> str:
    """medfuse.io.scan → io, apps.viewer.jobs → apps/viewer; the outermost packages keep their name."""
    parts = name.split(".")
    if len(parts) == 1:
        return parts[0]
    return parts[1] if parts[0] == "medfuse" else "/".join(parts[:2])


@dataclass(frozen=True, kw_only=True)
class Module:
    """One source file: path relative to the root, dotted name, syntax tree (nodes know their ``parent``)."""

    path: Path
    name: str
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the tree, outermost first."""
        return list(ast.walk(self.tree))

    @property
    def room(self) -> str:
        return room_of(self.name)

    @property
    def package(self) -> list[str]:
        """The dotted name, in parts, of what a single leading dot of a relative import stands for."""
        parts = self.name.split(".")
        return parts if self.path.name == "__init__.py" else parts[:-1]


def parse(path: Path, root: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, str(path))
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
    relative = path.relative_to(root)
    parts = relative.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(path=relative, name=name, text=text, tree=tree)


def modules(root: Path = ROOT) -> list[Module]:
    """Every Python file of medfuse/ and apps/ under ``root``, by path."""
    return [parse(p, root) for top in ("medfuse", "apps") for p in sorted((root / top).rglob("*.py"))]


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module, by dotted name; ``typing_only`` when it stands under ``if TYPE_CHECKING``."""

    line: int
    name: str
    typing_only: bool


def imports(module: Module, known: set[str]) -> Iterator[Import]:
    """Every import of a module in ``known``, also those inside functions."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name in known]
        elif isinstance(node, ast.ImportFrom):
            base = module.package[: len(module.package) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module.split(".") if node.module else [])])
            targets = [(f"{source}.{alias.name}", source) for alias in node.names]
            names = [next(n for n in pair if n in known) for pair in targets if known & set(pair)]
        else:
            continue
        typing_only = any(
            isinstance(a, ast.If) and ast.unparse(a.test).endswith("TYPE_CHECKING") for a in above(node)
        )
        for name in names:
            yield Import(line=node.lineno, name=name, typing_only=typing_only)


def above(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that enclose ``node``, innermost first."""
    while (node := getattr(node, "parent", None)) is not None:  # type: ignore[assignment]
        yield node


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of two or more nodes that can all reach each other, each sorted."""
    reach = {}
    for start in graph:
        seen: set[str] = set()
        line = list(graph[start])
        while line:
            node = line.pop()
            if node not in seen:
                seen.add(node)
                line.extend(graph.get(node, ()))
        reach[start] = seen
    groups = {tuple(sorted({a} | {b for b in reach[a] if a in reach.get(b, ())})) for a in graph}
    return sorted(list(g) for g in groups if len(g) > 1)


def is_docstring(node: ast.Constant) -> bool:
    """A text that stands alone as a statement: a docstring, or a note in its place."""
    return isinstance(getattr(node, "parent", None), ast.Expr)
