"""The model's own process: predictions one after the other, searches and questions, while the pages stay
quick.

What a job leaves is in the library; what is waiting or went wrong is remembered here, for all sessions of
this viewer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from loky import ProcessPoolExecutor
from loky.process_executor import ShutdownExecutorError

from apps.viewer.desk import Place, library, place, work_at
from apps.viewer.replies import AnswerReply
from medfuse.errors import UserError
from medfuse.library.accounts import Account, acting_as
from medfuse.report import Report
from medfuse.workflows.search_request import SearchRequest, SearchResult

if TYPE_CHECKING:
    from medfuse.bundles.bundle import Bundle

P = ParamSpec("P")
Answer = TypeVar("Answer")
_bundle: Bundle | None = None  # in the model's process: loaded once


@dataclass
class Job:
    """One prediction. state: queued, waiting (running), done, failed; ``why`` is one sentence."""

    case_id: str
    state: str = "queued"
    why: str = ""
    started: float = 0.0
    by: str = ""  # the account that asked for it; empty for a guest

    @property
    def seconds(self) -> int:
        """Since it began; 0 while it is queued."""
        return int(time.monotonic() - self.started) if self.started else 0


jobs: OrderedDict[str, Job] = OrderedDict()


def _lasting() -> None:
    """In the model's process: stay. loky ends a worker that has grown by 300 MB, which this one does when it
    loads the model, and has no setting for it."""
    from loky import process_executor

    process_executor._USE_PSUTIL = False


class ModelProcess:
    """One process with the model in memory, for all sessions of this viewer; one that died is started anew.
    loky, not multiprocessing: that would run this page's script in the child. Its reusable executor would be
    another one in each thread, and each session of Streamlit runs in threads of its own."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, work: Callable[P, Answer], *arguments: P.args, **named: P.kwargs) -> Future[Answer]:
        """Run it there when its turn comes."""
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(max_workers=1, timeout=None, initializer=_lasting)
            try:
                return self._pool.submit(work, *arguments, **named)
            except (BrokenProcessPool, ShutdownExecutorError):
                self._pool = ProcessPoolExecutor(max_workers=1, timeout=None, initializer=_lasting)
                return self._pool.submit(work, *arguments, **named)


model = ModelProcess()


def _submit(work: Callable[P, Answer], *arguments: P.args, **named: P.kwargs) -> Future[Answer]:
    """Its place goes along: the process may have started while the settings named another library."""
    return model.submit(_work, place(), partial(work, *arguments, **named))


def _work(where: Place, work: Callable[[], Answer]) -> Answer:
    work_at(where)
    return work()


def predict(case_ids: list[str], language: str, who: Account | None) -> None:
    """Queue cases that are not queued already, for who asks (None: a guest on this machine)."""
    for case_id in case_ids:
        if case_id in jobs and jobs[case_id].state in ("queued", "waiting"):
            continue
        job = jobs[case_id] = Job(case_id, by=who.name if who else "")
        future = _submit(_predict, case_id, language, who)
        future.add_done_callback(partial(_finish, job))
    _mark()


def _finish(job: Job, future: Future) -> None:
    problem = future.exception()
    if problem is None:
        job.state = "done"
    else:
        said = (
            str(problem)
            if isinstance(problem, UserError)
            else (
                f"{job.case_id}: the model's process stopped ({type(problem).__name__}: {problem}); "
                "predict it again"
            )
        )
        job.state = "failed"
        job.why = said
    _mark()


def _mark() -> None:
    """The first that is not done is the one that runs."""
    for job in list(jobs.values()):
        if job.state in ("queued", "waiting"):
            if job.state == "queued":
                job.state = "waiting"
                job.started = time.monotonic()
            return


def call(work: Callable[P, Answer], *arguments: P.args, **named: P.kwargs) -> Answer:
    """Run a function in the model's process and wait for it. Raises what it raised; UserError where the
    process died."""
    try:
        return _submit(work, *arguments, **named).result()
    except BrokenProcessPool as e:
        raise UserError(
            "the model's process stopped; try again, and look at the free memory if it happens again"
        ) from e


def _predict(case_id: str, language: str, who: Account | None) -> None:
    from medfuse.bundles.bundle import load_bundle
    from medfuse.workflows.predict import PredictOptions, predict_library_case

    global _bundle
    _bundle = _bundle or load_bundle()
    with acting_as(who):
        predict_library_case(
            case_id,
            _bundle,
            library().home / "results",
            PredictOptions(language=language),
            choose=True,
            library=library(),
        )


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One file to download; ``problems`` are the sentences of what could not go into it."""

    name: str
    data: bytes
    problems: tuple[str, ...] = ()


def export(case_id: str, wanted: str, language: str) -> Exported:
    """One file of the newest report. Several (one SEG a modality) come as a zip. Raises UserError."""
    from medfuse.io.names import plain_name
    from medfuse.io.temporary import temporary_folder
    from medfuse.workflows.report import export_report

    with temporary_folder("export") as folder:
        made = export_report(case_id, (wanted,), folder, language, library=library())
        if not made.names:
            raise UserError(
                "; ".join(made.problems)
                or f"{case_id}: nothing to export as {wanted}: "
                + ("no key image was chosen" if wanted == "kos" else "no lesion was outlined")
            )
        if len(made.names) == 1:
            data = (folder / plain_name(case_id) / made.names[0]).read_bytes()
            return Exported(name=made.names[0], data=data, problems=made.problems)
        import shutil

        packed = Path(shutil.make_archive(str(folder / "packed"), "zip", folder / plain_name(case_id)))
        return Exported(name=f"{case_id}.{wanted}.zip", data=packed.read_bytes(), problems=made.problems)


def search(request: SearchRequest) -> SearchResult:
    """In the model's process: what `medfuse search` finds."""
    from medfuse.workflows.search import search as find

    return find(request, library=library())


def ask(case_id: str, question: str) -> AnswerReply:
    """In the model's process: the answer to a question on a case."""
    from medfuse.workflows.ask import ask as answer

    return AnswerReply.model_validate(answer(case_id, question, library=library()).as_json())


def compose(case_id: str, language: str) -> Report:
    """In the model's process: the report in another language."""
    from medfuse.workflows.report import library_report

    return library_report(case_id, language, library=library())
