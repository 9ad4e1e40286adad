"""Who has a case open right now, so that two readers do not start on one unawares."""

from __future__ import annotations

import threading
import time

STALE_S = 15 * 60.0  # without a click on the page


class Presence:
    """Names of people by the case they read; the newest click counts."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()

    def here(self, case_id: str, name: str, now: float | None = None) -> None:
        """This person looks at this case, and so at no other."""
        now = time.monotonic() if now is None else now
        with self._lock:
            for others in self._seen.values():
                others.pop(name, None)
            self._seen.setdefault(case_id, {})[name] = now
            for case in [c for c, people in self._seen.items() if not people]:
                del self._seen[case]

    def gone(self, name: str) -> None:
        """This person looks at no case any more."""
        with self._lock:
            for people in self._seen.values():
                people.pop(name, None)

    def at(self, case_id: str, now: float | None = None) -> list[str]:
        """Who looks at a case."""
        now = time.monotonic() if now is None else now
        with self._lock:
            people = self._seen.get(case_id, {})
            return sorted(name for name, seen in people.items() if now - seen < STALE_S)


presence = Presence()  # of this server
