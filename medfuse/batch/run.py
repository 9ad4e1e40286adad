"""`medfuse batch`: many cases on dask.distributed, each exactly once. What is done stays done, whatever is killed meanwhile."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import dask
from distributed import Client, Future, LocalCluster, as_completed
from distributed.scheduler import KilledWorker

from .. import __version__
from ..errors import OutputError, UserError, WrongUse
from ..models.bundle import load_bundle
from ..pipeline import PredictOptions
from ..settings import settings
from .ledger import DONE, FAILED, REFUSED, WAITING, Ledger
from .plan import Job, Plan
from .preload import PARENT
from .worker import Settle, Work, run_job

TRIES = 3  # of a case whose worker died, or that raised what nobody foresaw
AHEAD = 2  # jobs a worker thread that are handed out at a time: bounds memory, keeps workers busy
DASK = {
    "distributed.scheduler.allowed-failures": 0,  # we count ourselves, and give the innocent another try
    "distributed.scheduler.worker-ttl": "10s",  # a silent worker is dead
    "distributed.comm.timeouts.connect": "10s", "distributed.comm.retry.count": 3,
    "distributed.worker.memory.target": False, "distributed.worker.memory.spill": False,
    "distributed.admin.tick.limit": "30s", "distributed.worker.daemon": True,
}  # fmt: skip

Event = Callable[[dict], None]


@dataclass(frozen=True)
class BatchOptions:
    workers: int = 1
    cluster: str = ""
    restart: bool = False
    threads: int = 0  # jobs at a time in a worker; 0: two where cores are left for it (one in the network, the other reads or writes)

    @property
    def jobs_a_worker(self) -> int:
        return self.threads or (1 if self.workers >= (os.cpu_count() or 1) else 2)


def settings_hash(options: PredictOptions) -> str:
    """Of everything but inputs and bundle that decides an output."""
    return hashlib.sha256(json.dumps([__version__, asdict(options)], default=str, sort_keys=True).encode()).hexdigest()


def run_batch(
    plan: Plan,
    out: Path,
    options: PredictOptions,
    batch: BatchOptions,
    *,
    bundle: str | None,
    event: Event = lambda e: None,
) -> dict:
    """Run what is not done: {"cases", "done", "skipped", "refused", "failed", "seconds"}.

    Events: {"event": "case", "case_id", "state", "reason", "done", "of", "rate", "left_s"}. Raises UserError when the output or the
    ledger cannot be written; everything finished until then stays, and the same command goes on.
    """
    started = time.monotonic()
    names = [j.case_id for j in plan.jobs]
    twice = {n for n in names if names.count(n) > 1} if len(set(names)) != len(names) else set()
    if twice:
        raise UserError(f"case id {sorted(twice)[0]} stands for two cases; every case needs its own id")
    default = load_bundle(bundle)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e.strerror}); choose another --out") from e
    with _alone(out):
        ledger = Ledger(out)
        work = Work(
            str(out.resolve()), str(default.path), bundle is None, options, settings_hash(options), str(settings().home.resolve()),
            settings().database_url,
        )  # fmt: skip
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
        seconds = round(time.monotonic() - started, 2)
        summary = {
            "cases": len(plan.jobs) + len(plan.refused), "done": counts[DONE], "skipped": len(done_before), "refused": counts[REFUSED],
            "failed": counts[FAILED], "seconds": seconds,
        }  # fmt: skip
        from .summary import write_summary

        write_summary(out, ledger, plan, summary)
        return summary


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One batch at a time in an output folder."""
    try:
        lock = open(out / ".batch.lock", "w")  # noqa: SIM115 - held until the end of the block
    except OSError as e:
        raise UserError(f"{out}: cannot be written ({e.strerror}); choose another --out") from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise WrongUse(f"{out}: another batch is writing there; wait for it or choose another --out") from e
        yield


def _sweep(out: Path) -> None:
    """What a killed worker left half-written."""
    for part in out.glob(".*.part"):
        shutil.rmtree(part, ignore_errors=True)


def _done(jobs: list[Job], ledger: Ledger, out: Path, hashes: dict, work: Work) -> set[str]:
    """Cases that are done with the same inputs, bundle and settings. The folder on disk is the truth: it appears whole, and a
    parent that died before it could note so has still done it."""
    known = ledger.entries()
    done = set()
    for job in jobs:
        run = out / job.case_id / "run.json"
        entry = known.get(job.case_id)
        if not run.is_file():
            if entry is not None and entry.state == REFUSED and entry.hashes == hashes[job.case_id]:
                done.add(job.case_id)  # the same files would be refused again
            continue
        noted = json.loads(run.read_text()).get("batch", {})
        same = noted.get("input") == job.input_hash and noted.get("settings") == work.settings_hash
        if same and (work.choose or noted.get("bundle") == hashes[job.case_id][1]):
            done.add(job.case_id)
            if entry is None or entry.state != DONE:
                ledger.plan([(job.case_id, hashes[job.case_id], DONE)], forget=False)
    return done


@contextmanager
def _client(batch: BatchOptions) -> Iterator[Client]:
    logging.getLogger("distributed").setLevel(logging.ERROR)  # a batch tells its own story
    with dask.config.set(DASK):
        if batch.cluster:
            try:
                client = Client(batch.cluster, timeout="15s")
            except (OSError, TimeoutError, ValueError) as e:
                raise UserError(f"--cluster {batch.cluster}: no dask scheduler answers there ({type(e).__name__}); start one with dask scheduler, or use --workers") from e  # fmt: skip
            with client:
                client.register_plugin(Settle(1), name="medfuse-settle")
                yield client
            return
        environment = {k: "1" for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        started = {"distributed.nanny.pre-spawn-environ": environment, "distributed.worker.preload": ["medfuse.batch.preload"]}  # fmt: skip
        with dask.config.set(started), ExitStack() as stack:
            os.environ[PARENT] = str(os.getpid())  # workers inherit it; dask would not overrule one that is set already
            stack.callback(os.environ.pop, PARENT, None)
            try:
                cluster = stack.enter_context(LocalCluster(
                    n_workers=batch.workers, threads_per_worker=batch.jobs_a_worker, processes=True, dashboard_address="127.0.0.1:0",
                    host="127.0.0.1", silence_logs=50, memory_limit=0,
                ))  # fmt: skip
            except RuntimeError as e:
                raise UserError(
                    f"the {batch.workers} workers cannot start ({e}); is there memory for them? try fewer --workers"
                ) from e
            client = stack.enter_context(Client(cluster))
            client.register_plugin(Settle(1), name="medfuse-settle")
            yield client


class _Loop:
    """Hands jobs out a few at a time and notes what comes back."""

    def __init__(self, client: Client, ledger: Ledger, work: Work, batch: BatchOptions, event: Event, counts: dict, total: int) -> None:  # fmt: skip
        self.client, self.ledger, self.work, self.event, self.counts, self.total = (
            client,
            ledger,
            work,
            event,
            counts,
            total,
        )
        self.tries: dict[str, int] = {}
        self.started = time.monotonic()
        self.finished = 0
        threads = sum(w["nthreads"] for w in client.scheduler_info(n_workers=-1)["workers"].values())
        self.room = max(1, AHEAD * (threads or batch.workers * batch.jobs_a_worker))
        self.resources = {"GPU": 1} if work.options.device == "cuda" and batch.cluster else None

    def run(self, jobs: list[Job]) -> None:
        waiting, alone = deque(jobs), deque[Job]()  # alone: their worker died; each is tried with nobody beside it
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
        except BaseException:
            self.client.cancel(list(flying))
            raise

    def _submit(self, job: Job, flying: dict[Future, Job], arrived) -> None:
        self.tries[job.case_id] = self.tries.get(job.case_id, 0) + 1
        self.ledger.running(job.case_id, self.tries[job.case_id])
        future = self.client.submit(run_job, job, self.work, pure=False, resources=self.resources, key=f"{job.case_id}-{self.tries[job.case_id]}")  # fmt: skip
        flying[future] = job
        arrived.add(future)

    def _note(self, future: Future, job: Job, alone: deque[Job]) -> None:
        error = future.exception() if future.status != "finished" else None
        if error is None and future.status == "finished":
            result = future.result()
            self._finish(job, result["state"], result["reason"], result["worker"], result["seconds"])
        elif isinstance(error, OutputError):
            self.ledger.finish(job.case_id, WAITING, reason=str(error))
            raise UserError(
                f"{error}; {self.counts[DONE]} cases are done and stay, run the same command again to go on"
            )
        elif self.tries[job.case_id] < TRIES:
            alone.append(job)
        else:
            died = isinstance(error, KilledWorker)
            what = "its worker died each time" if died else f"{type(error).__name__}: {error}"
            self._finish(job, FAILED, f"quarantined after {TRIES} tries: {what}", "", {})
        future.release()

    def _finish(self, job: Job, state: str, reason: str, worker: str, seconds: dict) -> None:
        self.ledger.finish(job.case_id, state, reason=reason, worker=worker, seconds=seconds)
        self.counts[state] += 1
        self.finished += 1
        rate = self.finished / max(1e-6, time.monotonic() - self.started)
        self.event({
            "event": "case", "case_id": job.case_id, "state": state, "reason": reason, "finished": self.finished, "of": self.total,
            "rate": round(rate, 3), "left_s": round((self.total - self.finished) / rate, 1), "refused": self.counts[REFUSED],
            "failed": self.counts[FAILED],
        })  # fmt: skip
