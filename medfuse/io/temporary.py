"""Folders for files that are needed for a moment: under the home, readable by its owner alone, never in /tmp.

A process that is killed leaves its folder behind. Its name says whose it is, so the next start removes it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import MachineError, os_fault
from ..settings import settings

_NAME = re.compile(r"(?P<host>.+)\.(?P<pid>[0-9]+)\.[^.]+")


def temporary_root() -> Path:
    """HOME/tmp, made where it is not there (0700)."""
    root = settings().home / "tmp"
    root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    root.mkdir(mode=0o700, exist_ok=True)
    return root


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """A folder of its own (0700) that is gone when the block ends. ``purpose``: one word, for its name.
    Raises MachineError where none can be made."""
    sweep()
    begin = f"{_host()}.{os.getpid()}.{purpose}-"
    try:
        made = tempfile.TemporaryDirectory(prefix=begin, dir=temporary_root())
    except OSError as e:
        place = settings().home / "tmp"
        raise MachineError(f"{place}: cannot be written ({os_fault(e)}); files are unpacked there") from e
    with made as folder:
        yield Path(folder)


def sweep() -> None:
    """Remove what killed processes of this machine left in HOME/tmp."""
    root = settings().home / "tmp"
    for folder in root.iterdir() if root.is_dir() else ():
        name = _NAME.fullmatch(folder.name)
        if name and name["host"] == _host() and not _alive(int(name["pid"])):
            shutil.rmtree(folder, ignore_errors=True)  # another start may be sweeping the same one


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "host"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process
        return True
    return True
