"""Child processes that touch untrusted bytes: each can be killed and has a memory cap, so a bad file costs
itself.

Parsers written in C crash on malformed files and parsers written in Python can be made to hang or to ask for
terabytes.
None of that may reach the programme: the parent sends a function and its arguments, and gets a result or one
    clause that says what went wrong.
"""

from __future__ import annotations

import atexit
import os
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

import numpy as np

from ..errors import MachineError, os_fault
from ..settings import settings

T = TypeVar("T")
START_S = 120
CRASHED = "the reader crashed on it; the file is damaged"
KILLED = (
    "its reader was killed twice from outside, as a machine does that has too little memory; close other "
    "programs and read it again"
)
NO_MEMORY = "needs more memory to read than is allowed (MEDFUSE_DECODE_MEMORY_GIB)"
STOPPED = "to read and was stopped"


def may_pass(reason: str) -> bool:
    """Whether a file was refused for what another time, or other limits, may not meet."""
    return any(words in reason for words in (KILLED, NO_MEMORY, STOPPED))


class _WasKilled(Exception):
    """The child was killed by somebody else."""


class ChildFailed(Exception):
    """The child died, hung or ran out of memory. The message is a clause about the file."""


@dataclass(frozen=True)
class ArrayFollows:
    """Said by a child before the bytes of an array. rest: of an answer whose first part it is, the others."""

    shape: tuple[int, ...]
    dtype: str
    rest: tuple[Any, ...] | None = None


class Child:
    """One child process, replaced when it dies or hangs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._pipe: Connection | None = None

    def call(self, function: Callable[..., T], *args: Any, limit: float) -> T:
        """``function(*args)`` in the child within ``limit`` seconds; the function must be importable. Raises
        ChildFailed. A child that is killed from outside is replaced and asked once more: whom a machine
        without memory kills has often done nothing."""
        try:
            return self._call(function, *args, limit=limit)
        except _WasKilled:
            try:
                return self._call(function, *args, limit=limit)
            except _WasKilled as e:
                raise ChildFailed(KILLED) from e

    def _call(self, function: Callable[..., T], *args: Any, limit: float) -> T:
        try:
            if self.pid is None:
                self._start()
            assert self._pipe is not None
            self._pipe.send((function, args))
            if not self._pipe.poll(limit):
                self.stop()
                raise ChildFailed(f"took longer than {limit:g} s {STOPPED}; it is damaged or very large")
            answer = self._pipe.recv()
            if isinstance(answer, ChildFailed):
                raise answer
            if isinstance(answer, ArrayFollows):
                whole: Any = np.frombuffer(self._pipe.recv_bytes(), answer.dtype).reshape(answer.shape)
                return whole if answer.rest is None else cast("T", (whole, *answer.rest))
            return answer
        except (EOFError, BrokenPipeError, ConnectionResetError) as e:
            if self._end() == -signal.SIGKILL:
                raise _WasKilled from e
            raise ChildFailed(CRASHED) from e

    @property
    def pid(self) -> int | None:
        """Its process id, None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def _start(self) -> None:
        """A fresh interpreter: it shares nothing with this one, whatever ``__main__``, threads or GPUs this
        one has. Raises MachineError where it does not come up: that is no file's fault, and so for each."""
        self.stop()
        try:
            self._spawn()
        except OSError as e:  # no memory to fork, too many processes or open files
            self.stop()
            raise MachineError(
                f"no process that reads files can start ({os_fault(e)}); close other programs, or raise the "
                "limits of processes and open files (ulimit), and run it again"
            ) from e
        assert self._pipe is not None
        if not self._pipe.poll(START_S):  # starting, on a busy machine, does not count as reading
            self.stop()
            raise MachineError(
                f"no process that reads files came up within {START_S} s; the machine is too busy, run it "
                "again when it is less so"
            )
        try:
            self._pipe.recv()
        except (EOFError, ConnectionResetError) as e:  # not the file's fault, and not to be called so
            self.stop()
            raise MachineError(
                "no process that reads files can start: too little memory is free, or "
                "MEDFUSE_DECODE_MEMORY_GIB is too small; give it more and run it again"
            ) from e

    def _spawn(self) -> None:
        """Start the process and keep its pipe. Raises OSError."""
        near, far = socket.socketpair()
        memory = int(settings().decode_memory_gib * 2**30)
        # -P: nothing is imported from the current folder, which may be a stranger's study
        command = [sys.executable, "-P", "-m", "medfuse.io.worker", str(far.fileno()), str(memory)]
        # what a C library says goes nowhere: stdout is the user's data
        with near, far:
            self._process = subprocess.Popen(
                command,
                pass_fds=[far.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._pipe = Connection(near.detach())

    def stop(self) -> None:
        """End the process, whatever it does; the next call starts another."""
        self._end(patience_s=0)

    def _end(self, patience_s: float = 5.0) -> int | None:
        """End the process, and how it ended: by itself where it was already about to."""
        how = None
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None  # first: another thread may end it too
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                how = process.wait(patience_s)
            process.kill()
            process.wait()
        if pipe is not None:
            pipe.close()
        return how


class Children:
    """As many children as cores, each driven by a thread, so that every core decodes."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._free: queue.LifoQueue[Child] = queue.LifoQueue()
        self._all = [Child() for _ in range(n)]
        for child in self._all:
            self._free.put(child)
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="medfuse-io")

    def run(self, function: Callable[..., T], *args: Any, limit: float | None = None) -> T:
        """Run in a free child, by default within MEDFUSE_HEADER_TIMEOUT_S. Raises ChildFailed."""
        limit = settings().header_timeout_s if limit is None else limit
        child = self._free.get()
        try:
            return child.call(function, *args, limit=limit)
        finally:
            self._free.put(child)

    def each(self, work: Callable, items: Iterable) -> Iterator:
        """``work(item)`` in a thread for each item (which calls `run`), results in order, few of them in
        flight."""
        waiting: queue.SimpleQueue[Future] = queue.SimpleQueue()
        try:
            for item in items:
                waiting.put(self._threads.submit(work, item))
                if waiting.qsize() > 2 * self.n:
                    yield waiting.get().result()
            while not waiting.empty():
                yield waiting.get().result()
        finally:
            while not waiting.empty():
                waiting.get().cancel()

    def pids(self) -> list[int]:
        """Process ids of the children that run."""
        return [pid for child in self._all if (pid := child.pid) is not None]

    def stop(self) -> None:
        """End all children."""
        for child in self._all:
            child.stop()


_shared: tuple[int, Children] | None = None


def children() -> Children:
    """The children of this process, started when first used."""
    global _shared
    if _shared is None or _shared[0] != os.getpid():
        made = Children(os.cpu_count() or 1)
        _shared = (os.getpid(), made)
        atexit.register(made.stop)
    return _shared[1]
