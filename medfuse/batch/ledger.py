"""The ledger of a batch in the catalogue database. Only the batch's parent writes it; a lost connection is
waited for, then named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Update, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, OperationalError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from ..errors import UserError
from ..library import Library
from ..library.catalogue import BatchRow

PATIENCE_S = 30.0  # how long a lost database is waited for
DONE = "done"
REFUSED = "refused"
FAILED = "failed"
WAITING = "waiting"
RUNNING = "running"

Result = TypeVar("Result")


def patiently(work: Callable[..., Result]) -> Callable[..., Result]:
    """Try again with growing pauses while the database cannot be reached; UserError where it stays away."""

    @wraps(work)
    def inner(*args: Any, **kwargs: Any) -> Result:
        again = retry(
            retry=retry_if_exception_type(OperationalError),
            stop=stop_after_delay(PATIENCE_S),
            wait=wait_exponential(0.2, max=5),
            reraise=True,
        )
        try:
            return again(work)(*args, **kwargs)
        except DBAPIError as e:
            problem = str(e.orig).splitlines()[0]
            where = f"{args[0].library.address}: " if args and isinstance(args[0], Ledger) else ""
            raise UserError(
                f"{where}the ledger's database cannot be reached ({problem}); "
                "nothing is lost, run the same command again when it is back"
            ) from e

    return inner


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of one case."""

    case_id: str
    state: str
    tries: int
    reason: str
    hashes: tuple[str, str, str]  # input, bundle, settings
    worker: str
    seconds: dict


class Ledger:
    """The rows of one output folder."""

    def __init__(self, out: Path, library: Library | None = None) -> None:
        self.out = str(out.resolve())
        self.library = library or Library()

    @patiently
    def entries(self) -> dict[str, Entry]:
        """Every case that the ledger knows, by its id."""
        with self.library.session() as s:
            rows = s.scalars(select(BatchRow).where(BatchRow.out == self.out).order_by(BatchRow.case_id))
            return {
                r.case_id: Entry(
                    r.case_id,
                    r.state,
                    r.tries,
                    r.reason,
                    (r.input_hash, r.bundle_hash, r.settings_hash),
                    r.worker,
                    dict(r.seconds),
                )
                for r in rows
            }

    @patiently
    def plan(self, wanted: Iterable[tuple[str, tuple[str, str, str], str]], *, forget: bool) -> None:
        """Write (case_id, hashes, state) rows anew; with ``forget`` everything earlier of this folder goes
        first."""
        rows = [
            {
                "out": self.out,
                "case_id": c,
                "input_hash": h[0],
                "bundle_hash": h[1],
                "settings_hash": h[2],
                "state": state,
                "tries": 0,
                "worker": "",
                "reason": "",
                "seconds": {},
            }
            for c, h, state in wanted
        ]
        with self.library.session() as s:
            if forget:
                s.execute(delete(BatchRow).where(BatchRow.out == self.out))
            for i in range(0, len(rows), 500):
                part = rows[i : i + 500]
                names = [r["case_id"] for r in part]
                s.execute(delete(BatchRow).where(BatchRow.out == self.out, BatchRow.case_id.in_(names)))
                s.execute(insert(BatchRow), part)

    @patiently
    def running(self, case_id: str, tries: int) -> None:
        """Note that a worker has a case, and which try this is."""
        with self.library.session() as s:
            s.execute(self._one(case_id).values(state=RUNNING, tries=tries, started=datetime.now(UTC)))

    @patiently
    def finish(
        self, case_id: str, state: str, *, reason: str = "", worker: str = "", seconds: dict | None = None
    ) -> None:
        """Note how a case ended, with the reason, the worker and seconds by stage."""
        with self.library.session() as s:
            s.execute(
                self._one(case_id).values(
                    state=state,
                    reason=reason,
                    worker=worker,
                    seconds=seconds or {},
                    finished=datetime.now(UTC),
                )
            )

    def _one(self, case_id: str) -> Update:
        return update(BatchRow).where(BatchRow.out == self.out, BatchRow.case_id == case_id)

    def counts(self) -> Counter[str]:
        """How many cases are in each state."""
        return Counter(e.state for e in self.entries().values())
