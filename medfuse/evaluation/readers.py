"""`medfuse evaluate-readers`: what people said of reports, how far they agree, and which automatic metric follows them.

Agreement is Krippendorff's alpha for ordinal scores; the correlation of a metric with the mean rating is Spearman's.
"""

from __future__ import annotations

import csv
from pathlib import Path

import krippendorff
import numpy as np
from scipy.stats import spearmanr

from ..errors import UserError, WrongUse
from .text import item_scores

SCALES = ("correctness", "completeness", "wording")


def read_ratings(path: Path) -> list[dict]:
    """Rows of the CSV that the viewer exports. Raises UserError that names the line."""
    if not path.is_file():
        raise WrongUse(f"{path}: no such file; export ratings with medfuse export ratings --out FILE")
    with path.open(newline="") as f:
        rows = list(csv.DictReader(f))
    needed = {"case_id", "rater", "kind", *SCALES, "text", "reference"}
    if not rows or not needed <= set(rows[0]):
        missing = sorted(needed - set(rows[0] if rows else ()))
        raise UserError(f"{path}: has no ratings, or lacks the columns {', '.join(missing)}; export them again")
    for n, row in enumerate(rows, 2):
        for scale in SCALES:
            if row[scale] not in ("1", "2", "3", "4", "5"):
                raise UserError(f"{path} line {n}: {scale} is {row[scale]!r}, not a number from 1 to 5")
            row[scale] = int(row[scale])
        row["seconds"], row["edit_distance"] = float(row.get("seconds") or 0), int(row.get("edit_distance") or 0)
    return rows


def reader_table(rows: list[dict]) -> dict:
    """Means by version, agreement by scale, correlation of each metric with the mean rating of a text."""
    raters = sorted({r["rater"] for r in rows})
    texts = sorted({(r["case_id"], r["kind"]) for r in rows})
    at = {t: i for i, t in enumerate(texts)}
    scores = np.full((len(SCALES), len(raters), len(texts)), np.nan)
    for r in rows:
        for s, scale in enumerate(SCALES):
            scores[s, raters.index(r["rater"]), at[r["case_id"], r["kind"]]] = r[scale]
    kinds = {}
    for kind in sorted({k for _, k in texts}):
        mine = [r for r in rows if r["kind"] == kind]
        kinds[kind] = {s: round(float(np.mean([r[s] for r in mine])), 3) for s in SCALES} | {
            "ratings": len(mine), "seconds": round(float(np.median([r["seconds"] for r in mine])), 1),
            "edit_distance": round(float(np.mean([r["edit_distance"] for r in mine])), 2),
        }  # fmt: skip
    agreement = {scale: _alpha(scores[s]) for s, scale in enumerate(SCALES)}
    return {"ratings": len(rows), "raters": len(raters), "texts": len(texts), "kinds": kinds, "krippendorff_alpha": agreement,
            "correlation": _correlations(rows, texts, scores)}  # fmt: skip


def _alpha(scores: np.ndarray) -> float | None:
    """Ordinal alpha of (raters, texts) with NaN for not rated; None where nothing can disagree."""
    shared = (~np.isnan(scores)).sum(0) >= 2
    values = np.unique(scores[:, shared][~np.isnan(scores[:, shared])])
    if not shared.any() or len(values) < 2:
        return None
    return round(float(krippendorff.alpha(reliability_data=scores, level_of_measurement="ordinal")), 4)


def _correlations(rows: list[dict], texts: list[tuple[str, str]], scores: np.ndarray) -> dict:
    """Over texts that differ from their reference or not, {metric: {scale: {"rho", "p", "n"}}}; None below five texts."""
    by_text = {(r["case_id"], r["kind"]): r for r in rows}
    chosen = [by_text[t] for t in texts]
    metrics = item_scores([r["text"] for r in chosen], [r["reference"] for r in chosen])
    metrics["fewer_edits"] = [-float(r["edit_distance"]) for r in chosen]
    mean = np.nanmean(scores, axis=1)
    out: dict = {}
    for name, values in metrics.items():
        out[name] = {}
        for s, scale in enumerate(SCALES):
            flat = len(texts) < 5 or len(set(values)) < 2 or len(set(mean[s])) < 2
            found = None if flat else spearmanr(values, mean[s])
            out[name][scale] = (
                None
                if found is None
                else {"rho": round(float(found.statistic), 3), "p": round(float(found.pvalue), 4), "n": len(texts)}
            )
    return out


def readers_markdown(table: dict) -> str:
    lines = [f"{table['ratings']} ratings of {table['texts']} texts by {table['raters']} reader(s)", "",
             "| Version | ratings | correctness | completeness | wording | median seconds | words to edit |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [f"| {k} | {v['ratings']} | {v['correctness']} | {v['completeness']} | {v['wording']} | {v['seconds']} | {v['edit_distance']} |" for k, v in table["kinds"].items()]  # fmt: skip
    lines += ["", "| Scale | Krippendorff's alpha |", "|---|---|"]
    lines += [f"| {s} | {'too few shared texts' if a is None else a} |" for s, a in table["krippendorff_alpha"].items()]
    lines += ["", "| Metric | " + " | ".join(f"{s}: Spearman's rho (p)" for s in SCALES) + " |", "|---|---|---|---|"]
    for name, row in table["correlation"].items():
        cells = ["–" if row[s] is None else f"{row[s]['rho']} ({row[s]['p']})" for s in SCALES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
