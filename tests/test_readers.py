"""Ratings of reports by people: agreement against a worked example, and what the command says."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError
from medfuse.evaluation.mrmc import Covariances, covariances, obuchowski_rockette
from medfuse.evaluation.readers import SCALES, read_ratings, reader_table, readers_markdown


def rows(path, ratings) -> None:
    fields = [
        "case_id",
        "rater",
        "background",
        "kind",
        *SCALES,
        "seconds",
        "edit_distance",
        "language",
        "text",
        "reference",
    ]
    with path.open("w", newline="") as f:
        writer = csv.DictWriter(f, fields)
        writer.writeheader()
        for case, rater, kind, score, text, reference in ratings:
            writer.writerow(
                {
                    "case_id": case,
                    "rater": rater,
                    "background": "x",
                    "kind": kind,
                    **dict.fromkeys(SCALES, score),
                    "seconds": 10,
                    "edit_distance": 0 if text == reference else 3,
                    "language": "en",
                    "text": text,
                    "reference": reference,
                }
            )


def test_agreement_is_krippendorffs_ordinal_alpha(tmp_path):
    """By hand, from the definition: 1 − observed ÷ expected disagreement with ordinal distances."""
    scores = np.array([[1, 2, 3, 3, 2, 1, 4], [1, 2, 3, 3, 2, 2, 4]], float)
    rows(
        tmp_path / "r.csv",
        [
            (f"c{i}", rater, "drafted", int(scores[r, i]), f"text {i}", f"text {i}")
            for r, rater in enumerate("ab")
            for i in range(7)
        ],
    )
    table = reader_table(read_ratings(tmp_path / "r.csv"))
    values = np.unique(scores)
    n = {v: int((scores == v).sum()) for v in values}

    def distance(a: float, b: float) -> float:
        a, b = min(a, b), max(a, b)
        return (sum(n[v] for v in values if a <= v <= b) - (n[a] + n[b]) / 2) ** 2 if a != b else 0.0

    every = scores.ravel()
    observed = np.mean([distance(a, b) for a, b in scores.T])
    expected = sum(distance(a, b) for i, a in enumerate(every) for j, b in enumerate(every) if i != j) / (
        len(every) * (len(every) - 1)
    )
    assert table.krippendorff_alpha["correctness"] == pytest.approx(1 - observed / expected, abs=1e-3)
    assert table.kinds["drafted"].ratings == 14


def test_a_metric_that_follows_the_ratings_is_seen_to(tmp_path):
    words = ["the", "liver", "is", "smooth", "and", "of", "normal", "size", "without", "focal", "lesion"]
    ratings = []
    for i in range(8):  # the more words of the reference a text keeps, the better it was rated
        keep = words[: 3 + i]
        ratings.append(
            (
                f"c{i}",
                "a",
                "drafted",
                1 + i // 2,
                " ".join(keep + ["x"] * (len(words) - len(keep))),
                " ".join(words),
            )
        )
    rows(tmp_path / "r.csv", ratings)
    table = reader_table(read_ratings(tmp_path / "r.csv"))
    assert table.correlation["bleu1"]["correctness"].rho > 0.9
    assert table.krippendorff_alpha["wording"] is None  # one reader agrees with nobody


def test_several_readers_as_published():
    """Van Dyke's cine and spin-echo MRI of the aorta, 5 readers, 114 patients: areas under the curve and
    covariances as printed by the R package MRMCaov (Smith and Hillis, Proc. SPIE 11316, 2020), and what it
    makes of them."""
    cine = [0.9196457, 0.8587762, 0.9038647, 0.9731079, 0.8297907]
    spin_echo = [0.9478261, 0.9053140, 0.9217391, 0.9993559, 0.9299517]
    over = Covariances(cov1=0.0003466137, cov2=0.0003440748, cov3=0.0002390284)
    merit = np.array([cine, spin_echo])
    found = obuchowski_rockette(merit, over)
    assert found.f == pytest.approx(4.456319, abs=1e-5)
    assert (found.df1, found.df2) == (1, pytest.approx(15.25967, abs=1e-4))
    assert found.p == pytest.approx(0.05166569, abs=1e-6)
    difference = merit[1].mean() - merit[0].mean()
    assert difference == pytest.approx(0.04380032, abs=1e-7)


def test_covariances_of_means_are_those_of_the_cases_over_their_number():
    scores = np.random.default_rng(3).normal(size=(2, 3, 30))
    every = (np.cov(scores.reshape(6, 30)) / 30).reshape(2, 3, 2, 3)
    found = covariances(scores)
    assert found.cov1 == pytest.approx(np.mean([every[i, j, 1 - i, j] for i in range(2) for j in range(3)]))
    apart = [every[i, j, i, k] for i in range(2) for j in range(3) for k in range(3) if j != k]
    assert found.cov2 == pytest.approx(np.mean(apart))


def test_versions_of_one_case_are_held_against_each_other(tmp_path):
    """The later draft is better in the eyes of all readers; the reference, rated by one, has no interval."""
    ratings = []
    chance = np.random.default_rng(1)
    for i in range(6):
        for rater in "abc":
            ratings.append((f"c{i}", rater, "earlier", int(chance.integers(1, 4)), "old", "x"))
            ratings.append((f"c{i}", rater, "drafted", int(chance.integers(4, 6)), "new", "x"))
        ratings.append((f"c{i}", "a", "edited", 5, "x", "x"))
    rows(tmp_path / "r.csv", ratings)
    table = reader_table(read_ratings(tmp_path / "r.csv"))
    by = {(p.first, p.second): p for p in table.preferences}
    assert list(by) == [("drafted", "earlier"), ("drafted", "edited"), ("earlier", "edited")]
    both = by["drafted", "earlier"]
    assert (both.first_wins, both.ties, both.second_wins) == (18, 0, 0)
    told = both.differences["correctness"]
    assert (told.readers, told.cases) == (3, 6)
    assert 0 < told.low < told.difference < told.high
    assert told.p < 0.05
    assert by["earlier", "edited"].differences == {}
    assert "| drafted / earlier | 18 | 0 | 0 |" in readers_markdown(table)


def test_the_command_and_its_refusals(tmp_path):
    rows(tmp_path / "r.csv", [("c1", "a", "edited", 5, "one", "one"), ("c1", "b", "edited", 4, "one", "one")])
    done = CliRunner().invoke(app, ["evaluate-readers", str(tmp_path / "r.csv"), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["kinds"]["edited"]["correctness"] == 4.5
    text = (tmp_path / "r.csv").read_text().replace(",5,5,5,", ",9,5,5,")
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(UserError, match="line 2: correctness is '9'"):
        read_ratings(tmp_path / "bad.csv")
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="lacks the columns"):
        read_ratings(tmp_path / "empty.csv")
