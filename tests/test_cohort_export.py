"""A cohort that leaves: nothing that was known of a person is in it, and all of it is still linked."""

from __future__ import annotations

import csv
import json
from datetime import date

import pytest
from hospital import Hospital, _exam, hospital, write_exam, write_hl7
from test_cohort import made
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.cohort.persons import Persons, of_fhir, read_persons, write_persons
from medfuse.deidentify.free_text import Known, clean_text, known_of, parts_of
from medfuse.errors import UserError, WrongUse
from medfuse.io.manifest import read_manifest

NAMES = ("Wójcik^Anna Maria", "王^小明", "Stone^Adam", "O'Brien^Siobhan", "Müller-Lüdenscheidt^Hans")


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Five patients whose names, numbers, places and dates stand in their reports, and what was exported."""
    import numpy as np

    folder = tmp_path_factory.mktemp("leaving")
    out = Hospital(folder / "archive", folder / "reports.csv")
    rng = np.random.default_rng(0)
    for n, name in enumerate(NAMES):
        exam = _exam(rng, n, date(2024, 3, 10 + n), name=name)
        out.exams.append(exam)
        write_exam(out.archive, exam, n)
        family, _, given = name.partition("^")
        said = (
            f"Patient {given} {family}, no. {exam.patient}, was seen by Dr. Zhivago on {exam.day:%d.%m.%Y}. "
            f"Order {exam.accession[:4]} {exam.accession[4:]}. {family} {given} has a stone of 8 mm. "
            f"Compared with {exam.day:%Y/%m/%d}. Call +44 20 7946 0958. Nurse Ratched agrees."
        )
        out.report(exam, text=f"CT of the liver. {exam.text} {said}")
    out.write()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDFUSE_HOME", str(folder / "home"))
        made(out, folder / "cohort")
        names = folder / "staff.txt"
        names.write_text("Ratched\n")
        asked = [
            "cohort",
            "export",
            str(folder / "cohort"),
            "--out",
            str(folder / "out"),
            "--names",
            str(names),
        ]
        done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    return folder, json.loads(done.stdout), out


@pytest.mark.attack
def test_nothing_known_of_a_person_is_in_any_file(left):
    folder, _, planted = left
    words = [w for name in NAMES for w in name.replace("^", " ").split() if w not in ("Stone", "Adam")]
    words += ["Zhivago", "Ratched", "7946 0958", "小明", "Adam", str(folder)]
    for exam in planted.exams:
        words += [
            exam.patient,
            exam.accession,
            exam.uid,
            exam.issuer,
            exam.day.isoformat(),
            f"{exam.day:%Y%m%d}",
        ]
    files = [p for p in (folder / "out").rglob("*") if p.is_file()]
    assert len(files) > 10
    for file in files:
        data = file.read_bytes().decode("utf-8", "replace") + str(file.relative_to(folder))
        assert not [w for w in words if w in data], file


def test_the_page_of_an_export_has_its_own_counts(left):
    page = (left[0] / "out" / "cohort.html").read_text()
    assert "gave 5 cases" in page
    assert "Funnel" in page
    assert "studies in the archive" in page


def test_it_is_still_linked_and_adds_up(left):
    folder, printed, planted = left
    rows = read_manifest(folder / "out" / "manifest.jsonl")
    assert printed["cases"] == len(rows) == 5
    assert printed["images"] == 10
    ledger = list(csv.DictReader((folder / "out" / "ledger.csv").read_text("utf-8-sig").splitlines()))
    reports = {r["id"] for r in ledger if r["kind"] == "report" and r["status"] == "linked"}
    sources = {s.report for r in rows for s in r.label_source.values()}
    assert sources <= reports
    studies = {p.parent.name for p in (folder / "out" / "images").glob("*/*/*")}
    assert {r["linked_to"] for r in ledger if r["kind"] == "report"} == studies
    assert CliRunner().invoke(app, ["cohort", "status", str(folder / "out")]).exit_code == 0
    before = {r.labels["gallstone"] for r in read_manifest(folder / "cohort" / "manifest.jsonl")}
    assert before == {r.labels["gallstone"] for r in rows}


def test_the_days_of_words_and_images_are_the_same(left):
    import pydicom

    folder, _, _ = left
    for row in read_manifest(folder / "out" / "manifest.jsonl"):
        ds = pydicom.dcmread(next((folder / "out" / row.images[0].path).glob("*.dcm")))
        day = date.fromisoformat(f"{ds.StudyDate[:4]}-{ds.StudyDate[4:6]}-{ds.StudyDate[6:]}")
        assert f"on {day.isoformat()}." in row.report
        assert str(ds.PatientID) == row.patient_id


def test_words_that_may_be_names_are_listed_at_home(left):
    folder, printed, _ = left
    listed = (folder / "out.words.csv").read_text("utf-8-sig")
    assert printed["words_to_look_at"] == len(listed.splitlines()) - 1
    assert not (folder / "out" / "out.words.csv").exists()


@pytest.mark.attack
def test_who_is_named_in_the_feed_alone_is_in_no_file(tmp_path, monkeypatch):
    """Alias, kin, address, who asked and who read: no image's header has them."""
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "home"))
    planted = hospital(tmp_path, 4, each=0)
    for line in planted.lines:
        line["text"] += (
            " Formerly Ludmilla Quasthoff of 12 Elderberry Mews, Tewkesbury; number 77-0042. Asked by T. "
            "Abernathy, read by Oyelaran. His wife Philippa was told. No stone."
        )
    folder = write_hl7(planted, tmp_path / "hl7")
    for file in folder.iterdir():
        head, pid, *orders = file.read_bytes().decode().split("\r")
        fields = [*pid.split("|"), *[""] * 8]
        fields[9] = "Quasthoff^Ludmilla"
        fields[11] = "12 Elderberry Mews^^Tewkesbury"
        fields[3] += "~770042^^^OLD^PI"
        order = [*orders[0].split("|"), *[""] * 20]
        order[16] = "99317^Abernathy^Tobias~88^Who^Else"
        order[32] = "5551&Oyelaran&Ife"
        kin = "NK1|1|Doe^Philippa"
        file.write_bytes("\r".join([head, "|".join(fields), kin, "|".join(order), *orders[1:]]).encode())
    asked = ["cohort", "build", str(planted.archive), "--reports", str(folder), "--task", "upper-abdomen"]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "cohort")])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(
        app, ["cohort", "export", str(tmp_path / "cohort"), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    rows = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert all("No stone." in row.report for row in rows)
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    for word in (
        "Ludmilla",
        "Quasthoff",
        "Elderberry",
        "Tewkesbury",
        "77-0042",
        "Abernathy",
        "Oyelaran",
        "Philippa",
    ):
        assert not [f for f in files if word in f.read_bytes().decode("utf-8", "replace")], word
    (tmp_path / "cohort" / "work" / "persons.csv").unlink()
    done = CliRunner().invoke(
        app, ["cohort", "export", str(tmp_path / "cohort"), "--out", str(tmp_path / "b")]
    )
    assert "persons.csv: is not there; run medfuse cohort build again" in str(done.exception)


def test_who_a_fhir_report_names():
    said = of_fhir(
        [
            {"performer": [{"display": "Dr. Abernathy"}], "identifier": [{"value": "R-77001"}]},
            {
                "name": [{"family": "Quasthoff", "given": ["Ludmilla", "M"]}, {"text": "Lu Quast"}],
                "address": [{"line": ["12 Elderberry Mews"], "city": "Tewkesbury"}],
                "telecom": [{"value": "+44 20 7946 0958"}],
            },
        ]
    )
    assert said.names == {"Dr. Abernathy", "Quasthoff^Ludmilla^M", "Lu Quast", "Tewkesbury"}
    assert said.numbers == {"R-77001", "+44 20 7946 0958"}
    assert said.places == {"12 Elderberry Mews"}


def test_persons_come_back_as_they_were_written(tmp_path):
    said = {"c1": Persons.of(["=A^B", "王^小明"], ["+44 20", "007"], ["Elm Rd, 3"]), "c2": Persons()}
    write_persons(tmp_path / "p.csv", said)
    assert read_persons(tmp_path / "p.csv") == {"c1": said["c1"]}
    (tmp_path / "p.csv").write_text("case_id,kind,value\nc1,what,x\n")
    with pytest.raises(UserError, match="cannot be read"):
        read_persons(tmp_path / "p.csv")


def test_a_folder_that_holds_something_is_not_mixed_with(left):
    folder, _, _ = left
    done = CliRunner().invoke(app, ["cohort", "export", str(folder / "cohort"), "--out", str(folder / "out")])
    assert isinstance(done.exception, WrongUse)
    assert "is not empty" in str(done.exception)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("A stone in the gallbladder. Mr Stone agreed.", "A stone in the gallbladder. [name] agreed."),
        ("Seen by Stone, Adam today.", "Seen by [name] today."),
        ("on 3 March 2024 and March 4, 2024", "on 2024-02-22 and 2024-02-23"),
        ("on 2024年3月12日", "on 2024-03-02"),
        ("民國113年3月12日", "2024-03-02"),
        ("on 03/04/2024, on 13/04/2024, in May 2023", "on [date], on 2024-04-03, in [date]"),
        ("Cyst of 12 x 14 mm, T2/3, b 800, 1.5 T, 20240", "Cyst of 12 x 14 mm, T2/3, b 800, 1.5 T, 20240"),
        ("write to a.b@hospital.example", "write to [place]"),
        ("no. 00-123 456", "no. [number]"),
        ("WÓJCIK, wojcik and Wojcik's", "[name] and [name]'s"),
        ("王小明與小明 王、小明，明顯", "[name]與[name]、[name]，明顯"),
    ],
)
def test_words(said, meant):
    known = Known(
        names=frozenset(parts_of("Stone^Adam") | parts_of("Wójcik") | parts_of("王^小明")),
        ordinary=frozenset({"stone"}),
        numbers=frozenset({"00123456"}),
        days=10,
    )
    assert clean_text(said, known).text == meant


def test_what_may_still_be_a_name_is_said():
    done = clean_text("Compared with Smithson. Told to 陳大文醫師; number 55512.", Known())
    assert done.left[0] == "Smithson"
    assert "陳大文" in "".join(done.left)
    assert "55512" in done.left


def test_a_damaged_value_of_a_header_costs_itself():
    """It ended the export of all."""
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.errors import BytesLengthException
    from pydicom.sequence import Sequence
    from pydicom.tag import Tag

    inner = Dataset()
    inner.PersonName = "Zhivago^Yuri"
    ds = Dataset()
    ds.PatientName = "Stone^Adam"
    ds.PersonIdentificationCodeSequence = Sequence([inner])
    ds[0x00189087] = RawDataElement(Tag(0x00189087), "FD", 3, b"x!?", 0, False, True)
    with pytest.raises(BytesLengthException):
        list(ds.iterall())
    assert known_of([ds], None).names == {"stone", "adam", "zhivago", "yuri"}
