"""`medfuse crossvalidate --workers`: folds beside each other on dask workers of this machine."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

import dask
import torch
from distributed import Client, Future, as_completed
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from ..crossvalidation.fold import Cohort, FoldSettings, run_fold
from ..crossvalidation.plan import Fold
from ..errors import UserError
from .cluster import DASK, local_cluster

TRIES = 3  # workers that may die over one fold
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
                _make(client, (cohort, how, out.resolve()), folds, log)
            except KilledWorker as e:
                raise UserError(
                    f"workers died {TRIES} times while they made one fold (is there memory for {workers}?); "
                    f"give fewer --workers; {KEPT}"
                ) from e
            except (TimeoutError, CommClosedError) as e:
                raise UserError(f"the workers stopped answering ({type(e).__name__}); {KEPT}") from e

    return run


def _make(
    client: Client, shared: tuple[Cohort, FoldSettings, Path], folds: list[Fold], log: Callable[[str], None]
) -> None:
    """Make all folds; one whose worker died is made again. Raises KilledWorker after `TRIES` of them."""

    def submit(fold: Fold) -> Future:
        # a file of the cohort is not read again: what a fold needs lies under ``out`` and here, and goes with
        # the fold: what is sent to workers beforehand dies with them
        return client.submit(_one, shared, fold, pure=False)

    of = {submit(fold): fold for fold in folds}
    deaths: Counter[str] = Counter()
    made = 0
    waiting = as_completed(of, raise_errors=False)
    for done in waiting:
        try:
            name = done.result()
        except (KilledWorker, CancelledError) as e:
            fold = of[done]
            deaths[fold.name] += 1
            if deaths[fold.name] == TRIES:
                raise e if isinstance(e, KilledWorker) else TimeoutError(str(e)) from e
            log(f"a worker died while it made {fold.name}, which is made again")
            again = submit(fold)
            of[again] = fold
            waiting.add(again)
            continue
        made += 1
        log(f"{name}: {made} of {len(folds)} folds are made")


def _one(shared: tuple[Cohort, FoldSettings, Path], fold: Fold) -> str:
    """Make one fold in a worker; its name."""
    torch.set_num_threads(1)
    cohort, how, out = shared
    run_fold(cohort, fold, how, out, logging.getLogger(__name__).info)
    return fold.name
