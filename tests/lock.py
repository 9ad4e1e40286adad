"""requirements.lock: what medfuse needs, with every version pinned and every file's SHA-256, for
`pip install --require-hashes`. `make lock` renews it.

    python tests/lock.py --wanted       # the requirements, for pip-compile
    python tests/lock.py --keep FILE    # what pip-compile wrote, as requirements.lock

torch is left out: its files differ by index and platform, so its hash is that of the index it is taken from.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
EXTRAS = ("viewer", "oidc", "ocr", "archives", "postgres", "cohort")  # those of a hospital's installation
APART = "torch"
HEAD = f"""# Written by `make lock`: CPython 3.11 on Linux, for medfuse[{",".join(EXTRAS)}]. torch is
# apart, see docs/security.md.
"""
ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9_.\-]+)==(?P<version>\S+)(?P<marker> ; [^\n\\]+)?"
    r"(?P<hashes>( \\\n    --hash=sha256:[0-9a-f]{64})+)$",
    re.MULTILINE,
)


def normal(name: str) -> str:
    """A package's name as all ways to write it mean it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted() -> list[str]:
    """The requirements of medfuse with EXTRAS."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        *project["dependencies"],
        *(r for extra in EXTRAS for r in project["optional-dependencies"][extra]),
    ]


def locked(text: str) -> dict[str, tuple[str, int]]:
    """Name → version, and how many files of it are hashed."""
    return {normal(m["name"]): (m["version"], m["hashes"].count("sha256:")) for m in ENTRY.finditer(text)}


def pinned() -> dict[str, str]:
    """Name → version in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = (line.split("#")[0].strip().split("==") for line in lines if "==" in line.split("#")[0])
    return {normal(name): version for name, version in pins}


def main() -> None:
    """Print what is wanted, or keep what was compiled."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wanted", action="store_true")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    if given.wanted:
        print("\n".join(wanted()))
    if given.keep:
        entries = [m[0] for m in ENTRY.finditer(given.keep.read_text()) if normal(m["name"]) != APART]
        LOCK.write_text(HEAD + "\n".join(sorted(entries, key=str.lower)) + "\n")
        print(f"{LOCK.name}: {len(entries)} packages")


if __name__ == "__main__":
    main()
