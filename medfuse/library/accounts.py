"""Local accounts: who may read, write and administer. Passwords as argon2id hashes in MEDFUSE_HOME/accounts.json (RFC 9106)."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ..errors import UserError, WrongUse
from ..settings import settings

Role = Literal["reader", "author", "admin"]
ROLES: tuple[Role, ...] = ("reader", "author", "admin")  # each may do what the one before may
LEAST_LENGTH = 8
_hasher = PasswordHasher()
# verified for unknown names too, so that the time taken does not tell which names exist
_NOBODY = _hasher.hash("nobody")


@dataclass(frozen=True)
class Account:
    """role: reader looks, author edits and signs, admin also manages accounts. full_name stands under a signature."""

    name: str
    role: Role
    full_name: str = ""
    background: str = ""  # such as "radiologist, 12 years": what a rating of reports is worth

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


def _path() -> Path:
    return settings().home / "accounts.json"


def _read() -> dict[str, dict]:
    path = _path()
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as e:
        raise UserError(f"{path}: not valid JSON ({e}); restore it or make the accounts anew") from e


@contextmanager
def _changing() -> Iterator[dict[str, dict]]:
    """The accounts, written whole when the block ends; one writer at a time."""
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = _read()
        yield rows
        part = path.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as f:
            json.dump(rows, f, indent=1)
        part.rename(path)


def add_account(name: str, password: str, role: str, *, full_name: str = "", background: str = "") -> Account:
    """Make an account. Raises WrongUse for a taken name, an unknown role or a short password."""
    if role not in ROLES:
        raise WrongUse(f"--role {role}: give one of {', '.join(ROLES)}")
    if not name or not all(c.isalnum() or c in "-_.@" for c in name):
        raise WrongUse(f"account name {name!r}: use letters, digits and - _ . @")
    if len(password) < LEAST_LENGTH:
        raise WrongUse(f"the password has {len(password)} characters; use at least {LEAST_LENGTH}")
    with _changing() as rows:
        if name in rows:
            raise WrongUse(f"account {name} exists already; choose another name")
        rows[name] = {"hash": _hasher.hash(password), "role": role, "full_name": full_name, "background": background}
    return Account(name, role, full_name, background)  # type: ignore[arg-type]


def remove_account(name: str) -> None:
    with _changing() as rows:
        if name not in rows:
            raise WrongUse(f"no account {name}; see medfuse account list")
        del rows[name]


def list_accounts() -> list[Account]:
    return [Account(n, r["role"], r.get("full_name", ""), r.get("background", "")) for n, r in sorted(_read().items())]


def authenticate(name: str, password: str) -> Account:
    """The account, or UserError: the same sentence for a wrong name and a wrong password."""
    row = _read().get(name)
    try:
        _hasher.verify(row["hash"] if row else _NOBODY, password)
    except (VerificationError, InvalidHashError):
        row = None
    if row is None:
        raise UserError("the name or the password is wrong; an admin makes accounts with medfuse account add NAME")
    if _hasher.check_needs_rehash(row["hash"]):
        with _changing() as rows:
            rows[name]["hash"] = _hasher.hash(password)
    return Account(name, row["role"], row.get("full_name", ""), row.get("background", ""))
