"""The keys of the reading page: one table, and each person's own over it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from apps.viewer import remembered
from medfuse.errors import WrongUse

LONGEST = 12  # of a key's name, such as ArrowRight


@cache
def table() -> dict[str, str]:
    """The key of everything that has one, by what it does."""
    read = yaml.safe_load((Path(__file__).parent / "keys.yaml").read_text(encoding="utf-8"))
    return {str(does): str(key) for does, key in read.items()}


def of_person() -> dict[str, str]:
    """The keys of who is here."""
    return {**table(), **{k: v for k, v in remembered.desk().keys.items() if k in table()}}


def checked(wanted: dict[str, str]) -> dict[str, str]:
    """What differs from the table. Raises WrongUse for a key that does two things, or for what none does."""
    unknown = sorted(set(wanted) - set(table()))
    if unknown or any(not 0 < len(key) <= LONGEST for key in wanted.values()):
        raise WrongUse(f"these keys cannot be used ({', '.join(unknown) or 'one is no key'}); choose others")
    every = {**table(), **wanted}
    twice = sorted(k for k in set(every.values()) if list(every.values()).count(k) > 1)
    if twice:
        raise WrongUse(f"the key {twice[0]} would do two things; choose another")
    return {does: key for does, key in wanted.items() if table()[does] != key}
