"""One library: a folder with images, accounts and audit log, and a database that says what they are.

Several can be open in one process. Whatever reads or writes a library takes it as first argument.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, event, make_url
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from ..errors import UserError
from ..io.temporary import sweep
from ..settings import settings
from .audit import anchor_head, write
from .audit_rows import AuditedSession
from .migrations import prepare
from .privacy import make_private

SQLITE = "sqlite:///"
LOCK_WAIT_S = 30.0  # for another program to let go of a SQLite file
# a server that does not answer is gone within a minute, and not after the two hours of the system's defaults
SERVER = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
RESTORING = ".restoring"  # in a home whose restore is not finished


class Library:
    """The library at ``home``; without one, the library that the settings name (MEDFUSE_HOME, and
    MEDFUSE_DATABASE_URL where it is set).

    ``url``: any SQLAlchemy URL in place of HOME/library.db. Nothing is opened or made before it is used; a
    database of an older medfuse is migrated then, after a copy of it was made. Raises UserError on opening a
    database that a newer medfuse made, or in a home whose restore is not finished.
    """

    def __init__(self, home: Path | None = None, *, url: str | None = None) -> None:
        stated = settings()
        self.check_images = stated.check_images  # against their hashes, each time a case is read
        if home is None:
            home = stated.home
            url = url or stated.database_url
        self.home = home.absolute()
        self.url = url or f"{SQLITE}{self.home / 'library.db'}"
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self.sees: frozenset[str] | None = None  # projects that it shows; None for all
        self._whole: Library | None = None  # of one that shows some: whose database it reads

    def __repr__(self) -> str:
        return f"Library({str(self.home)!r})"

    def __getstate__(self) -> dict[str, object]:
        return {"home": self.home, "url": self.url, "sees": self.sees}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(Path(str(state["home"])), url=str(state["url"]))  # type: ignore[misc]
        self.sees = state["sees"]  # type: ignore[assignment]

    def seen_by(self, sees: frozenset[str] | None) -> Library:
        """The same library, showing the cases of these projects alone (`projects.projects_of`); all of them
        for None. It stands on this one's connections."""
        if sees is None or self.sees is not None:
            return self
        shown = Library(self.home, url=self.url)
        shown.sees = sees
        shown._whole = self
        return shown

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()

    @property
    def exists(self) -> bool:
        """Whether there is a database, as far as can be known without opening (and so making) one."""
        return not self.url.startswith(SQLITE) or Path(self.url.removeprefix(SQLITE)).exists()

    @property
    def _file(self) -> Path | None:
        """The SQLite file, where it lies in the home; another's place is its owner's choice."""
        path = Path(self.url.removeprefix(SQLITE))
        return path if self.url.startswith(SQLITE) and path.is_relative_to(self.home) else None

    @property
    def address(self) -> str:
        """The database as a message may name it: without a name and password."""
        return self.url.split("@")[-1]

    @property
    def engine(self) -> Engine:
        """The database, opened and brought to this version on first use."""
        from .audit_seal import seal_what_was

        if self._whole is not None:
            return self._whole.engine
        with self._opening:
            if self._engine is None:
                if (self.home / RESTORING).exists():
                    raise UserError(
                        f"{self.home}: a restore was stopped in the middle; run the same medfuse restore "
                        "again"
                    )
                make_private(self.home, self._file)
                sweep()
                engine = _connected(self.url)
                try:
                    prepare(engine)
                    seal_what_was(self, engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
                weakref.finalize(self, engine.dispose)
            return self._engine

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed whole or not at all, with its entries of the audit log."""
        from .projects import check_entries

        info = {"sees": self.sees}
        with AuditedSession(self.engine, expire_on_commit=False, info=info) as s, s.begin():
            yield s
            check_entries(s)
            head = write(self, s)
        anchor_head(self, head)

    def close(self) -> None:
        """Give its connections back; the next use opens it again."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None


def _connected(url: str) -> Engine:
    """An engine whose errors name no values: those are patients', and errors are logged."""
    if not url.startswith("sqlite"):
        try:
            stated = make_url(url)
            theirs = SERVER if stated.get_backend_name() == "postgresql" else {}
            arguments = {k: v for k, v in theirs.items() if k not in stated.query}
            return create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
        except (ArgumentError, ModuleNotFoundError) as e:  # the address may hold a password
            raise UserError(
                "MEDFUSE_DATABASE_URL: no such kind of database can be reached from here; give "
                "postgresql+psycopg://USER@HOST/NAME, or nothing for a file in the home folder"
            ) from e
    engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_S}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: object, _record: ConnectionPoolEntry) -> None:
        connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[attr-defined]
        connection.execute("PRAGMA foreign_keys=ON")  # type: ignore[attr-defined]

    return engine
