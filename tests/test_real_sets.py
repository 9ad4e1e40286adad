"""The road of `benchmarks/real.py` for COVID-BLUES, MedPix, BUSI and HC18, on made-up folders laid out so."""

from __future__ import annotations

import csv
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import real_alignment
import real_busi
import real_busi_parts
import real_covid
import real_encoder
import real_hc18
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
    monkeypatch.setattr(real_busi, "interval", lambda groups, of, seed, rounds: few(groups, of, seed))
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


def busi(folder: Path, seed: int) -> Path:
    """MADE UP: a dark ball, a dark star, or neither, in bright noise."""
    rng = np.random.default_rng(seed)
    at = np.indices((96, 96)) - 48.0
    away, angle = np.hypot(*at), np.arctan2(*at)
    shapes = {
        "benign": away < 25,
        "malignant": away < 18 + 14 * np.cos(8 * angle),
        "normal": np.zeros_like(away, bool),
    }
    for name, shape in shapes.items():
        (folder / name).mkdir(parents=True)
        for n in range(6):
            grain = np.kron(rng.integers(90, 250, (12, 12)), np.ones((8, 8)))
            there = np.roll(shape, rng.integers(-9, 9, 2), (0, 1))
            Image.fromarray(np.where(there, 20, grain).astype(np.uint8)).save(
                folder / name / f"{name} ({n}).png"
            )
            Image.fromarray(there.astype(np.uint8) * 255).save(folder / name / f"{name} ({n})_mask.png")
    return folder


def test_busi_trains_on_one_folder_and_scores_the_other(tmp_path):
    whole = busi(tmp_path / "all", 0)
    found = real_busi.run(whole, busi(tmp_path / "test", 1), Budget(minutes=1), 0)
    assert (found.n_test, found.folds) == (18, 0)
    assert 12 < found.n_train <= 18  # those alike to a tested one are left out
    assert found.rows["US"]["accuracy"] > 0.8
    assert found.rows["US"]["auroc_malignant"] > 0.9
    assert set(found.controls) > {"shuffled labels", "size", "nearest thumbnail"}
    assert found.rows["by parts"]["on_lesion"] > 0.7
    assert found.controls["largest dark blob"]["on_lesion"] >= 0.5
    assert found.controls["place at random"]["on_lesion"] < 0.4
    assert found.notes["outlined_lesions"] == 12
    json.dumps(found.rows)
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit, match="no image in benign"):
        real_busi.run(tmp_path / "none", tmp_path / "none", Budget(minutes=1), 0)


def test_the_pointing_game_is_played_at_the_outlines_own_size(tmp_path):
    for home in ("busi/benign", "busi_masks/benign"):
        (tmp_path / home).mkdir(parents=True)
    outline = np.zeros((50, 90), np.uint8)
    outline[40:46, 10:20] = 255
    images = [tmp_path / "busi/benign" / f"benign ({n}).png" for n in range(3)]
    Image.fromarray(outline).save(tmp_path / "busi_masks/benign/benign (1)_mask.png")
    Image.fromarray(0 * outline).save(tmp_path / "busi_masks/benign/benign (2)_mask.png")
    found = real_busi_parts.outlines(images)
    assert list(found) == [1]  # one has none, one is empty: nothing to point at
    evidence = np.zeros((14, 14))
    evidence[12, 2] = 1
    assert real_busi_parts.hits(found[1], evidence) == 1
    assert real_busi_parts.hits(found[1], evidence.T) == 0
    blob = real_busi_parts.dark_blob(np.where(outline > 0, 10, 200))
    assert real_busi_parts.hits(found[1], blob) == 1


def hc18(folder: Path, names: range) -> Path:
    """MADE UP: bright heads of known circumference, in images of another number of mm a pixel each."""
    rng = np.random.default_rng(2)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    rows = []
    for n in names:
        a, b = rng.uniform(90, 150), rng.uniform(70, 110)
        y, x = np.indices((270, 400)) - np.array([135, 200])[:, None, None]
        head = (x / a) ** 2 + (y / b) ** 2 <= 1
        grey = np.where(head, 170, 60) + rng.integers(0, 40, head.shape)
        mm = rng.uniform(0.1, 0.3)
        for part, picture in (("images", grey), ("masks", head * 255)):
            Image.fromarray(picture.astype(np.uint8)).save(folder / part / f"{n:03d}_HC.png")
        round_ = np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b)))
        rows.append(
            {
                "filename": f"{n:03d}_HC.png",
                "pixel size(mm)": mm,
                "head circumference (mm)": round_ * mm,
            }
        )
    _write(folder / "pixel_size_and_hc.csv", rows)
    return folder


def test_hc18_reads_a_circumference_in_mm_from_what_it_draws(tmp_path, monkeypatch):
    def bright(picture: np.ndarray) -> np.ndarray:
        cells = picture.reshape(real_hc18.GRID, 4, real_hc18.GRID, 4).mean((1, 3)).ravel()
        return np.stack([cells, cells > 120], 1).astype(np.float32)

    monkeypatch.setattr(real_hc18, "INSTALLED", True)
    monkeypatch.setattr(real_hc18, "_cells", bright)
    found = real_hc18.run(hc18(tmp_path / "a", range(6)), hc18(tmp_path / "b", range(4, 8)), Budget(), 0)
    assert (found.n_train, found.n_test) == (4, 4)
    assert found.rows["US"]["error_mm"] < 3
    assert found.controls["mean outline"]["error_mm"] > found.rows["US"]["error_mm"]
    two = np.zeros((real_hc18.GRID, real_hc18.GRID))
    two[2:5, 2:5] = two[20:50, 20:40] = 0.9
    assert real_hc18.drawn(two.ravel()).sum() == 600
    assert not real_hc18.drawn(0 * two.ravel()).any()
    with pytest.raises(SystemExit, match="pixel_size_and_hc"):
        real_hc18.load(tmp_path)


def test_a_folder_laid_out_otherwise_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "Descriptions.json").write_text("[]")
    with pytest.raises(SystemExit, match="no picture"):
        real_medpix.load(tmp_path)


def test_a_ct_that_was_moved_is_brought_back_to_its_mr(tmp_path):
    """MADE UP: one limb with a bone and a lump, as CT and as MR in one frame."""
    x = np.stack(np.meshgrid(*[np.arange(44) * 3.0 - 66] * 3, indexing="ij"))
    label = ((x[0] / 50) ** 2 + (x[1] / 42) ** 2 < 1).astype(int)
    label[((x[0] - 18) / 12) ** 2 + (x[1] / 9) ** 2 < 1] = 2
    label[((x[0] + 14) / 22) ** 2 + ((x[1] + 6) / 16) ** 2 + (x[2] / 30) ** 2 < 1] = 3
    noise = np.random.default_rng(0).normal(0, 8, label.shape)
    for name, values in (("CT", [-1000, -90, 900, 50]), ("MR_T1", [0, 800, 60, 300])):
        image = sitk.GetImageFromArray((np.array(values, np.float32)[label] + noise).astype(np.float32))
        image.SetSpacing((3.0, 3.0, 3.0))
        sitk.WriteImage(image, str(tmp_path / f"STS_001_{name}.nii.gz"))
    mask = sitk.GetImageFromArray((label == 3).astype(np.uint8))
    mask.SetSpacing((3.0, 3.0, 3.0))
    sitk.WriteImage(mask, str(tmp_path / "STS_001_MR_T1_mask.nii.gz"))
    (pair,) = real_alignment.load(tmp_path)
    away = real_alignment.known(np.random.default_rng(1), pair.tumour.mean(0))
    still = real_alignment.placed(pair.ct, away)
    inside = [float(v) for v in pair.tumour[0]]
    there = still.TransformPhysicalPointToIndex(away.TransformPoint(inside))
    assert there == pair.ct.TransformPhysicalPointToIndex(inside)
    found = real_alignment.brought(pair, 0)
    assert found.error_mm < min(3.0, found.start_mm)
    row = real_alignment.row_of([found, found])
    assert row["error_mm"] == pytest.approx(found.error_mm, abs=1e-3)
    assert row["within_3_mm"] == 1
