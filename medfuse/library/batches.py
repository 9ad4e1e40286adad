"""Batch runs as the ledger keeps them, for whoever looks (the batch itself writes it: see medfuse.batch.ledger)."""

from __future__ import annotations

from sqlalchemy import func, select

from .catalogue import BatchRow, session


def batch_runs() -> list[dict]:
    """One row an output folder: how many cases are in which state, and when it last moved."""
    with session() as s:
        query = select(BatchRow.out, BatchRow.state, func.count(), func.max(BatchRow.finished)).group_by(
            BatchRow.out, BatchRow.state
        )
        runs: dict[str, dict] = {}
        for out, state, count, finished in s.execute(query):
            row = runs.setdefault(
                out, {"out": out, "done": 0, "refused": 0, "failed": 0, "waiting": 0, "running": 0, "finished": None}
            )
            row[state] = count
            row["finished"] = max(filter(None, (row["finished"], finished)), default=None)
        return sorted(runs.values(), key=lambda r: r["finished"].timestamp() if r["finished"] else 0, reverse=True)


def batch_rows(out: str) -> list[dict]:
    """Every case of one run."""
    with session() as s:
        rows = s.scalars(select(BatchRow).where(BatchRow.out == out).order_by(BatchRow.case_id))
        return [{"case_id": r.case_id, "state": r.state, "tries": r.tries, "seconds": (r.seconds or {}).get("whole"),
                 "reason": r.reason, "finished": r.finished} for r in rows]  # fmt: skip
