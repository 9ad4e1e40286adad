"""The model's own process: predictions one after the other, searches and questions, while the pages stay quick.

What a job leaves is in the library; what is waiting or went wrong is remembered here, for all sessions of this viewer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loky import get_reusable_executor

from medfuse.errors import UserError
from medfuse.settings import settings

_bundle: Any = None  # in the model's process: loaded once


@dataclass
class Job:
    """One prediction. state: queued, waiting (running), done, failed; ``why`` is one sentence."""

    case_id: str
    state: str = "queued"
    why: str = ""
    started: float = 0.0

    @property
    def seconds(self) -> int:
        return int(time.monotonic() - self.started) if self.started else 0


jobs: OrderedDict[str, Job] = OrderedDict()


def _submit(work: Any, *arguments: Any) -> Future:
    """To the model's process; one that died is started anew. loky, not multiprocessing: that would run this page's script in the child."""
    return get_reusable_executor(max_workers=1, timeout=None).submit(work, *arguments)


def predict(case_ids: list[str], language: str) -> None:
    """Queue cases that are not queued already."""
    for case_id in case_ids:
        if case_id in jobs and jobs[case_id].state in ("queued", "waiting"):
            continue
        job = jobs[case_id] = Job(case_id)
        future = _submit(_predict, case_id, language)
        future.add_done_callback(lambda f, job=job: _finish(f, job))
    _mark()


def _finish(future: Future, job: Job) -> None:
    problem = future.exception()
    if problem is None:
        job.state = "done"
    else:
        said = str(problem) if isinstance(problem, UserError) else f"{job.case_id}: the model's process stopped ({type(problem).__name__}: {problem}); predict it again"  # fmt: skip
        job.state, job.why = "failed", said
    _mark()


def _mark() -> None:
    """The first that is not done is the one that runs."""
    for job in list(jobs.values()):
        if job.state in ("queued", "waiting"):
            if job.state == "queued":
                job.state, job.started = "waiting", time.monotonic()
            return


def call(work: Any, *arguments: Any) -> Any:
    """Run a function in the model's process and wait for it. Raises what it raised; UserError where the process died."""
    try:
        return _submit(work, *arguments).result()
    except BrokenProcessPool as e:
        raise UserError(
            "the model's process stopped; try again, and look at the free memory if it happens again"
        ) from e


def _predict(case_id: str, language: str) -> None:
    from medfuse.models.bundle import load_bundle
    from medfuse.pipeline import PredictOptions, predict_library_case

    global _bundle
    _bundle = _bundle or load_bundle()
    predict_library_case(case_id, _bundle, settings().home / "results", PredictOptions(language=language), choose=True)


def export(case_id: str, wanted: str, language: str) -> tuple[str, bytes]:
    """One file of the newest report: its name and bytes. Several (one SEG a modality) come as a zip. Raises UserError."""
    from tempfile import TemporaryDirectory

    from medfuse.pipeline import export_report

    with TemporaryDirectory(prefix="medfuse-export-") as folder:
        names, problems = export_report(case_id, (wanted,), Path(folder), language)
        if not names:
            raise UserError("; ".join(problems) or f"{case_id}: nothing to export as {wanted}: no lesion was outlined")
        if len(names) == 1:
            return names[0], (Path(folder) / case_id / names[0]).read_bytes()
        import shutil

        packed = Path(shutil.make_archive(str(Path(folder) / "packed"), "zip", Path(folder) / case_id))
        return f"{case_id}.{wanted}.zip", packed.read_bytes()


def search(words: str | None, like: str | None, finding: str, modality: str, query: str, top: int) -> dict:
    from medfuse.search import Filters
    from medfuse.search import search as find

    return find(words, None, like, bundle=None, filters=Filters(modality, finding), query_modality=query, top=top)


def ask(case_id: str, question: str) -> dict:
    from medfuse.asking import ask as answer

    return answer(case_id, question)


def compose(case_id: str, language: str) -> dict:
    """The report in another language, as JSON data."""
    from medfuse.pipeline import library_report

    return library_report(case_id, language).model_dump(mode="json")
