"""COVID-BLUES through `benchmarks/real.py`: lung ultrasound, laboratory values and words of one patient.

PCR positive is asked of a patient; severity of two or more, and B-lines, of a cine. US: tokens of frozen
frames and hand-measured signs of the lung, ridge regression; LABS and TEXT (symptoms, as an indication names
them): logistic regression; a subset adds the log-odds of its senses. Comments on a cine are never read: they
say what is asked. Chosen on folds of the public patients.
"""

from __future__ import annotations

import csv
import os
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from real_encoder import ENCODER, SIDE, features, ridge
from real_lung import FRAMES, SMALL, read_cine, signs
from real_results import Results, Row, interval
from real_senses import CoAttentive
from scipy.stats import rankdata
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medfuse.training.budget import Budget

MINUTES = 10.0
REPEATS = 5
FOLDS = 7
SHOWN = 16  # frames of a cine that the encoder sees
NETWORKS = 3  # co-attentive networks that are averaged
# analytes that most patients have, with their unit; the blood gases of a part of them only added noise
LABS = {
    "trombocytes_find": "10*9/L",
    "leucocytes_find": "10*9/L",
    "hg_find": "mmol/L",
    "LDH_find": "U/L",
    "CRP": "mg/L",
    "lymphocytes": "%",
    "absolute_lymphocytes": "10*9/L",
}
TARGETS = ("pcr", "severity_ge2", "b_lines")
SUBSETS = ("US", "LABS", "TEXT", "US+LABS", "US+LABS+TEXT")
UNKNOWN = {"", "-99", "-99.0", "nan"}


@dataclass(frozen=True, kw_only=True)
class Cines:
    """What is known, one row a cine: patient; blocks of the encoder, hand signs and headers (number of
    frames, side, point); labs (N, L) with NaN where unknown; words (N, V) 0 or 1; labels by target (N,)."""

    patient: np.ndarray
    blocks: dict[str, np.ndarray]
    frames: np.ndarray
    headers: np.ndarray
    labs: np.ndarray
    words: np.ndarray
    labels: dict[str, np.ndarray]


def number(text: str | None) -> float:
    """A value of the table; NaN where it is unknown (empty or -99)."""
    said = (text or "").strip()
    return float("nan") if said in UNKNOWN else float(said)


def table(path: Path, key: str) -> dict[str, dict[str, str]]:
    """Rows of a CSV by the value of one column."""
    with path.open(newline="", encoding="utf-8-sig") as f:
        return {row[key]: row for row in csv.DictReader(f)}


def load(folder: Path) -> Cines:
    """Every cine of a copy of the set that has both its labels and its patient's row."""
    read = table(folder / "severity.csv", "video_file")
    known = table(folder / "clinical_variables.csv", "patient_id")
    names = [p.stem for p in sorted((folder / "lus_videos").glob("*.mp4"))]
    names = [n for n in names if n in read and n.split("_")[1] in known]
    if not names:
        raise SystemExit(f"{folder}: no cine with labels; lay the set out as it is published (docs/real.md)")
    films = [read_cine(folder / "lus_videos" / f"{n}.mp4", (SIDE, SMALL), (SHOWN, FRAMES)) for n in names]
    of = [known[n.split("_")[1]] for n in names]
    seen = features(np.concatenate([f[0] for f in films]))
    tokens = {k: x.reshape(len(names), SHOWN, -1) for k, x in seen.items()}
    blocks = {k: t.mean(1) for k, t in tokens.items()} | {f"{k}/spread": t.std(1) for k, t in tokens.items()}
    blocks["signs"] = np.stack([signs(f[1]) for f in films])
    said = sorted(k for k in of[0] if k.startswith("patient_symp#"))
    labs = np.array([[number(row.get(k)) for k in LABS] for row in of])
    points = [re.match(r"patient_\d+_([LR])(\d)", n) for n in names]
    return Cines(
        patient=np.array([int(n.split("_")[1]) for n in names]),
        blocks=blocks,
        frames=tokens["112"],
        headers=np.array(
            [
                [float(f[2]), float(p[1] == "L") if p else 0.5, float(p[2]) if p else 0]
                for f, p in zip(films, points, strict=True)
            ]
        ),
        labs=np.log(np.maximum(labs, 0.1)),
        words=np.array([[float(number(row.get(k)) == 1) for k in said] for row in of]),
        labels={
            "pcr": np.array([number(row["cov_test"]) for row in of]),
            "severity_ge2": np.array([float(number(read[n]["Severity Score"]) >= 2) for n in names]),
            "b_lines": np.array([float(read[n]["B-lines"].strip() == "yes") for n in names]),
        },
    )


def joined(a: Cines, b: Cines) -> Cines:
    """Rows of both, of different patients."""
    return Cines(
        blocks={k: np.concatenate([a.blocks[k], b.blocks[k]]) for k in a.blocks},
        labels={k: np.concatenate([a.labels[k], b.labels[k]]) for k in a.labels},
        **{
            k: np.concatenate([getattr(a, k), getattr(b, k)])
            for k in ("patient", "frames", "headers", "labs", "words")
        },
    )


def by_patient(c: Cines) -> Cines:
    """One row a patient: means over the cines."""
    names = np.unique(c.patient)

    def mean(x: np.ndarray) -> np.ndarray:
        return np.stack([x[c.patient == n].mean(0) for n in names])

    return Cines(
        patient=names,
        blocks={k: mean(x) for k, x in c.blocks.items()},
        labels={k: mean(x) for k, x in c.labels.items()},
        **{k: mean(getattr(c, k)) for k in ("frames", "headers", "labs", "words")},
    )


def logistic(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, c: float) -> np.ndarray:
    """Log-odds of a logistic regression; an unknown value is the median of the training rows."""
    if len(np.unique(y[train])) < 2:
        return np.zeros(len(test))
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    model = make_pipeline(fill, StandardScaler(), LogisticRegression(C=c, max_iter=500))
    return model.fit(x[train], y[train]).decision_function(x[test])


def odds(c: Cines, target: str, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """What each sense alone says of the test rows."""
    b = c.blocks
    if target == "pcr":
        seen, strength = [b["320/grid"], b["112"], b["112/spread"], b["40/grid"], b["head/grid"]], 0.1
    else:
        seen, strength = [b["signs"], b["24/grid"], b["320"], b["320/spread"]], 0.03
    return {
        "US": ridge(seen, 2 * y[:, None] - 1, train, test, strength)[:, 0],
        "LABS": logistic(c.labs, y, train, test, 0.3),
        "TEXT": logistic(c.words, y, train, test, 0.1),
    }


def rows_of(c: Cines, target: str, train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Scores of the test rows, by subset and control."""
    y = c.labels[target]
    alone = odds(c, target, y, train, test)
    out = {s: np.sum([alone[m] for m in s.split("+")], 0) for s in SUBSETS}
    if target == "pcr":
        nets = [CoAttentive(c, y, train, list(LABS.items()), seed + k).odds(c, test) for k in range(NETWORKS)]
        out["US+LABS, co-attention"] = np.mean(nets, 0)
    rng = np.random.default_rng(seed)
    wrong = y.copy()
    wrong[train] = rng.permutation(y[train])
    guess = odds(c, target, wrong, train, test)
    out["shuffled labels"] = guess["US"] + guess["LABS"]
    out["headers only"] = logistic(c.headers, y, train, test, 0.3)
    out["size only (number of frames)"] = logistic(c.headers[:, :1], y, train, test, 0.3)
    return out


def auroc(y: np.ndarray, p: np.ndarray) -> float:
    """Of scores p (R, N), the mean over repeats; NaN without both classes."""
    n = int(y.sum())
    if n in (0, len(y)):
        return float("nan")
    ranks = rankdata(p, axis=1)[:, y == 1].sum(1)
    return float(((ranks - n * (n + 1) / 2) / (n * (len(y) - n))).mean())


def splits_of(c: Cines, seed: int) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Repeats of folds of patients, each (names to train, names to test)."""
    p = by_patient(c)
    out = []
    for k in range(REPEATS):
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed + k)
        out.append([(p.patient[a], p.patient[b]) for a, b in folds.split(p.patient, p.labels["pcr"])])
    return out


def scored(c: Cines, repeats: list[list[tuple[np.ndarray, np.ndarray]]], seed: int) -> dict[str, Row]:
    """AUROC of each target by subset and control, with its interval by patient."""
    out: dict[str, Row] = {}
    for target in TARGETS:
        units = by_patient(c) if target == "pcr" else c
        found: dict[str, list[np.ndarray]] = {}
        for k, folds in enumerate(repeats):
            once: dict[str, np.ndarray] = {}
            for train, test in folds:
                at = [np.flatnonzero(np.isin(units.patient, names)) for names in (train, test)]
                for name, p in rows_of(units, target, at[0], at[1], seed + 100 * k).items():
                    once.setdefault(name, np.full(len(units.patient), np.nan))[at[1]] = p
            for name, p in once.items():
                found.setdefault(name, []).append(p)
        tested = ~np.isnan(next(iter(found.values()))[0])
        y, who = units.labels[target][tested], units.patient[tested]
        every = {name: np.stack(ps)[:, tested] for name, ps in found.items()}
        for name, p in every.items():
            add(out, name, target, who, lambda at, y=y, p=p: auroc(y[at], p[:, at]))
        a, b = every["US+LABS"], every["LABS"]
        gain = lambda at, y=y, a=a, b=b: auroc(y[at], a[:, at]) - auroc(y[at], b[:, at])  # noqa: E731
        add(out, "US+LABS minus LABS", target, who, gain)
    return out


def add(
    out: dict[str, Row], name: str, target: str, who: np.ndarray, statistic: Callable[[np.ndarray], float]
) -> None:
    """One value with its interval; ``ci95`` is that of the row's first metric."""
    row = out.setdefault(name, {})
    ends = interval(who, statistic)
    row.setdefault("ci95", ends)
    row[f"auroc_{target}"] = round(statistic(np.arange(len(who))), 4)
    row[f"auroc_{target}_ci95"] = ends


def run(train: Path | None, test: Path | None, budget: Budget, seed: int) -> Results:
    """Train on the one folder, test on the other; without them, folds of the shared copy. The budget is not
    needed: every row is trained in seconds."""
    started = time.monotonic()
    warnings.simplefilter("ignore")
    if train is None or test is None:
        c = load(Path(os.environ.get("MEDFUSE_SHARED", "../shared")) / "data/cohorts/covid_blues")
        repeats = splits_of(c, seed)
        n = len(np.unique(c.patient))
        n_train, n_test, folds = n - n // FOLDS, n, FOLDS * REPEATS
    else:
        other = load(test)
        mine = load(train)
        names = np.unique(mine.patient[~np.isin(mine.patient, other.patient)])
        if not len(names):
            raise SystemExit(f"{train}: holds no patient that {test} does not hold")
        keep = np.isin(mine.patient, names)
        c = joined(kept(mine, keep), other)
        repeats = [[(names, np.unique(other.patient))]]
        n_train, n_test, folds = len(names), len(repeats[0][0][1]), 0
    every = scored(c, repeats, seed)
    controls = {k: v for k, v in every.items() if k.startswith(("shuffled", "headers", "size"))}
    return Results(
        set="covid",
        n_train=n_train,
        n_test=n_test,
        rows={k: v for k, v in every.items() if k not in controls},
        controls=controls,
        minutes=round((time.monotonic() - started) / 60, 2),
        seed=seed,
        folds=folds,
        notes={"encoder": ENCODER, "cines": len(c.patient)},
    )


def kept(c: Cines, keep: np.ndarray) -> Cines:
    """Some of the rows."""
    return Cines(
        blocks={k: x[keep] for k, x in c.blocks.items()},
        labels={k: x[keep] for k, x in c.labels.items()},
        **{k: getattr(c, k)[keep] for k in ("patient", "frames", "headers", "labs", "words")},
    )
