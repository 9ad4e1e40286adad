"""What runs in a worker: one case, read while another is in the network, written whole or not at all."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from distributed import WorkerPlugin
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from ..errors import OutputError, UserError
from ..library import store
from ..library.registrations import links_of
from ..models.bundle import Bundle, choose_bundle, load_bundle
from ..models.features import CaseFeatures, DenseOutput, Inputs, encode_many
from ..models.microbatch import MicroBatches
from ..pipeline import PredictOptions, predict_and_write
from .plan import Job

_network = threading.Lock()  # one case at a time in the network; the others of this worker read and write meanwhile
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
    key = (bundle.hash, options.device, options.backend, options.micro_batch)  # a worker of a cluster outlives a batch
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

    def setup(self, worker) -> None:
        torch.set_num_threads(self.threads)


def run_job(job: Job, work: Work) -> dict:
    """One case from files to its folder: {"state", "reason", "seconds", "worker"}.

    A case that cannot be read is refused, not raised. OutputError (no space) is tried again with pauses, then raised.
    """
    os.environ["MEDFUSE_HOME"] = work.home
    if work.database_url:
        os.environ["MEDFUSE_DATABASE_URL"] = work.database_url
    started = time.perf_counter()
    done: dict = {"worker": f"{os.uname().nodename}:{os.getpid()}", "reason": "", "seconds": {}}
    try:
        case = job.read()
        if not case.images:
            reasons = "; ".join(dict.fromkeys(r.reason for r in case.refused)) or "no usable image"
            return done | {"state": "refused", "reason": reasons}
        read = time.perf_counter() - started
        bundle = bundle_of(work.bundle)
        if work.choose:
            bundle = choose_bundle(case, bundle)
        note = {"batch": {"input": job.input_hash, "bundle": bundle.hash, "settings": work.settings_hash}}
        prior = store.prior_of(job.case_id) if job.library else None
        links = links_of(case) if job.library else None
        for attempt in Retrying(
            retry=retry_if_exception_type(OutputError),
            stop=stop_after_attempt(3),
            wait=wait_exponential(0.5),
            reraise=True,
        ):
            with attempt:
                result = predict_and_write(
                    case,
                    bundle,
                    Path(work.out),
                    work.options,
                    read_seconds=read,
                    prior=prior,
                    network=_network,
                    encoded=together(bundle, work.options),
                    note=note,
                    links=links,
                )
    except OutputError:
        raise
    except UserError as e:
        return done | {"state": "refused", "reason": str(e)}
    if job.library:
        store.save_result(result.prediction, result.report)
    partly = "; ".join(f"{r.path}: {r.reason}" for r in case.refused)
    return done | {
        "state": "done",
        "reason": partly,
        "seconds": {**result.seconds, "whole": time.perf_counter() - started},
    }
