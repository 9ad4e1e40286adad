"""Accuracy of answers on pictures, always beside what the question alone, blank and shuffled pictures
reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..bundles.registry import check_bundle
from ..errors import UserError
from ..task import VqaTask, load_any_task
from .answerer import Answerer, Examples, examples
from .questions import read_questions
from .results import Accuracies, Controls, PointDifference, VqaEvaluation


def load_answerer(folder: Path) -> Answerer:
    """The answerer of a vqa bundle. Raises UserError for a bundle of another kind, or a damaged one."""
    check_bundle(folder)
    task = load_any_task(folder / "task" / "task.yaml")
    if not isinstance(task, VqaTask):
        raise UserError(f"{folder}: is not a bundle of a vqa task")
    return Answerer.load(folder, task)


def question_only(model: Answerer) -> Answerer:
    """The same regression on the question alone, trained on the same examples."""
    task = model.task.model_copy(
        update={"weights": {"question": 1.0, "organ": 0.0, "image": 0.0, "same": 0.0}}
    )
    return Answerer.fit(task, model.seen)


def accuracies(right: np.ndarray, closed: np.ndarray) -> Accuracies:
    """In percent, of (N,) right answers and (N,) whether a question can be answered with yes or no."""

    def share(which: np.ndarray) -> float | None:
        return round(float(100 * right[which].mean()), 2) if which.any() else None

    return Accuracies(open=share(~closed), closed=share(closed), overall=share(np.ones_like(closed)))


def controls(
    model: Answerer, asked: Examples, closed: np.ndarray, *, seed: int = 0, alone: Answerer | None = None
) -> tuple[Controls, dict[str, np.ndarray]]:
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
    percent = {k: round(float(100 * v.mean()), 2) for k, v in right.items() if k != "overall"}
    return Controls(**accuracies(right["overall"], closed).model_dump(), **percent), right


def clustered_difference(
    a: np.ndarray, b: np.ndarray, picture: np.ndarray, *, seed: int = 0, draws: int = 2000
) -> PointDifference:
    """Mean of a - b in points with a 95 % bootstrap interval that draws whole pictures."""
    unique, back = np.unique(picture, return_inverse=True)
    gain = np.bincount(back, a.astype(float) - b.astype(float))
    count = np.bincount(back).astype(float)
    picks = np.random.default_rng(seed).integers(0, len(unique), (draws, len(unique)))
    means = 100 * gain[picks].sum(1) / count[picks].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return PointDifference(
        points=round(float(100 * gain.sum() / count.sum()), 2),
        low=round(float(low), 2),
        high=round(float(high), 2),
    )


def evaluate_vqa(
    folder: Path, manifest: Path, images: Path, *, seed: int = 0, out: Path | None = None
) -> VqaEvaluation:
    """`medfuse evaluate B --manifest FILE --images DIR`."""
    model = load_answerer(folder)
    rows = read_questions(manifest, images)
    asked = examples(rows, images)
    closed = np.array([r.closed for r in rows])
    table, right = controls(model, asked, closed, seed=seed)

    def minus(other: str) -> PointDifference:
        return clustered_difference(right["overall"], right[other], asked.picture, seed=seed)

    result = VqaEvaluation(
        **table.model_dump(),
        n=len(rows),
        seed=seed,
        minus_question_only=minus("question_only"),
        minus_shuffled_within_organ=minus("shuffled_within_organ"),
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.json").write_text(result.model_dump_json(indent=1), encoding="utf-8")
    return result
