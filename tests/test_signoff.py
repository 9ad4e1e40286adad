"""Versions, accounts, the audit log and training records: nothing lost, nothing overwritten, nothing changed
after a signature."""

from __future__ import annotations

import json
import threading
from contextlib import suppress

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError, WrongUse
from medfuse.library import Library, accounts, audit, reports, results, store, training_records
from medfuse.library.catalogue import CaseRow, ReportRow
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
    with Library().session() as s:
        s.add(CaseRow(id=CASE, patient_id="p"))
    results.save_result(Library(), prediction_of(), report_of("Ascites is present.", "Liver is large."))
    return database


@pytest.fixture
def author(home):
    return accounts.add_account(Library(), "ann", "correct horse", "author", full_name="Dr Ann Author")


def edited(report, n=0, text="Much ascites."):
    out = report.model_copy(deep=True)
    out.sections[0].sentences[n].text = text
    out.sections[0].sentences[n].state = "edited"
    return out


def test_from_draft_to_amended(drafted, author):
    first = reports.current(Library(), CASE)
    assert (first.state, first.version, first.author) == ("draft", 1, "")
    with pytest.raises(WrongUse, match="2 sentences not yet accepted"):
        reports.sign(Library(), CASE, first.revision, author)
    second = reports.save(Library(), CASE, first.revision, edited(first.report), author)
    assert second.change == ["-findings: [drafted] Ascites is present.", "+findings: [edited] Much ascites."]
    third = reports.save(
        Library(), CASE, second.revision, reports.set_states(second.report, "accepted"), author
    )
    assert [x.state for x in third.report.sections[0].sentences] == ["edited", "accepted"]
    passed = reports.promote(Library(), CASE, third.revision, author)
    assert passed.state == "preliminary"
    signed = reports.sign(Library(), CASE, passed.revision, author)
    assert signed.report.banner[0] == "Research report, not for clinical use."  # waits for nobody any more
    assert signed.signed.name == signed.report.signed_by
    assert (signed.state, signed.version, signed.report.signed_by) == ("final", 1, "Dr Ann Author")
    with pytest.raises(WrongUse, match="is signed and does not change"):
        reports.save(Library(), CASE, signed.revision, edited(signed.report, 1), author)
    with pytest.raises(WrongUse, match="the report is final"):
        reports.sign(Library(), CASE, signed.revision, author)
    with pytest.raises(WrongUse, match="say why"):
        reports.amend(Library(), CASE, author, " ")
    opened = reports.amend(Library(), CASE, author, "a lesion was missed")
    assert (opened.state, opened.version) == ("draft", 2)
    again = reports.save(
        Library(), CASE, opened.revision, edited(opened.report, 1, "Liver is very large."), author
    )
    final = reports.sign(Library(), CASE, again.revision, author)
    assert (final.state, final.version) == ("amended", 2)
    assert [r.version for r in reports.history(Library(), CASE) if r.state in ("final", "amended")] == [1, 2]
    events = [e.event for e in audit.entries(Library())]
    assert events == [
        "rows changed",  # the fixture's case
        "predicted",
        "account added",
        "report edited",
        "report edited",
        "report preliminary",
        "report signed",
        "report amended",
        "report edited",
        "report signed",
    ]
    assert audit.entries(Library())[6].details["sha256"] == signed.sha256


@pytest.mark.parametrize("left", ["rejected", "nothing"])
def test_an_empty_report_is_not_signed(drafted, author, left):
    now = reports.current(Library(), CASE)
    empty = reports.set_states(now.report, "rejected")
    if left == "nothing":
        empty.sections[0].sentences.clear()
    saved = reports.save(Library(), CASE, now.revision, empty, author)
    with pytest.raises(WrongUse, match="the report says nothing"):
        reports.sign(Library(), CASE, saved.revision, author)
    assert reports.current(Library(), CASE).state == "draft"


def test_a_signed_version_changed_behind_our_back_is_refused(drafted, author):
    now = reports.current(Library(), CASE)
    now = reports.save(Library(), CASE, now.revision, reports.set_states(now.report, "accepted"), author)
    signed = reports.sign(Library(), CASE, now.revision, author)
    assert reports.final_version(Library(), CASE).sha256 == signed.sha256
    forged = edited(signed.report).model_dump(mode="json")
    with Library().session() as s:
        s.execute(update(ReportRow).where(ReportRow.revision == signed.revision).values(report=forged))
    with pytest.raises(UserError, match="is not what was signed"):
        reports.final_version(Library(), CASE)


def test_two_people_editing_one_draft_lose_nothing(drafted, author):
    bob = accounts.add_account(Library(), "bob", "battery staple", "author")
    seen = reports.current(Library(), CASE)
    hers = reports.save(Library(), CASE, seen.revision, edited(seen.report, text="Hers."), author)
    with pytest.raises(reports.Conflict) as e:
        reports.save(Library(), CASE, seen.revision, edited(seen.report, text="His."), bob)
    assert "ann saved revision" in str(e.value)
    assert e.value.mine.sections[0].sentences[0].text == "His."
    assert e.value.theirs.report.sections[0].sentences[0].text == "Hers."
    assert reports.current(Library(), CASE).revision == hers.revision


def test_of_many_at_once_exactly_one_is_saved(drafted, author):
    seen = reports.current(Library(), CASE)
    won = []
    lost = []

    def work(n):
        try:
            won.append(
                reports.save(
                    Library(), CASE, seen.revision, edited(seen.report, text=f"Writer {n}."), author
                ).revision
            )
        except reports.Conflict:
            lost.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert (len(won), len(lost)) == (1, 7)
    assert len(reports.history(Library(), CASE)) == 2


def test_one_who_signs_while_another_saves_gets_a_conflict(drafted, author, monkeypatch):
    """Both had read one revision; the second got the database's IntegrityError."""
    seen = reports.current(Library(), CASE)
    accepted = reports.set_states(seen.report, "accepted")
    ready = reports.save(Library(), CASE, seen.revision, accepted, author)
    real = reports.newest_row
    both_have_read = threading.Barrier(2)

    def read_together(s, case_id):
        row = real(s, case_id)
        if threading.current_thread() is not threading.main_thread() and not both_have_read.broken:
            with suppress(threading.BrokenBarrierError):  # one may read only when the other has written
                both_have_read.wait(timeout=2)
        return row

    monkeypatch.setattr(reports, "newest_row", read_together)
    outcomes = []

    def act(work):
        try:
            outcomes.append(work())
        except Exception as e:
            outcomes.append(e)

    acts = [
        lambda: reports.sign(Library(), CASE, ready.revision, author),
        lambda: reports.save(Library(), CASE, ready.revision, edited(ready.report, text="Mine."), author),
    ]
    threads = [threading.Thread(target=act, args=(a,)) for a in acts]
    [t.start() for t in threads]
    [t.join() for t in threads]
    failed = [o for o in outcomes if isinstance(o, Exception)]
    assert len(failed) == 1
    assert isinstance(failed[0], reports.Conflict | WrongUse)


def test_a_new_prediction_replaces_a_draft_and_never_a_persons_work(drafted, author):
    results.save_result(Library(), prediction_of(), report_of("Drafted anew."))
    now = reports.current(Library(), CASE)
    assert now.report.sections[0].sentences[0].text == "Drafted anew."
    assert reports.draft_beside(Library(), CASE) is None
    saved = reports.save(Library(), CASE, now.revision, edited(now.report), author)
    results.save_result(Library(), prediction_of(), report_of("Drafted later."))
    assert reports.current(Library(), CASE).sha256 == saved.sha256
    assert results.load_result(Library(), CASE)[1].sections[0].sentences[0].text == "Much ascites."
    beside = reports.draft_beside(Library(), CASE)
    assert beside.sections[0].sentences[0].text == "Drafted later."
    reader = accounts.add_account(Library(), "rea", "only looking", "reader")
    with pytest.raises(WrongUse, match="may not take up a draft"):
        reports.take_draft(Library(), CASE, saved.revision, reader)
    taken = reports.take_draft(Library(), CASE, saved.revision, author)
    assert taken.report.sections[0].sentences[0].text == "Drafted later."
    assert reports.draft_beside(Library(), CASE) is None
    assert "Much ascites." in [
        r.report.sections[0].sentences[0].text for r in reports.history(Library(), CASE)
    ]
    now = reports.save(Library(), CASE, taken.revision, reports.set_states(taken.report, "accepted"), author)
    signed = reports.sign(Library(), CASE, now.revision, author)
    results.save_result(Library(), prediction_of(), report_of("Drafted after the signature."))
    assert reports.current(Library(), CASE).sha256 == signed.sha256
    assert results.load_result(Library(), CASE)[1].state == "final"
    with pytest.raises(WrongUse, match="no new draft"):
        reports.take_draft(Library(), CASE, signed.revision, author)
    predicted = [e for e in audit.entries(Library()) if e.event == "predicted"]
    assert [e.details["revision"] for e in predicted] == [1, 2, None, None]  # each has its entry


def test_a_reader_neither_predicts_nor_adds_nor_changes_a_case(drafted, home):
    reader = accounts.add_account(Library(), "rea", "only looking", "reader")
    with accounts.acting_as(reader), pytest.raises(WrongUse, match="may not predict a case"):
        results.save_result(Library(), prediction_of(), report_of("Drafted."))
    with accounts.acting_as(reader), pytest.raises(WrongUse, match="may not add a case"):
        store.add_nifti(Library(), [])
    for act in (
        lambda: store.set_words(Library(), CASE, risk="none", by=reader),
        lambda: store.confirm(Library(), CASE, by=reader),
    ):
        with pytest.raises(WrongUse, match="may not change a case"):
            act()
    assert len(reports.history(Library(), CASE)) == 1


def test_every_decision_becomes_a_training_record(drafted, author):
    now = reports.current(Library(), CASE)
    changed = edited(now.report)
    changed.sections[0].sentences[1].state = "rejected"
    changed.sections[0].sentences.append(Sentence(text="Added by a person.", state="edited"))
    reports.save(Library(), CASE, now.revision, changed, author)
    training_records.note_answer(
        Library(), CASE, "Is there ascites?", "yes", "no", "edited", author, "h" * 64
    )
    rows = training_records.training_records(Library())
    assert [(r.kind, r.action, r.drafted, r.final) for r in rows] == [
        ("sentence", "edited", "Ascites is present.", "Much ascites."),
        ("sentence", "rejected", "Liver is large.", ""),
        ("sentence", "added", "", "Added by a person."),
        ("answer", "edited", "yes", "no"),
    ]
    hashes = {e.hash for e in audit.entries(Library())}
    assert all(r.author == "ann" and r.audit in hashes for r in rows)


def test_who_may_do_what(drafted, home):
    reader = accounts.add_account(Library(), "rea", "only looking", "reader")
    now = reports.current(Library(), CASE)
    with pytest.raises(WrongUse, match="is a reader and may not edit"):
        reports.save(Library(), CASE, now.revision, edited(now.report), reader)
    with pytest.raises(WrongUse, match="may not sign"):
        reports.sign(Library(), CASE, now.revision, reader)


def test_accounts(home):
    accounts.add_account(Library(), "ann", "correct horse", "author")
    stored = (home / "accounts.json").read_text()
    assert "$argon2id$" in stored
    assert "correct horse" not in stored
    assert (home / "accounts.json").stat().st_mode & 0o077 == 0
    assert accounts.authenticate(Library(), "ann", "correct horse").role == "author"
    for name, password in (("ann", "wrong"), ("eve", "correct horse")):
        with pytest.raises(UserError, match="name or the password is wrong"):
            accounts.authenticate(Library(), name, password)
    with pytest.raises(WrongUse, match="exists already"):
        accounts.add_account(Library(), "ann", "correct horse", "author")
    with pytest.raises(WrongUse, match="at least 8"):
        accounts.add_account(Library(), "bob", "short", "author")
    with pytest.raises(WrongUse, match="use letters"):
        accounts.add_account(Library(), "../x", "long enough", "author")
    accounts.remove_account(Library(), "ann")
    assert accounts.list_accounts(Library()) == []


def test_the_audit_log_takes_many_writers(home):
    threads = [
        threading.Thread(target=lambda: [audit.record(Library(), "seen") for _ in range(20)])
        for _ in range(6)
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(audit.entries(Library())) == 120


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
