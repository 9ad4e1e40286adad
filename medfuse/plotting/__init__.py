"""matplotlib as it is installed and as its user set it up at home. A `matplotlibrc` of the current folder,
which may be a stranger's study, is not read: it chooses what runs for text and pictures, and a pipe of that
name would be waited for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["matplotlib"]
HERE = "matplotlibrc"  # what matplotlib looks for first


@contextmanager
def _not_here() -> Iterator[None]:
    """While this is entered, no such file is in the current folder."""
    exists = os.path.exists
    if "matplotlib" in sys.modules:  # somebody else's choice, and made already
        yield
        return
    os.path.exists = lambda path: path != HERE and exists(path)
    try:
        yield
    finally:
        os.path.exists = exists


with _not_here():
    import matplotlib
matplotlib.use("Agg")
