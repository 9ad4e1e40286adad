"""Which browser a session belongs to.

A session's id stands in the addresses of uploads, and so in logs of proxies. Whoever knows it could take the
session over, as Streamlit lets a browser come back to one. So a session is noted with the word in the
cookie of the browser that it began in (see `seats`), and only that browser comes back to it, uploads into it
or fetches what it was given to download.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict

from apps.viewer.seats import IDLE_S

KEPT = 10_000  # sessions that are remembered; the oldest are forgotten first


class Browsers:
    """Session → the word of its browser, and when a browser was last seen signed in."""

    def __init__(self) -> None:
        self._words: OrderedDict[str, str] = OrderedDict()
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, session: str, word: str) -> None:
        """A session belongs to the first browser that is seen in it."""
        with self._lock:
            if session and word:
                self._words.setdefault(session, word)
            while len(self._words) > KEPT:
                self._words.popitem(last=False)

    def owns(self, session: str, word: str) -> bool:
        """Whether a session was noted as this browser's."""
        with self._lock:
            known = self._words.get(session, "")
        return bool(known) and secrets.compare_digest(known.encode(), word.encode())

    def has_seen(self, word: str) -> bool:
        """Whether this browser was ever seen signed in with a provider since it was last signed out."""
        with self._lock:
            return word in self._seen

    def idle_s(self, word: str, now: float) -> float:
        """Seconds since this browser was last seen signed in, in whatever session; 0 where it never was.
        Notes that it is seen now. One without a name is not told from others, and never idle."""
        if not word:
            return 0.0
        with self._lock:
            before = self._seen.pop(word, now)
            self._seen[word] = now
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)
        return now - before

    def signed_in(self, word: str, now: float) -> bool:
        """Whether this browser was seen signed in with a provider, not too long ago."""
        with self._lock:
            seen = self._seen.get(word)
        return seen is not None and now - seen < IDLE_S

    def forget(self, word: str) -> None:
        """A browser was signed out."""
        with self._lock:
            self._seen.pop(word, None)

    def knows(self, word: str) -> bool:
        """Whether any session began in this browser."""
        with self._lock:
            return bool(word) and word in self._words.values()


browsers = Browsers()  # of this server
