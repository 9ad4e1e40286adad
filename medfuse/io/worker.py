"""The other end of `child`: runs what it is sent, within its memory, until the parent is gone.

python -m medfuse.io.worker FD MEMORY_BYTES
"""

from __future__ import annotations

import resource
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from .child import CRASHED, NO_MEMORY, ArrayFollows, ChildFailed


def serve(connection: Connection) -> None:
    """Answer calls (function, arguments) until the parent hangs up; faults go back as ChildFailed."""
    while True:
        try:
            function, args = connection.recv()
        except (EOFError, ConnectionResetError):
            return  # the parent is gone
        try:
            answer = function(*args)
        except MemoryError:
            answer = ChildFailed(NO_MEMORY)
        except RecursionError:
            answer = ChildFailed("is nested too deeply to be read; the file is damaged")
        except BaseException as e:  # a decoder written in Rust panics past every Exception
            answer = ChildFailed(f"{CRASHED} ({type(e).__name__})")
        rest: tuple[Any, ...] | None = None
        if isinstance(answer, tuple) and answer and isinstance(answer[0], np.ndarray):
            answer, *others = answer
            rest = tuple(others)
        if isinstance(answer, np.ndarray):
            connection.send(ArrayFollows(answer.shape, answer.dtype.str, rest))
            connection.send_bytes(np.ascontiguousarray(answer).data.cast("B"))
        else:
            connection.send(answer)


if __name__ == "__main__":
    memory = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # imported now, so that no file's time limit pays for it
    from . import decode, index, nifti, picture  # noqa: F401

    parent = Connection(int(sys.argv[1]))
    parent.send("ready")
    serve(parent)
