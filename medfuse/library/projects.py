"""Which cases an account sees: those of its projects, everywhere.

A case is in one project, "default" where nothing else was said. What is shown is decided where a session
reads the database, not in a page or command: a library that is `seen_by` an account finds no other case, and
writes to none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, event, func, or_, select, true
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria
from sqlalchemy.orm.unitofwork import UOWTransaction

from ..errors import WrongUse
from .accounts import Account, need_acting, set_projects
from .audit import PENDING, enter
from .audit_rows import AuditedSession
from .catalogue import Base, CaseProjectRow, CaseRow, FileRow, InstanceRow, SeriesRow

if TYPE_CHECKING:
    from .library import Library

DEFAULT = "default"
SEES = "sees"  # in Session.info: projects that are shown; None or missing for all
APART = (FileRow,)  # where files lay: of this machine, not of a case


def projects_of(account: Account | None) -> frozenset[str] | None:
    """The projects that an account sees, a guest of this machine the default one; None for all, which admins
    see."""
    if account is None:
        return frozenset({DEFAULT})
    return None if account.role == "admin" else frozenset(account.projects)


def _shown(case_id: Any, sees: frozenset[str]) -> ColumnElement[bool]:
    """Whether a case is in one of these projects."""
    placed = select(CaseProjectRow.case_id)
    if DEFAULT in sees:
        return case_id.not_in(placed.where(CaseProjectRow.project.not_in(sees)))
    return or_(case_id == "", case_id.in_(placed.where(CaseProjectRow.project.in_(sees))))


def shown_instances(library: Library) -> ColumnElement[bool]:
    """For a query of received objects: those of no series of a case that ``library`` does not show. What is
    not filed yet belongs to the default project."""
    if library.sees is None:
        return true()
    series = SeriesRow.__table__.c  # of all cases: what is asked of the class is of those that are shown
    shown = _shown(series.case_id, library.sees)
    if DEFAULT in library.sees:
        return InstanceRow.series_uid.not_in(select(series.uid).where(~shown))
    return InstanceRow.series_uid.in_(select(series.uid).where(shown))


def _tables() -> list[tuple[type[Base], str]]:
    """Every table that speaks of cases, and its column of their ids."""
    found: list[tuple[type[Base], str]] = [(CaseRow, "id")]
    for mapper in Base.registry.mappers:
        table = mapper.class_
        if "case_id" in mapper.column_attrs and table not in (*APART, CaseProjectRow):
            found.append((table, "case_id"))
    return found


@event.listens_for(AuditedSession, "do_orm_execute")
def _show(state: ORMExecuteState) -> None:
    sees = state.session.info.get(SEES)
    if sees is None or not (state.is_select or state.is_update or state.is_delete):
        return
    if state.execution_options.get("whole"):
        return
    for table, column in _tables():
        state.statement = state.statement.options(
            with_loader_criteria(table, _shown(getattr(table, column), sees), include_aliases=True)
        )


@event.listens_for(AuditedSession, "before_flush", insert=True)  # before the log looks what was touched
def _guard(s: AuditedSession, _context: UOWTransaction, _instances: object) -> None:
    """Nobody writes to a case that is not shown; a new case is put where its maker sees it."""
    sees = s.info.get(SEES)
    if sees is None:
        return
    for row in [*s.new, *s.dirty, *s.deleted]:
        case_id = row.id if isinstance(row, CaseRow) else getattr(row, "case_id", "")
        if not case_id or isinstance(row, (*APART, CaseProjectRow)):
            continue
        known = _need_shown(s, case_id, sees)
        if known is None and isinstance(row, CaseRow) and DEFAULT not in sees:
            s.add(CaseProjectRow(case=row, project=min(sees, default=DEFAULT)))


def check_entries(s: Session) -> None:
    """Raises WrongUse where something is about to be noted of a case that is not shown."""
    sees: frozenset[str] | None = s.info.get(SEES)
    if sees is None:
        return
    for said in s.info.get(PENDING, []):
        if said.case_id:
            _need_shown(s, said.case_id, sees)


def _need_shown(s: Session, case_id: str, sees: frozenset[str]) -> str | None:
    with s.no_autoflush:
        known = _project(s, case_id)
    if known is not None and known not in sees:
        raise WrongUse(f"{case_id}: no such case in your projects; an admin can move it")
    return known


def _project(s: Session, case_id: str) -> str | None:
    """The project of a case that is kept, shown or not; None where there is no such case."""
    wanted = (
        select(CaseRow.id, func.coalesce(CaseProjectRow.project, DEFAULT))
        .outerjoin(CaseProjectRow, CaseProjectRow.case_id == CaseRow.id)
        .where(CaseRow.id == case_id)
        .execution_options(whole=True)
    )
    row = s.execute(wanted).first()
    return None if row is None else str(row[1])


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project: how many cases are in it, and which accounts see it."""

    name: str
    cases: int
    accounts: tuple[str, ...]


def list_projects(library: Library) -> list[Project]:
    """Every project that holds a case or that an account sees, by name. Admins see all of them."""
    from .accounts import list_accounts

    people = list_accounts(library)
    with library.session() as s:
        every = s.scalar(select(func.count()).select_from(CaseRow)) or 0
        wanted = select(CaseProjectRow.project, func.count()).group_by(CaseProjectRow.project)
        counts = {name: n for name, n in s.execute(wanted)}
    counts[DEFAULT] = every - sum(n for name, n in counts.items() if name != DEFAULT)
    names = {*counts, *(p for a in people for p in a.projects)}
    return [
        Project(
            name=name,
            cases=counts.get(name, 0),
            accounts=tuple(a.name for a in people if a.role == "admin" or name in a.projects),
        )
        for name in sorted(names)
    ]


def move_case(library: Library, case_id: str, project: str) -> None:
    """Put a case into a project. Raises WrongUse where there is no such case, for a name that is none, or
    where an account acts that is no admin."""
    need_acting("admin", "move a case to a project")
    check_name(project)
    with library.session() as s:
        if s.get(CaseRow, case_id) is None:
            raise WrongUse(f"{case_id}: no such case in the library; see medfuse cases")
        s.merge(CaseProjectRow(case_id=case_id, project=project))
        enter(s, "case moved", case_id=case_id, project=project)


def allow(library: Library, account: str, projects: tuple[str, ...], *, by: str = "") -> None:
    """Say which projects an account sees; it is signed out where it was signed in. Raises WrongUse where
    there is no such account, or for a name that is none."""
    for project in projects:
        check_name(project)
    set_projects(library, account, projects, by=by)


def check_name(project: str) -> None:
    """Raises WrongUse for what is no name of a project."""
    if not project or len(project) > 64 or not all(c.isalnum() or c in "-_." for c in project):
        raise WrongUse(f"project {project!r}: use up to 64 letters, digits and - _ .")
