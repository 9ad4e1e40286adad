"""Every file under a folder, through links too: none is passed over without a word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


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
        if not item.is_dir():
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
    if path.is_symlink() and not path.exists():
        return f"is a link to {os.readlink(path)}, which does not exist"
    if path.is_symlink() and path.is_dir():
        return "is a link to a folder that is read by its own path or holds this one; not followed again"
    if path.is_dir():
        return "is a folder that cannot be listed; check its permissions"
    return ""
