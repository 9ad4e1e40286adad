"""A cohort from an archive and reports: what is linked, what is refused, what labels say, and that counts add
up."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hospital import DAMAGE, Hospital, hospital, outcome
from slices import write_stack
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.cohort.build import BuildRequest, build
from medfuse.cohort.encoding import decoded
from medfuse.cohort.ledger import read_ledger
from medfuse.cohort.rows import dates_of, normal
from medfuse.cohort.studies import read_studies
from medfuse.cohort.tables import TableFormat, parse_columns, read_table
from medfuse.errors import UserError, WrongUse
from medfuse.io.manifest import read_manifest
from medfuse.io.scan import scan
from medfuse.task import load_task

QUIET = lambda what: lambda done, total: None  # noqa: E731
PLAIN = TableFormat(columns={})


def made(planted, out, **change):
    request = BuildRequest(
        archive=planted.archive, reports=[planted.table], task=load_task("upper-abdomen"), out=out, **change
    )
    return build(request, QUIET)


def test_a_folder_without_dicom_is_told_what_to_do(tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").write_bytes(b"0" * 64)
    (tmp_path / "reports.csv").write_text("accession,text\nA1,No stone.\n")
    planted = Hospital(tmp_path / "films", tmp_path / "reports.csv")
    with pytest.raises(
        UserError, match=r"holds no DICOM image; its 1 × .mp4 need no archive: name them in a"
    ):
        made(planted, tmp_path / "out")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two of each kind of damage among 45 patients, in Big5, and the cohort made of them."""
    folder = tmp_path_factory.mktemp("hospital")
    planted = hospital(folder, 45, each=2, encoding="big5")
    return planted, made(planted, folder / "cohort"), folder / "cohort"


def test_no_report_is_linked_to_a_study_that_is_not_its_own(built):
    planted, _, out = built
    found = outcome(planted, read_ledger(out / "ledger.csv"))
    assert not found.wrong
    assert not found.missed
    assert found.linked > 40
    assert set(planted.kind.values()) >= set(DAMAGE) - {"images without report"}


def test_counts_add_up_to_what_was_given(built):
    planted, result, out = built
    ledger = read_ledger(out / "ledger.csv")
    reports = [r for r in ledger if r.kind == "report"]
    assert len(reports) == len(planted.lines) == result.reports
    assert len({r.id for r in reports}) == len(reports)
    assert result.linked + result.unresolved + result.refused == result.reports
    assert sum(result.by_rule.values()) == result.linked
    assert len(ledger) - len(reports) == result.studies == len({e.uid for e in planted.exams})
    assert all(r.reason for r in ledger if r.status != "linked")
    used = result.funnel[-1].studies
    assert used + sum(result.excluded.values()) == result.studies
    assert sum(result.splits.values()) == result.cases == len(read_manifest(out / "manifest.jsonl"))


def test_twins_under_another_id_stay_in_one_split(built):
    planted, result, out = built
    split = {r.case_id: r.split for r in read_manifest(out / "manifest.jsonl")}
    assert len(result.twins) >= 2
    for group in result.twins:
        assert len({split[c] for c in group}) == 1


def test_an_addendum_stands_above_the_report_and_a_correction_replaces_it(built):
    planted, _, out = built
    rows = read_manifest(out / "manifest.jsonl")
    for kind, finding in (("addendum that reverses", "gallstone"), ("correction", "ascites")):
        ids = {i for i, k in planted.kind.items() if k == kind}
        said = [r for r in rows if any(s.report in ids for s in r.label_source.values())]
        assert said
        assert all(r.labels[finding] == 0 for r in said)


def test_a_second_run_reads_no_pixels_and_makes_the_same(built, monkeypatch):
    planted, _, out = built
    before = {n: (out / n).read_bytes() for n in ("manifest.jsonl", "ledger.csv", "cohort.json")}
    monkeypatch.setattr("medfuse.cohort.pixels._decode", lambda *a: pytest.fail("decoded again"))
    made(planted, out)
    assert before == {n: (out / n).read_bytes() for n in before}


def test_the_command_prints_what_the_contract_says(built, tmp_path):
    planted, result, _ = built
    options = ["--reports", str(planted.table), "--task", "upper-abdomen", "--out", str(tmp_path / "c")]
    done = CliRunner().invoke(app, ["cohort", "build", str(planted.archive), *options, "--json"])
    assert done.exit_code == 3, done.output
    printed = json.loads(done.stdout)
    assert set(printed) == {
        "reports",
        "studies",
        "linked",
        "unresolved",
        "refused",
        "by_rule",
        "cases",
        "excluded",
        "manifest",
        "ledger",
    }
    first = (tmp_path / "c" / "ledger.csv").read_text("utf-8-sig").splitlines()[0]
    assert first == "kind,id,status,rule,linked_to,reason"
    assert printed["linked"] == result.linked


def test_the_manifest_passes_the_check_of_train(built):
    _, _, out = built
    asked = ["train", "upper-abdomen", "--manifest", str(out / "manifest.jsonl"), "--check", "--json"]
    done = CliRunner().invoke(app, asked)
    assert "does not exist" not in done.stdout
    assert "cannot be read" not in done.stdout


def test_dates_are_read_in_three_formats_and_never_guessed():
    assert dates_of("2024-03-05") == dates_of("20240305") == dates_of("5.3.2024") == (date(2024, 3, 5),)
    assert dates_of("05/03/2024") == (date(2024, 3, 5), date(2024, 5, 3))
    assert dates_of("05/03/2024", day_first=True) == (date(2024, 3, 5),)
    assert dates_of("31/12/2024") == (date(2024, 12, 31),)
    assert dates_of("soon") == dates_of("2024-13-40") == ()
    assert dates_of("2024-03-05T10:11:12") == (date(2024, 3, 5),)
    assert normal("a-00 12") == "A0012"
    assert normal("0012^HIS") == "12"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Foie: pas de lésion focale, kyste à gauche", "latin-1"),
        ("Größe der Leber normal", "cp1252"),
        ("肝臟未見局部病灶。膽囊內可見結石。" * 3, "big5"),
        ("肝脏未见局灶性病变。胆囊结石。" * 3, "gb18030"),
        ("肝臟", "utf-8-sig"),
        ("肝臟", "utf-16"),
    ],
)
def test_an_encoding_is_found(tmp_path, text, encoding):
    assert decoded(tmp_path, text.encode(encoding))[0] == text


def test_an_encoding_that_may_be_two_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="may be big5 or gb18030; say which with --encoding"):
        decoded(tmp_path / "a.csv", "accession,text\nA1,No lesion. 无病灶".encode("gb18030"))
    assert decoded(tmp_path, "无病灶".encode("gb18030"), "gb18030")[0] == "无病灶"
    with pytest.raises(WrongUse, match="is not big5"):
        decoded(tmp_path / "a.csv", b"\xff\xfe\xff", "big5")


def table(tmp_path, text, how=PLAIN):
    path = tmp_path / "reports.csv"
    path.write_text(text, encoding="utf-8")
    return read_table(path, how)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_any_common_delimiter_is_found(tmp_path, delimiter):
    found = table(
        tmp_path, delimiter.join(("text", "accession")) + "\n" + delimiter.join(("No stones", "A1"))
    )
    assert [(r.accession, r.text) for r in found.rows] == [("A1", "No stones")]


def test_a_column_map_names_the_columns(tmp_path):
    how = TableFormat(columns=parse_columns("accession=AccNo, text=Report"))
    assert table(tmp_path, "AccNo,Report\nA1,x\n", how).rows[0].accession == "A1"
    with pytest.raises(WrongUse, match="NAME is one of"):
        parse_columns("acc=AccNo")
    with pytest.raises(UserError, match="no header with the columns accession and text"):
        table(tmp_path, "AccNo,Report\nA1,x\n")


def test_every_line_that_cannot_be_used_is_named(tmp_path):
    found = table(
        tmp_path,
        "accession,text,date,status\nA1,,2024-01-01,final\nA2,x,some day,final\nA3,x,2024-01-01,odd\n"
        "A4,x,y,2024-01-01,final\nA5,x,2024-01-01,\n",
    )
    assert [r.id for r in found.rows] == ["A5"]
    reasons = " ".join(r.reason for r in found.refused)
    for words in ("is empty", "'some day' is none", "'odd' is not known", "5 fields and the header 4"):
        assert words in reasons
    with pytest.raises(UserError, match=r"line 2: unexpected end of data"):
        table(tmp_path, 'accession,text\nA1,"never closed\nA2,x\n')


def test_several_accession_numbers_wait_until_a_person_confirms_them(tmp_path):
    for n, number in enumerate(("A1", "A2")):
        stack = [(0, 0, 2.5 * k) for k in range(2)]
        write_stack(tmp_path / number, stack, series=f"1.2.{n}", AccessionNumber=number)
    found = scan(tmp_path)
    (waiting,) = read_studies(found)
    assert waiting.conflict.endswith(f"(A1, A2); where they are right, --confirm {waiting.uid}")
    (study,) = read_studies(found, frozenset({waiting.uid}))
    assert study.conflict == ""
    assert study.accessions == {"A1", "A2"}
    with pytest.raises(WrongUse, match=r"--confirm 9\.9: no study of the archive"):
        read_studies(found, frozenset({"9.9"}))
