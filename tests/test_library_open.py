"""Opening a library: two at once, one of an older version, one of a newer, and many openers in one moment."""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
import sys

import pytest
from sqlalchemy import create_engine, text

from medfuse.errors import UserError
from medfuse.library import Library, accounts, audit, store
from medfuse.library.catalogue import Base, CaseRow
from medfuse.library.migrations import HEAD, KNOWN, revision_of

# The tables of medfuse 0.1 that the test fills, as its SQLite wrote them; the others follow from these.
OLD = """
CREATE TABLE cases (id VARCHAR(80) NOT NULL, patient_id VARCHAR(64) NOT NULL, sex VARCHAR(8) NOT NULL,
 birth_date VARCHAR(16) NOT NULL, indication TEXT NOT NULL, risk TEXT NOT NULL, labs JSON NOT NULL,
 simulated BOOLEAN NOT NULL, study_date VARCHAR(16) NOT NULL, conflict TEXT NOT NULL, added DATETIME NOT NULL,
 PRIMARY KEY (id));
CREATE INDEX ix_cases_patient_id ON cases (patient_id);
CREATE INDEX ix_cases_study_date ON cases (study_date);
CREATE TABLE ratings (id INTEGER NOT NULL, case_id VARCHAR(80) NOT NULL, rater VARCHAR(80) NOT NULL,
 background TEXT NOT NULL, kind VARCHAR(16) NOT NULL, correctness INTEGER NOT NULL,
 completeness INTEGER NOT NULL, wording INTEGER NOT NULL, seconds FLOAT NOT NULL,
 edit_distance INTEGER NOT NULL, language VARCHAR(16) NOT NULL, text TEXT NOT NULL, reference TEXT NOT NULL,
 made DATETIME NOT NULL, PRIMARY KEY (id), UNIQUE (case_id, rater, kind),
 FOREIGN KEY(case_id) REFERENCES cases (id));
CREATE INDEX ix_ratings_rater ON ratings (rater);
CREATE INDEX ix_ratings_case_id ON ratings (case_id);
INSERT INTO cases VALUES ('old', 'P', 'F', '', 'pain', '', '[]', 0, '20200101', '', '2020-01-01 00:00:00');
INSERT INTO ratings VALUES (1, 'old', 'ria', 'radiologist', 'drafted', 4, 3, 5, 60.0, 2, 'en', 'a', 'b',
 '2020-01-02 00:00:00');
"""


@pytest.fixture
def old(tmp_path):
    """The home of a library that medfuse 0.1 made."""
    home = tmp_path / "old"
    home.mkdir()
    connection = sqlite3.connect(home / "library.db")
    connection.executescript(OLD)
    connection.close()
    return home


def add(library: Library, case_id: str) -> None:
    with library.session() as s:
        s.add(CaseRow(id=case_id))


def test_two_libraries_are_open_in_one_process_and_share_nothing(tmp_path, home):
    with Library(tmp_path / "a") as a, Library(tmp_path / "b", url=f"sqlite:///{tmp_path / 'b.db'}") as b:
        add(a, "one")
        add(b, "two")
        accounts.add_account(a, "ari", "long enough", "author")
        audit.record(b, "looked")
        assert [r.case_id for r in store.list_cases(a)] == ["one"]
        assert [r.case_id for r in store.list_cases(b)] == ["two"]
        assert accounts.list_accounts(b) == []
        assert [[e.event for e in audit.entries(x)] for x in (a, b)] == [
            ["rows changed", "account added"],
            ["rows changed", "looked"],
        ]
    assert (tmp_path / "b.db").exists()
    assert not (tmp_path / "b" / "library.db").exists()
    assert not home.exists()  # the library of the settings was never touched
    assert not Library(tmp_path / "c").exists


def test_a_library_goes_to_another_process_and_opens_again_after_close(tmp_path):
    library = Library(tmp_path / "a")
    add(library, "one")
    library.close()
    there = pickle.loads(pickle.dumps(library))
    assert [r.case_id for r in store.list_cases(there)] == ["one"]
    assert [r.case_id for r in store.list_cases(library)] == ["one"]


def test_an_older_library_is_migrated_with_its_rows_and_a_copy_lies_beside_it(old, caplog):
    before = (old / "library.db").read_bytes()
    library = Library(old)
    (row,) = store.list_cases(library)
    assert (row.case_id, row.patient_id, row.state) == ("old", "P", "new")
    with library.engine.connect() as c:
        assert revision_of(c) == HEAD
        assert c.execute(text("SELECT rater, wording, bundle_hash FROM ratings")).one() == ("ria", 5, "")
    (copy,) = old.glob("library.db.*.unmarked.bak")
    assert "a copy as it was lies in" in caplog.text
    kept = sqlite3.connect(copy)
    assert kept.execute("SELECT id FROM cases").fetchall() == [("old",)]
    assert "alembic_version" not in {r[0] for r in kept.execute("SELECT name FROM sqlite_master")}
    kept.close()
    assert before  # what the copy was made of
    add(library, "new")  # and it is a library like any other
    library.close()
    assert len(store.list_cases(Library(old))) == 2
    assert len(list(old.glob("*.bak"))) == 1  # opened again, nothing is migrated


def test_a_migrated_database_has_the_tables_that_a_new_one_has(old, tmp_path, database):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    if database == "sqlite":
        library = Library(old)
    else:
        library = Library()  # PostgreSQL: from the first step on
        with library.engine.begin() as c:
            Base.metadata.drop_all(c)
            c.execute(text("DROP TABLE alembic_version"))
            c.execute(text("CREATE TABLE cases (id VARCHAR(80) PRIMARY KEY)"))
            c.execute(text("INSERT INTO cases VALUES ('old')"))
        library.close()
        assert [r.case_id for r in store.list_cases(library)] == ["old"]
    with library.engine.connect() as c:
        differences = compare_metadata(MigrationContext.configure(c), Base.metadata)
    missing_index = {"add_index"} if database == "postgresql" else set()  # of the one table that was there
    assert {d[0] for d in differences} <= missing_index | {"add_index"}
    if database == "sqlite":
        assert differences == []


def test_the_steps_lead_to_the_mark_of_a_new_library():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import medfuse.library.migrations as migrations

    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    steps = ScriptDirectory.from_config(config)
    assert steps.get_current_head() == HEAD
    assert {s.revision for s in steps.walk_revisions()} == set(KNOWN)


def test_a_library_of_a_newer_medfuse_is_refused_by_name_and_left_alone(tmp_path, database):
    library = Library()
    add(library, "one")
    with library.engine.begin() as c:
        c.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    library.close()
    with pytest.raises(UserError, match=r"made by a newer medfuse \(revision 9999, this one knows up to"):
        store.list_cases(library)
    engine = create_engine(library.url)
    with engine.connect() as c:
        assert c.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    engine.dispose()


def test_a_migration_that_fails_changes_nothing(old):
    connection = sqlite3.connect(old / "library.db")
    connection.execute("CREATE VIEW series AS SELECT 1")  # in the way of a table
    connection.commit()
    connection.close()
    with pytest.raises(UserError, match="nothing was changed, a copy as it was lies in"):
        store.list_cases(Library(old))
    connection = sqlite3.connect(old / "library.db")
    names = {r[0] for r in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert names == {"cases", "ratings"}


def test_many_processes_may_open_an_older_library_at_once(old):
    code = "from medfuse.library import Library, store; import sys, pathlib; "
    code += "print(len(store.list_cases(Library(pathlib.Path(sys.argv[1])))))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(old)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    done = [p.communicate(timeout=120) for p in started]
    assert [out.strip() for out, _ in done] == ["1"] * 3, done
    assert len(list(old.glob("*.bak"))) == 1
