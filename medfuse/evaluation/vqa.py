"""Accuracy of answers on pictures, always beside what the question alone, blank and shuffled pictures reach."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..io.vqa import read_questions
from ..models.vqa import Answerer, Examples, examples
from ..task import VqaTask, load_any_task


def load_answerer(folder: Path) -> Answerer:
    task = load_any_task(folder / "task" / "task.yaml")
    if not isinstance(task, VqaTask):
        raise UserError(f"{folder}: is not a bundle of a vqa task")
    return Answerer.load(folder, task)


def question_only(model: Answerer) -> Answerer:
    """The same regression on the question alone, trained on the same examples."""
    task = model.task.model_copy(update={"weights": {"question": 1.0, "organ": 0.0, "image": 0.0, "same": 0.0}})
    return Answerer.fit(task, model.seen)


def accuracies(right: np.ndarray, closed: np.ndarray) -> dict[str, float | None]:
    def share(which: np.ndarray) -> float | None:
        return round(float(100 * right[which].mean()), 2) if which.any() else None

    return {"open": share(~closed), "closed": share(closed), "overall": share(np.ones_like(closed))}


def controls(model: Answerer, asked: Examples, closed: np.ndarray, *, seed: int = 0, alone: Answerer | None = None) -> tuple[dict, dict[str, np.ndarray]]:  # fmt: skip
    """The table of one test set, in percent, and which answers were right under each condition."""
    rng = np.random.default_rng(seed)
    truth = np.array(asked.answers)
    organ = np.array([asked.organ[p] for p in asked.picture])
    blank = np.zeros_like(asked.features[:1])
    within = asked.picture.copy()
    for name in np.unique(organ):
        at = np.flatnonzero(organ == name)
        within[at] = rng.permutation(asked.picture[at])
    conditions = {
        "overall": asked.features[asked.picture],
        "blank": np.repeat(blank, len(truth), 0),
        "shuffled": asked.features[rng.permutation(asked.picture)],
        "shuffled_within_organ": asked.features[within],
    }
    right = {k: np.array(model.predict(asked.questions, x)) == truth for k, x in conditions.items()}
    alone = alone or question_only(model)
    right["question_only"] = np.array(alone.predict(asked.questions, conditions["overall"])) == truth
    table: dict = accuracies(right["overall"], closed)
    table |= {k: round(float(100 * v.mean()), 2) for k, v in right.items() if k != "overall"}
    return table, right


def clustered_difference(
    a: np.ndarray, b: np.ndarray, picture: np.ndarray, *, seed: int = 0, draws: int = 2000
) -> dict:
    """Mean of a - b in points with a 95 % bootstrap interval that draws whole pictures."""
    unique, back = np.unique(picture, return_inverse=True)
    gain = np.bincount(back, a.astype(float) - b.astype(float))
    count = np.bincount(back).astype(float)
    picks = np.random.default_rng(seed).integers(0, len(unique), (draws, len(unique)))
    means = 100 * gain[picks].sum(1) / count[picks].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"points": round(float(100 * gain.sum() / count.sum()), 2), "low": round(float(low), 2), "high": round(float(high), 2)}  # fmt: skip


def evaluate_vqa(folder: Path, manifest: Path, images: Path, *, seed: int = 0, out: Path | None = None) -> dict:
    """`medfuse evaluate B --manifest FILE --images DIR`."""
    model = load_answerer(folder)
    rows = read_questions(manifest, images)
    asked = examples(rows, images)
    closed = np.array([r.closed for r in rows])
    table, right = controls(model, asked, closed, seed=seed)
    table |= {
        "n": len(rows), "seed": seed,
        "minus_question_only": clustered_difference(right["overall"], right["question_only"], asked.picture, seed=seed),
        "minus_shuffled_within_organ": clustered_difference(right["overall"], right["shuffled_within_organ"], asked.picture, seed=seed),
    }  # fmt: skip
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.json").write_text(json.dumps(table, indent=1))
    return table
