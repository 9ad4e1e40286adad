"""Local accounts: who may read, write and administer. Passwords as argon2id hashes in
MEDFUSE_HOME/accounts.json (RFC 9106)."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, RootModel, ValidationError
from sqlalchemy import select

from ..errors import UserError, WrongUse, fault_of
from .audit import acting, enter
from .audit_key import write_private
from .audit_rows import ACCOUNTS, GONE, Said
from .catalogue import AuditRow

if TYPE_CHECKING:
    from .library import Library

Role = Literal["reader", "author", "admin"]
ROLES: tuple[Role, ...] = ("reader", "author", "admin")  # each may do what the one before may
LEAST_LENGTH = 8
LEAST_SCORE = 2  # of 4, by zxcvbn
READ = 72  # characters of a password that are judged: its time grows with their square
Event = Literal[
    "account added", "account removed", "password changed", "password hashed anew", "projects set"
]
EVENTS: tuple[Event, ...] = get_args(Event)
_acting: ContextVar[Account | None] = ContextVar("account", default=None)
_hasher = PasswordHasher()


@cache
def _nobody() -> str:
    """Verified for unknown names too, so that the time taken does not tell which names exist. Made when
    somebody first signs in: it takes a quarter of a second."""
    return _hasher.hash("nobody")


@dataclass(frozen=True)
class Account:
    """role: reader looks, author edits and signs, admin also manages accounts. full_name stands under a
    signature."""

    name: str
    role: Role
    full_name: str = ""
    background: str = ""  # such as "radiologist, 12 years": what a rating of reports is worth
    renewed: str = ""  # when its password was last changed: who signed in before is signed out
    projects: tuple[str, ...] = ("default",)  # whose cases it sees; an admin sees all

    def may(self, role: Role) -> bool:
        """Whether this account has a role, or one above it."""
        return ROLES.index(self.role) >= ROLES.index(role)


class KeptAccount(BaseModel):
    """An account as it is kept. hash: argon2id, of its password. full_name: stands under a signature.
    background: such as "radiologist, 12 years". renewed: when its password was last changed, UTC. projects:
    whose cases it sees."""

    hash: str
    role: Role
    full_name: str = ""
    background: str = ""
    renewed: str = ""
    projects: tuple[str, ...] = ("default",)

    def digest(self) -> str:
        """What the audit log says of it; of one whose later fields were never set, as it was before there
        were any."""
        later = {"renewed": self.renewed, "projects": self.projects != ("default",)}
        kept = self.model_dump_json(exclude={name for name, said in later.items() if not said})
        return hashlib.sha256(kept.encode()).hexdigest()


class AccountFile(RootModel[dict[str, KeptAccount]]):
    """accounts.json: every account by its name."""


def accounts_path(library: Library) -> Path:
    """The file of the accounts, whether or not it is there."""
    return library.home / "accounts.json"


def kept_accounts(library: Library) -> dict[str, KeptAccount]:
    """Every account as it is kept, by name. Raises UserError for a damaged file."""
    path = accounts_path(library)
    if _part(library).exists():
        with _locked(library):
            _settle(library)
    return _read(path)


def _read(path: Path) -> dict[str, KeptAccount]:
    if not path.exists():
        return {}
    try:
        return AccountFile.model_validate_json(path.read_bytes()).root
    except ValidationError as e:
        raise UserError(f"{path}: not valid ({fault_of(e)}); restore it or make the accounts anew") from e


def said_of_accounts(library: Library) -> tuple[Said, ...]:
    """What the audit log is to say of each account as it stands: a hash of all that is kept of it."""
    return tuple(_said(name, row) for name, row in _read(accounts_path(library)).items())


def _said(name: str, row: KeptAccount | None) -> Said:
    digest = GONE if row is None else row.digest()
    return Said(table=ACCOUNTS, key=name, case_id="", digest=digest)


def _part(library: Library) -> Path:
    """The accounts as they will be once the entry that says so is kept."""
    return accounts_path(library).with_suffix(".part")


@contextmanager
def _locked(library: Library) -> Iterator[None]:
    """One writer at a time, across processes. The library is opened before: it reads the accounts then."""
    assert library.engine
    path = accounts_path(library)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def settled(library: Library) -> Iterator[Path]:
    """The file of the accounts, which nobody changes meanwhile; it is what the audit log says."""
    with _locked(library):
        _settle(library)
        yield accounts_path(library)


def _settle(library: Library) -> None:
    """Finish what a writer that was killed had begun, where its entry is kept; else forget it."""
    part = _part(library)
    if not part.exists():
        return
    with library.session() as s:
        newest = (
            select(AuditRow.details).where(AuditRow.event.in_(EVENTS)).order_by(AuditRow.seq.desc()).limit(1)
        )
        details = s.scalars(newest).first()
    kept = json.loads(details).get("file") if details else None
    if kept == hashlib.sha256(part.read_bytes()).hexdigest():
        part.rename(accounts_path(library))
    else:
        part.unlink()


@contextmanager
def _changing(library: Library, event: Event, name: str, by: str) -> Iterator[dict[str, KeptAccount]]:
    """The accounts; as they are when the block ends they are kept, together with an entry of the audit log:
    both, or neither."""
    with _locked(library):
        _settle(library)
        rows = _read(accounts_path(library))
        yield rows
        data = AccountFile(rows).model_dump_json(indent=1).encode()
        write_private(_part(library), data)
        changed = rows.get(name)
        with library.session() as s:
            enter(
                s,
                event,
                who=by,
                rows=(_said(name, changed),),
                account=name,
                role="" if changed is None else changed.role,
                file=hashlib.sha256(data).hexdigest(),
            )
        _part(library).rename(accounts_path(library))


def _check_strength(password: str, told: tuple[str, ...]) -> None:
    """Raise WrongUse for what is short, or guessed in under a million tries (zxcvbn's score 0 or 1); the
    person's own names are guessed first."""
    if len(password) < LEAST_LENGTH:
        raise WrongUse(f"the password has {len(password)} characters; use at least {LEAST_LENGTH}")
    from zxcvbn import zxcvbn

    if zxcvbn(password[:READ], user_inputs=["medfuse", *(t for t in told if t)])["score"] < LEAST_SCORE:
        raise WrongUse("the password is soon guessed; use three or four words that do not belong together")


def add_account(
    library: Library,
    name: str,
    password: str,
    role: str,
    *,
    full_name: str = "",
    background: str = "",
    by: str = "",
) -> Account:
    """Make an account; ``by``: who does, by default the user of the operating system. Raises WrongUse for a
    taken name, an unknown role, a password that is short or soon guessed, or where an account acts that is no
    admin."""
    need_acting("admin", "make an account")
    if role not in ROLES:
        raise WrongUse(f"--role {role}: give one of {', '.join(ROLES)}")
    if not name or not all(c.isalnum() or c in "-_.@" for c in name):
        raise WrongUse(f"account name {name!r}: use letters, digits and - _ . @")
    _check_strength(password, (name, full_name, background))
    with _changing(library, "account added", name, by) as rows:
        if name in rows:
            raise WrongUse(f"account {name} exists already; choose another name")
        rows[name] = KeptAccount(
            hash=_hasher.hash(password), role=cast(Role, role), full_name=full_name, background=background
        )
    return _account(name, rows[name])


def change_password(library: Library, name: str, password: str, *, by: str = "") -> None:
    """Give an account another password. Raises WrongUse where there is none, for a password that is short or
    soon guessed, or where somebody else's account acts that is no admin."""
    acts = _acting.get()
    if acts is not None and acts.name != name:
        need(acts, "admin", "change the password of somebody else")
    with _changing(library, "password changed", name, by) as rows:
        if name not in rows:
            raise WrongUse(f"no account {name}; see medfuse account list")
        row = rows[name]
        _check_strength(password, (name, row.full_name, row.background))
        row.hash = _hasher.hash(password)
        row.renewed = datetime.now(UTC).isoformat()


def set_projects(library: Library, name: str, projects: tuple[str, ...], *, by: str = "") -> None:
    """Say whose cases an account sees. Raises WrongUse where there is no such account, or where one acts that
    is no admin."""
    need_acting("admin", "say which projects an account sees")
    with _changing(library, "projects set", name, by) as rows:
        if name not in rows:
            raise WrongUse(f"no account {name}; see medfuse account list")
        rows[name].projects = tuple(dict.fromkeys(projects))


def remove_account(library: Library, name: str, *, by: str = "") -> None:
    """Take an account away; what it wrote stays. Raises WrongUse where there is none, or where one acts that
    is no admin."""
    need_acting("admin", "remove an account")
    with _changing(library, "account removed", name, by) as rows:
        if name not in rows:
            raise WrongUse(f"no account {name}; see medfuse account list")
        del rows[name]


def list_accounts(library: Library) -> list[Account]:
    """Every account, by name."""
    return [_account(name, row) for name, row in sorted(kept_accounts(library).items())]


def _account(name: str, row: KeptAccount) -> Account:
    return Account(name, row.role, row.full_name, row.background, row.renewed, tuple(row.projects))


def authenticate(library: Library, name: str, password: str) -> Account:
    """The account, or UserError: the same sentence for a wrong name and a wrong password."""
    row = kept_accounts(library).get(name)
    nobody = _nobody()  # for known names too, so that the first of all sign-ins takes as long
    try:
        _hasher.verify(row.hash if row else nobody, password)
    except (VerificationError, InvalidHashError):
        row = None
    if row is None:
        raise UserError(
            "the name or the password is wrong; an admin makes accounts with medfuse account add NAME"
        )
    if _hasher.check_needs_rehash(row.hash):
        with _changing(library, "password hashed anew", name, name) as rows:
            rows[name].hash = _hasher.hash(password)
    return _account(name, row)


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """What is done inside is done by ``account``, and takes its rights; by the user of the operating system
    where it is None."""
    token = _acting.set(account)
    try:
        with acting("" if account is None else account.name):
            yield
    finally:
        _acting.reset(token)


def need_acting(role: str, what: str) -> None:
    """Raise WrongUse where an account acts (see `acting_as`) that may not do what takes this role."""
    account = _acting.get()
    if account is not None:
        need(account, role, what)


def need(account: Account, role: str, what: str) -> None:
    """Raise WrongUse where an account may not do what takes this role."""
    if not account.may(role):  # type: ignore[arg-type]
        raise WrongUse(
            f"account {account.name} is a {account.role} and may not {what}; it takes the role {role}"
        )
