"""What the machine under medfuse may do to it, as one sentence each: a full, failing or closed disk, too
little memory, a database that is damaged, locked or gone."""

from __future__ import annotations

import errno
import sys

DISK = {
    errno.ENOSPC: "the disk is full; free some space and run it again",
    errno.EDQUOT: "the disk quota is used up; free some space and run it again",
    errno.EROFS: "the disk is read-only; make it writable or choose another place",
    errno.EACCES: "it is closed to this user; change its rights or choose another place",
    errno.EPERM: "it is closed to this user; change its rights or choose another place",
    errno.ENAMETOOLONG: "no file can have so long a name; check the path",
    errno.ELOOP: "its links lead in a circle; mend them",
    errno.EMFILE: "too many files are open at once; raise the limit (ulimit -n) and run it again",
    errno.ENFILE: "too many files are open on this machine; close other programs and run it again",
    errno.ENOMEM: "too little memory was free; close other programs, or give fewer workers",
    errno.EIO: "the disk reports an error; look at its health, then at medfuse verify",
}
DATABASE = {  # what SQLite says → what it means
    "locked": "another program holds it; run it again when that is done",
    "malformed": "it is damaged; bring a backup back with medfuse restore",
    "not a database": "it is damaged; bring a backup back with medfuse restore",
    "readonly": "it is read-only; make its folder writable",
    "full": "the disk is full; free some space and run it again",
    "disk i/o": "the disk reports an error; look at its health, then at medfuse verify",
    "unable to open": "it cannot be opened; look at the rights of its folder",
}
GONE = "it does not answer; look whether its server runs, and run it again"


def fault_sentence(error: BaseException, url: str = "") -> str | None:
    """One sentence for a fault of the machine, which names the thing where it is known; None for any other
    error. url: of the library's database, where whoever reads the sentence may know its place."""
    if isinstance(error, MemoryError):
        return "too little memory was free; close other programs, or give fewer workers"
    if isinstance(error, OSError) and error.errno in DISK:
        named = f"{error.filename}: " if error.filename else ""
        return named + DISK[error.errno]
    database = sys.modules.get("sqlalchemy.exc")  # not imported for its own sake: that takes a while
    if database is None or not isinstance(error, database.DatabaseError | database.TimeoutError):
        return None
    if isinstance(error, database.IntegrityError | database.ProgrammingError | database.DataError):
        return None  # our own fault, and to be seen whole
    said = str(getattr(error, "orig", "")).lower()
    why = next((told for word, told in DATABASE.items() if word in said), GONE)
    return f"{_place(url)}: {why}"


def _place(url: str) -> str:
    """Of the database: its file, or its server without a password."""
    from sqlalchemy import make_url

    if not url:
        return "the library's database"
    place = make_url(url)
    if place.get_backend_name() == "sqlite":
        return f"the library's database {place.database}"
    return f"the library's database {place.database} at {place.host or 'this machine'}"
