"""The attack suite: every test marked ``attack``, counted.

    make attack

Each attack is made as it would be against any system; its test fails where the attack succeeds. The last line
is `N attacks, M succeeded`; the exit code is 1 where one did, or where a test broke.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


class Count:
    """What became of each attack."""

    def __init__(self) -> None:
        self.made: set[str] = set()
        self.succeeded: set[str] = set()
        self.not_made: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One stage of one test."""
        if report.skipped:
            self.not_made.add(report.nodeid)
        elif report.failed:
            self.succeeded.add(report.nodeid)
        if report.when == "call" and not report.skipped:
            self.made.add(report.nodeid)


def main() -> int:
    """Run them, print the count."""
    count = Count()
    here = Path(__file__).resolve().parent
    given = sys.argv[1:] or [str(here)]
    code = pytest.main(["-q", "-m", "attack", "-p", "no:cacheprovider", *given], plugins=[count])
    for name in sorted(count.not_made):
        print(f"not made here: {name}")
    for name in sorted(count.succeeded):
        print(f"succeeded: {name}")
    made = count.made | count.succeeded
    print(f"{len(made)} attacks, {len(count.succeeded)} succeeded")
    return 0 if code == 0 and made and not count.succeeded else 1


if __name__ == "__main__":
    raise SystemExit(main())
