"""Wrong passwords are counted for each name and each address, in every session together; too many close that
name at that address, the address, or the name, for a while. Nobody else is kept out.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque

WITHIN_S = 300.0  # so long a wrong password counts
MOST = 5  # for one name at one address
MOST_ADDRESS = 50  # for all names at one address: somebody tries many names
MOST_NAME = 30  # for one name at all addresses: somebody has many addresses
Door = tuple[str, str]  # name, address; "" stands for any


def _doors(name: str, address: str) -> dict[Door, int]:
    """What a try counts for, and how many each takes. What is kept of a name is short, however long it is.
    This machine's own browsers, whose address is not told, are counted by name."""
    name = name[:200]
    doors = {(name, address): MOST, (name, ""): MOST_NAME if address else MOST}
    return {**doors, ("", address): MOST_ADDRESS} if address else doors


class Tries:
    """Times of wrong passwords, by name and address."""

    def __init__(self) -> None:
        self._wrong: dict[Door, deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()

    def wait_s(self, name: str, address: str = "", now: float | None = None) -> float:
        """Seconds until this name may be tried again from there; 0: now."""
        now = time.monotonic() if now is None else now
        with self._lock:
            self._forget(now)
            counted = [(self._wrong.get(door, deque()), most) for door, most in _doors(name, address).items()]
            oldest = [times[-most] for times, most in counted if len(times) >= most]
        return max((t + WITHIN_S - now for t in oldest), default=0.0)

    def wrong(self, name: str, address: str = "", now: float | None = None) -> None:
        """Count one."""
        now = time.monotonic() if now is None else now
        with self._lock:
            for door in _doors(name, address):
                self._wrong[door].append(now)

    def right(self, name: str, address: str = "") -> None:
        """Forget what was counted for a name at an address."""
        with self._lock:
            self._wrong.pop((name[:200], address), None)

    def _forget(self, now: float) -> None:
        for door in list(self._wrong):
            times = self._wrong[door]
            while times and times[0] + WITHIN_S <= now:
                times.popleft()
            if not times:
                del self._wrong[door]


tries = Tries()  # of this server
