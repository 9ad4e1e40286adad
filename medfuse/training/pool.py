"""Processes beside this one, for any caller: a script or a notebook that trains needs no guard around its own
lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import current_process, get_context


def processes() -> int:
    """How many processes a step may start: as many as there are cores, and one where this process is itself
    one of several workers."""
    return 1 if current_process().daemon else os.cpu_count() or 1


@contextmanager
def spawned(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``workers`` fresh processes. They do not run the caller's ``__main__`` again, as Python's own
    do: nothing that is handed to them comes from there."""
    main = sys.modules["__main__"].__dict__
    kept: dict[str, object] = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield pool
    finally:
        main.update(kept)
