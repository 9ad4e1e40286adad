"""What is counted of the house: one function a figure, each naming the places that count against it.

The definitions in words stand beside the goals in house_figures.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from house import NO_ROOM, ROOT, Module, above, circles, floor, imports, is_docstring, modules, room_of
from house_json import json_files

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MODALITIES = {"US", "CT", "MR", "PT"}
LONGEST_FUNCTION = 50
MOST_BRANCHES = 15
LONGEST_LINE = 110
DOOR = "open_case"
LINES_OF = ("medfuse", "apps", "tests", "benchmarks")


@dataclass(frozen=True, kw_only=True)
class Place:
    """One thing that counts against a key: where it stands, and its name."""

    room: str
    path: str
    line: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function or method with the file it stands in."""

    module: Module
    node: ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def name(self) -> str:
        around = [a.name for a in above(self.node) if isinstance(a, (*FUNCTIONS, ast.ClassDef))]
        return ".".join([*reversed(around), self.node.name])

    @property
    def owner(self) -> ast.AST:
        return self.node.parent  # type: ignore[union-attr]

    @property
    def is_public(self) -> bool:
        """No part of the name begins with an underscore, and it does not stand inside another function."""
        inside = any(isinstance(a, FUNCTIONS) for a in above(self.node))
        return not inside and not any(part.startswith("_") for part in self.name.split("."))

    @property
    def arguments(self) -> list[ast.arg]:
        """Every argument that needs a type: all but the first of a method."""
        a = self.node.args
        listed = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(x for x in (a.vararg, a.kwarg) if x)]
        decorators = {ast.unparse(d) for d in self.node.decorator_list}
        is_bound = isinstance(self.owner, ast.ClassDef) and "staticmethod" not in decorators
        return listed[1:] if is_bound else listed

    @property
    def at(self) -> Place:
        return place(self.module, self.node.lineno, self.name)


def place(module: Module, line: int, name: str) -> Place:
    return Place(room=module.room, path=str(module.path), line=line, name=name)


class House:
    """The parsed sources under ``root`` (medfuse/, apps/), the schemas, and the lines of all Python files."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.modules = modules(root)
        self.known = {m.name for m in self.modules}

    @cached_property
    def functions(self) -> list[Function]:
        return [Function(module=m, node=n) for m in self.modules for n in m.nodes if isinstance(n, FUNCTIONS)]

    @cached_property
    def public(self) -> list[Function]:
        return [f for f in self.functions if f.is_public]

    @cached_property
    def assignments(self) -> list[tuple[Module, ast.Assign]]:
        return [(m, n) for m in self.modules for n in m.nodes if isinstance(n, ast.Assign)]

    @cached_property
    def schemas(self) -> set[str]:
        return {
            p.name.removesuffix(".schema.json") for p in (self.root / "data_schemas").glob("*.schema.json")
        }

    @cached_property
    def loose_types(self) -> set[str]:
        """Names of the module-level aliases that stand for a bare dict or Any."""
        aliases = [
            (t.id, n.value)
            for _, n in self.assignments
            for t in n.targets
            if isinstance(n.parent, ast.Module) and isinstance(t, ast.Name)  # type: ignore[attr-defined]
        ]
        return {
            name for name, value in aliases if isinstance(value, ast.Subscript | ast.Name) and is_loose(value)
        }


def circles_of(house: House) -> Iterator[Place]:
    """Circles between rooms, then between modules."""
    rooms: dict[str, set[str]] = {}
    files: dict[str, set[str]] = {m.name: set() for m in house.modules}
    for m in house.modules:
        for i in imports(m, house.known):
            if room_of(i.name) not in (m.room, *NO_ROOM) and m.room not in NO_ROOM:
                rooms.setdefault(m.room, set()).add(room_of(i.name))
            if i.name != m.name and not i.typing_only:
                files[m.name].add(i.name)
    by_name = {m.name: m for m in house.modules}
    for group in circles(rooms):
        first = next(m for m in house.modules if m.room == group[0])
        yield place(first, 1, "rooms " + " ↔ ".join(group))
    for group in circles(files):
        yield place(by_name[group[0]], 1, "modules " + " ↔ ".join(group))


def upward(house: House) -> Iterator[Place]:
    for m in house.modules:
        here = floor(m.room)
        if m.room in NO_ROOM:
            continue
        if here is None:
            yield place(m, 1, f"the room {m.room} is on no floor")
            continue
        for i in imports(m, house.known):
            there = floor(room_of(i.name))
            if there is not None and there < here:
                yield place(m, i.line, f"imports {i.name}")


def over_50(house: House) -> Iterator[Place]:
    for f in house.functions:
        if f.node.end_lineno - f.node.lineno + 1 > LONGEST_FUNCTION:  # type: ignore[operator]
            yield f.at


def branches(function: ast.AST) -> int:
    """1 for the function itself and 1 for each fork in it, those of functions inside it too."""
    forks = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
    count = 1
    for node in ast.walk(function):
        count += isinstance(node, (*forks, ast.comprehension))
        count += len(node.values) if isinstance(node, ast.BoolOp) else 0
    return count


def branches_over_15(house: House) -> Iterator[Place]:
    return (f.at for f in house.functions if branches(f.node) > MOST_BRANCHES)


def unannotated(house: House) -> Iterator[Place]:
    for f in house.functions:
        if f.node.returns is None or any(a.annotation is None for a in f.arguments):
            yield f.at


def without_docstring(house: House) -> Iterator[Place]:
    return (f.at for f in house.public if not ast.get_docstring(f.node))


def long_lines(house: House) -> Iterator[Place]:
    for top in LINES_OF:
        for path in sorted((house.root / top).rglob("*.py")):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if len(line) > LONGEST_LINE:
                    relative = path.relative_to(house.root)
                    room = room_of(".".join(relative.with_suffix("").parts))
                    yield Place(room=room, path=str(relative), line=number, name=f"{len(line)} characters")


def tuple_assignments(house: House) -> Iterator[Place]:
    for m, n in house.assignments:
        if isinstance(n.value, ast.Tuple) and any(isinstance(t, ast.Tuple) for t in n.targets):
            yield place(m, n.lineno, ast.unparse(n.targets[0]))


def is_loose(annotation: ast.AST, aliases: frozenset[str] | set[str] = frozenset()) -> bool:
    """A bare dict, or Any or object, anywhere in a type."""
    for node in ast.walk(annotation):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name in ("Any", "object") or name in aliases:
            return True
        parent = getattr(node, "parent", None)
        if name in ("dict", "Dict") and not (isinstance(parent, ast.Subscript) and parent.value is node):
            return True
    return False


def untyped_returns(house: House) -> Iterator[Place]:
    for f in house.public:
        writes_json = f.node.name.endswith("json")
        if f.node.returns is not None and not writes_json and is_loose(f.node.returns, house.loose_types):
            yield place(f.module, f.node.lineno, f"{f.name} -> {ast.unparse(f.node.returns)}")


def training_loops(house: House) -> Iterator[Place]:
    for f in house.functions:
        if any(isinstance(a, FUNCTIONS) for a in above(f.node)):
            continue
        calls = {
            n.func.attr
            for n in ast.walk(f.node)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
        }
        if {"backward", "step"} <= calls:
            yield f.at


def case_roads(house: House) -> Iterator[Place]:
    for f in house.public:
        if not _makes_a_case(f) or (f.node.name != DOOR and DOOR in _names(f.node)):
            continue
        takes = [ast.unparse(a.annotation) for a in f.arguments if a.annotation]
        gives_back_what_it_keeps = f.module.room == "library" and not any("Path" in t for t in takes)
        inside_io = f.module.room == "io" and f.node.name != DOOR and not _used_outside(house, f)
        if not (gives_back_what_it_keeps or inside_io):
            yield f.at


def _names(node: ast.AST) -> set[str]:
    """Every name and attribute that a piece of code mentions."""
    found = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return found | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def _makes_a_case(f: Function) -> bool:
    """Returns a Case or builds one, and was given none."""
    if isinstance(f.owner, ast.ClassDef) and f.owner.name == "Case":
        return False
    if any(a.annotation and "Case" in _names(a.annotation) for a in f.arguments):
        return False
    returned = f.node.returns is not None and "Case" in _names(f.node.returns)
    calls = [n.func for n in ast.walk(f.node) if isinstance(n, ast.Call)]
    return returned or any(isinstance(c, ast.Name) and c.id == "Case" for c in calls)


def _used_outside(house: House, f: Function) -> bool:
    """Another room imports the function's module, or something out of it, and mentions its name."""
    home = {f.module.name, f.module.name.rpartition(".")[0]}
    return any(
        f.node.name in _names(m.tree)
        for m in house.modules
        if m.room != f.module.room and any(i.name in home for i in imports(m, house.known))
    )


def modality_files(house: House) -> Iterator[Place]:
    for m in house.modules:
        lines = [
            (n.lineno, n.value)
            for n in m.nodes
            if isinstance(n, ast.Constant) and n.value in MODALITIES and not is_docstring(n)
        ]
        if lines:
            named = ", ".join(sorted({text for _, text in lines}))
            yield place(m, min(lines)[0], f"{named} in {len(lines)} places")


def sign_matrix_files(house: House) -> Iterator[Place]:
    for m in house.modules:
        lines = [n.lineno for n in m.nodes if _is_sign_matrix(n)]
        if lines:
            yield place(m, min(lines), f"{len(lines)} of them")


def _is_sign_matrix(node: ast.AST) -> bool:
    """(-1, -1, 1) or (-1, -1, 1, 1), also as rows of a diagonal matrix; and ``x[:2] *= -1``."""
    if isinstance(node, ast.AugAssign):
        by_minus_one = isinstance(node.op, ast.Mult) and _number(node.value) == -1
        return by_minus_one and ast.unparse(node.target).endswith(":2]")
    if not isinstance(node, ast.List | ast.Tuple) or len(node.elts) not in (3, 4):
        return False
    if all(isinstance(row, ast.List | ast.Tuple) and len(row.elts) == len(node.elts) for row in node.elts):
        numbers = [_number(row.elts[i]) for i, row in enumerate(node.elts)]  # type: ignore[attr-defined]
    else:
        numbers = [_number(e) for e in node.elts]
    return numbers in ([-1, -1, 1], [-1, -1, 1, 1])


def _number(node: ast.AST) -> float | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand)
        return None if value is None else -value
    is_number = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    return float(node.value) if is_number else None  # type: ignore[attr-defined]


def json_without_schema(house: House) -> Iterator[Place]:
    kinds: dict[str, Place] = {}
    for m in house.modules:
        for named in json_files(m):
            if named.kind and named.kind not in house.schemas:
                kinds.setdefault(named.kind, place(m, named.line, f"{named.kind} ({named.name})"))
    yield from kinds.values()
