"""The database at one moment, as a file: by SQLite's backup API, or by pg_dump within an exported snapshot.
Writers go on meanwhile."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.pool import NullPool

from ..errors import UserError

if TYPE_CHECKING:
    from .library import Library

Kind = Literal["sqlite", "postgresql"]


def kind_of(library: Library) -> Kind:
    """Which database a library has. Raises UserError for one that cannot be copied."""
    name = make_url(library.url).get_backend_name()
    if name == "sqlite" or name == "postgresql":
        return name  # type: ignore[return-value]
    raise UserError(f"{library.address}: a {name} database; back it up with the tools of its maker")


def sqlite_file(library: Library) -> Path:
    """The file of a library's SQLite database."""
    return Path(make_url(library.url).database or "")


@contextmanager
def snapshot(library: Library, target: Path) -> Iterator[Connection]:
    """Write the database as it is at one moment to a new file; the connection reads that same moment. Raises
    UserError where it cannot be written."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    make = _sqlite if kind_of(library) == "sqlite" else _postgresql
    with make(library, target) as connection:
        yield connection


@contextmanager
def _sqlite(library: Library, target: Path) -> Iterator[Connection]:
    try:
        with (
            closing(sqlite3.connect(_read_only(sqlite_file(library)), uri=True, timeout=30)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    except sqlite3.Error as e:
        raise UserError(f"{target}: the database cannot be copied ({e}); free space, then try again") from e
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(_read_only(target), uri=True), poolclass=NullPool
    )
    with engine.connect() as connection:
        yield connection


def _read_only(file: Path) -> str:
    return f"{file.absolute().as_uri()}?mode=ro"


@contextmanager
def _postgresql(library: Library, target: Path) -> Iterator[Connection]:
    with library.engine.connect() as connection:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        shown = connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
        _client(
            library, "pg_dump", "--format=custom", f"--snapshot={shown}", "--no-owner", f"--file={target}"
        )
        yield connection


def load_postgresql(library: Library, dump: Path) -> None:
    """Fill an empty PostgreSQL database from a dump, in one transaction. Raises UserError where that
    fails."""
    _client(
        library,
        "pg_restore",
        "--single-transaction",
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        str(dump),
    )


def is_empty(library: Library) -> bool:
    """Whether a PostgreSQL database has no table yet."""
    engine = create_engine(library.url, poolclass=NullPool)
    with engine.connect() as connection:
        return not inspect(connection).get_table_names()


def head_of(connection: Connection) -> tuple[str, int]:
    """The name of the audit log in a database, and how many entries it has."""
    row = connection.execute(text("SELECT log, seq FROM audit_head")).one_or_none()
    return ("", 0) if row is None else (str(row[0]), int(row[1]))


def _client(library: Library, tool: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs on the library's database; the password goes by the environment, so
    that no other user sees it."""
    program = shutil.which(tool)
    if program is None:
        raise UserError(f"{tool}: is not installed; install PostgreSQL's client programs")
    url = make_url(library.url)
    place = _place(url)
    environment = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})}
    done = subprocess.run(
        [program, *arguments, f"--dbname={place}", "--no-password"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise UserError(f"{library.address}: {tool} failed ({reason}); nothing was changed")


def _place(url: URL) -> str:
    """How libpq finds a database, without the password."""
    from psycopg.conninfo import make_conninfo

    options = {k: v for k, v in url.query.items() if isinstance(v, str)}
    stated = {"host": url.host, "port": url.port, "user": url.username, "dbname": url.database}
    return make_conninfo("", **options, **{k: str(v) for k, v in stated.items() if v})
