"""`medfuse evaluate-readers`: what people said of reports, how far they agree, and which automatic metric
follows them.

Agreement is Krippendorff's alpha for ordinal scores; the correlation of a metric with the mean rating is
Spearman's.
"""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
from nltk.metrics.agreement import AnnotationTask
from pydantic import ValidationError
from scipy.stats import spearmanr

from ..errors import UserError, WrongUse
from .mrmc import covariances, obuchowski_rockette
from .reader_results import Correlation, Difference, KindRow, Preference, Rating, ReaderTable
from .text_metrics import item_scores

SCALES = ("correctness", "completeness", "wording")


def read_ratings(path: Path) -> list[Rating]:
    """Rows of the CSV that the viewer exports. Raises UserError that names the line."""
    if not path.is_file():
        raise WrongUse(f"{path}: no such file; export ratings with medfuse export ratings --out FILE")
    with path.open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    needed = {"case_id", "rater", "kind", *SCALES, "text", "reference"}
    if not rows or not needed <= set(rows[0]):
        missing = sorted(needed - set(rows[0] if rows else ()))
        raise UserError(
            f"{path}: has no ratings, or lacks the columns {', '.join(missing)}; export them again"
        )
    for n, row in enumerate(rows, 2):
        for scale in SCALES:
            if row[scale] not in ("1", "2", "3", "4", "5"):
                raise UserError(f"{path} line {n}: {scale} is {row[scale]!r}, not a number from 1 to 5")
    return [_rating(path, n, row) for n, row in enumerate(rows, 2)]


def _rating(path: Path, line: int, row: dict[str, str]) -> Rating:
    given = {k: v for k, v in row.items() if k is not None and v}
    try:
        return Rating.model_validate({"text": "", "reference": "", **given})
    except ValidationError as e:
        first = e.errors()[0]
        raise UserError(
            f"{path} line {line}: {first['loc'][0]}: {first['msg']}; export the ratings again"
        ) from e


def reader_table(rows: list[Rating]) -> ReaderTable:
    """Means by version, agreement by scale, correlation of each metric with the mean rating of a text."""
    raters = sorted({r.rater for r in rows})
    texts = sorted({(r.case_id, r.kind) for r in rows})
    at = {t: i for i, t in enumerate(texts)}
    scores = np.full((len(SCALES), len(raters), len(texts)), np.nan)
    for r in rows:
        for s, scale in enumerate(SCALES):
            scores[s, raters.index(r.rater), at[r.case_id, r.kind]] = r.score(scale)
    return ReaderTable(
        ratings=len(rows),
        raters=len(raters),
        texts=len(texts),
        kinds={k: _of_kind([r for r in rows if r.kind == k]) for k in sorted({k for _, k in texts})},
        krippendorff_alpha={scale: _alpha(scores[s]) for s, scale in enumerate(SCALES)},
        correlation=_correlations(rows, texts, scores),
        preferences=_preferences(rows),
    )


def _preferences(rows: list[Rating]) -> list[Preference]:
    """Each two versions that some reader rated of one case."""
    at = {(r.kind, r.rater, r.case_id): r for r in rows}
    out = []
    for first, second in combinations(sorted({r.kind for r in rows}), 2):
        read = [
            (r, at[second, r.rater, r.case_id])
            for r in rows
            if r.kind == first and (second, r.rater, r.case_id) in at
        ]
        if not read:
            continue
        sums = [sum(a.score(s) - b.score(s) for s in SCALES) for a, b in read]
        out.append(
            Preference(
                first=first,
                second=second,
                first_wins=sum(x > 0 for x in sums),
                ties=sum(x == 0 for x in sums),
                second_wins=sum(x < 0 for x in sums),
                differences=_differences(at, first, second),
            )
        )
    return out


def _differences(at: dict[tuple[str, str, str], Rating], first: str, second: str) -> dict[str, Difference]:
    """By scale, over the cases that all readers of both versions rated; none without two of each."""
    readers = sorted({r for k, r, c in at if k == first and (second, r, c) in at})
    cases = sorted({c for _, _, c in at})
    cases = [c for c in cases if all((k, r, c) in at for k in (first, second) for r in readers)]
    if len(readers) < 2 or len(cases) < 2:
        return {}
    out = {}
    for scale in SCALES:
        scores = np.array(
            [[[float(at[k, r, c].score(scale)) for c in cases] for r in readers] for k in (first, second)]
        )
        merit = scores.mean(2)
        found = obuchowski_rockette(merit, covariances(scores))
        difference = float(merit[0].mean() - merit[1].mean())
        out[scale] = Difference(
            difference=round(difference, 3),
            low=round(difference - found.margin, 3),
            high=round(difference + found.margin, 3),
            f=round(min(found.f, 1e9), 3),
            df2=round(min(found.df2, 1e9), 2),
            p=round(found.p, 4),
            readers=len(readers),
            cases=len(cases),
        )
    return out


def _preference_lines(table: ReaderTable) -> list[str]:
    """The part of the Markdown on each two versions; none where nobody rated two."""
    if not table.preferences:
        return []
    head = " | ".join(f"{s}: difference [95 %], p" for s in SCALES)
    lines = ["", f"| First / second | first better | ties | second better | {head} |"]
    lines.append("|---|---|---|---|---|---|---|")
    for x in table.preferences:
        cells = [
            f"{d.difference:+.2f} [{d.low:+.2f}, {d.high:+.2f}], {d.p:.3f}" if d is not None else "–"
            for d in (x.differences.get(s) for s in SCALES)
        ]
        lines.append(
            f"| {x.first} / {x.second} | {x.first_wins} | {x.ties} | {x.second_wins} | {' | '.join(cells)} |"
        )
    return [*lines, "", "Intervals and p: Obuchowski–Rockette, readers and cases random."]


def _of_kind(mine: list[Rating]) -> KindRow:
    def mean(values: list[int]) -> float:
        return float(np.mean(values))

    return KindRow(
        correctness=round(mean([r.correctness for r in mine]), 3),
        completeness=round(mean([r.completeness for r in mine]), 3),
        wording=round(mean([r.wording for r in mine]), 3),
        ratings=len(mine),
        seconds=round(float(np.median([r.seconds for r in mine])), 1),
        edit_distance=round(mean([r.edit_distance for r in mine]), 2),
    )


def _alpha(scores: np.ndarray) -> float | None:
    """Krippendorff's alpha of (raters, texts) with NaN for not rated; None where nothing can disagree. Its
    ordinal distance counts the ratings between two values, those of the values themselves half."""
    shared = (~np.isnan(scores)).sum(0) >= 2
    values = np.unique(scores[:, shared][~np.isnan(scores[:, shared])])
    if not shared.any() or len(values) < 2:
        return None
    rated = [
        (rater, text, float(scores[rater, text]))
        for rater, text in np.argwhere(~np.isnan(scores)).tolist()
        if shared[text]
    ]
    counts = np.array([sum(v == value for *_, v in rated) for value in values])
    upto = dict(zip(values.tolist(), np.cumsum(counts) - counts / 2, strict=True))

    def ordinal(a: float, b: float) -> float:
        return float(upto[a] - upto[b]) ** 2

    return round(float(AnnotationTask(rated, distance=ordinal).alpha()), 4)


def _correlations(
    rows: list[Rating], texts: list[tuple[str, str]], scores: np.ndarray
) -> dict[str, dict[str, Correlation | None]]:
    """By metric and scale, over texts that differ from their reference or not."""
    by_text = {(r.case_id, r.kind): r for r in rows}
    chosen = [by_text[t] for t in texts]
    metrics = item_scores([r.text for r in chosen], [r.reference for r in chosen])
    metrics["fewer_edits"] = [-float(r.edit_distance) for r in chosen]
    mean = np.nanmean(scores, axis=1)
    return {
        name: {scale: _correlation(values, mean[s]) for s, scale in enumerate(SCALES)}
        for name, values in metrics.items()
    }


def _correlation(values: list[float], ratings: np.ndarray) -> Correlation | None:
    """None below five texts, or where one of both never changes."""
    if len(values) < 5 or len(set(values)) < 2 or len(set(ratings)) < 2:
        return None
    found = spearmanr(values, ratings)
    return Correlation(rho=round(float(found.statistic), 3), p=round(float(found.pvalue), 4), n=len(values))


def readers_markdown(table: ReaderTable) -> str:
    """The reader table as Markdown."""
    lines = [
        f"{table.ratings} ratings of {table.texts} texts by {table.raters} reader(s)",
        "",
        "| Version | ratings | correctness | completeness | wording | median seconds | words to edit |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {k} | {v.ratings} | {v.correctness} | {v.completeness} | {v.wording} | "
        f"{v.seconds} | {v.edit_distance} |"
        for k, v in table.kinds.items()
    ]
    lines += ["", "| Scale | Krippendorff's alpha |", "|---|---|"]
    lines += [
        f"| {s} | {'too few shared texts' if a is None else a} |" for s, a in table.krippendorff_alpha.items()
    ]
    lines += [
        "",
        "| Metric | " + " | ".join(f"{s}: Spearman's rho (p)" for s in SCALES) + " |",
        "|---|---|---|---|",
    ]
    for name, row in table.correlation.items():
        cells = ["–" if c is None else f"{c.rho} ({c.p})" for c in (row[s] for s in SCALES)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, *_preference_lines(table)])
