"""Commands on people and what they did: account, audit, export training-records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, talk, verbosity
from .options import Json, Verbose

account_app = typer.Typer(no_args_is_help=True, help="Local accounts of people who read, edit and sign.")
export_app = typer.Typer(no_args_is_help=True, help="Write what the library has learned to a file.")
app.add_typer(account_app, name="account")
app.add_typer(export_app, name="export")


@account_app.command("add")
def account_add(
    name: Annotated[str, typer.Argument(help="What the person signs in with.")],
    role: Annotated[str, typer.Option(help="reader (looks), author (edits and signs) or admin.")] = "author",
    full_name: Annotated[str, typer.Option(help="Stands under a signature.")] = "",
    background: Annotated[str, typer.Option(help='Such as "radiologist, 12 years".')] = "",
    as_json: Json = False,
) -> None:
    """Make an account; the password is asked for twice, or read from MEDFUSE_PASSWORD."""
    from ..library import Library
    from ..library.accounts import add_account

    library = Library()
    made = add_account(library, name, _new_password(), role, full_name=full_name, background=background)
    emit({"name": made.name, "role": made.role}, as_json, f"account {made.name} ({made.role})")


@account_app.command("password")
def account_password(
    name: Annotated[str, typer.Argument(help="Of the account whose password is changed.")],
) -> None:
    """Give an account a new password, asked for twice or read from MEDFUSE_PASSWORD; whoever is signed in
    with the old one is signed out."""
    from ..library import Library
    from ..library.accounts import change_password

    change_password(Library(), name, _new_password())
    print(f"account {name} has a new password")


def _new_password() -> str:
    import getpass
    import os

    from ..errors import WrongUse

    password = os.environ.get("MEDFUSE_PASSWORD")
    if password is None:
        password = getpass.getpass("new password: ")
        if getpass.getpass("again: ") != password:
            raise WrongUse("the two passwords differ; try again")
    return password


@account_app.command("list")
def account_list(as_json: Json = False) -> None:
    """Every account with its role."""
    from ..library import Library
    from ..library.accounts import list_accounts

    library = Library()
    rows = [
        {"name": a.name, "role": a.role, "full_name": a.full_name, "background": a.background}
        for a in list_accounts(library)
    ]
    emit(
        {"accounts": rows},
        as_json,
        "\n".join(f"{r['name']:<20} {r['role']:<8} {r['full_name']}" for r in rows) or "No account yet.",
    )


@account_app.command("remove")
def account_remove(name: Annotated[str, typer.Argument(help="Of the account to remove.")]) -> None:
    """Take an account away; what it did stays in the audit log."""
    from ..library import Library
    from ..library.accounts import remove_account

    library = Library()
    remove_account(library, name)
    print(f"account {name} removed")


@app.command()
def audit(
    stamp: Annotated[
        bool, typer.Option("--stamp", help="First have it stamped by the authority at MEDFUSE_TIMESTAMP_URL.")
    ] = False,
    stamps: Annotated[
        Path | None, typer.Option(help="A folder with copies of time stamps (.tsr), kept elsewhere.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """The audit log, compared both ways with what the library holds. Ends with 1 where anything differs."""
    verbosity(verbose)
    from dataclasses import asdict

    from ..library import Library
    from ..library.audit import entries
    from ..library.audit_check import Stamps, differences
    from ..library.time_stamps import stamp as have_stamped
    from ..settings import settings

    library = Library()
    stated = settings()
    authority = Path(stated.timestamp_ca) if stated.timestamp_ca else None
    if stamp:
        kept = have_stamped(library, stated.timestamp_url, authority)
        talk(f"entry {kept.entry} stamped at {kept.at:%Y-%m-%d %H:%M:%S} UTC: {kept.path}")
    found = differences(library, Stamps(authority=authority, copies=stamps))
    text = [f"{d.kind}: {d.what}" for d in found]
    if not found:
        rows = entries(library)
        text = [f"{r.at} {r.who:<12} {r.event:<20} {r.case}" for r in rows]
        text.append(f"{len(rows)} entries, chain unbroken; the library holds what they say")
    emit({"ok": not found, "differences": [asdict(d) for d in found]}, as_json, "\n".join(text))
    raise typer.Exit(1 if found else 0)


@export_app.command("training-records")
def training_records(
    out: Annotated[Path, typer.Option(help="A .jsonl file.")], as_json: Json = False
) -> None:
    """Every accepted, edited, rejected or added sentence and answer, with its author and audit trail, one
    JSON line each."""
    from ..library import Library
    from ..library.audit import record
    from ..library.training_records import training_records as records
    from ..workflows.outputs import check_file

    library = Library()
    check_file(out)
    rows = records(library)
    record(library, "training records exported", records=len(rows), file=str(out.resolve()))
    out.write_text("".join(r.model_dump_json() + "\n" for r in rows), encoding="utf-8")
    emit({"records": len(rows), "file": str(out)}, as_json, f"{len(rows)} records in {out}")


@export_app.command("ratings")
def export_ratings(out: Annotated[Path, typer.Option(help="A .csv file.")], as_json: Json = False) -> None:
    """Every blinded rating of a report, one row each, for medfuse evaluate-readers."""
    from ..library import Library
    from ..library.audit import record
    from ..library.ratings import export, ratings
    from ..workflows.outputs import check_file

    library = Library()
    check_file(out)
    rows = ratings(library)
    record(library, "ratings exported", ratings=len(rows), file=str(out.resolve()))
    out.write_text(export(rows), encoding="utf-8")
    emit({"ratings": len(rows), "file": str(out)}, as_json, f"{len(rows)} ratings in {out}")
