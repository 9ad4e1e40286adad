"""docs/python.ipynb runs from its first cell to its last, as a reader would run it."""

from __future__ import annotations

import nbformat
import pytest
from house import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "docs" / "python.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDFUSE_HOME", str(folder / "home"))
        patch.setenv("TMPDIR", str(folder))
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    """All that the cells printed or gave back."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    return "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)


def test_the_notebook_shows_images_findings_report_and_scores(executed):
    text = printed(executed)
    for shown in ("CT portal", "MR t2", "US", "Impression", "SIM-7-00000", "US+CT+MR"):
        assert shown in text, shown


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not [o for cell in notebook.cells for o in cell.get("outputs", [])]
