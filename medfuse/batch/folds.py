"""`medfuse crossvalidate --workers`: folds beside each other on dask workers of this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import dask
import torch
from distributed import as_completed
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from ..crossvalidation.fold import Cohort, FoldSettings, run_fold
from ..crossvalidation.plan import Fold
from ..errors import UserError
from .cluster import DASK, local_cluster

KEPT = "finished folds are kept: run the same line again"


def folds_on_workers(
    workers: int,
) -> Callable[[Cohort, list[Fold], FoldSettings, Path, Callable[[str], None]], None]:
    """What makes the files of many folds in so many processes, each with one thread. It raises UserError
    where a process dies or does not start; whatever is finished stays."""

    def run(
        cohort: Cohort, folds: list[Fold], how: FoldSettings, out: Path, log: Callable[[str], None]
    ) -> None:
        logging.getLogger("distributed").setLevel(logging.ERROR)
        with dask.config.set(DASK), local_cluster(min(workers, len(folds)), threads=1) as client:
            try:
                # a file of the cohort is not read again: what a fold needs lies under ``out`` and here
                shared = client.scatter((cohort, how, out.resolve()), broadcast=True)
                waiting = [client.submit(_one, shared, fold, pure=False) for fold in folds]
                for n, done in enumerate(as_completed(waiting, raise_errors=False), 1):
                    log(f"{done.result()}: {n} of {len(folds)} folds are made")
            except KilledWorker as e:
                raise UserError(
                    f"a worker died while it made a fold (is there memory for {workers}?); give fewer "
                    f"--workers; {KEPT}"
                ) from e
            except (TimeoutError, CommClosedError) as e:
                raise UserError(f"the workers stopped answering ({type(e).__name__}); {KEPT}") from e

    return run


def _one(shared: tuple[Cohort, FoldSettings, Path], fold: Fold) -> str:
    """Make one fold in a worker; its name."""
    torch.set_num_threads(1)
    cohort, how, out = shared
    run_fold(cohort, fold, how, out, logging.getLogger(__name__).info)
    return fold.name
