"""cohort.html: the funnel and the counts of a cohort on one page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from ..task import Task
from .results import CohortFile


def write_page(path: Path, cohort: CohortFile, task: Task) -> None:
    """Write the page. Every value from a file is escaped."""
    environment = Environment(
        loader=PackageLoader("medfuse.cohort", "."), autoescape=select_autoescape(["html", "j2"])
    )
    names = {f.id: f.label("en") for f in task.findings}
    page = environment.get_template("cohort.html.j2").render(cohort=cohort, names=names)
    path.write_text(page, encoding="utf-8")
