"""Pages and tables of docs/ that are written from the code: `python tests/reference_pages.py` writes them.

A test compares them with what the code says, so that no command, setting or file is missing. The figures of
docs/house.md are written too, and not compared: they are of the day they were written.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

import click
import house_figures
from house import FLOORS, ROOT
from house_counts import House
from reference_files import files_page
from reference_registries import registries_page, settings_page
from typer.main import get_command

from medfuse import cli

DOCS = ROOT / "docs"
HEAD = "<!-- Written by `python tests/reference_pages.py`; change the code, not this page. -->\n"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that a user can type, by its full name."""
    yield from _below(get_command(cli.app), "medfuse")


def _below(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    inner: dict[str, click.Command] | None = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for part in sorted(inner):
        yield from _below(inner[part], f"{name} {part}")


def parameters(command: click.Command) -> list[click.Parameter]:
    """What a user may give to a command, without --help."""
    return [p for p in command.params if p.name != "help"]


def commands_page() -> str:
    """docs/reference/commands.md: each command with its arguments and options."""
    parts = [f"{HEAD}\n# Commands\n"]
    parts.append(
        "Every command ends with 0 when all is done, 1 when nothing could be done, 2 for wrong use and 3\n"
        "when it is partly done and each refusal is named. Data go to stdout, talk to stderr.\n"
    )
    for name, command in commands():
        parts.append(f"## {name}\n\n{' '.join((command.help or '').split())}\n")
        rows = [_row(p) for p in parameters(command)]
        if rows:
            parts.append("| Argument or option | Default | What it does |\n|---|---|---|\n" + "\n".join(rows))
            parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _row(parameter: click.Parameter) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [str(parameter.name).upper()]
    shown = ", ".join(f"`{n}`" for n in names)
    return f"| {shown} | {_default(parameter)} | {_escaped(getattr(parameter, 'help', '') or '')} |"


def _default(parameter: click.Parameter) -> str:
    default = parameter.default
    if parameter.required:
        return "required"
    if default is None or default is False or default in ("", 0) or default == []:
        return ""
    return f"`{'yes' if default is True else default}`"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def block(page: str, name: str, text: str) -> str:
    """The page with ``text`` between its marks <!-- name: … --> and <!-- end -->."""
    marks = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
    assert marks.search(page), f"no block {name}"
    return marks.sub(lambda m: f"{m[1]}{text}\n{m[2]}", page, count=1)


def rooms_table() -> str:
    """Every floor of the house with what each of its rooms or files is for."""
    rows = ["| Floor | Room | What it is for |", "|---|---|---|"]
    for height, rooms in zip(range(len(FLOORS) - 1, -1, -1), FLOORS, strict=True):
        rows += [f"| {height} | `{_place(room)}` | {_escaped(_purpose(room))} |" for room in rooms]
    return "\n".join(rows)


def _place(room: str) -> str:
    inside = room if "/" in room else f"medfuse/{room}"
    return inside if (ROOT / inside).is_dir() else f"{inside}.py"


def _purpose(room: str) -> str:
    place = ROOT / _place(room)
    source = (place / "__init__.py") if place.is_dir() else place
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").split("\n\n")[0]


def house_page() -> str:
    """docs/house.md with its table of rooms as the code has them."""
    return block((DOCS / "house.md").read_text(encoding="utf-8"), "rooms", rooms_table())


PAGES = {
    "reference/commands.md": commands_page,
    "reference/settings.md": lambda: f"{HEAD}\n{settings_page()}",
    "reference/files.md": lambda: f"{HEAD}\n{files_page()}",
    "reference/registries.md": lambda: f"{HEAD}\n{registries_page()}",
    "house.md": house_page,
}


def main() -> None:
    """Write every page, and the figures of the house."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"docs/{name}", file=sys.stderr)
    figures = house_figures.table(House(ROOT))
    path = DOCS / "house.md"
    path.write_text(block(path.read_text(encoding="utf-8"), "figures", figures), encoding="utf-8")


if __name__ == "__main__":
    main()
