"""The road of `benchmarks/real.py` for COVID-BLUES and MedPix, on small made-up folders laid out alike."""

from __future__ import annotations

import csv
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import real_covid
import real_encoder
import real_medpix
import real_results

from medfuse.training.budget import Budget

CV2 = pytest.importorskip("cv2")


def _write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as f:
        out = csv.DictWriter(f, list(rows[0]))
        out.writeheader()
        out.writerows(rows)


def covid(folder: Path, filmed: range) -> Path:
    """MADE UP: patients 0…13 in the tables, cines of some; CRP is high where the test was positive."""
    rng = np.random.default_rng(0)
    (folder / "lus_videos").mkdir(parents=True)
    patients = []
    for n in range(14):
        known = {k: f"{rng.uniform(1, 9):.1f}" for k in real_covid.LABS} | {"CRP": str(5 + 95 * (n % 2))}
        known |= {"LDH_find": "-99" if n == 3 else "200", "hg_find": "" if n == 4 else "8"}
        patients.append({"patient_id": n, "cov_test": n % 2, "patient_symp#Coughing": n % 2, **known})
    _write(folder / "clinical_variables.csv", patients)
    reads = []
    for n in filmed:
        name = f"patient_{n}_{'LR'[n % 2]}3"
        file = str(folder / "lus_videos" / f"{name}.mp4")
        film = CV2.VideoWriter(file, CV2.VideoWriter_fourcc(*"mp4v"), 10, (64, 64))
        for _ in range(3):
            film.write(rng.integers(0, 60 + 100 * (n % 2), (64, 64, 3), dtype=np.uint8))
        film.release()
        severity = {"Severity Score": n % 4, "A-lines": "no", "B-lines": "yes " if n % 3 else "no"}
        reads.append({"video_file": name, **severity, "comments": ""})
    _write(folder / "severity.csv", reads)
    return folder


def medpix(folder: Path, cases: range) -> Path:
    """MADE UP: bright CT of heads, dark MR of bellies, two pictures a case."""
    rng = np.random.default_rng(1)
    (folder / "images").mkdir(parents=True)
    pictures, reports = [], []
    for n in cases:
        mr = n % 2
        words = "Low signal of the liver on T2" if mr else "Bright attenuation of the brain on CT"
        case = {"Title": words, "Findings": f"Finding {n}", "Case Diagnosis": None}
        reports.append({"U_id": f"MPX{n}", "Case": case})
        for k in range(2):
            name = f"MPX{n}_synpic{k}"
            grey = rng.integers(0, 80, (40, 30), dtype=np.uint8) + (0 if mr else 150)
            Image.fromarray(grey.astype(np.uint8)).save(folder / "images" / f"{name}.jpg")
            about = {
                "Caption": words,
                "Plane": "Coronal" if mr else "Axial",
                "Modality": "MR" if mr else "CT",
            }
            pictures.append(
                {
                    "Type": "MR" if mr else "CT",
                    "U_id": f"MPX{n}",
                    "image": name,
                    "Description": about,
                    "Location": "Brain",
                    "Location Category": "Abdomen" if mr else "Head",
                }
            )
    (folder / "Descriptions.json").write_text(json.dumps(pictures))
    (folder / "Case_topic.json").write_text(json.dumps(reports))
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few draws and frames, and the stand-in for the encoder."""
    monkeypatch.setattr(real_encoder, "INSTALLED", False)
    few = partial(real_results.interval, rounds=20)
    monkeypatch.setattr(real_covid, "interval", few)
    monkeypatch.setattr(real_results, "interval", few)
    monkeypatch.setattr(real_covid, "SHOWN", 2)
    monkeypatch.setattr(real_covid, "NETWORKS", 1)
    monkeypatch.setattr(real_medpix, "NETWORKS", 1)
    monkeypatch.setattr(real_medpix, "STEPS", 5)


def test_covid_trains_on_one_folder_and_scores_the_other(tmp_path):
    whole = covid(tmp_path / "all", range(14))
    found = real_covid.run(whole, covid(tmp_path / "test", range(10, 14)), Budget(minutes=1), 0)
    assert (found.n_train, found.n_test, found.folds) == (10, 4, 0)  # what is tested never trains
    assert set(real_covid.SUBSETS) <= set(found.rows)
    assert found.rows["LABS"]["auroc_pcr"] == 1  # CRP tells it
    assert set(found.rows["US"]) >= {f"auroc_{t}" for t in real_covid.TARGETS} | {"ci95"}
    assert set(found.controls) == {"shuffled labels", "headers only", "size only (number of frames)"}
    json.dumps(found.rows)


def test_unknown_laboratory_values_stay_unknown(tmp_path):
    c = real_covid.load(covid(tmp_path / "all", range(3, 6)))
    unknown = {
        (n, k) for n, row in zip(c.patient, c.labs, strict=True) for k in np.flatnonzero(np.isnan(row))
    }
    at = list(real_covid.LABS).index
    assert unknown == {(3, at("LDH_find")), (4, at("hg_find"))}
    assert c.labels["b_lines"].tolist() == [0, 1, 1]  # "yes " is yes


def test_medpix_trains_on_one_folder_and_scores_the_other(tmp_path):
    whole = medpix(tmp_path / "all", range(24))
    found = real_medpix.run(whole, medpix(tmp_path / "test", range(18, 24)), Budget(minutes=1), 0)
    assert (found.n_train, found.n_test) == (18, 6)
    one = found.rows["one image"]
    assert [one[f"accuracy_{t}"] for t in real_medpix.TOLD] == [1, 1, 1]
    assert 0.3 <= found.rows["image->case"]["r1"] <= 1  # six cases, of two kinds of three
    assert {"headers only", "size only", "shuffled labels"} <= set(found.controls)
    json.dumps(found.rows)


def test_a_folder_laid_out_otherwise_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "Descriptions.json").write_text("[]")
    with pytest.raises(SystemExit, match="no picture"):
        real_medpix.load(tmp_path)
