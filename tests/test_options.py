"""Commands take their options as one typed record, and the help page shows every field of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from medfuse.commands.options import Json, takes
from medfuse.commands.train import TrainArguments, _as_typed


@dataclass(frozen=True, kw_only=True)
class Arguments:
    source: Annotated[Path, typer.Argument(help="A folder.")]
    often: Annotated[int, typer.Option(min=1, help="How often.")] = 2
    only: Annotated[list[str] | None, typer.Option(help="Only these.")] = None
    as_json: Json = False


def command(seen: list[Arguments]) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command()
    @takes(Arguments)
    def show(given: Arguments) -> None:
        """Show what was given."""
        seen.append(given)

    return app


def test_a_command_gets_its_record_from_what_was_typed():
    seen: list[Arguments] = []
    done = CliRunner().invoke(command(seen), ["there", "--often", "3", "--only", "a", "--only", "b"])
    assert done.exit_code == 0, done.output
    assert seen == [Arguments(source=Path("there"), often=3, only=["a", "b"])]


@pytest.mark.parametrize("wrong", [[], ["there", "--often", "0"], ["there", "--more"]])
def test_a_record_is_checked_as_options_are(wrong):
    seen: list[Arguments] = []
    assert CliRunner().invoke(command(seen), wrong).exit_code == 2
    assert not seen


def test_help_shows_the_fields_in_their_order():
    text = CliRunner().invoke(command([]), ["--help"]).output
    assert "Show what was given." in text
    places = [text.index(word) for word in ("A folder.", "--often", "--only", "--json")]
    assert places == sorted(places)


def test_the_card_quotes_a_training_without_the_users_folders():
    given = TrainArguments(task="/home/me/task.yaml", manifest=Path("/home/me/m.jsonl"), minutes=5.0)
    out = Path("/home/me/bundle")
    said = (
        "medfuse train /home/me/task.yaml --manifest MANIFEST --out bundle --minutes 5 --seed 1 --fusion co"
    )
    assert _as_typed(given, out) == said
    more = replace(given, start="other", coordination="infonce", text_model=Path("/x/words"), thrifty=True)
    assert _as_typed(more, out) == f"{said} --start other --coordination infonce --text-model words --thrifty"
