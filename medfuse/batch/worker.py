"""What runs in a worker: one case, read while another is in the network, written whole or not at all."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from distributed import Worker, WorkerPlugin
from sqlalchemy.exc import DatabaseError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from ..bundles.bundle import Bundle, choose_bundle, load_bundle
from ..case import Case
from ..errors import MachineError, OutputError, UserError
from ..exports.case_folder import BatchNote
from ..faults import fault_sentence
from ..inference.microbatch import MicroBatches
from ..io.child import KILLED
from ..library import Library, results
from ..library.outlines import keep_outlines
from ..library.registrations import links_of
from ..models.features import CaseFeatures, DenseOutput, Inputs, encode_many
from ..workflows.predict import Done, Known, PredictOptions, predict_and_write
from .plan import Job

# one case at a time in the network; the others of this worker read and write meanwhile
_network = threading.Lock()
_bundles = threading.Lock()


@dataclass(frozen=True)
class Work:
    """What every job of a batch shares."""

    out: str
    bundle: str
    choose: bool  # by the domain of each case, where no bundle was named
    options: PredictOptions
    settings_hash: str
    home: str
    database_url: str


@cache
def _load(name: str) -> Bundle:
    return load_bundle(name)


def bundle_of(name: str) -> Bundle:
    """Loaded once a worker."""
    with _bundles:
        return _load(name)


_together: dict[tuple[str, str, str, int], MicroBatches] = {}


def together(bundle: Bundle, options: PredictOptions) -> MicroBatches | None:
    """What puts the cases of this worker's threads into one batch; None where each goes alone."""
    if options.micro_batch < 2:
        return None
    # a worker of a cluster outlives a batch
    key = (
        bundle.hash,
        options.device,
        options.backend,
        options.micro_batch,
    )
    with _bundles:
        if key not in _together:
            device = torch.device(options.device)
            encoders = bundle.encoders_for(options.backend).to(device)

            def many(cases: list[Inputs]) -> list[tuple[CaseFeatures, list[DenseOutput]]]:
                with torch.inference_mode():
                    return encode_many(encoders, cases, bundle.task, device)

            _together[key] = MicroBatches(many, options.micro_batch)
        return _together[key]


class Settle(WorkerPlugin):
    """Fixed threads, so that the same input gives the same bytes."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def setup(self, worker: Worker) -> None:
        """Called by dask when a worker starts."""
        torch.set_num_threads(self.threads)


@dataclass(frozen=True, kw_only=True)
class JobDone:
    """How a case ended. state: done or refused; reason: why it was refused, or what of it was; worker: host
    and process; seconds by stage."""

    state: str
    reason: str = ""
    worker: str
    seconds: dict[str, float] = field(default_factory=dict)


class ReadersKilled(Exception):
    """The machine killed readers of a case, as one does that has too little memory: with nobody beside it,
    and later, the case may well be read."""


def run_job(job: Job, work: Work) -> JobDone:
    """One case from files to its folder.

    A case that cannot be read is refused, not raised. MachineError is raised (OutputError, no space, after it
    was tried again with pauses): it would meet each case. So is ReadersKilled.
    """
    os.environ["MEDFUSE_HOME"] = work.home
    started = time.perf_counter()
    me = f"{os.uname().nodename}:{os.getpid()}"
    try:
        library = Library(Path(work.home), url=work.database_url)
        case = job.read(library)
        killed = next((f"{r.path}: {r.reason}" for r in case.refused if KILLED in r.reason), None)
        if killed:
            raise ReadersKilled(killed)
        if not case.images:
            reasons = "; ".join(dict.fromkeys(r.reason for r in case.refused)) or "no usable image"
            return JobDone(state="refused", reason=reasons, worker=me)
        result = _predicted(job, work, case, library, read_seconds=time.perf_counter() - started)
        if job.library:
            results.save_result(library, result.prediction, result.report)
            keep_outlines(library, result.prediction, result.masks)
    except MachineError:
        raise
    except UserError as e:
        if KILLED in str(e):
            raise ReadersKilled(str(e)) from e
        return JobDone(state="refused", reason=str(e), worker=me)
    except DatabaseError as e:
        why = fault_sentence(e, work.database_url)
        if why is None:
            raise
        raise MachineError(why) from None  # what a database's error holds does not cross to the parent
    return JobDone(
        state="done",
        reason="; ".join(f"{r.path}: {r.reason}" for r in case.refused),
        worker=me,
        seconds={**result.seconds, "whole": time.perf_counter() - started},
    )


def _predicted(job: Job, work: Work, case: Case, library: Library, *, read_seconds: float) -> Done:
    """The case through its bundle, and its folder written; where the disk is full, after two pauses."""
    bundle = bundle_of(work.bundle)
    if work.choose:
        bundle = choose_bundle(case, bundle)
    note = BatchNote(input=job.input_hash, bundle=bundle.hash, settings=work.settings_hash)
    known = Known(
        read_seconds=read_seconds,
        prior=results.prior_of(library, job.case_id) if job.library else None,
        links=links_of(library, case) if job.library else None,
        encoded=together(bundle, work.options),
    )
    for attempt in Retrying(
        retry=retry_if_exception_type(OutputError),
        stop=stop_after_attempt(3),
        wait=wait_exponential(0.5),
        reraise=True,
    ):
        with attempt:
            return predict_and_write(
                case, bundle, Path(work.out), work.options, known=known, network=_network, batch=note
            )
    raise AssertionError("the last try returns or raises")
