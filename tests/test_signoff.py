"""Versions, accounts, the audit log and training records: nothing lost, nothing overwritten, nothing changed after a signature."""

from __future__ import annotations

import json
import threading

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError, WrongUse
from medfuse.library import accounts, audit, reports, store
from medfuse.library.catalogue import CaseRow, ReportRow, session
from medfuse.prediction import Prediction
from medfuse.report import Report, Section, Sentence

CASE = "c-1"


def report_of(*texts, language="en"):
    rows = [Sentence(text=t, finding="ascites", probability=0.9, assertion="present") for t in texts]
    sections = [Section(id="findings", title="Findings", sentences=rows)]
    return Report(
        case_id=CASE,
        language=language,
        simulated=True,
        in_domain=True,
        banner=["Research draft"],
        sections=sections,
        bundle="b",
        bundle_hash="h" * 64,
    )


def prediction_of():
    return Prediction(
        case_id=CASE,
        simulated=True,
        in_domain=True,
        modalities={"CT": "present"},
        images=[],
        findings=[],
        lesions=[],
        bundle="b",
        bundle_hash="h" * 64,
    )


@pytest.fixture
def drafted(database):
    with session() as s:
        s.add(CaseRow(id=CASE, patient_id="p"))
    store.save_result(prediction_of(), report_of("Ascites is present.", "Liver is large."))
    return database


@pytest.fixture
def author(home):
    return accounts.add_account("ann", "correct horse", "author", full_name="Dr Ann Author")


def edited(report, n=0, text="Much ascites."):
    out = report.model_copy(deep=True)
    out.sections[0].sentences[n].text, out.sections[0].sentences[n].state = text, "edited"
    return out


def test_from_draft_to_amended(drafted, author):
    first = reports.current(CASE)
    assert (first.state, first.version, first.author) == ("draft", 1, "")
    with pytest.raises(WrongUse, match="2 sentences not yet accepted"):
        reports.sign(CASE, first.revision, author)
    second = reports.save(CASE, first.revision, edited(first.report), author)
    assert second.change == ["-findings: [drafted] Ascites is present.", "+findings: [edited] Much ascites."]
    third = reports.save(CASE, second.revision, reports.set_states(second.report, "accepted"), author)
    assert [x.state for x in third.report.sections[0].sentences] == ["edited", "accepted"]
    passed = reports.promote(CASE, third.revision, author)
    assert passed.state == "preliminary"
    signed = reports.sign(CASE, passed.revision, author)
    assert (signed.state, signed.version, signed.report.signed_by) == ("final", 1, "Dr Ann Author")
    with pytest.raises(WrongUse, match="is signed and does not change"):
        reports.save(CASE, signed.revision, edited(signed.report, 1), author)
    with pytest.raises(WrongUse, match="the report is final"):
        reports.sign(CASE, signed.revision, author)
    with pytest.raises(WrongUse, match="say why"):
        reports.amend(CASE, author, " ")
    opened = reports.amend(CASE, author, "a lesion was missed")
    assert (opened.state, opened.version) == ("draft", 2)
    again = reports.save(CASE, opened.revision, edited(opened.report, 1, "Liver is very large."), author)
    final = reports.sign(CASE, again.revision, author)
    assert (final.state, final.version) == ("amended", 2)
    assert [r.version for r in reports.history(CASE) if r.state in ("final", "amended")] == [1, 2]
    events = [e["event"] for e in audit.entries()]
    assert events == [
        "report edited",
        "report edited",
        "report preliminary",
        "report signed",
        "report amended",
        "report edited",
        "report signed",
    ]
    assert audit.entries()[3]["sha256"] == signed.sha256


def test_a_signed_version_changed_behind_our_back_is_refused(drafted, author):
    now = reports.current(CASE)
    now = reports.save(CASE, now.revision, reports.set_states(now.report, "accepted"), author)
    signed = reports.sign(CASE, now.revision, author)
    assert reports.final_version(CASE).sha256 == signed.sha256
    forged = edited(signed.report).model_dump(mode="json")
    with session() as s:
        s.execute(update(ReportRow).where(ReportRow.revision == signed.revision).values(report=forged))
    with pytest.raises(UserError, match="is not what was signed"):
        reports.final_version(CASE)


def test_two_people_editing_one_draft_lose_nothing(drafted, author):
    bob = accounts.add_account("bob", "battery staple", "author")
    seen = reports.current(CASE)
    hers = reports.save(CASE, seen.revision, edited(seen.report, text="Hers."), author)
    with pytest.raises(reports.Conflict) as e:
        reports.save(CASE, seen.revision, edited(seen.report, text="His."), bob)
    assert "ann saved revision" in str(e.value)
    assert e.value.mine.sections[0].sentences[0].text == "His."
    assert e.value.theirs.report.sections[0].sentences[0].text == "Hers."
    assert reports.current(CASE).revision == hers.revision


def test_of_many_at_once_exactly_one_is_saved(drafted, author):
    seen = reports.current(CASE)
    won, lost = [], []

    def work(n):
        try:
            won.append(reports.save(CASE, seen.revision, edited(seen.report, text=f"Writer {n}."), author).revision)
        except reports.Conflict:
            lost.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert (len(won), len(lost)) == (1, 7)
    assert len(reports.history(CASE)) == 2


def test_a_new_prediction_keeps_edits_in_the_history_and_never_touches_a_signature(drafted, author):
    now = reports.current(CASE)
    reports.save(CASE, now.revision, edited(now.report), author)
    store.save_result(prediction_of(), report_of("Drafted anew."))
    assert reports.current(CASE).report.sections[0].sentences[0].text == "Drafted anew."
    assert "Much ascites." in [r.report.sections[0].sentences[0].text for r in reports.history(CASE)]
    now = reports.current(CASE)
    now = reports.save(CASE, now.revision, reports.set_states(now.report, "accepted"), author)
    signed = reports.sign(CASE, now.revision, author)
    store.save_result(prediction_of(), report_of("Drafted after the signature."))
    assert reports.current(CASE).sha256 == signed.sha256
    assert store.load_result(CASE)[1].state == "final"


def test_every_decision_becomes_a_training_record(drafted, author):
    now = reports.current(CASE)
    changed = edited(now.report)
    changed.sections[0].sentences[1].state = "rejected"
    changed.sections[0].sentences.append(Sentence(text="Added by a person.", state="edited"))
    reports.save(CASE, now.revision, changed, author)
    reports.note_answer(CASE, "Is there ascites?", "yes", "no", "edited", author, "h" * 64)
    rows = reports.training_records()
    assert [(r["kind"], r["action"], r["drafted"], r["final"]) for r in rows] == [
        ("sentence", "edited", "Ascites is present.", "Much ascites."),
        ("sentence", "rejected", "Liver is large.", ""),
        ("sentence", "added", "", "Added by a person."),
        ("answer", "edited", "yes", "no"),
    ]
    hashes = {e["hash"] for e in audit.entries()}
    assert all(r["author"] == "ann" and r["audit"] in hashes for r in rows)


def test_who_may_do_what(drafted, home):
    reader = accounts.add_account("rea", "only looking", "reader")
    now = reports.current(CASE)
    with pytest.raises(WrongUse, match="is a reader and may not edit"):
        reports.save(CASE, now.revision, edited(now.report), reader)
    with pytest.raises(WrongUse, match="may not sign"):
        reports.sign(CASE, now.revision, reader)


def test_accounts(home):
    accounts.add_account("ann", "correct horse", "author")
    stored = (home / "accounts.json").read_text()
    assert "$argon2id$" in stored
    assert "correct horse" not in stored
    assert (home / "accounts.json").stat().st_mode & 0o077 == 0
    assert accounts.authenticate("ann", "correct horse").role == "author"
    for name, password in (("ann", "wrong"), ("eve", "correct horse")):
        with pytest.raises(UserError, match="name or the password is wrong"):
            accounts.authenticate(name, password)
    with pytest.raises(WrongUse, match="exists already"):
        accounts.add_account("ann", "correct horse", "author")
    with pytest.raises(WrongUse, match="at least 8"):
        accounts.add_account("bob", "short", "author")
    with pytest.raises(WrongUse, match="use letters"):
        accounts.add_account("../x", "long enough", "author")
    accounts.remove_account("ann")
    assert accounts.list_accounts() == []


def test_the_audit_log_shows_any_change(home):
    for n in range(5):
        audit.record("seen", who="ann", n=n)
    path = audit.audit_path()
    lines = path.read_text().splitlines()
    assert [e["n"] for e in audit.entries()] == list(range(5))
    path.write_text("\n".join([*lines[:2], lines[2].replace('"n": 2', '"n": 9'), *lines[3:]]) + "\n")
    with pytest.raises(UserError, match="line 3: the line was changed"):
        audit.entries()
    path.write_text("\n".join([*lines[:2], *lines[3:]]) + "\n")
    with pytest.raises(UserError, match="line 3: a line before it is missing"):
        audit.entries()
    path.write_text("\n".join(lines) + "\n" + lines[0][:30])  # a crash in mid-line
    audit.record("after the crash")
    with pytest.raises(UserError, match="line 6"):
        audit.entries()


def test_the_audit_log_takes_many_writers(home):
    threads = [threading.Thread(target=lambda: [audit.record("seen") for _ in range(20)]) for _ in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(audit.entries()) == 120


def test_commands(drafted, monkeypatch, tmp_path):
    run = CliRunner().invoke
    monkeypatch.setenv("MEDFUSE_PASSWORD", "correct horse")
    assert run(app, ["account", "add", "ann", "--full-name", "Dr Ann"]).exit_code == 0
    with pytest.raises(WrongUse, match="not yet accepted"):
        run(app, ["sign", CASE, "--user", "ann"], catch_exceptions=False)
    done = run(app, ["sign", CASE, "--user", "ann", "--accept-all", "--json"])
    assert json.loads(done.stdout)["state"] == "final"
    done = run(app, ["sign", CASE, "--user", "ann", "--amend", "why not", "--json"])
    assert json.loads(done.stdout) | {"sha256": ""} == {
        "case_id": CASE,
        "state": "draft",
        "version": 2,
        "revision": 4,
        "sha256": "",
    }
    assert "chain unbroken" in run(app, ["audit"]).stdout
    done = run(app, ["export", "training-records", "--out", str(tmp_path / "t.jsonl"), "--json"])
    assert json.loads(done.stdout)["records"] == 2
    assert {json.loads(x)["action"] for x in (tmp_path / "t.jsonl").read_text().splitlines()} == {"accepted"}
    monkeypatch.setenv("MEDFUSE_PASSWORD", "nonsense")
    with pytest.raises(UserError, match="password is wrong"):
        run(app, ["sign", CASE, "--user", "ann"], catch_exceptions=False)
