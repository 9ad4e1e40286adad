"""Batch runs as the ledger keeps them, for whoever looks (the batch itself writes it: see
medfuse.batch.ledger)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from .catalogue import BatchRow

if TYPE_CHECKING:
    from .library import Library


@dataclass(frozen=True, kw_only=True)
class BatchRun:
    """One output folder: how many cases are in which state, and when it last moved."""

    out: str
    done: int = 0
    refused: int = 0
    failed: int = 0
    waiting: int = 0
    running: int = 0
    finished: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class BatchCase:
    """One case of a run; seconds from the first file to the last, None before it is done."""

    case_id: str
    state: str
    tries: int
    seconds: float | None
    reason: str
    finished: datetime | None


def batch_runs(library: Library) -> list[BatchRun]:
    """Every run, the one that moved last first."""
    with library.session() as s:
        query = select(BatchRow.out, BatchRow.state, func.count(), func.max(BatchRow.finished)).group_by(
            BatchRow.out, BatchRow.state
        )
        counts: dict[str, dict[str, int]] = {}
        moved: dict[str, datetime | None] = {}
        for out, state, count, finished in s.execute(query):
            counts.setdefault(out, {})[state] = count
            moved[out] = max(filter(None, (moved.get(out), finished)), default=None)
    runs = [BatchRun(out=out, **by_state, finished=moved[out]) for out, by_state in counts.items()]
    return sorted(runs, key=lambda r: r.finished.timestamp() if r.finished else 0, reverse=True)


def batch_rows(library: Library, out: str) -> list[BatchCase]:
    """Every case of one run."""
    with library.session() as s:
        rows = s.scalars(select(BatchRow).where(BatchRow.out == out).order_by(BatchRow.case_id))
        return [
            BatchCase(
                case_id=r.case_id,
                state=r.state,
                tries=r.tries,
                seconds=(r.seconds or {}).get("whole"),
                reason=r.reason,
                finished=r.finished,
            )
            for r in rows
        ]
