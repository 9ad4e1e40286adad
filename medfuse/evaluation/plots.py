"""What an evaluation looks like: ROC by finding, reliability, and what is gained by leaving the unsure ones
out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from ..plotting.pyplot import Axes, plt
from ..task import Task
from .results import Curves

COLOURS = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]


def write_plots(
    task: Task, scored: dict[str, tuple[np.ndarray, np.ndarray]], out: Path, *, simulated: bool
) -> list[str]:
    """roc.png of the largest subset, reliability.png and risk_coverage.png of all, and curves.json with what
    they draw.

    scored: subset → labels (B, F) with -1 for unknown, calibrated probability (B, F).
    """
    kind = "simulated patients" if simulated else "real cases"
    found = curves(task, scored)
    (out / "curves.json").write_text(json.dumps(found.as_json()), encoding="utf-8")
    every = found.as_json()
    names = []
    for name, draw in (
        ("roc.png", _roc),
        ("reliability.png", _reliability),
        ("risk_coverage.png", _risk_coverage),
    ):
        figure, axis = plt.subplots(figsize=(8.5, 6), layout="constrained")
        draw(axis, every)
        axis.set_title(f"{axis.get_title()} ({kind})")
        axis.grid(alpha=0.3)
        figure.savefig(out / name, dpi=110)
        plt.close(figure)
        names.append(name)
    return [*names, "curves.json"]


def curves(task: Task, scored: dict[str, tuple[np.ndarray, np.ndarray]]) -> Curves:
    """{"roc": {"subset", "findings": {id: {"points", "area"}}}, "reliability": {subset: points}, "risk":
    {subset: points}}."""
    subset, (labels, p) = list(scored.items())[-1]
    roc = {}
    for f, finding in enumerate(task.findings):
        known = labels[:, f] >= 0
        if len(np.unique(labels[known, f])) == 2:
            x, y, _ = roc_curve(labels[known, f], p[known, f])
            roc[finding.id] = {"points": _pairs(x, y), "area": round(float(np.trapezoid(y, x)), 4)}
    flat = {s: (y[y >= 0], q[y >= 0]) for s, (y, q) in scored.items()}
    return Curves.model_validate(
        {
            "roc": {"subset": subset, "findings": roc},
            "reliability": {s: _reliability_points(*yq) for s, yq in flat.items()},
            "risk": {s: _risk_points(*yq) for s, yq in flat.items()},
        }
    )


def _pairs(x: Iterable[float], y: Iterable[float]) -> list[list[float]]:
    return [[round(float(a), 4), round(float(b), 4)] for a, b in zip(x, y, strict=True)]


def _reliability_points(y: np.ndarray, q: np.ndarray) -> list[list[float]]:
    """Mean probability and share present, in ten bins with at least 20 answers."""
    which = np.clip(np.digitize(q, np.linspace(0, 1, 11)) - 1, 0, 9)
    bins = [which == b for b in range(10) if (which == b).sum() >= 20]
    return _pairs([q[b].mean() for b in bins], [y[b].mean() for b in bins])


def _risk_points(y: np.ndarray, q: np.ndarray) -> list[list[float]]:
    """Errors among the answers that are kept, when the least sure are left out first."""
    order = np.argsort(-np.abs(q - 0.5), kind="stable")
    wrong = np.cumsum(((q >= 0.5) != (y == 1))[order])
    at = (
        np.unique(np.linspace(1, len(wrong), min(200, len(wrong))).astype(int))
        if len(wrong)
        else np.array([], int)
    )
    return _pairs(at / max(1, len(wrong)), wrong[at - 1] / at)


def _roc(axis: Axes, every: dict) -> None:
    for n, (name, curve) in enumerate(every["roc"]["findings"].items()):
        axis.plot(
            *zip(*curve["points"], strict=True), color=COLOURS[n % 20], label=f"{name} {curve['area']:.2f}"
        )
    axis.plot([0, 1], [0, 1], color="grey", lw=0.8, ls="--")
    title = f"ROC with {every['roc']['subset']}: finding and area"
    axis.set(xlabel="1 − specificity", ylabel="sensitivity", title=title, aspect="equal")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _lines(axis: Axes, lines: dict[str, list], **style: Any) -> None:
    for n, (subset, points) in enumerate(lines.items()):
        if points:
            axis.plot(*zip(*points, strict=True), color=COLOURS[2 * n % 20], label=subset, **style)
    axis.legend(fontsize=9, loc="upper left")


def _reliability(axis: Axes, every: dict) -> None:
    axis.plot([0, 1], [0, 1], color="grey", lw=0.8, ls="--")
    axis.set(
        xlabel="probability said (bins of at least 20)",
        ylabel="share that were present",
        title="Reliability",
        aspect="equal",
    )
    _lines(axis, every["reliability"], marker="o", ms=4)


def _risk_coverage(axis: Axes, every: dict) -> None:
    axis.set(
        xlabel="share of answers given, surest first",
        ylabel="share of them wrong",
        title="Risk and coverage",
        xlim=(0, 1),
        ylim=(0, None),
    )
    _lines(axis, every["risk"])
