"""A cohort that leaves: nothing that was known of a person is in it, and all of it is still linked."""

from __future__ import annotations

import csv
import json
from datetime import date

import pytest
from hospital import Hospital, _exam, write_exam
from test_cohort import made
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.deidentify.free_text import Known, clean_text, known_of, parts_of
from medfuse.errors import WrongUse
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
    words += ["Zhivago", "Ratched", "7946", "小明", "Adam", str(folder)]
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
