"""What it costs that a stored image is compared with its hash: each time a case is read, and by
`medfuse verify`.

    python benchmarks/hashes.py [--slices 200] [--size 512] [--repeats 5]

One CT in a library, read with and without the check (MEDFUSE_CHECK_IMAGES), best of --repeats; then
the whole library verified, which is that many bytes through SHA-256. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from slices import write_stack

from medfuse.library import Library, integrity, store
from medfuse.library.ingest import ingest


def best(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Make a library, read it, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with TemporaryDirectory(prefix="medfuse-hashes-") as name:
        folder = Path(name)
        positions = [(0, 0, 2.5 * k) for k in range(given.slices)]
        write_stack(folder / "ct", positions, size=(given.size, given.size))
        library = Library(folder / "home")
        (case_id,) = ingest(library, folder / "ct").cases
        megabytes = sum(p.stat().st_size for p in (library.home / "images").rglob("*") if p.is_file()) / 1e6
        print(f"{given.slices} slices of {given.size} x {given.size}, {megabytes:.0f} MB")
        print("| what | s |")
        print("|---|---|")
        for check in (False, True):
            library.check_images = check
            took = best(lambda: store.load_case(library, case_id), given.repeats)
            print(f"| a case read {'with' if check else 'without'} the check | {took:.2f} |")
        took = best(lambda: integrity.verify(library), given.repeats)
        print(f"| all verified ({megabytes / took:.0f} MB/s) | {took:.2f} |")


if __name__ == "__main__":
    main()
