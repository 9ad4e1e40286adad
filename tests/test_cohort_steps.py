"""The steps after `cohort build`: status, audit by a person, and models that must not work."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hospital import hospital
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.cohort.audit import Item, audited, read_judged, sample, stratum, wilson
from medfuse.cohort.build import BuildRequest, build
from medfuse.crossvalidation.refute import power, refute
from medfuse.deidentify.keys import Pseudonyms
from medfuse.errors import UserError
from medfuse.io.manifest import ManifestRow, read_manifest
from medfuse.task import load_task

TASK = load_task("upper-abdomen")


def asked(*words):
    done = CliRunner().invoke(app, ["cohort", *words, "--json"])
    return done, json.loads(done.stdout) if done.stdout.startswith("{") else {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hospital")
    planted = hospital(place, 24, each=0)
    request = BuildRequest(archive=planted.archive, reports=[planted.table], task=TASK, out=place / "cohort")
    build(request, lambda what: lambda done, total: None)
    return place / "cohort"


def test_status_adds_up_and_says_where_it_does_not(folder, tmp_path):
    done, found = asked("status", str(folder))
    assert done.exit_code == 0
    assert found["adds_up"]
    assert sum(found["reports"].values()) == 24
    for name in ("cohort.json", "manifest.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    lines = (folder / "ledger.csv").read_text("utf-8-sig").splitlines()
    (tmp_path / "ledger.csv").write_text("\n".join(lines[:-1]), encoding="utf-8-sig")
    done, found = asked("status", str(tmp_path))
    assert done.exit_code == 1
    assert any("study rows of the ledger: 23" in f for f in found["faults"])
    assert any("ledger.csv was changed" in f for f in found["faults"])
    assert "holds no cohort.json" in str(asked("status", str(tmp_path / "nowhere"))[0].exception)


def judge(folder, path, answer):
    """Fill the sheet as ``answer(row, finding)`` says."""
    rows = {r.case_id: r for r in read_manifest(folder / "manifest.jsonl")}
    with (folder / "audit.csv").open(newline="", encoding="utf-8-sig") as f:
        lines = list(csv.DictReader(f))
    for line in lines:
        line["judged"] = answer(rows[line["case_id"]], line["finding"])
    with path.open("w", newline="", encoding="utf-8") as f:
        out = csv.DictWriter(f, list(lines[0]))
        out.writeheader()
        out.writerows(lines)


def test_a_finding_that_a_person_finds_wrong_trains_nothing(folder, tmp_path):
    options = ("--task", "upper-abdomen", "--each", "6")
    done, found = asked("audit", str(folder), *options)
    assert done.exit_code == 0
    text = (folder / "audit.csv").read_text("utf-8-sig")
    assert "said" not in text.splitlines()[0]  # the sheet does not show the label
    rows = read_manifest(folder / "manifest.jsonl")
    wrong = max(TASK.findings, key=lambda f: sum(stratum(r, f.id) == 1 for r in rows)).id
    words = {1: "present", 0: "absent", -1: "not said"}
    judge(
        folder,
        tmp_path / "judged.csv",
        lambda row, finding: "absent" if finding == wrong else words[stratum(row, finding)],
    )
    done, found = asked("audit", str(folder), *options, "--judged", str(tmp_path / "judged.csv"))
    assert done.exit_code == 3
    assert wrong in found["below_floor"]
    assert found["findings"][wrong]["precision"] == 0
    other = next(n for n, one in found["findings"].items() if n != wrong and one["precision"] is not None)
    assert found["findings"][other]["precision"] == found["findings"][other]["recall"] == 1
    kept = read_manifest(folder / "audited.jsonl")
    assert all(stratum(r, wrong) == -1 for r in kept)
    assert [stratum(r, other) for r in kept] == [stratum(r, other) for r in rows]


def test_answers_that_are_none_are_named_with_their_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("case_id,finding,judged\nc1,ascites,present\nc2,ascites,perhaps\n")
    with pytest.raises(UserError, match="line 3: 'perhaps' is no answer"):
        read_judged(path)
    path.write_text("case_id,finding,judged\nc1,ascites,\n")
    with pytest.raises(UserError, match="no line is judged"):
        read_judged(path)
    path.write_text("case,finding\n")
    with pytest.raises(UserError, match="needs the columns"):
        read_judged(path)
    with pytest.raises(UserError, match="case x was judged"):
        audited([], [Item(case_id="x", finding="ascites", judged=1)], [], 0.8)


def test_wilson_is_as_published():
    assert wilson(81, 263) == [0.2553, 0.3662]  # Newcombe 1998, table I, method 3
    assert wilson(0, 20) == [0.0, 0.1611]
    assert wilson(0, 0) is None


def test_recall_counts_each_stratum_by_its_size():
    """Of 100 unknown cases 10 are judged and 1 is present; all 10 labelled present are: recall 10 / 20."""
    rows = [ManifestRow(case_id=f"p{i}", labels={"ascites": 1}, report="x") for i in range(10)]
    rows += [ManifestRow(case_id=f"u{i}", report="x") for i in range(100)]
    judged = [Item(case_id=f"p{i}", finding="ascites", judged=1) for i in range(10)]
    judged += [Item(case_id=f"u{i}", finding="ascites", judged=int(i == 0)) for i in range(10)]
    found = audited(rows, judged, judged[:5], 0.8)["ascites"]
    assert (found.precision, found.recall) == (1.0, 0.5)
    assert found.recall_ci95[1] - found.recall_ci95[0] > 0.5  # it rests on few cases
    assert found.trains


def test_a_sample_has_every_stratum():
    rows = [ManifestRow(case_id=f"c{i}", labels={"ascites": i % 2}, report="x") for i in range(20)]
    rows += [ManifestRow(case_id=f"u{i}", report="x") for i in range(20)]
    drawn = sample(rows, TASK, 4, 0)
    assert sorted(stratum(r, f) for r, f in drawn) == [-1] * 4 + [0] * 4 + [1] * 4
    assert drawn == sample(rows, TASK, 4, 0)


def test_a_label_that_hangs_on_the_scanner_is_told():
    rng = np.random.default_rng(0)
    rows = [
        ManifestRow(
            case_id=f"c{i}",
            labels={"ascites": i % 2, "gallstone": int(rng.integers(2))},
            indication="swollen belly" if i % 2 else "routine follow-up",
        )
        for i in range(60)
    ]
    headers = [{"scanner A" if i % 2 else "scanner B": 1.0} for i in range(60)]
    shapes = [{"CT axis 0": float(rng.integers(20, 40))} for _ in range(60)]
    found = refute(TASK, rows, (headers, shapes), 0)
    assert found["headers"].told == ["ascites"]
    assert found["indication"].told == ["ascites"]
    assert not found["shuffled labels"].told
    assert not found["array shape"].told
    widths = power(TASK, rows)
    assert set(widths) == {"ascites", "gallstone"}
    assert widths["ascites"].half_width > 0.1
    assert widths["ascites"].cases_for["0.05"] > 60 < widths["ascites"].cases_for["0.1"]


def test_check_names_what_is_told_of_a_cohort(folder):
    done, found = asked("check", str(folder), "--task", "upper-abdomen")
    assert done.exit_code in (0, 3), done.output
    assert found["n"] == 24
    assert {"headers", "array shape", "shuffled labels"} <= set(found["models"])


def test_an_accession_number_becomes_a_keyed_number():
    a, b = Pseudonyms(b"a" * 32), Pseudonyms(b"b" * 32)
    assert a.accession("A1") == a.accession(" A1 ") != b.accession("A1")
    assert a.accession("A1") != a.accession("A2")
    assert len(a.accession("A1")) <= 16  # VR SH
    assert a.accession("") == ""
