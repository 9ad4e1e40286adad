"""The home and what identifies patients in it are their owner's alone: 0700 and 0600, made so and checked at
every start, whatever the umask."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

from ..errors import UserError

OTHERS = stat.S_IRWXG | stat.S_IRWXO
log = logging.getLogger(__name__)


def make_private(home: Path, database: Path | None) -> None:
    """Make the home (0700), and the SQLite file where there is one (0600); take away what others may do with
    either. Raises UserError where that is refused."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        close_to_others(home)
        # only where there is none: closing any descriptor of an open SQLite file takes away the locks of this
        # process (POSIX; "How To Corrupt An SQLite Database File", 2.2)
        if database is not None and not database.exists():
            with suppress(FileExistsError):  # another process was first
                os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        kept = [home / "accounts.json", home / "audit.key"]
        if database is not None:
            kept += [database.with_name(database.name + end) for end in ("", "-wal", "-shm")]
        for path in filter(Path.exists, kept):
            close_to_others(path)
    except OSError as e:
        raise UserError(
            f"{e.filename or home}: cannot be kept to its owner alone ({e.strerror}); give its folder to the "
            "user who runs medfuse, or set MEDFUSE_HOME"
        ) from e


def close_to_others(path: Path) -> None:
    """Take away the rights of group and others, and say so."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS:
        path.chmod(mode & ~OTHERS)
        log.warning("%s: others could read it (%o); it is its owner's alone now", path, mode)
