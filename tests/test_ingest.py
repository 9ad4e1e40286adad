"""Ingest: nothing read twice, nothing half there, nothing joined that disagrees. On SQLite and PostgreSQL
alike."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slices import write_stack
from sqlalchemy import create_engine, text

from medfuse.errors import UserError
from medfuse.io import child
from medfuse.library import Library, store
from medfuse.library import ingest as ingest_module
from medfuse.library.ingest import ingest
from medfuse.workflows.ingest import IngestRequest, ingest_command

STEP = 2.5


def stack(folder: Path, n: int = 3, **kwargs) -> None:
    write_stack(folder, [(0, 0, STEP * k) for k in range(n)], **kwargs)


@pytest.fixture
def opened(monkeypatch) -> list[int]:
    """How many files each scan opened."""
    counts: list[int] = []
    real = ingest_module.scan_files

    def count(files, **kwargs):
        counts.append(len(files))
        return real(files, **kwargs)

    monkeypatch.setattr(ingest_module, "scan_files", count)
    return counts


def test_an_unchanged_folder_is_not_opened_again(tmp_path, database, opened):
    stack(tmp_path / "in" / "a")
    (tmp_path / "in" / "note.txt").write_text("x")
    first = ingest(Library(), tmp_path / "in")
    again = ingest(Library(), tmp_path / "in")
    assert opened == [4, 0]
    assert (again.cases, again.new, again.ledger, again.images) == (
        first.cases,
        [],
        first.ledger,
        first.images,
    )
    assert ingest(Library(), tmp_path / "in", reuse=False).ledger == first.ledger
    assert opened[-1] == 4


def test_a_new_slice_reads_its_patient_again_and_no_other(tmp_path, database, opened):
    stack(tmp_path / "in" / "a", patient="A", study="1.2.1", series="1.2.1.1")
    stack(tmp_path / "in" / "b", n=5, patient="B", study="1.2.2", series="1.2.2.1")
    ingest(Library(), tmp_path / "in")
    stack(tmp_path / "new", n=4, patient="A", study="1.2.1", series="1.2.1.1")
    (tmp_path / "new" / "004.dcm").rename(tmp_path / "in" / "a" / "004.dcm")
    done = ingest(Library(), tmp_path / "in")
    assert opened == [8, 1, 4]  # the new one, then all of patient A
    assert sum(done.ledger.values()) == 9
    assert len(done.new) == 1
    case = store.load_case(Library(), done.new[0])
    assert case.images[0].pixels.shape[2] == 4
    assert len(store.list_cases(Library())) == 2


def test_a_case_keeps_its_name_when_a_study_joins_it(tmp_path, database):
    stack(tmp_path / "in" / "a", study="1.2.1", series="1.2.1.1", StudyDate="20240101")
    (name,) = ingest(Library(), tmp_path / "in").cases
    stack(tmp_path / "in" / "b", study="1.2.2", series="1.2.2.1", StudyDate="20240110")
    assert ingest(Library(), tmp_path / "in").cases == [name]
    assert len(store.load_case(Library(), name).images) == 2
    assert len(store.list_cases(Library())) == 1


def test_disagreeing_identifiers_wait_for_a_person(tmp_path, database):
    stack(tmp_path / "a", study="1.2.1", series="1.2.1.1", PatientSex="F")
    stack(tmp_path / "b", study="1.2.2", series="1.2.2.1", PatientSex="M")
    done = ingest(Library(), tmp_path)
    assert len(done.cases) == 2
    assert (
        "sex differs between studies (F, M); kept apart until a person confirms" in done.refused[0]["reason"]
    )
    with pytest.raises(UserError, match="medfuse cases --confirm"):
        store.load_case(Library(), done.cases[0])
    store.confirm(Library(), done.cases[0])
    assert store.load_case(Library(), done.cases[0]).images
    with pytest.raises(UserError):
        store.load_case(Library(), done.cases[1])


def test_two_patients_who_share_uids_are_not_one_volume(tmp_path):
    stack(tmp_path / "a", patient="A")
    write_stack(tmp_path / "b", [(0, 0, 7.5 + STEP * k) for k in range(3)], patient="B")
    done = ingest(Library(), tmp_path)
    assert sorted(i["frames"] for i in done.images) == [3, 3]
    assert "several patient ids (A, B)" in done.refused[0]["reason"]


def test_an_older_library_gets_the_columns_it_lacks(tmp_path, home, monkeypatch):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    monkeypatch.setenv("MEDFUSE_DATABASE_URL", url)
    old = create_engine(url)
    with old.begin() as c:
        c.execute(
            text(
                "CREATE TABLE cases (id VARCHAR PRIMARY KEY, patient_id VARCHAR, sex VARCHAR, "
                "birth_date VARCHAR, indication TEXT, simulated BOOLEAN, study_date VARCHAR, added "
                "DATETIME)"
            )
        )
        c.execute(
            text("INSERT INTO cases VALUES ('old', 'P', '', '', '', 0, '20200101', '2020-01-01 00:00:00')")
        )
    assert Library().engine is not None
    (row,) = store.list_cases(Library())
    assert (row.case_id, row.conflict) == ("old", "")


def run_ingest(folder: Path, home: Path) -> subprocess.Popen:
    env = {**os.environ, "MEDFUSE_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-m", "medfuse", "ingest", str(folder), "--json"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_killed_at_any_moment_nothing_is_half_there(tmp_path, home):
    """kill -9 while cases are added, again and again; what is there is always whole, and the last run
    completes it."""
    for n in range(24):
        stack(
            tmp_path / "in" / f"{n:02d}",
            n=6,
            patient=f"P{n}",
            study=f"1.2.{n}",
            series=f"1.2.{n}.1",
            size=(32, 32),
        )
    started = time.monotonic()
    whole = json.loads(run_ingest(tmp_path / "in", tmp_path / "undisturbed").communicate()[0])
    undisturbed = time.monotonic() - started
    found = []
    for k in range(3):
        process = run_ingest(tmp_path / "in", home)
        time.sleep(undisturbed * (0.5 + 0.15 * k))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        cases = store.list_cases(Library())
        found.append(len(cases))
        for row in cases:
            assert store.load_case(Library(), row.case_id).images[0].pixels.shape[2] == 6
    last = json.loads(run_ingest(tmp_path / "in", home).communicate()[0])
    assert last["ledger"] == whole["ledger"]
    assert sorted(last["cases"]) == sorted(whole["cases"])
    assert len(store.list_cases(Library())) == 24
    assert found == sorted(found)  # nothing that was there is lost
    stored = [p for p in (home / "images").rglob("*") if p.is_file() and not p.name.endswith(".part")]
    assert len(stored) == 144


def test_what_de_identification_refuses_is_in_the_text_too(tmp_path, database, capsys):
    stack(tmp_path / "in" / "a")
    broken = tmp_path / "in" / "broken.dcm"
    broken.write_bytes(bytes(128) + b"DICM" + b"junk")
    request = IngestRequest(paths=[tmp_path / "in"], deidentify=True)
    done = ingest_command(request, progress=lambda what: lambda n, of: None)
    assert done.exit_code == 3
    assert [r["path"] for r in done.data["refused"]] == [str(broken)]
    assert f"refused {broken}" in done.text


def test_a_study_that_comes_again_of_another_patient_joins_nobody(tmp_path, monkeypatch):
    """Its study and series are known: the first patient's case had its files replaced by the other's."""
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "home"))
    write_stack(tmp_path / "a", [(0, 0, 2.0 * k) for k in range(3)], patient="P1")
    write_stack(tmp_path / "b", [(0, 0, 2.0 * k) for k in range(2)], patient="P2")
    library = Library()
    (first,) = ingest(library, tmp_path / "a").cases
    before = store.files_of(library, first)
    later = ingest(library, tmp_path / "b")
    assert store.files_of(library, first) == before
    assert later.cases != [first]
    assert "of another patient id; kept apart until a person confirms" in later.refused[0]["reason"]


def test_a_file_that_could_not_be_read_for_want_of_memory_is_read_the_next_time(home, tmp_path, monkeypatch):
    """Unchanged files are not opened again, but for those."""
    stack(tmp_path / "in")

    def killed(*_args: object, **_named: object) -> None:
        raise child.ChildFailed(child.KILLED)

    with monkeypatch.context() as machine:
        machine.setattr(child.Children, "run", killed)
        assert not ingest(Library(), tmp_path / "in").cases
    assert len(ingest(Library(), tmp_path / "in").cases) == 1
