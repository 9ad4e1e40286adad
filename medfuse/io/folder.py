"""Every file under a folder, through links too: none is passed over without a word."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import os_fault


def files_under(path: Path) -> list[Path]:
    """The files of a folder and all below it, sorted folder by folder; of a file, itself.

    A link to a folder elsewhere is followed once. What cannot be entered stands in the list itself, so that
    `why_no_file` can say why: a broken link, a link to a folder that is read by its own path or that holds
    this one, a folder that may not be listed.
    """
    return [path] if path.is_file() else list(_walk(path, path.resolve(), set()))


def _walk(folder: Path, root: Path, followed: set[Path]) -> Iterator[Path]:
    try:
        with os.scandir(folder) as items:
            found = sorted(items, key=lambda e: e.name)
    except OSError:
        yield folder
        return
    below = []
    for item in found:
        if not os.path.isdir(item.path):  # Path.is_dir raises for a link to itself
            yield Path(item.path)
        elif not item.is_symlink():
            below.append(Path(item.path))
        else:
            target = Path(item.path).resolve()
            known = target.is_relative_to(root) or root.is_relative_to(target)
            if known or any(target.is_relative_to(f) or f.is_relative_to(target) for f in followed):
                yield Path(item.path)
            else:
                followed.add(target)
                below.append(Path(item.path))
    for one in below:
        yield from _walk(one, root, followed)


def why_no_file(path: Path) -> str:
    """One clause that says why a path of `files_under` is no file; empty where it is one."""
    linked = path.is_symlink()
    try:
        kind = path.stat().st_mode
    except OSError as e:
        why = "does not exist" if e.errno == errno.ENOENT else f"cannot be followed ({os_fault(e)})"
        return f"is a link to {os.readlink(path)}, which {why}" if linked else ""
    if linked and stat.S_ISDIR(kind):
        return "is a link to a folder that is read by its own path or holds this one; not followed again"
    if stat.S_ISDIR(kind):
        return "is a folder that cannot be listed; check its permissions"
    return "" if stat.S_ISREG(kind) else "is a pipe, a socket or a device, and no file; not followed"
