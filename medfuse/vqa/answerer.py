"""Answers to questions on one picture: kernel ridge regression on question and image, in closed form,
repeatable bit by bit.

Few hundred pictures cannot train a network to see; kernels on TF-IDF of characters and words, on thumbnails,
edges (HOG) and grey values are the strongest thing that was tried (docs/reports.md). Every known answer is a
class. The image kernel has a wide part (what kind of picture is this) and a narrow one (is it the same
picture), so that a leaking split shows as what it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from ..bundles.contracts import VqaExamples, read_contract
from ..errors import UnreadableError, UserError
from ..task import VqaTask
from .questions import QuestionRow

# pixels a side
THUMBNAIL = 32
EDGES = 96
LEAST_SPREAD = 1e-3


def normalise(answer: object) -> str:
    """As answers are compared: lower case, single spaces, no full stop at the end."""
    return " ".join(str(answer).lower().split()).rstrip(".")


def picture_features(path: Path) -> np.ndarray:
    """(F,) thumbnail, HOG and grey-value statistics of a picture, each part of unit scale. Raises
    UnreadableError."""
    from skimage.feature import hog

    try:
        with Picture.open(path) as picture:
            picture.load()
            grey = picture.convert("L")
            colour = np.asarray(picture.convert("RGB").resize((64, 64)), np.float32)
            w, h = picture.size
    except (UnidentifiedImageError, OSError) as e:
        raise UnreadableError(path, f"is not a picture that can be read ({e}); give PNG or JPEG") from e
    small = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Picture.Resampling.BOX), np.float32) / 255
    edges = hog(
        np.asarray(grey.resize((EDGES, EDGES), Picture.Resampling.BOX), np.float32) / 255,
        orientations=8,
        pixels_per_cell=(16, 16),
        cells_per_block=(2, 2),
    )
    levels = np.histogram(np.asarray(grey), bins=24, range=(0, 256), density=True)[0] * 256
    shape = [w / h, np.log(w), np.log(h), float((colour.max(-1) - colour.min(-1)).mean()) / 255]
    return np.concatenate([small.ravel(), edges, levels, shape]).astype(np.float32)


PARTS = (THUMBNAIL**2, 800, 28)  # columns of thumbnail, HOG (5 × 5 blocks of 2 × 2 cells of 8), statistics


@dataclass(frozen=True)
class Answer:
    """An answer with its score share, and the estimated chance that it is right."""

    answer: str
    probability: float
    alternatives: list[tuple[str, float]]


@dataclass
class Examples:
    """Questions with answers; ``picture`` (N,) is the row of each in ``features`` (P, F), ``organ`` (P,)
    names, "" unknown."""

    questions: list[str]
    answers: list[str]
    picture: np.ndarray
    features: np.ndarray
    organ: list[str]

    def pick(self, keep: np.ndarray) -> Examples:
        at = np.flatnonzero(keep)
        return Examples(
            [self.questions[i] for i in at],
            [self.answers[i] for i in at],
            self.picture[at],
            self.features,
            self.organ,
        )


def examples(rows: list[QuestionRow], images: Path) -> Examples:
    """Read every picture once."""
    names = sorted({r.image_name for r in rows})
    at = {n: i for i, n in enumerate(names)}
    organ = [""] * len(names)
    for r in rows:
        organ[at[r.image_name]] = r.image_organ
    features = np.stack([picture_features(images / n) for n in names])
    return Examples(
        [r.question for r in rows],
        [normalise(r.answer) for r in rows],
        np.array([at[r.image_name] for r in rows]),
        features,
        organ,
    )


class Answerer:
    """``seen``: the training examples; ``coefficients`` (N, answers) of the kernel ridge regression."""

    def __init__(
        self,
        task: VqaTask,
        seen: Examples,
        coefficients: np.ndarray,
        classes: list[str],
        calibration: tuple[float, float],
    ) -> None:
        self.task = task
        self.seen = seen
        self.coefficients = coefficients
        self.classes = classes
        self.calibration = calibration

    @classmethod
    def fit(cls, task: VqaTask, seen: Examples, *, calibration: tuple[float, float] = (1.0, 0.0)) -> Answerer:
        classes, y = np.unique(seen.answers, return_inverse=True)
        out = cls(task, seen, np.zeros((0, 0)), [str(c) for c in classes], calibration)
        k = out.kernel(seen.questions, seen.features[seen.picture], own=True)
        k[np.diag_indices_from(k)] += task.ridge
        out.coefficients = cho_solve(cho_factor(k, lower=True, overwrite_a=True), np.eye(len(classes))[y])
        return out

    @cached_property
    def _text(self) -> tuple[TfidfVectorizer, TfidfVectorizer, csr_matrix]:
        letters = TfidfVectorizer(analyzer="char_wb", ngram_range=self.task.characters, sublinear_tf=True)
        words = TfidfVectorizer(ngram_range=self.task.words, sublinear_tf=True, token_pattern=r"\w+")
        asked = [q.lower() for q in self.seen.questions]
        return letters, words, hstack([letters.fit_transform(asked), words.fit_transform(asked)]).tocsr()

    @cached_property
    def _pictures(self) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray, float]], np.ndarray]:
        """Rows of training pictures, (mean, scale, median squared distance) of each part, and organ one-hot
        of those rows."""
        rows = np.unique(self.seen.picture)
        parts = []
        start = 0
        for n in PARTS:
            x = self.seen.features[rows, start : start + n]
            scale = x.std(0) if n == PARTS[2] else np.ones(n, np.float32)
            scale = np.where(scale < LEAST_SPREAD, 1.0, scale)  # what never varied tells nothing
            d = _squared((x - x.mean(0)) / scale, (x - x.mean(0)) / scale)
            positive = d[d > 1e-9]
            parts.append((x.mean(0), scale, float(np.median(positive)) if positive.size else 1.0))
            start += n
        names = sorted({self.seen.organ[r] for r in rows})
        organ = np.array([[self.seen.organ[r] == n for n in names] for r in rows], float)
        return rows, parts, organ

    def _distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Mean over the parts of the squared distance in units of its median among training pictures. a (A,
        F), b (B, F)."""
        total = np.zeros((len(a), len(b)))
        start = 0
        for n, (mean, scale, median) in zip(PARTS, self._pictures[1], strict=True):
            cut = slice(start, start + n)
            total += _squared((a[:, cut] - mean) / scale, (b[:, cut] - mean) / scale) / median
            start += n
        return total / len(PARTS)

    def organs(self, features: np.ndarray) -> np.ndarray:
        """(P, organs) shares by kernel regression on the training pictures: what part of the body a picture
        shows."""
        rows, _, organ = self._pictures
        known = self.seen.features[rows]
        k = np.exp(-self.task.width * self._distance(known, known))
        weights = np.linalg.solve(k + 0.1 * np.eye(len(k)), organ)
        share = np.clip(np.exp(-self.task.width * self._distance(features, known)) @ weights, 0, None) ** 2
        return share / np.maximum(share.sum(1, keepdims=True), 1e-9)

    def kernel(self, questions: list[str], features: np.ndarray, *, own: bool = False) -> np.ndarray:
        """(B, N) between questions on pictures (B, F) and the training examples. ``own``: they are those
        examples."""
        letters, words, known = self._text
        asked = [q.lower() for q in questions]
        text = known if own else hstack([letters.transform(asked), words.transform(asked)]).tocsr()
        k = (text @ known.T).toarray() / 2
        w = self.task.weights
        rows, _, organ = self._pictures
        place = {int(r): i for i, r in enumerate(rows)}
        of = np.array([place[int(p)] for p in self.seen.picture])
        unique, back = np.unique(features, axis=0, return_inverse=True)
        back = back.reshape(-1)
        d = self._distance(unique, self.seen.features[rows])
        same_organ = self.organs(unique) @ organ.T
        factor = (
            w["question"]
            + w["organ"] * same_organ
            + w["image"] * np.exp(-self.task.width * d)
            + w["same"] * np.exp(-self.task.same_width * d)
        )
        return k * factor[back][:, of]

    def scores(self, questions: list[str], features: np.ndarray) -> np.ndarray:
        """(B, answers)."""
        return self.kernel(questions, features) @ self.coefficients

    def predict(self, questions: list[str], features: np.ndarray) -> list[str]:
        return [self.classes[i] for i in self.scores(questions, features).argmax(1)]

    def answer(self, question: str, features: np.ndarray) -> Answer:
        """The best answer to one question on one picture (F,), and the next three."""
        s = self.scores([question], features[None])[0]
        order = np.argsort(-s)[:4]
        chance = confidence(s[None], self.calibration)[0]
        total = np.clip(s, 0, None).sum() or 1.0
        return Answer(
            self.classes[order[0]],
            round(float(chance), 4),
            [(self.classes[i], round(float(max(s[i], 0) / total), 4)) for i in order[1:]],
        )

    def save(self, folder: Path) -> None:
        rows = np.unique(self.seen.picture)
        place = {int(r): i for i, r in enumerate(rows)}
        arrays = {
            "coefficients": np.ascontiguousarray(self.coefficients, np.float16),
            "features": self.seen.features[rows].astype(np.float16),
            "picture": np.array([place[int(p)] for p in self.seen.picture], np.int32),
        }
        save_file(arrays, folder / "weights.safetensors")
        words = VqaExamples(
            questions=self.seen.questions,
            answers=self.seen.answers,
            organ=[self.seen.organ[r] for r in rows],
            classes=self.classes,
            calibration=self.calibration,
        )
        text = json.dumps(words.model_dump(), ensure_ascii=False, indent=0)
        (folder / "examples.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, task: VqaTask) -> Answerer:
        try:
            arrays = load_file(folder / "weights.safetensors")
            words = read_contract(folder / "examples.json", VqaExamples)
        except (OSError, SafetensorError) as e:
            raise UserError(f"{folder}: the bundle is damaged ({e}); train it again") from e
        seen = Examples(
            words.questions,
            words.answers,
            arrays["picture"],
            arrays["features"].astype(np.float32),
            words.organ,
        )
        return cls(
            task,
            seen,
            arrays["coefficients"].astype(np.float64),
            words.classes,
            words.calibration,
        )


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.clip((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0, None)


def margins(scores: np.ndarray) -> np.ndarray:
    """(B,) how far the best answer is ahead of the second."""
    top = np.sort(scores, 1)[:, -2:]
    return top[:, -1] - top[:, 0] if scores.shape[1] > 1 else top[:, 0]


def confidence(scores: np.ndarray, calibration: tuple[float, float]) -> np.ndarray:
    """(B,) estimated chance that the best answer is right: logistic in the margin, fitted on pictures left
    out."""
    slope, offset = calibration
    return 1 / (1 + np.exp(-(slope * margins(scores) + offset)))
