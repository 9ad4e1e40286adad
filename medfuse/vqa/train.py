"""`medfuse train vqa.yaml`: questions on pictures → a bundle that answers them, and how sure it may be."""

from __future__ import annotations

import hashlib
import platform
import shutil
import time
from pathlib import Path

import numpy as np
import yaml
from sklearn.linear_model import LogisticRegression

from .. import __version__
from ..bundles.seal import seal
from ..task import VqaTask
from .answerer import Answerer, Examples, examples, margins
from .questions import read_questions
from .results import VqaCard, VqaTrained, VqaValidation

FOLDS = 5


def picture_folds(picture: np.ndarray, seed: int, folds: int = FOLDS) -> np.ndarray:
    """(N,) fold of each question; all questions on one picture share it."""
    unique = np.unique(picture)
    fold = np.zeros(int(unique.max()) + 1, int)
    fold[np.random.default_rng(seed).permutation(unique)] = np.arange(len(unique)) % folds
    return fold[picture]


def fit_confidence(task: VqaTask, data: Examples, seed: int) -> tuple[tuple[float, float], float]:
    """(slope, offset) of the chance of being right by the margin, on pictures left out, and the accuracy
    there."""
    fold = picture_folds(data.picture, seed)
    gap = np.zeros(len(fold))
    right = np.zeros(len(fold), bool)
    for k in range(FOLDS):
        there = fold == k
        if not there.any() or there.all():
            continue
        model = Answerer.fit(task, data.pick(~there))
        asked = data.pick(there)
        scores = model.scores(asked.questions, asked.features[asked.picture])
        gap[there] = margins(scores)
        right[there] = np.array([model.classes[i] for i in scores.argmax(1)]) == np.array(asked.answers)
    if right.all() or not right.any():
        return (0.0, 8.0 if right.all() else -8.0), float(right.mean())
    fitted = LogisticRegression().fit(gap[:, None], right)
    return (float(fitted.coef_[0, 0]), float(fitted.intercept_[0])), float(right.mean())


def train_vqa(
    task: VqaTask, manifest: Path, images: Path, out: Path, *, seed: int, command: str
) -> VqaTrained:
    """Train on all rows of ``manifest``. It takes seconds, whatever --minutes allows."""
    started = time.monotonic()
    rows = read_questions(manifest, images)
    data = examples(rows, images)
    calibration, accuracy = fit_confidence(task, data, seed)
    model = Answerer.fit(task, data, calibration=calibration)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "task").mkdir(parents=True)
    (part / "task" / "task.yaml").write_text(
        yaml.safe_dump(task.model_dump(mode="json"), allow_unicode=True, sort_keys=False), encoding="utf-8"
    )
    model.save(part)
    digest = hashlib.sha256(
        "".join(f"{r.image_name}|{r.question}|{r.answer}\n" for r in rows).encode()
    ).hexdigest()
    card = VqaCard(
        name=out.name,
        summary=f"{task.title['en']}: {len(rows)} questions on {len(data.features)} pictures.",
        command=command,
        seed=seed,
        trained_on_sha256=digest,
        accuracy_on_pictures_left_out=round(accuracy, 4),
        machine=platform.machine(),
        versions={"medfuse": __version__},
        known_limits=(
            "Research use only. Answers mostly follow the question; pictures of kinds it has not seen get "
            "guesses."
        ),
    )
    (part / "card.json").write_text(card.model_dump_json(indent=1), encoding="utf-8")
    seal(part)
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    return VqaTrained(
        bundle=str(out),
        validation=VqaValidation(image_disjoint_accuracy=round(accuracy, 4)),
        seconds=round(time.monotonic() - started, 1),
    )
