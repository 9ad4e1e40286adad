"""What an evaluation looks like: ROC by finding, reliability, and what is gained by leaving the unsure ones out."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_curve

from ..task import Task

COLOURS = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]


def write_plots(
    task: Task, scored: dict[str, tuple[np.ndarray, np.ndarray]], out: Path, *, simulated: bool
) -> list[str]:
    """roc.png of the largest subset, reliability.png and risk_coverage.png of all; scored: subset → labels, probability."""
    kind = "simulated patients" if simulated else "real cases"
    names = []
    for name, draw in (("roc.png", _roc), ("reliability.png", _reliability), ("risk_coverage.png", _risk_coverage)):
        figure, axis = plt.subplots(figsize=(8.5, 6), layout="constrained")
        draw(axis, task, scored)
        axis.set_title(f"{axis.get_title()} ({kind})")
        axis.grid(alpha=0.3)
        figure.savefig(out / name, dpi=110)
        plt.close(figure)
        names.append(name)
    return names


def _roc(axis, task: Task, scored: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    subset, (labels, p) = list(scored.items())[-1]
    for f, finding in enumerate(task.findings):
        known = labels[:, f] >= 0
        if len(np.unique(labels[known, f])) < 2:
            continue
        x, y, _ = roc_curve(labels[known, f], p[known, f])
        axis.plot(x, y, color=COLOURS[f % 20], label=f"{finding.id} {np.trapezoid(y, x):.2f}")
    axis.plot([0, 1], [0, 1], color="grey", lw=0.8, ls="--")
    axis.set(
        xlabel="1 − specificity", ylabel="sensitivity", title=f"ROC with {subset}: finding and area", aspect="equal"
    )
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _reliability(axis, task: Task, scored: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    edges = np.linspace(0, 1, 11)
    for n, (subset, (labels, p)) in enumerate(scored.items()):
        known = labels >= 0
        y, q = labels[known], p[known]
        which = np.clip(np.digitize(q, edges) - 1, 0, 9)
        points = [(q[which == b].mean(), y[which == b].mean()) for b in range(10) if (which == b).sum() >= 20]
        axis.plot(*zip(*points, strict=True), marker="o", ms=4, color=COLOURS[2 * n % 20], label=subset)
    axis.plot([0, 1], [0, 1], color="grey", lw=0.8, ls="--")
    axis.set(
        xlabel="probability said (bins of at least 20)",
        ylabel="share that were present",
        title="Reliability",
        aspect="equal",
    )
    axis.legend(fontsize=9, loc="upper left")


def _risk_coverage(axis, task: Task, scored: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Errors among the answers that are kept, when the least sure are left out first."""
    for n, (subset, (labels, p)) in enumerate(scored.items()):
        known = labels >= 0
        y, q = labels[known], p[known]
        order = np.argsort(-np.abs(q - 0.5), kind="stable")
        wrong = ((q >= 0.5) != (y == 1))[order]
        share = np.arange(1, len(wrong) + 1) / len(wrong)
        axis.plot(share, np.cumsum(wrong) / np.arange(1, len(wrong) + 1), color=COLOURS[2 * n % 20], label=subset)
    axis.set(
        xlabel="share of answers given, surest first",
        ylabel="share of them wrong",
        title="Risk and coverage",
        xlim=(0, 1),
        ylim=(0, None),
    )
    axis.legend(fontsize=9, loc="upper left")
