"""Counts the house: `python tests/house_figures.py` prints the table of docs/house.md.

--json prints the numbers by key, --list KEY (or all) names each place that counts against a key, sorted by
room, --check exits 1 and names each goal that is missed. FIGURES is the list of keys, definitions and goals.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import house_counts as counts
from house import ROOT


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A key of the table: what it counts, its goal, the places; with ``of`` their share in percent."""

    key: str
    definition: str
    goal: float
    places: Callable[[counts.House], Iterator[counts.Place]]
    of: Callable[[counts.House], list] | None = None
    exactly: bool = False  # the goal is a number to meet, not to stay under

    def value(self, house: counts.House) -> float:
        count = len(list(self.places(house)))
        if self.of is None:
            return count
        return round(100 * count / max(1, len(self.of(house))), 2)

    def is_met(self, value: float) -> bool:
        return value == self.goal if self.exactly else value <= self.goal

    @property
    def goal_text(self) -> str:
        percent = " %" if self.of else ""
        return f"{self.goal:g}" if self.exactly or not self.goal else f"≤ {self.goal:g}{percent}"


# Counted over medfuse/ and apps/ where nothing else is said. Methods and inner functions are functions too.
FIGURES = [
    Figure(
        key="circles",
        goal=0,
        places=counts.circles_of,
        definition="groups of rooms, and of modules, that import each other in a circle; imports inside "
        "functions count, between modules those under TYPE_CHECKING do not, as they are never run",
    ),
    Figure(
        key="upward",
        goal=0,
        places=counts.upward,
        definition="imports of a room on a higher floor (tests/house.py), also inside functions and for "
        "types; and files of a room on no floor",
    ),
    Figure(
        key="over_50_pct",
        goal=2,
        places=counts.over_50,
        of=lambda h: h.functions,
        definition="functions of more than 50 lines, from def to the last line, of all functions",
    ),
    Figure(
        key="branches_over_15_pct",
        goal=1,
        places=counts.branches_over_15,
        of=lambda h: h.functions,
        definition="functions with more than 15 branches, of all functions: 1 + each if, elif, for, while, "
        "except, case, conditional expression, comprehension clause and each operand of and/or "
        "(McCabe's number, ruff's C901, leaves the last three out)",
    ),
    Figure(
        key="unannotated",
        goal=0,
        places=counts.unannotated,
        definition="functions with an argument (but self and cls) or a return value without a type",
    ),
    Figure(
        key="public_without_docstring_pct",
        goal=5,
        places=counts.without_docstring,
        of=lambda h: h.public,
        definition="public functions and methods without a docstring, of all public ones (no underscore in "
        "the name or its class, not inside a function)",
    ),
    Figure(
        key="lines_over_110",
        goal=0,
        places=counts.long_lines,
        definition="lines of more than 110 characters in *.py of medfuse, apps, tests and benchmarks",
    ),
    Figure(
        key="tuple_assignments_pct",
        goal=0.5,
        places=counts.tuple_assignments,
        of=lambda h: h.assignments,
        definition="assignments of a written-out tuple to a tuple (a, b = 1, 2), of all plain assignments",
    ),
    Figure(
        key="untyped_public_returns",
        goal=0,
        places=counts.untyped_returns,
        definition="public functions whose return type has a dict without types, Any or object anywhere in "
        "it, directly or through an alias; JSON writers (the name ends in json) are left out",
    ),
    Figure(
        key="training_loops",
        goal=1,
        exactly=True,
        places=counts.training_loops,
        definition="functions that call both .backward() and .step(), functions inside counted as theirs",
    ),
    Figure(
        key="case_roads",
        goal=1,
        exactly=True,
        places=counts.case_roads,
        definition="public functions that return or build a Case and were given none. Left out: those that "
        "go through open_case, those in io/ that no other room uses, and those of library/ that "
        "take no path (they give back a kept case by its id)",
    ),
    Figure(
        key="modality_files",
        goal=12,
        places=counts.modality_files,
        definition='files with the text "US", "CT", "MR" or "PT" in their code',
    ),
    Figure(
        key="sign_matrix_files",
        goal=1,
        places=counts.sign_matrix_files,
        definition="files with (-1, -1, 1) or (-1, -1, 1, 1) as numbers, alone or on a diagonal, or x[:2] *= "
        "-1",
    ),
    Figure(
        key="json_without_schema",
        goal=0,
        places=counts.json_without_schema,
        definition="kinds of JSON file named in the code without data_schemas/<kind>.schema.json "
        "(tests/house_json.py says how kinds are found, and which are other standards')",
    ),
]


def table(house: counts.House) -> str:
    """The figures as a Markdown table."""
    rows = ["| figure | now | goal | counts |", "|---|---|---|---|"]
    for f in FIGURES:
        value = f.value(house)
        shown = f"{value:g} %" if f.of else f"{value:g}"
        rows.append(
            f"| `{f.key}` | {shown if f.is_met(value) else f'**{shown}**'} | {f.goal_text} | {f.definition} |"
        )
    return "\n".join(rows)


def listing(house: counts.House, key: str) -> str:
    """Each place that counts against a key, or against all, sorted by room."""
    lines = []
    for f in FIGURES:
        if key in (f.key, "all"):
            places = sorted(f.places(house), key=lambda p: (p.room, p.path, p.line, p.name))
            lines += [f"{f.key}: {len(places)}", *(f"  {p.path}:{p.line} {p.name}" for p in places)]
    return "\n".join(lines)


def missed(house: counts.House) -> list[str]:
    """One sentence for each goal that is not met."""
    values = [(f, f.value(house)) for f in FIGURES]
    return [f"{f.key} is {v:g}, the goal is {f.goal_text}" for f, v in values if not f.is_met(v)]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="Count the house against its goals.")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the numbers by key")
    form.add_argument(
        "--list",
        metavar="KEY",
        choices=[*(f.key for f in FIGURES), "all"],
        help="name each place that counts against a key, or against all",
    )
    form.add_argument("--check", action="store_true", help="exit 1 and name each goal that is missed")
    chosen = parser.parse_args(arguments)
    house = counts.House(root)
    if chosen.check:
        faults = missed(house)
        print("\n".join(faults) or "every goal is met")
        return 1 if faults else 0
    if chosen.json:
        print(json.dumps({f.key: f.value(house) for f in FIGURES}, indent=1))
    elif chosen.list:
        print(listing(house, chosen.list))
    else:
        print(table(house))
    return 0


if __name__ == "__main__":
    sys.exit(main())
