"""`medfuse backup`, `restore` and `verify`: a library's copy, its way back, and whether its images are
whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app, emit, progress, verbosity
from .options import Json, Verbose


@app.command()
def backup(
    to: Annotated[Path, typer.Argument(help="An empty folder, or that of an earlier backup.")],
    without_key: Annotated[
        bool,
        typer.Option("--without-key", help="Leave out the key of the audit log; keep it apart."),
    ] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Copy the whole library into a folder while it is in use; a second time only what is new."""
    verbosity(verbose)
    from ..library import Library
    from ..library.backup import backup as back_up

    done = back_up(Library(), to, with_key=not without_key, progress=progress("images copied"))
    key = (
        "without the key of the audit log: keep a copy of HOME/audit.key elsewhere, a restore needs it"
        if without_key
        else "with the key of the audit log: keep it as private as the library"
    )
    text = [f"{done.folder}: {done.files} files, {done.images} of them images; {done.copied} were new", key]
    text += [f"not in the backup: {name}: damaged or missing in the library" for name in done.damaged]
    text += [f"not in the backup: {name}: no plain file, or gone meanwhile" for name in done.skipped]
    data = {
        "folder": str(done.folder),
        "files": done.files,
        "images": done.images,
        "copied": done.copied,
        "with_key": not without_key,
        "damaged": list(done.damaged),
        "skipped": list(done.skipped),
    }
    emit(data, as_json, "\n".join(text))
    raise typer.Exit(3 if done.damaged else 0)


@app.command()
def restore(
    from_: Annotated[Path, typer.Argument(metavar="FROM", help="The folder of a backup.")],
    key: Annotated[
        Path | None, typer.Option(help="The key of the audit log, for a backup that was made without it.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Make a library out of a backup, in a MEDFUSE_HOME that is empty; a damaged backup is refused by
    name."""
    verbosity(verbose)
    from dataclasses import asdict

    from ..library import Library
    from ..library.restoration import restore as bring_back

    library = Library()
    done = bring_back(library, from_, key_file=key, progress=progress("files checked and restored"))
    text = [f"{library.home}: restored as it was at {done.made}: {done.files} files, {done.images} images"]
    text += [f"not in the backup: {name}" for name in done.damaged]
    text += [f"{d.kind}: {d.what}" for d in done.differences] or ["the audit log is whole"]
    emit({"home": str(library.home), **asdict(done)}, as_json, "\n".join(text))
    raise typer.Exit(3 if done.damaged or done.differences else 0)


@app.command()
def verify(
    backup_folder: Annotated[
        Path | None, typer.Argument(metavar="BACKUP", help="A backup to check, in place of the library.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Compare every stored image with its hash; what differs is set aside. Ends with 1 where anything
    does."""
    verbosity(verbose)
    from dataclasses import asdict

    from ..library import Library
    from ..library.integrity import verify as look
    from ..library.restoration import verify_backup

    show = progress("images read")
    done = look(Library(), show) if backup_folder is None else verify_backup(backup_folder, show)
    text = [
        f"{d.file}: {d.what}" + (f" (case {', '.join(d.cases)})" if d.cases else "") for d in done.damaged
    ]
    text.append(f"{done.images} images, {len(done.damaged)} damaged")
    emit(asdict(done), as_json, "\n".join(text))
    raise typer.Exit(1 if done.damaged else 0)
