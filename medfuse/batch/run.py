"""`medfuse batch`: many cases on dask.distributed, each exactly once. What is done stays done, whatever is
killed meanwhile."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import dask
from distributed import Client, Future, as_completed
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from .. import __version__
from ..bundles.bundle import Bundle, load_bundle
from ..errors import MachineError, UserError, WrongUse
from ..io.child import may_pass
from ..io.names import plain_name
from ..library import Library
from ..workflows.predict import PredictOptions
from .cluster import DASK, ClusterTls, cluster_security, collect_failed_clients, local_cluster
from .ledger import DONE, FAILED, REFUSED, WAITING, Entry, Ledger
from .plan import Job, Plan
from .summary import write_summary
from .worker import ReadersKilled, Settle, Work, run_job

TRIES = 3  # of a case whose worker died, or that raised what nobody foresaw
AHEAD = 2  # jobs a worker thread that are handed out at a time: bounds memory, keeps workers busy
Event = Callable[[dict], None]


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """What became of a batch's cases, counted. skipped: done by an earlier run of the same command."""

    cases: int
    done: int
    skipped: int
    refused: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class BatchOptions:
    workers: int = 1
    cluster: str = ""
    # how a cluster is reached: by TLS with these PEM files, else as dask's own configuration says
    cluster_tls: ClusterTls | None = None
    cluster_plain: bool = False  # also without TLS: everybody who reaches such a scheduler runs code in it
    restart: bool = False
    # jobs at a time in a worker; 0: two where cores are left for it (one in the network, the other reads or
    # writes)
    threads: int = 0

    @property
    def jobs_a_worker(self) -> int:
        """Jobs that one worker has at a time."""
        return self.threads or (1 if self.workers >= (os.cpu_count() or 1) else 2)


def settings_hash(options: PredictOptions) -> str:
    """Of everything but inputs and bundle that decides an output."""
    return hashlib.sha256(
        json.dumps([__version__, asdict(options)], default=str, sort_keys=True).encode()
    ).hexdigest()


def run_batch(
    plan: Plan,
    out: Path,
    options: PredictOptions,
    batch: BatchOptions,
    *,
    bundle: str | None,
    event: Event = lambda e: None,
    library: Library | None = None,
) -> BatchSummary:
    """Run what is not done.

    Events: {"event": "case", "case_id", "state", "reason", "done", "of", "rate", "left_s"}. Raises UserError
        when the output or the ledger cannot be written; everything finished until then stays, and the same
        command goes on.
    """
    started = time.monotonic()
    _check_names(plan.jobs)
    default = load_bundle(bundle)
    _make(out)
    with _alone(out):
        library = library or Library()
        ledger = Ledger(out, library)
        work = _work(out, options, default, library, choose=bundle is None)
        _sweep(out)
        hashes = {j.case_id: (j.input_hash, default.hash, work.settings_hash) for j in plan.jobs}
        done_before = set() if batch.restart else _done(plan.jobs, ledger, out, hashes, work)
        todo = [j for j in plan.jobs if j.case_id not in done_before]
        rows = [(j.case_id, hashes[j.case_id], WAITING) for j in todo]
        ledger.plan(rows, forget=batch.restart)
        for r in plan.refused:
            event({"event": "case", "case_id": r.path, "state": REFUSED, "reason": r.reason})
        counts = {DONE: 0, REFUSED: len(plan.refused), FAILED: 0}
        if todo:
            with _client(batch) as client:
                _Loop(client, ledger, work, batch, event, counts, len(todo)).run(todo)
        summary = BatchSummary(
            cases=len(plan.jobs) + len(plan.refused),
            done=counts[DONE],
            skipped=len(done_before),
            refused=counts[REFUSED],
            failed=counts[FAILED],
            seconds=round(time.monotonic() - started, 2),
        )
        write_summary(out, ledger, plan, asdict(summary))
        return summary


def _work(out: Path, options: PredictOptions, default: Bundle, library: Library, *, choose: bool) -> Work:
    """What every job of this batch shares; folders as seen from anywhere."""
    return Work(
        str(out.resolve()),
        str(default.path),
        choose,
        options,
        settings_hash(options),
        str(library.home.resolve()),
        library.url,
    )


def _check_names(jobs: list[Job]) -> None:
    """Raise UserError where two cases have one id: they would share a folder."""
    twice = sorted(name for name, times in Counter(j.case_id for j in jobs).items() if times > 1)
    if twice:
        raise UserError(f"case id {twice[0]} stands for two cases; every case needs its own id")


def _make(out: Path) -> None:
    """The output folder; UserError where it cannot be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e.strerror}); choose another --out") from e


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One batch at a time in an output folder."""
    try:
        # held until the end of the block
        lock = open(out / ".batch.lock", "w", encoding="utf-8")  # noqa: SIM115
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e.strerror}); choose another --out") from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise WrongUse(
                f"{out}: another batch is writing there; wait for it or choose another --out"
            ) from e
        yield


def _sweep(out: Path) -> None:
    """What a killed worker left half-written."""
    for part in out.glob(".*.part"):
        shutil.rmtree(part, ignore_errors=True)


def _done(jobs: list[Job], ledger: Ledger, out: Path, hashes: dict, work: Work) -> set[str]:
    """Cases that are done with the same inputs, bundle and settings. The folder on disk is the truth: it
    appears whole, and a parent that died before it could note so has still done it."""
    known = ledger.entries()
    done = set()
    for job in jobs:
        entry = known.get(job.case_id)
        wanted = hashes[job.case_id]
        run = out / plain_name(job.case_id) / "run.json"
        if not run.is_file():
            if entry is not None and entry.hashes == wanted and _for_good(entry):
                done.add(job.case_id)
        elif _made_of(run, wanted, any_bundle=work.choose):
            done.add(job.case_id)
            if entry is None or entry.state != DONE:
                ledger.plan([(job.case_id, wanted, DONE)], forget=False)
    return done


def _for_good(entry: Entry) -> bool:
    """Whether the same files would be refused again."""
    return entry.state == REFUSED and not may_pass(entry.reason)


def _made_of(run: Path, wanted: tuple[str, str, str], *, any_bundle: bool) -> bool:
    """Whether a case's folder was made from these inputs, bundle and settings (their hashes, in this
    order)."""
    noted = json.loads(run.read_text(encoding="utf-8")).get("batch", {})
    made = (noted.get("input"), noted.get("bundle"), noted.get("settings"))
    return (made[0], made[2]) == (wanted[0], wanted[2]) and (any_bundle or made[1] == wanted[1])


def _why_failed(error: BaseException | None) -> str:
    """Of a case that failed at each try."""
    if isinstance(error, KilledWorker):
        return "its worker died each time"
    return str(error) if isinstance(error, ReadersKilled) else f"{type(error).__name__}: {error}"


@contextmanager
def _client(batch: BatchOptions) -> Iterator[Client]:
    logging.getLogger("distributed").setLevel(logging.ERROR)  # a batch tells its own story
    collect_failed_clients()
    with dask.config.set(DASK):
        if batch.cluster:
            security = cluster_security(batch.cluster, batch.cluster_tls, plain=batch.cluster_plain)
            try:
                client = Client(batch.cluster, timeout="15s", security=security)
            except (OSError, TimeoutError, ValueError, RuntimeError) as e:
                raise UserError(
                    f"--cluster {batch.cluster}: no dask scheduler answers there ({type(e).__name__}); "
                    "start one with dask scheduler, or use --workers; with TLS, both certificates must be of "
                    "one CA"
                ) from e
            with client:
                client.register_plugin(Settle(1), name="medfuse-settle")
                yield client
            return
        with local_cluster(batch.workers, batch.jobs_a_worker) as client:
            client.register_plugin(Settle(1), name="medfuse-settle")
            yield client


class _Loop:
    """Hands jobs out a few at a time and notes what comes back."""

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        work: Work,
        batch: BatchOptions,
        event: Event,
        counts: dict,
        total: int,
    ) -> None:
        self.client = client
        self.ledger = ledger
        self.work = work
        self.event = event
        self.counts = counts
        self.total = total
        self.tries: dict[str, int] = {}
        self.started = time.monotonic()
        self.finished = 0
        threads = sum(w["nthreads"] for w in client.scheduler_info(n_workers=-1)["workers"].values())
        self.room = max(1, AHEAD * (threads or batch.workers * batch.jobs_a_worker))
        self.resources = {"GPU": 1} if work.options.device == "cuda" and batch.cluster else None

    def run(self, jobs: list[Job]) -> None:
        # alone: their worker died; each is tried with nobody beside it
        waiting = deque(jobs)
        alone = deque[Job]()
        flying: dict[Future, Job] = {}
        arrived = as_completed(with_results=False, raise_errors=False)
        try:
            while waiting or flying or alone:
                while waiting and len(flying) < self.room:
                    self._submit(waiting.popleft(), flying, arrived)
                if not flying and alone:
                    self._submit(alone.popleft(), flying, arrived)
                future = next(arrived)
                self._note(future, flying.pop(future), alone)
        except (TimeoutError, CommClosedError) as e:
            raise UserError(
                f"the scheduler stopped answering ({type(e).__name__}); {self.counts[DONE]} cases are done "
                "and stay, run the same command again to go on"
            ) from e
        except BaseException:
            self.client.cancel(list(flying))
            raise

    def _submit(self, job: Job, flying: dict[Future, Job], arrived: as_completed) -> None:
        self.tries[job.case_id] = self.tries.get(job.case_id, 0) + 1
        self.ledger.running(job.case_id, self.tries[job.case_id])
        future = self.client.submit(
            run_job,
            job,
            self.work,
            pure=False,
            resources=self.resources,
            key=f"{job.case_id}-{self.tries[job.case_id]}",
        )
        flying[future] = job
        arrived.add(future)

    def _note(self, future: Future, job: Job, alone: deque[Job]) -> None:
        error = future.exception() if future.status != "finished" else None
        if error is None and future.status == "finished":
            result = future.result()
            self._finish(job, result.state, result.reason, result.worker, result.seconds)
        elif isinstance(error, MachineError):
            self.ledger.finish(job.case_id, WAITING, reason=str(error))
            raise UserError(
                f"{error}; {self.counts[DONE]} cases are done and stay, run the same command again to go on"
            )
        elif self.tries[job.case_id] < TRIES:
            alone.append(job)
        else:
            what = _why_failed(error)
            self._finish(job, FAILED, f"quarantined after {TRIES} tries: {what}", "", {})
        future.release()

    def _finish(self, job: Job, state: str, reason: str, worker: str, seconds: dict) -> None:
        self.ledger.finish(job.case_id, state, reason=reason, worker=worker, seconds=seconds)
        self.counts[state] += 1
        self.finished += 1
        rate = self.finished / max(1e-6, time.monotonic() - self.started)
        self.event(
            {
                "event": "case",
                "case_id": job.case_id,
                "state": state,
                "reason": reason,
                "finished": self.finished,
                "of": self.total,
                "rate": round(rate, 3),
                "left_s": round((self.total - self.finished) / rate, 1),
                "refused": self.counts[REFUSED],
                "failed": self.counts[FAILED],
            }
        )
