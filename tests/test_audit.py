"""The audit log: whoever changes the database or the files behind medfuse's back is named, and an act and its
entry are kept together or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, text, update
from test_signoff import CASE, edited, prediction_of, report_of
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError
from medfuse.library import Library, accounts, audit, audit_key, reports, results
from medfuse.library.audit_check import differences
from medfuse.library.audit_rows import AuditedSession
from medfuse.library.catalogue import AuditHeadRow, AuditRow, CaseRow, ReportRow, ResultRow
from medfuse.report import Report


@pytest.fixture
def library(home):
    """A case that was predicted, edited and signed by one of two accounts."""
    with Library() as library:
        with library.session() as s:
            s.add(CaseRow(id=CASE, patient_id="p"))
            audit.enter(s, "case added", case_id=CASE)
        results.save_result(library, prediction_of(), report_of("Ascites is present."))
        ann = accounts.add_account(library, "ann", "correct horse", "author", full_name="Dr Ann")
        accounts.add_account(library, "bob", "battery staple", "reader")
        now = reports.current(library, CASE)
        now = reports.save(library, CASE, now.revision, edited(now.report), ann)
        reports.sign(library, CASE, now.revision, ann)
        assert differences(library) == []
        yield library


OLDER = (  # a database as it was before the log moved into it
    "DROP TABLE audit",
    "DROP TABLE audit_head",
    "UPDATE alembic_version SET version_num = '0002'",
)


def behind(library, *statements):
    """Statements straight in the database, as somebody with a database tool does."""
    with library.engine.begin() as c:
        for statement in statements:
            c.execute(text(statement) if isinstance(statement, str) else statement)


def signed_row(library):
    with AuditedSession(library.engine) as s:
        return s.scalars(select(ReportRow).where(ReportRow.state == "final")).one()


def forge_report(library, *, hash_too, **changes):
    row = signed_row(library)
    report = edited(Report(**row.report), text="No ascites.")
    values = {"report": report.model_dump(mode="json"), **changes}
    if hash_too:
        values["sha256"] = hashlib.sha256(report.model_dump_json().encode()).hexdigest()
    behind(library, update(ReportRow).where(ReportRow.id == row.id).values(**values))


def rewrite_chain(library):
    """Leave the signature out of the log, and chain what is left anew, with another key."""
    with AuditedSession(library.engine) as s, s.begin():
        rows = list(s.scalars(select(AuditRow).order_by(AuditRow.seq)))
        gone = next(r for r in rows if r.event == "report signed")
        s.execute(delete(AuditRow).where(AuditRow.seq == gone.seq))
        before = s.scalars(select(AuditHeadRow.log)).one()
        for seq, row in enumerate((r for r in rows if r is not gone), 1):
            values = {"seq": seq, "before": before}
            for name, value in values.items():
                setattr(row, name, value)
            before = row.seal = audit.seal_of(b"k" * 32, row)


def change_account(library, name, **changes):
    path = library.home / "accounts.json"
    kept = json.loads(path.read_text())
    kept[name] |= changes
    path.write_text(json.dumps(kept))


def remove_account(library, name):
    path = library.home / "accounts.json"
    kept = json.loads(path.read_text())
    del kept[name]
    path.write_text(json.dumps(kept))


def older_anchor(library):
    """The anchor as it was some entries ago, without its last entries in the log."""
    (path,) = (library.home / "anchors").glob("*.json")
    path.write_text(path.read_text().replace('"newest":', '"newest": 1'))


def new_key(library):
    audit_key.key_path(library).unlink()
    audit_key.make_key(library)


def later(library):
    row = signed_row(library)
    behind(
        library,
        update(ReportRow).where(ReportRow.id == row.id).values(made=row.made + timedelta(hours=1)),
    )


def other_prediction(library):
    changed = prediction_of().model_copy(update={"in_domain": False}).model_dump(mode="json")
    behind(library, update(ResultRow).values(prediction=changed))


def anchors(library):
    return sorted((library.home / "anchors").glob("*.json"))


LAST = "(SELECT MAX(seq) FROM audit)"
TAMPERINGS = {
    "edited signed report": (lambda x: forge_report(x, hash_too=False), "is not what ann signed"),
    "its hash edited too": (lambda x: forge_report(x, hash_too=True), "is not what ann signed"),
    "signature of a signed report taken away": (
        lambda x: behind(x, "UPDATE reports SET signature = '' WHERE state = 'final'"),
        "is not what ann signed",
    ),
    "deleted signed revision": (
        lambda x: behind(x, "DELETE FROM reports WHERE state = 'final'"),
        "report .* stands in the log and is not there",
    ),
    "signed report made a draft": (
        lambda x: behind(x, "UPDATE reports SET state = 'draft' WHERE state = 'final'"),
        r"\(draft\) of c-1: is not what the log says",
    ),
    "swapped author": (
        lambda x: behind(x, "UPDATE reports SET author = 'bob' WHERE author = 'ann'"),
        "is not what bob signed",
    ),
    "changed time": (later, "is not what ann signed"),
    "deleted last entries": (lambda x: behind(x, f"DELETE FROM audit WHERE seq = {LAST}"), "counts"),
    "deleted last entries, and their number": (
        lambda x: behind(x, f"DELETE FROM audit WHERE seq = {LAST}", "UPDATE audit_head SET seq = seq - 1"),
        "and are no longer there",
    ),
    "deleted entry in the middle": (
        lambda x: behind(x, "DELETE FROM audit WHERE event = 'predicted'"),
        "missing from the log: 2",
    ),
    "deleted log": (
        lambda x: behind(x, "DELETE FROM audit", "UPDATE audit_head SET seq = 0"),
        "and are no longer there",
    ),
    "log and its head deleted": (
        lambda x: behind(x, "DELETE FROM audit", "DELETE FROM audit_head"),
        "count of its entries is gone",
    ),
    "rewritten chain": (rewrite_chain, "written by somebody without the key"),
    "changed entry": (
        lambda x: behind(x, "UPDATE audit SET who = 'bob' WHERE event = 'report signed'"),
        r"\(report signed\): was changed",
    ),
    "changed role of an account": (
        lambda x: change_account(x, "bob", role="admin"),
        "account bob: is not what the log says",
    ),
    "changed password": (
        lambda x: change_account(
            x, "ann", hash=json.loads((x.home / "accounts.json").read_text())["bob"]["hash"]
        ),
        "account ann: is not what the log says",
    ),
    "removed account": (lambda x: remove_account(x, "bob"), "account bob: stands in the log"),
    "changed prediction": (other_prediction, "prediction 1 of c-1: is not what the log says"),
    "changed case": (
        lambda x: behind(x, "UPDATE cases SET patient_id = 'q'"),
        "case c-1: is not what the log says",
    ),
    "a prediction of nobody": (
        lambda x: behind(
            x,
            "INSERT INTO results (case_id, bundle_hash, language, made, prediction, report, summary) "
            "SELECT case_id, bundle_hash, language, made, prediction, report, summary FROM results",
        ),
        "prediction 2 of c-1: no entry of the log knows of it",
    ),
    "removed anchor": (lambda x: anchors(x)[0].unlink(), "the anchor of .* was removed"),
    "changed anchor": (older_anchor, "the anchor of .* was changed"),
    "another key": (new_key, "written by somebody without the key"),
    "no key": (lambda x: audit_key.key_path(x).unlink(), "the key of the audit log is gone"),
}


@pytest.mark.attack
@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_named(library, name):
    tamper, wanted = TAMPERINGS[name]
    tamper(library)
    library.close()
    said = "\n".join(d.what for d in differences(library))
    assert re.search(wanted, said), said
    done = CliRunner().invoke(app, ["audit", "--json"])
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert set(answer) == {"ok", "differences"}
    assert answer["ok"] is False
    assert all(set(d) == {"kind", "what"} for d in answer["differences"])


def test_an_untouched_library_has_no_difference(library):
    done = CliRunner().invoke(app, ["audit", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"ok": True, "differences": []})


@pytest.mark.attack
@pytest.mark.parametrize(
    "name", ["its hash edited too", "deleted signed revision", "changed prediction", "swapped author"]
)
def test_a_tampered_report_is_neither_printed_nor_exported(library, name, tmp_path):
    CliRunner().invoke(app, ["report", CASE], catch_exceptions=False)
    TAMPERINGS[name][0](library)
    library.close()
    for command in (["report", CASE], ["report", CASE, "--format", "pdf", "--out", str(tmp_path / "out")]):
        with pytest.raises(UserError, match="neither printed nor exported"):
            CliRunner().invoke(app, command, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.attack
def test_names_of_any_length_and_kind_leave_the_log_whole(library):
    for name in ("x" * 70_000, "a\nb\0c", "\ud800", "😀" * 5000):
        audit.record(library, "sign-in refused", who=name, text=name)
    audit.record(library, "afterwards")
    assert differences(library) == []
    cut = [e.who for e in audit.entries(library) if e.event == "sign-in refused"]
    assert all(len(who) <= audit.LONGEST_NAME for who in cut)
    assert len(set(cut)) == 4


def test_a_log_of_another_time_is_sealed_at_migration_and_said_so(library, caplog):
    behind(library, *OLDER)
    behind(library, "UPDATE reports SET signature = ''")
    library.close()
    line = json.dumps({"at": "2026-01-01", "event": "seen", "who": "", "case": "", "before": "0" * 64})
    old = library.home / "audit.log"
    old.write_text(f"{hashlib.sha256(line.encode()).hexdigest()} {line}\n")
    audit_key.key_path(library).unlink()
    [p.unlink() for p in anchors(library)]
    (library.home / "anchors" / ".lock").unlink()
    (library.home / "anchors").rmdir()
    assert differences(library) == []
    (sealed,) = audit.entries(library)
    assert sealed.event == "sealed at migration"
    assert "unbroken, but had no key" in sealed.details["found"]
    assert "is sealed with a key from now on" in caplog.text
    assert reports.final_version(library, CASE) is not None  # has its signature now
    old.write_text("")
    assert [d.kind for d in differences(library)] == ["changed"]
    old.unlink()
    assert "was removed" in differences(library)[0].what


@pytest.mark.attack
def test_a_lost_log_is_not_sealed_anew(library):
    behind(library, *OLDER)
    library.close()
    kinds = {d.kind for d in differences(library)}
    assert "added" in kinds
    assert audit.entries(library) == []


def test_an_accounts_act_that_was_killed_is_finished_or_forgotten(library):
    part = library.home / "accounts.part"
    kept = (library.home / "accounts.json").read_text()
    part.write_text(kept.replace('"reader"', '"admin"'))  # killed before its entry was kept
    assert {a.name: a.role for a in accounts.list_accounts(library)} == {"ann": "author", "bob": "reader"}
    assert not part.exists()
    accounts.remove_account(library, "bob")
    part.write_bytes((library.home / "accounts.json").read_bytes())  # killed after it was kept
    (library.home / "accounts.json").write_text(kept)
    assert [a.name for a in accounts.list_accounts(library)] == ["ann"]
    assert differences(library) == []


KILLED = """
import os, signal, sys
import medfuse.library.library as opened
from medfuse.library import Library, accounts, reports
where = sys.argv[1]
def killed(inner):
    def run(*args):
        if where == "after":
            inner(*args)
        os.kill(os.getpid(), signal.SIGKILL)
    return run
name = "anchor_head" if where == "anchor" else "write"
setattr(opened, name, killed(getattr(opened, name)))
library = Library()
ann = accounts.authenticate(library, "ann", "correct horse")
reports.amend(library, "c-1", ann, "why not")
"""


@pytest.mark.parametrize("where", ["before", "after", "anchor"])
def test_killed_between_an_act_and_its_entry_neither_is_kept(library, where):
    before = (len(reports.history(library, CASE)), len(audit.entries(library)))
    done = subprocess.run([sys.executable, "-c", KILLED, where], env=dict(os.environ), capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    more = int(where == "anchor")  # committed, and not yet anchored: both are kept
    assert (len(reports.history(library, CASE)), len(audit.entries(library))) == (
        before[0] + more,
        before[1] + more,
    )
    assert differences(library) == []


def test_what_a_command_changes_or_exports_has_an_entry_by_the_user(library, tmp_path):
    before = len(audit.entries(library))
    for command in (
        ["cases", "--set-risk", f"{CASE}=cirrhosis"],
        ["report", CASE],
        ["export", "training-records", "--out", str(tmp_path / "t.jsonl")],
        ["account", "remove", "bob"],
    ):
        assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    entries = audit.entries(library)[before:]
    events = ["words set", "report printed", "training records exported", "account removed"]
    assert [e.event for e in entries] == events
    assert {e.who for e in entries} == {audit.actor()}
    assert audit.actor().startswith("os:")
    assert differences(library) == []


def test_a_library_that_was_never_used_has_no_difference(home):
    assert differences(Library()) == []
    assert not home.exists()
    with Library() as library:
        assert library.engine
        assert differences(library) == []


def test_a_months_first_entry_whose_writer_was_killed_is_no_tampering(home):
    """Two writers at once, or a kill before the anchor was written, gave an anchor that began too late."""
    with Library(home) as library:
        heads = []
        for event in ("first", "second"):
            with AuditedSession(library.engine) as s, s.begin():
                audit.enter(s, event)
                heads.append(audit.write(library, s))
        audit.anchor_head(library, heads[1])  # the first one's never is
        assert differences(library) == []
        audit.record(library, "third")
        assert differences(library) == []
        with AuditedSession(library.engine) as s:
            audit.enter(s, "undone")
            audit.write(library, s)
            s.rollback()
        assert differences(library) == []


def test_what_is_written_while_the_audit_looks_is_no_difference(database, home):
    with Library() as library:
        audit.record(library, "first")
        stop = threading.Event()
        wrong: list[BaseException] = []

        def write() -> None:
            try:
                for n in itertools.count():
                    if stop.is_set():
                        return
                    with library.session() as s:
                        s.add(CaseRow(id=f"c-{n}", patient_id="p"))
                        audit.enter(s, "case added", case_id=f"c-{n}")
            except BaseException as e:
                wrong.append(e)

        writers = [threading.Thread(target=write)]
        for w in writers:
            w.start()
        try:
            until = time.monotonic() + 2
            looks = 0
            while time.monotonic() < until or looks < 5:
                assert differences(library) == []
                looks += 1
        finally:
            stop.set()
            for w in writers:
                w.join()
        assert not wrong
        assert len(audit.entries(library)) > 5
