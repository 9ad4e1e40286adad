"""What a paper needs: table.csv, table.tex and figure.png."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from ..io.cells import harmless_row
from ..plotting.pyplot import plt
from .fold import FUSED
from .results import CrossValidation, Estimate

COLUMNS = ("model", "subset", "finding", "metric", "mean", "low", "high", "cases", "positives")
NAMES = {
    FUSED: "fused",
    "logit_stack": "logistic stack",
    "late_concat": "late concatenation",
    "hand_boosting": "hand features, boosting",
    "shuffled_labels": "shuffled labels, boosting",
    "shuffled_labels_network": "shuffled labels, fused",
}


def write_papers(out: Path, found: CrossValidation) -> list[str]:
    """Write the three files; their names."""
    _write_csv(out / "table.csv", found)
    (out / "table.tex").write_text(_latex(found), encoding="utf-8")
    _write_figure(out / "figure.png", found)
    return ["table.csv", "table.tex", "figure.png"]


def models_of(found: CrossValidation) -> dict[str, dict[str, dict[str, Estimate]]]:
    """The fused model and every baseline: subset → metric."""
    return {FUSED: found.subsets, **found.baselines}


def _rows(found: CrossValidation) -> Iterator[tuple[object, ...]]:
    for model, by_subset in models_of(found).items():
        for subset, metrics in by_subset.items():
            for metric, value in metrics.items():
                yield (model, subset, "", metric, *_cells(value), found.cases[subset], "")
    for finding_id, finding in found.per_finding.items():
        for subset, value in finding.auroc.items():
            yield (
                FUSED,
                subset,
                finding_id,
                "auroc",
                *_cells(value),
                found.cases[subset],
                finding.positives,
            )


def _cells(value: Estimate) -> tuple[object, object, object]:
    low, high = value.ci95 or ("", "")
    return ("" if value.mean is None else value.mean), low, high


def _write_csv(path: Path, found: CrossValidation) -> None:
    with path.open("w", newline="", encoding="utf-8") as f:
        out = csv.writer(f)
        out.writerow(COLUMNS)
        out.writerows(harmless_row(row) for row in _rows(found))


SPECIAL = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": " ", "^": " "})


def _tex(text: str) -> str:
    return text.translate(SPECIAL)


def _latex(found: CrossValidation) -> str:
    """One table (booktabs): macro AUROC with interval, calibration error and Brier score of each model."""
    kind = "simulated patients" if found.simulated else "patients"
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{llrrrr}",
        "\\toprule",
        "Model & Modalities & Cases & Macro AUROC (95\\,\\% interval) & ECE & Brier \\\\",
    ]
    for model, by_subset in models_of(found).items():
        lines.append("\\midrule")
        for subset, metrics in by_subset.items():
            cells = [
                _tex(NAMES.get(model, model)),
                _tex(subset),
                str(found.cases[subset]),
                _interval(metrics["macro_auroc"]),
                _number(metrics["ece"]),
                _number(metrics["brier"]),
            ]
            lines.append(" & ".join(cells) + " \\\\")
    lines += [
        "\\bottomrule",
        "\\end{tabular}",
        f"% {found.n} cases of {found.patients} {kind}; {found.repeats} times {found.folds}-fold "
        "cross-validation; intervals by a bootstrap over patients",
    ]
    return "\n".join(lines) + "\n"


def _number(value: Estimate) -> str:
    return "--" if value.mean is None else f"{value.mean:.3f}"


def _interval(value: Estimate) -> str:
    if value.ci95 is None:
        return _number(value)
    return f"{_number(value)} ({value.ci95[0]:.3f}--{value.ci95[1]:.3f})"


def _write_figure(path: Path, found: CrossValidation) -> None:
    """Macro AUROC of every model on every subset, with its interval."""
    models = models_of(found)
    subsets = list(found.subsets)
    tall = 1.5 + 0.22 * len(subsets) * len(models)
    figure, axis = plt.subplots(figsize=(7.5, max(3.0, tall)), layout="constrained")
    step = 0.8 / max(1, len(models))
    for m, (model, by_subset) in enumerate(models.items()):
        points = [
            (s + m * step, value.mean, value.ci95 or [value.mean, value.mean])
            for s, subset in enumerate(subsets)
            if subset in by_subset and (value := by_subset[subset]["macro_auroc"]).mean is not None
        ]
        y = [at for at, _, _ in points]
        x = [mean for _, mean, _ in points]
        low = [max(0.0, mean - ends[0]) for _, mean, ends in points]
        high = [max(0.0, ends[1] - mean) for _, mean, ends in points]
        bars = [low, high]
        axis.errorbar(x, y, xerr=bars, fmt="o", ms=4, capsize=2, label=NAMES.get(model, model))
    axis.axvline(0.5, color="grey", lw=0.8, ls="--")
    axis.set_yticks([s + 0.4 - step / 2 for s in range(len(subsets))], subsets)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.02)
    axis.set_xlabel("macro AUROC on cases left out, 95 % interval by patient")
    kind = "simulated patients" if found.simulated else "patients"
    axis.set_title(f"{found.n} cases of {found.patients} {kind}, {found.repeats} × {found.folds} folds")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
