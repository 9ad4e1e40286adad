"""`medfuse project`: which cases belong together, and who sees them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from .app import app, emit
from .options import Json

project_app = typer.Typer(no_args_is_help=True, help="Projects: which cases an account sees.")
app.add_typer(project_app, name="project")


@project_app.command("list")
def project_list(as_json: Json = False) -> None:
    """Every project with its cases and the accounts that see it."""
    from ..library import Library
    from ..library.projects import list_projects

    rows = list_projects(Library())
    text = "\n".join(f"{p.name:<24} {p.cases:>6} cases  {', '.join(p.accounts)}" for p in rows)
    emit({"projects": [asdict(p) for p in rows]}, as_json, text)


@project_app.command("move")
def project_move(
    project: Annotated[str, typer.Argument(help="Where the cases go; made by being named.")],
    cases: Annotated[list[str], typer.Argument(help="Ids of the cases.")],
) -> None:
    """Put cases into a project; from then on nobody else sees them."""
    from ..library import Library
    from ..library.projects import move_case

    library = Library()
    for case_id in cases:
        move_case(library, case_id, project)
    print(f"{len(cases)} cases are in project {project}")


@project_app.command("allow")
def project_allow(
    account: Annotated[str, typer.Argument(help="The account's name.")],
    projects: Annotated[list[str], typer.Argument(help="All projects that it sees from now on.")],
) -> None:
    """Say which projects an account sees, in place of those before; admins see all."""
    from ..library import Library
    from ..library.projects import allow

    allow(Library(), account, tuple(projects))
    print(f"account {account} sees {', '.join(projects)}")
