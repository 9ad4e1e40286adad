"""Dask clusters: how one of somebody else's is reached (with TLS, or not at all), and one of this machine."""

from __future__ import annotations

import gc
import os
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import dask
from distributed import Client, LocalCluster
from distributed.security import Security

from ..errors import UserError, WrongUse
from .preload import PARENT

DASK = {
    "distributed.scheduler.allowed-failures": 0,  # we count ourselves, and give the innocent another try
    # A worker that dies is noticed at once, by its closed connection. One that is only silent is not dead:
    # on a busy machine loading libraries takes half a minute; the scheduler's own pauses count as silence.
    "distributed.scheduler.worker-ttl": "10 minutes",
    # so is one that is being started again: after dask's 15 s it would be given up, and with the last one
    # the batch would wait forever
    "distributed.deploy.lost-worker-timeout": "10 minutes",
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.retry.count": 3,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.admin.tick.limit": "30s",
    "distributed.worker.daemon": True,
}


@dataclass(frozen=True)
class ClusterTls:
    """PEM files: the CA that the scheduler's certificate must be of, our own certificate and its key."""

    authority: Path
    certificate: Path
    key: Path


def cluster_security(address: str, given: ClusterTls | None, *, plain: bool) -> Security:
    """The keys with which a cluster is called; ``plain``: also without any. Raises WrongUse where that was
    not said: whoever reaches a scheduler runs code in its workers, and they read patients."""
    encrypted = address.startswith(("tls://", "wss://"))
    if not encrypted and plain:
        return Security(require_encryption=False)
    if not encrypted:
        raise WrongUse(
            f"--cluster {address}: speaks without TLS, so that anybody who reaches it can run code in "
            "its workers and read these patients; give a tls:// address with --cluster-ca, --cluster-cert "
            "and --cluster-key, or say --cluster-plain where nobody else reaches it"
        )
    if given is None:
        stated = Security(require_encryption=True)  # of dask's own configuration
        if not all(getattr(stated, name) for name in ("tls_ca_file", "tls_client_cert")):
            raise WrongUse(
                f"--cluster {address}: give --cluster-ca, --cluster-cert and --cluster-key, or name "
                "them in dask's configuration (distributed.comm.tls)"
            )
        return stated
    made = Security(
        tls_ca_file=str(given.authority),
        tls_client_cert=str(given.certificate),
        tls_client_key=str(given.key),
        require_encryption=True,
    )
    try:
        made.get_connection_args("client")
    except (OSError, ssl.SSLError) as e:
        raise UserError(
            f"{given.certificate}: cannot be used for TLS ({e}); give PEM files of a CA, a certificate of it "
            "and its key"
        ) from e
    return made


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C comes at the end of the block, a second one at once; processes that start in it never see one.
    Workers that were half started would print tracebacks of their own. Nothing but in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    before = signal.signal(signal.SIGINT, note)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which children inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def collect_failed_clients() -> None:
    """Close what is left of clients that found no scheduler. dask does so when they are collected; should
    that happen while another one starts, it would wait for that one's lock forever."""
    gc.collect()


@contextmanager
def local_cluster(workers: int, threads: int) -> Iterator[Client]:
    """A cluster of worker processes on this machine, each with so many jobs at a time; they end with the
    caller. Raises UserError where they cannot start."""
    environment = {k: "1" for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    started = {
        "distributed.nanny.pre-spawn-environ": environment,
        "distributed.worker.preload": ["medfuse.batch.preload"],
    }
    collect_failed_clients()
    with dask.config.set(started), ExitStack() as stack:
        # workers inherit it; dask would not overrule one that is set already
        os.environ[PARENT] = str(os.getpid())
        stack.callback(os.environ.pop, PARENT, None)
        try:
            with uninterrupted():
                client = _started(stack, workers, threads)
        except (RuntimeError, OSError, TimeoutError) as e:
            raise UserError(
                f"the {workers} workers cannot start ({e or type(e).__name__}); is there memory "
                "for them? try fewer --workers"
            ) from e
        yield client


def _started(stack: ExitStack, workers: int, threads: int) -> Client:
    cluster = stack.enter_context(
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            silence_logs=50,
            memory_limit=0,
            # keys of this run alone: who reaches a scheduler can run code in it
            security=Security.temporary(),
        )
    )
    return stack.enter_context(Client(cluster))
