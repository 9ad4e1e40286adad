"""Brings a library's database to the tables of this version, before anything else reads it.

`versions/` holds one file a step (Alembic). A new database is made whole and marked with `HEAD`; an older one
is copied (SQLite) and migrated in one transaction; a newer one is refused by name.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert, inspect, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from ...errors import UserError
from ..catalogue import AuditHeadRow, Base

HEAD = "0006"
TABLE = "alembic_version"
UNMARKED = "unmarked"  # a database from before migrations had numbers
KNOWN = ("0001", "0002", "0003", "0004", "0005", HEAD)
_LOCK_NUMBER = 0x6D656466  # "medf": one lock for all openers of one PostgreSQL database
log = logging.getLogger(__name__)


def prepare(engine: Engine) -> None:
    """Make, migrate or refuse the database of ``engine``. Where several processes open it at once, one works
    and the others wait. Raises UserError for a database of a newer medfuse, or a migration that failed."""
    with engine.connect() as connection:
        if revision_of(connection) == HEAD:
            return
    with _alone(engine) as connection:
        found = revision_of(connection)
        if found is None:
            Base.metadata.create_all(connection)
            _mark(connection)
        elif found not in (*KNOWN, UNMARKED):
            raise UserError(
                f"{_name(engine)}: this library was made by a newer medfuse (revision {found}, this one "
                f"knows up to {HEAD}); update medfuse, or choose another MEDFUSE_HOME"
            )
        elif found != HEAD:
            _migrate(engine, connection, found)


def revision_of(connection: Connection) -> str | None:
    """The revision that a database is marked with, UNMARKED for one from before there were marks, None for an
    empty one."""
    tables = inspect(connection).get_table_names()
    if TABLE in tables:
        marked = connection.execute(text(f"SELECT version_num FROM {TABLE}")).scalar()
        return UNMARKED if marked is None else str(marked)
    return UNMARKED if "cases" in tables else None


def _mark(connection: Connection) -> None:
    connection.execute(insert(AuditHeadRow).values(log=uuid.uuid4().hex, seq=0))
    connection.execute(text(f"CREATE TABLE {TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text(f"INSERT INTO {TABLE} (version_num) VALUES (:head)"), {"head": HEAD})


def _migrate(engine: Engine, connection: Connection, found: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    file = _file(engine)
    kept = f"a copy as it was lies in {_back_up(file, found)}" if file else "no copy was made here"
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    steps = ScriptDirectory.from_config(config)
    try:
        with EnvironmentContext(config, steps, fn=lambda at, _: steps._upgrade_revs(HEAD, at)) as environment:
            environment.configure(connection=connection, target_metadata=Base.metadata)
            environment.run_migrations()
    except DBAPIError as e:
        raise UserError(
            f"{_name(engine)}: could not be migrated from revision {found} to {HEAD} "
            f"({str(e.orig).splitlines()[0]}); nothing was changed, {kept}"
        ) from e
    log.warning("%s: migrated from revision %s to %s; %s", _name(engine), found, HEAD, kept)


def _back_up(file: Path, found: str) -> Path:
    """A copy of an SQLite database beside it, with what still lies in its write-ahead log; never over another
    copy."""
    name = f"{file.name}.{datetime.now(UTC):%Y-%m-%d}.{found}"
    target = file.with_name(f"{name}.bak")
    n = 1
    while target.exists():
        n += 1
        target = file.with_name(f"{name}.{n}.bak")
    os.close(
        os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    )  # its owner's alone, as the library
    source = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)  # a name may hold ? and %
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)
    except sqlite3.Error as e:
        target.unlink(missing_ok=True)
        raise UserError(
            f"{file}: an older library, and no copy of it can be made ({e}); free space, then try again"
        ) from e
    finally:
        copy.close()
        source.close()
    return target


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A connection in a transaction that no other opener of this database shares."""
    file = _file(engine)
    if file is not None:
        with open(file.with_name(f".{file.name}.lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # so that changes of tables are in it too
                yield connection
                connection.commit()
        return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK_NUMBER})
        yield connection


def _file(engine: Engine) -> Path | None:
    """The file of an SQLite database; None for one in memory or on a server."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name == ":memory:":
        return None
    return Path(name)


def _name(engine: Engine) -> str:
    return str(_file(engine) or engine.url.render_as_string(hide_password=True))
