"""What a model that answers questions on pictures reaches, as types; its evaluation.json and card.json come
from them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Accuracies(_Part):
    """Right answers in percent, by kind of question; None where there is none of the kind."""

    open: float | None
    closed: float | None
    overall: float | None


class Controls(Accuracies):
    """The same questions with a blank picture, another one, another one of the same organ, and without any
    picture at all: overall percent."""

    blank: float
    shuffled: float
    shuffled_within_organ: float
    question_only: float


class PointDifference(_Part):
    """Points of one answerer minus another's, with a 95 % interval that draws whole pictures.

    points: the difference. low, high: its interval.
    """

    points: float
    low: float
    high: float


class VqaEvaluation(Controls):
    """evaluation.json of a vqa bundle.

    n: questions. open, closed, overall: accuracy by kind of question. blank, shuffled, shuffled_within_organ:
    accuracy with no picture, another's, another's of the same organ. question_only: accuracy of the question
    alone. minus_question_only, minus_shuffled_within_organ: the gain over these controls.
    """

    n: int
    seed: int
    minus_question_only: PointDifference
    minus_shuffled_within_organ: PointDifference


class VqaCard(_Part):
    """card.json of a vqa bundle: what it was trained on, and how right it is on pictures left out (0 to 1).

    summary: one sentence. command: that trained it. trained_on_sha256: of the manifest.
    accuracy_on_pictures_left_out: 0 to 1. versions: of the packages. known_limits: in words.
    """

    name: str
    summary: str
    command: str
    seed: int
    trained_on_sha256: str
    accuracy_on_pictures_left_out: float
    machine: str
    versions: dict[str, str]
    known_limits: str


class VqaValidation(_Part):
    """Share of right answers, 0 to 1, on pictures left out."""

    image_disjoint_accuracy: float


class VqaTrained(_Part):
    """What a training of questions on pictures made."""

    bundle: str
    validation: VqaValidation
    seconds: float
