"""Commands on people and what they did: account, audit, export training-records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Json, Verbose, app, emit, verbosity

account_app = typer.Typer(no_args_is_help=True, help="Local accounts of people who read, edit and sign.")
export_app = typer.Typer(no_args_is_help=True, help="Write what the library has learned to a file.")
app.add_typer(account_app, name="account")
app.add_typer(export_app, name="export")


@account_app.command("add")
def account_add(
    name: str,
    role: Annotated[str, typer.Option(help="reader (looks), author (edits and signs) or admin.")] = "author",
    full_name: Annotated[str, typer.Option(help="Stands under a signature.")] = "",
    background: Annotated[str, typer.Option(help='Such as "radiologist, 12 years".')] = "",
    as_json: Json = False,
) -> None:
    """Make an account; the password is asked for twice, or read from MEDFUSE_PASSWORD."""
    import getpass
    import os

    from ..errors import WrongUse
    from ..library.accounts import add_account
    from ..library.audit import record

    password = os.environ.get("MEDFUSE_PASSWORD")
    if password is None:
        password = getpass.getpass("new password: ")
        if getpass.getpass("again: ") != password:
            raise WrongUse("the two passwords differ; try again")
    made = add_account(name, password, role, full_name=full_name, background=background)
    record("account added", who=os.environ.get("USER", ""), account=name, role=role)
    emit({"name": made.name, "role": made.role}, as_json, f"account {made.name} ({made.role})")


@account_app.command("list")
def account_list(as_json: Json = False) -> None:
    """Every account with its role."""
    from ..library.accounts import list_accounts

    rows = [
        {"name": a.name, "role": a.role, "full_name": a.full_name, "background": a.background} for a in list_accounts()
    ]
    emit({"accounts": rows}, as_json, "\n".join(f"{r['name']:<20} {r['role']:<8} {r['full_name']}" for r in rows) or "No account yet.")  # fmt: skip


@account_app.command("remove")
def account_remove(name: str) -> None:
    """Take an account away; what it did stays in the audit log."""
    import os

    from ..library.accounts import remove_account
    from ..library.audit import record

    remove_account(name)
    record("account removed", who=os.environ.get("USER", ""), account=name)
    print(f"account {name} removed")


@app.command()
def audit(as_json: Json = False, verbose: Verbose = 0) -> None:
    """The audit log, after its chain of hashes is checked."""
    verbosity(verbose)
    from ..library.audit import entries

    rows = entries()
    text = [f"{r['at']} {r['who'] or 'medfuse':<12} {r['event']:<20} {r['case']}" for r in rows]
    emit({"entries": rows}, as_json, "\n".join([*text, f"{len(rows)} entries, chain unbroken"]))


@export_app.command("training-records")
def training_records(out: Annotated[Path, typer.Option(help="A .jsonl file.")], as_json: Json = False) -> None:
    """Every accepted, edited, rejected or added sentence and answer, with its author and audit trail, one JSON line each."""
    import json

    from ..library.reports import training_records as records

    rows = records()
    out.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    emit({"records": len(rows), "file": str(out)}, as_json, f"{len(rows)} records in {out}")


@export_app.command("ratings")
def export_ratings(out: Annotated[Path, typer.Option(help="A .csv file.")], as_json: Json = False) -> None:
    """Every blinded rating of a report, one row each, for medfuse evaluate-readers."""
    from ..library.ratings import export, ratings

    rows = ratings()
    out.write_text(export(rows))
    emit({"ratings": len(rows), "file": str(out)}, as_json, f"{len(rows)} ratings in {out}")
