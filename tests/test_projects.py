"""Who sees which cases: every road to a case of another project is tried."""

from __future__ import annotations

import dataclasses

import pytest
import sqlalchemy as sa
from pacs import free_port
from slices import write_stack
from sqlalchemy.exc import SQLAlchemyError
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError, WrongUse
from medfuse.library import Library, accounts, critical, queue, reports, results, store, workbench, worklist
from medfuse.library.audit_check import differences
from medfuse.library.catalogue import CaseProjectRow
from medfuse.library.ingest import ingest
from medfuse.library.labels import numbers_of
from medfuse.library.projects import DEFAULT, allow, list_projects, move_case, projects_of
from medfuse.network.client import find_remote, send_files
from medfuse.network.node import Node, NodeOptions, Peer
from medfuse.workflows.report import export_report

pytestmark = pytest.mark.attack


def ids(n: int) -> dict[str, str]:
    return {"patient": f"P{n}", "study": f"1.2.{n + 1}", "series": f"1.2.{n + 1}.1"}


@pytest.fixture
def library(home, tmp_path):
    """Two cases: one for everybody, one of a trial; and an author of each."""
    library = Library(home)
    for n, name in enumerate(("open", "secret")):
        write_stack(tmp_path / name, [(0, 0, 2.5 * k) for k in range(3)], **ids(n))
        ingest(library, tmp_path / name)
    for name in ("ann", "eve"):
        accounts.add_account(library, name, "correct horse battery", "author")
    move_case(library, secret(library), "trial")
    allow(library, "ann", ("trial", DEFAULT))
    return library


def secret(library) -> str:
    return next(c.case_id for c in store.list_cases(library) if c.patient_id == "P1")


def as_seen_by(library, name):
    account = next((a for a in accounts.list_accounts(library) if a.name == name), None)
    return library.seen_by(projects_of(account))


def test_what_is_listed(library):
    eve, ann = (as_seen_by(library, x) for x in ("eve", "ann"))
    hidden = secret(library)
    assert hidden in {c.case_id for c in store.list_cases(ann)}
    assert [c.patient_id for c in store.list_cases(eve)] == ["P0"]
    assert [r.patient_id for r in worklist.worklist(eve)] == ["P0"]
    assert hidden not in numbers_of(eve)
    assert [c.patient_id for c in store.list_cases(as_seen_by(library, "a guest"))] == ["P0"]
    only = library.seen_by(frozenset({"trial"}))
    assert [c.patient_id for c in store.list_cases(only)] == ["P1"]
    assert store.list_cases(library.seen_by(frozenset())) == []


ROADS = {
    "open": lambda lib, c, who: store.load_case(lib, c),
    "identity": lambda lib, c, who: store.identity_of(lib, c),
    "words": lambda lib, c, who: store.set_words(lib, c, indication="pain", by=who),
    "role": lambda lib, c, who: store.confirm(lib, c, by=who),
    "export": lambda lib, c, who: export_report(c, ("pdf",), lib.home / "out", "en", library=lib),
    "measure": lambda lib, c, who: queue.assign(lib, c, "eve", who),
    "flag": lambda lib, c, who: critical.flag(lib, c, "free air", who),
    "take": lambda lib, c, who: reports.take_draft(lib, c, 0, who),
    "amend": lambda lib, c, who: reports.amend(lib, c, who, "a reason"),
}


@pytest.mark.parametrize("road", ROADS)
def test_no_road_leads_to_a_case_of_another_project(library, road):
    eve = as_seen_by(library, "eve")
    who = next(a for a in accounts.list_accounts(library) if a.name == "eve")
    with pytest.raises((UserError, SQLAlchemyError)):
        ROADS[road](eve, secret(library), who)
    assert differences(library) == []


def test_what_only_reads_finds_nothing(library):
    eve = as_seen_by(library, "eve")
    hidden = secret(library)
    assert not store.has_case(eve, hidden)
    assert store.files_of(eve, hidden) == []
    assert store.series_of(eve, hidden) == []
    assert store.words_of(eve, hidden) == {"indication": "", "risk": ""}
    assert results.load_result(eve, hidden) is None
    assert reports.history(eve, hidden) == []
    assert workbench.measurements(eve, hidden) == []


def test_the_same_images_again_open_no_case_of_others(library, tmp_path):
    eve = as_seen_by(library, "eve")
    (tmp_path / "secret").rename(tmp_path / "again")
    with pytest.raises((UserError, SQLAlchemyError)):
        ingest(eve, tmp_path / "again")
    assert [c.patient_id for c in store.list_cases(eve)] == ["P0"]


def test_a_new_case_is_where_its_maker_sees_it(library, tmp_path):
    write_stack(tmp_path / "new", [(0, 0, 2.5 * k) for k in range(3)], **ids(2))
    ingest(library.seen_by(frozenset({"trial"})), tmp_path / "new")
    assert [c.patient_id for c in store.list_cases(as_seen_by(library, "eve"))] == ["P0"]
    assert {p.name: p.cases for p in list_projects(library)} == {DEFAULT: 1, "trial": 2}


def test_peers_of_the_node_see_the_default_project(library, tmp_path):
    node = Node(NodeOptions(port=free_port()))
    node.start()
    try:
        peer = Peer("MEDFUSE", "127.0.0.1", node.options.port)
        for name in ("open", "secret"):
            send_files(peer, sorted((tmp_path / name).iterdir()))
        assert [r["PatientID"] for r in find_remote(peer, {})] == ["P0"]
        node.options = dataclasses.replace(node.options, projects=(DEFAULT, "trial"))
        assert sorted(r["PatientID"] for r in find_remote(peer, {})) == ["P0", "P1"]
    finally:
        node.stop()


def test_a_case_moved_in_the_database_is_named(library):
    with library.engine.begin() as c:
        c.execute(sa.update(CaseProjectRow).values(project=DEFAULT))
    assert any("case_projects" in d.what or "case_projects" in d.kind for d in differences(library))


def test_from_the_command_line(library):
    run = CliRunner()
    hidden = secret(library)
    assert "trial" in run.invoke(app, ["project", "list"]).stdout
    assert run.invoke(app, ["project", "move", "other", hidden]).exit_code == 0
    assert store.list_cases(as_seen_by(library, "ann")) == store.list_cases(as_seen_by(library, "eve"))
    assert run.invoke(app, ["project", "allow", "eve", "other"]).exit_code == 0
    assert [c.case_id for c in store.list_cases(as_seen_by(library, "eve"))] == [hidden]
    for wrong in (["move", "../x", hidden], ["move", "x", "no-case"], ["allow", "nobody", "x"]):
        assert isinstance(run.invoke(app, ["project", *wrong]).exception, WrongUse)
    assert differences(library) == []


def of(library, name):
    return next(a for a in accounts.list_accounts(library) if a.name == name)


def test_the_viewers_pages_show_the_projects_of_who_looks(library):
    from test_viewer import page

    accounts.add_account(library, "root", "correct horse battery", "admin")
    for name in ("root", "eve", "ann", "eve"):  # rows that one has read are not another's
        shown = page("worklist", who=of(library, name))
        assert not shown.exception
        frame = shown.dataframe[0].value.to_csv() if shown.dataframe else repr(shown.main)
        assert ("P1" in frame) == (name != "eve"), name
    assert "P1" not in page("worklist").dataframe[0].value.to_csv()


@pytest.mark.parametrize("road", ["export", "ask", "compose"])
def test_the_viewers_exports_and_questions_ask_the_same_library(library, monkeypatch, road):
    from functools import partial

    from apps.viewer import desk, jobs

    work = {
        "export": partial(jobs.export, secret(library), "pdf", "en"),
        "ask": partial(jobs.ask, secret(library), "Is there a cyst?"),
        "compose": partial(jobs.compose, secret(library), "en"),
    }[road]
    monkeypatch.setattr(desk, "_told", None)
    eve = projects_of(of(library, "eve"))
    with pytest.raises(WrongUse, match="no such"):
        jobs._work(desk.Place(library.home, library.url, eve), work)
