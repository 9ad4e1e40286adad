"""The rows of the worklist, read again only when something in the library has changed."""

from __future__ import annotations

import threading

from sqlalchemy import func, select

from apps.viewer.desk import library
from medfuse.library import Library
from medfuse.library.catalogue import AuditRow, CaseRow
from medfuse.library.worklist import Row, worklist

_lock = threading.Lock()
_kept: dict[tuple[str, frozenset[str] | None], tuple[tuple[int, int], list[Row]]] = {}


def rows() -> list[Row]:
    """Every case that is shown to who asks, newest first. Each change of a library has its entry in the audit
    log, so the newest entry tells whether what was read last still holds."""
    of = library()
    now = _stamp(of)
    with _lock:
        held = _kept.get((of.url, of.sees))
        if held is not None and held[0] == now:
            return held[1]
    read = worklist(of)
    with _lock:
        _kept[of.url, of.sees] = (now, read)
    return read


def _stamp(of: Library) -> tuple[int, int]:
    with of.session() as s:
        newest = s.scalar(select(func.max(AuditRow.seq))) or 0
        return newest, s.scalar(select(func.count()).select_from(CaseRow)) or 0
