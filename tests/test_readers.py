"""Ratings of reports by people: agreement against a worked example, and what the command says."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError
from medfuse.evaluation.readers import SCALES, read_ratings, reader_table


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
