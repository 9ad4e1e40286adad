"""Who is signed in at which browser, so that loading the page anew signs nobody out.

Each browser holds one cookie that its programs cannot read; what it stands for is known to this server alone.
A sign-in ends with the server, after a while without a click, and everywhere in the browser at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from dataclasses import dataclass, field

from medfuse.library.accounts import Account

IDLE_S = 45 * 60.0  # without a click, a session is signed out
LONGEST_S = 12 * 3600.0  # a working day; then a password is due again


@dataclass
class Seat:
    """One sign-in: whose, since when, and when it was last used (seconds of a clock that only goes up)."""

    account: Account
    since: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)

    def over(self, now: float | None = None) -> bool:
        """Whether it has lasted, or rested, too long."""
        now = time.monotonic() if now is None else now
        return now - self.since >= LONGEST_S or now - self.seen >= IDLE_S


class Seats:
    """Sign-ins by the browser they were made in."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._taken: dict[str, Seat] = {}
        self._lock = threading.Lock()

    def new_browser(self) -> str:
        """A name for a browser that has none: nothing is kept of it until somebody signs in."""
        name = secrets.token_urlsafe(24)
        return f"{name}.{self._proof(name)}"

    def knows(self, browser: str) -> bool:
        """Whether this server gave a browser this name."""
        name, _, proof = browser.partition(".")
        return hmac.compare_digest(proof.encode(), self._proof(name).encode())

    def _proof(self, name: str) -> str:
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()

    def at(self, browser: str) -> Seat | None:
        """The sign-in of a browser, or None."""
        with self._lock:
            return self._taken.get(browser)

    def take(self, browser: str, account: Account) -> None:
        """Sign in at a browser. One without a name of ours is not remembered."""
        if not self.knows(browser):
            return
        with self._lock:
            for old in [b for b, seat in self._taken.items() if seat.over()]:
                del self._taken[old]
            self._taken[browser] = Seat(account)

    def leave(self, browser: str) -> None:
        """Sign out at a browser, in all its windows."""
        with self._lock:
            self._taken.pop(browser, None)


seats = Seats()  # of this server


def cookie_name(port: object) -> str:
    """Browsers share cookies between the ports of one machine: each viewer has its own."""
    return f"medfuse-browser-{port}"
