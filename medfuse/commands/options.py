"""The options that several commands share, and how a command takes its options as one typed record.

A command with many options declares them as the fields of a frozen dataclass, in the order of its help page,
and puts `takes(Record)` between ``@app.command()`` and the function, which then gets that record:

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        path: Annotated[Path, typer.Argument(help="A folder.")]
        as_json: Json = False

    @app.command()
    @takes(Arguments)
    def show(given: Arguments) -> None:
        "What the help page says."
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Record = TypeVar("Record", bound=DataclassInstance)
else:
    Record = TypeVar("Record")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="More talk on stderr.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Language = Annotated[
    str, typer.Option(help="Of the report: en, zh-TW, or one that the task has a template for.")
]
Style = Annotated[str, typer.Option(help="prose, bulleted, structured, short, or a style of the task.")]
Probabilities = Annotated[str, typer.Option(help="hidden, shown beside the words, or table in the footer.")]
Window = Annotated[int, typer.Option(min=0, help="Days within which studies of one patient are one case.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same draw.")]
Bundle = Annotated[str | None, typer.Option(help="Folder or name of a bundle.")]
OutsideDomain = Annotated[
    bool, typer.Option(help="Show uncalibrated scores for images outside the validated domain.")
]
LabelledManifest = Annotated[Path, typer.Option(help="The cases, with labels: manifest.jsonl.")]


def _default(given: Field[Any]) -> Any:
    """Of a field; Parameter.empty where it must be given."""
    if given.default_factory is not MISSING:
        return given.default_factory()
    return Parameter.empty if given.default is MISSING else given.default


def takes(record: type[Record]) -> Callable[[Callable[[Record], None]], Callable[..., None]]:
    """Make a function of one record into one that typer can read: a parameter for each of its fields."""
    hints = get_type_hints(record, include_extras=True)
    parameters = [
        Parameter(
            f.name,
            Parameter.KEYWORD_ONLY,
            default=_default(f),
            annotation=hints[f.name],
        )
        for f in fields(record)
    ]

    def wrap(body: Callable[[Record], None]) -> Callable[..., None]:
        def command(**given: object) -> None:
            body(record(**given))

        command.__name__ = body.__name__
        command.__doc__ = body.__doc__
        command.__annotations__ = {**hints, "return": None}
        setattr(command, "__signature__", Signature(parameters))  # noqa: B010
        return command

    return wrap
