"""cohort.html: the funnel and the counts of a cohort on one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from .results import CohortFile


def write_page(path: Path, cohort: CohortFile, names: Mapping[str, str]) -> None:
    """Write the page. names: of findings by id; one without stands by its id. Every value from a file is
    escaped."""
    environment = Environment(
        loader=PackageLoader("medfuse.cohort", "."), autoescape=select_autoescape(["html", "j2"])
    )
    called = {f: names.get(f) or f.replace("_", " ") for f in cohort.findings}
    page = environment.get_template("cohort.html.j2").render(cohort=cohort, names=called)
    path.write_text(page, encoding="utf-8")
