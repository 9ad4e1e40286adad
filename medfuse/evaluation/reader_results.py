"""What readers said of reports, and what is made of it, as types."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .results import Result

Score = Annotated[int, Field(ge=1, le=5)]


class Rating(BaseModel):
    """One reader's rating of one text: a row of the CSV that the viewer exports. Scores run from 1 to 5,
    ``edit_distance`` is in words."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    case_id: str
    rater: str
    kind: str
    correctness: Score
    completeness: Score
    wording: Score
    seconds: float = 0.0
    edit_distance: int = 0
    text: str
    reference: str

    def score(self, scale: str) -> int:
        """The score on one of the scales."""
        return {
            "correctness": self.correctness,
            "completeness": self.completeness,
            "wording": self.wording,
        }[scale]


class KindRow(Result):
    """One version of a text (drafted, edited, …): mean scores, median seconds, mean words to edit."""

    correctness: float
    completeness: float
    wording: float
    ratings: int
    seconds: float
    edit_distance: float


class Correlation(Result):
    """Spearman's rho of an automatic metric with the mean rating of ``n`` texts, and its p value."""

    rho: float
    p: float
    n: int


class Preference(Result):
    """Two versions of the same cases, ``first`` and ``second``, by the readers who rated both. first_wins,
    ties, second_wins: readings in which the sum of scales was higher."""

    first: str
    second: str
    first_wins: int
    ties: int
    second_wins: int
    differences: dict[str, Difference]


class Difference(Result):
    """Mean score of the first version less that of the second, with its 95 % interval and p over readers and
    cases both random (Obuchowski and Rockette); of the cases that every reader rated in both versions."""

    difference: float
    low: float
    high: float
    f: float
    df2: float
    p: float
    readers: int
    cases: int


class ReaderTable(Result):
    """Means by version, agreement by scale (None: too few shared texts), correlation by metric and scale
    (None below five texts, or where one of both never changes), and each two versions that a reader rated of
    one case (no difference without two readers and two cases that both rated)."""

    ratings: int
    raters: int
    texts: int
    kinds: dict[str, KindRow]
    krippendorff_alpha: dict[str, float | None]
    correlation: dict[str, dict[str, Correlation | None]]
    preferences: list[Preference]
