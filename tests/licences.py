"""What medfuse stands on, and under which licences: `python tests/licences.py` prints the table of
docs/licences.md, from the metadata of what is installed here; --write renews the page.

Packages that a plain install brings are marked; the rest come with an extra. Nothing of a copyleft licence
is imported by a plain install, which tests/test_licences.py holds.
"""

from __future__ import annotations

import argparse
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).resolve().parents[1] / "docs" / "licences.md"
COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)
HEAD = """# Licences

medfuse is under the Apache License 2.0. What it stands on, printed by `python tests/licences.py --write`
from the metadata of the installed packages, in their own words; long ones are cut. "plain": comes with
`pip install medfuse`; else with an extra of pyproject.toml. A software bill of materials (CycloneDX) of an
installed environment: `make sbom`.

"""


def closure(name: str, extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """Every installed package that ``name`` needs, with its own, by normal name."""
    found: dict[str, Distribution] = {}
    asked = [(name, extras)]
    while asked:
        now, wanted = asked.pop()
        try:
            package = distribution(now)
        except PackageNotFoundError:
            continue  # for another platform, or an extra that is not installed here
        key = normal(now)
        if key in found and not wanted:
            continue
        found[key] = package
        for line in package.requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in (wanted or {""})):
                asked.append((needed.name, frozenset(needed.extras)))
    found.pop(normal(name), None)
    return dict(sorted(found.items()))


def normal(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(package: Distribution) -> str:
    """What it says of itself, in one line."""
    data = package.metadata
    said = data.get("License-Expression") or ""
    if not said:
        classes = [c for c in data.get_all("Classifier") or [] if c.startswith("License ::")]
        said = "; ".join(c.rsplit("::", 1)[1].strip() for c in classes)
    said = said or (data.get("License") or "").strip()
    line = " ".join(said.split()).replace("|", "/")
    return (line[:90] + " …") if len(line) > 90 else line or "not stated"


def table() -> str:
    """The page's table."""
    plain = closure("medfuse")
    extras = frozenset(distribution("medfuse").metadata.get_all("Provides-Extra") or [])
    every = closure("medfuse", extras)
    rows = [
        f"| {name} | {licence_of(p)} | {'plain' if name in plain else 'extra'} |" for name, p in every.items()
    ]
    return "\n".join(["| package | licence | comes |", "|---|---|---|", *rows])


def main() -> None:
    """Print the table, or write the page."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--write", action="store_true", help="renew docs/licences.md")
    if given.parse_args().write:
        PAGE.write_text(HEAD + table() + "\n")
    else:
        print(table())


if __name__ == "__main__":
    main()
