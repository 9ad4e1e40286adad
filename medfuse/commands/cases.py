"""`medfuse cases`: what the library holds, roles, joins."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app, emit, verbosity
from .options import Json, Verbose, takes

if TYPE_CHECKING:
    from ..library import Library


@dataclass(frozen=True, kw_only=True)
class CasesArguments:
    """What a user may give to `medfuse cases`."""

    with_: Annotated[list[str] | None, typer.Option("--with", help="Only cases that have this modality.")] = (
        None
    )
    without: Annotated[list[str] | None, typer.Option(help="Only cases that lack this modality.")] = None
    set_role: Annotated[str | None, typer.Option(help="SERIES_UID=ROLE: correct the role of a series.")] = (
        None
    )
    confirm: Annotated[
        str | None, typer.Option(help="CASE whose identifiers disagree: you have looked, use it as it is.")
    ] = None
    set_risk: Annotated[
        str | None, typer.Option(help="CASE=STATUS: the documented risk status, such as cirrhosis.")
    ] = None
    set_indication: Annotated[str | None, typer.Option(help="CASE=WORDS: why the patient was imaged.")] = None
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(CasesArguments)
def cases(given: CasesArguments) -> None:
    """What the library holds."""
    verbosity(given.verbose)
    from ..library import Library, store
    from ..library.labels import CaseNumbers, numbers_of

    library = Library()
    _correct(library, given)
    rows = store.list_cases(library, tuple(given.with_ or ()), tuple(given.without or ()))
    numbers = numbers_of(library)
    text = [
        f"{r.case_id:<44} {r.study_date:<10} {'+'.join(r.modalities):<10} "
        f"{r.state}{' simulated' if r.simulated else ''}" + (f" WAITS: {r.conflict}" if r.conflict else "")
        for r in rows
    ]
    emit(
        {"cases": [asdict(r) | asdict(numbers.get(r.case_id, CaseNumbers())) for r in rows]},
        given.as_json,
        "\n".join(text) or "The library is empty; add cases with medfuse ingest PATH.",
    )


def _correct(library: Library, given: CasesArguments) -> None:
    """What the user corrects. Nothing is changed where a part of it is wrong: WrongUse."""
    from ..errors import WrongUse
    from ..library import store

    role = _pair("--set-role", given.set_role, "SERIES_UID=ROLE")
    risk = _pair("--set-risk", given.set_risk, "CASE=STATUS")
    indication = _pair("--set-indication", given.set_indication, "CASE=WORDS")
    if role is not None and not role[1]:
        raise WrongUse(f"--set-role {given.set_role}: write SERIES_UID=ROLE")
    named = [pair[0] for pair in (risk, indication) if pair] + ([given.confirm] if given.confirm else [])
    for name in named:
        if not store.has_case(library, name):
            raise WrongUse(f"{name}: no such case in the library; see medfuse cases")
    if role is not None:
        store.set_role(library, *role)
    if risk is not None:
        store.set_words(library, risk[0], risk=risk[1])
    if indication is not None:
        store.set_words(library, indication[0], indication=indication[1])
    if given.confirm is not None:
        store.confirm(library, given.confirm)


def _pair(option: str, text: str | None, form: str) -> tuple[str, str] | None:
    """What stands before and after the first = of an option. Raises WrongUse for another form."""
    if text is None:
        return None
    name, _, value = text.partition("=")
    if not name or "=" not in text:
        from ..errors import WrongUse

        raise WrongUse(f"{option} {text}: write {form}")
    return name, value
