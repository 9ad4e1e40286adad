"""`medfuse sign`: an account signs a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .app import app, emit, verbosity
from .options import Json, Verbose

if TYPE_CHECKING:
    from ..library.accounts import Account

User = Annotated[
    str,
    typer.Option("--user", help="Your account; the password is asked for, or read from MEDFUSE_PASSWORD."),
]


def account_of(user: str) -> Account:
    """The account behind --user, its password asked for without echo."""
    import getpass
    import os

    from ..library import Library
    from ..library.accounts import authenticate

    library = Library()
    password = os.environ.get("MEDFUSE_PASSWORD")
    return authenticate(
        library, user, getpass.getpass(f"password of {user}: ") if password is None else password
    )


@app.command()
def sign(
    case: Annotated[str, typer.Argument(help="A case of the library.")],
    user: User,
    accept_all: Annotated[
        bool,
        typer.Option(
            "--accept-all", help="You have read every sentence: accept those that nobody has decided on."
        ),
    ] = False,
    amend: Annotated[str, typer.Option(help="REASON: open a new version of a signed report instead.")] = "",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Sign a report with your account: only when every sentence is decided on. A signed version never
    changes."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..library import Library, reports

    library = Library()
    account = account_of(user)
    now = reports.current(library, case)
    if now is None:
        raise WrongUse(f"{case}: has no report; run medfuse predict {case}")
    if amend:
        done = reports.amend(library, case, account, amend)
    else:
        if accept_all and reports.waiting(now.report):
            now = reports.save(
                library, case, now.revision, reports.set_states(now.report, "accepted"), account
            )
        done = reports.sign(library, case, now.revision, account)
    data = {
        "case_id": case,
        "state": done.state,
        "version": done.version,
        "revision": done.revision,
        "sha256": done.sha256,
    }
    emit(data, as_json, f"{case}: version {done.version} is {done.state} ({done.sha256[:12]})")
