"""`medfuse evaluate`: a bundle against a manifest, for every subset of the modalities, beside the simple baselines."""

from __future__ import annotations

import json
import platform
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..errors import UserError
from ..io.manifest import ManifestRow, load_row, read_manifest
from ..models.bundle import Bundle
from ..models.features import CaseFeatures, encode
from ..models.subsets import name as subset_name
from ..models.subsets import subsets, use_only
from ..preprocess.prepare import prepare
from .calibration import calibrated, expected_calibration_error
from .feature_set import FeatureSet, collect, label_matrix, predict_logits
from .findings import finding_auroc, table_row


def features_of(
    bundle: Bundle, rows: list[ManifestRow], device: str, progress: Callable[[int, int], None]
) -> tuple[FeatureSet, list[str]]:
    """Read, preprocess and encode every row; a row without a usable image is refused by name."""
    kept: list[ManifestRow] = []
    features: list[CaseFeatures] = []
    refused: list[str] = []
    encoders = bundle.model.encoders.to(device)

    def read(row: ManifestRow):
        case, _ = load_row(row)
        return case, prepare(case, bundle.task)

    with ThreadPoolExecutor(1) as pool:  # the next case is read while this one is encoded
        ahead = deque(pool.submit(read, row) for row in rows[:2])
        for n, row in enumerate(rows, 1):
            case, inputs = ahead.popleft().result()
            if n + 1 < len(rows):
                ahead.append(pool.submit(read, rows[n + 1]))
            refused += [f"{row.case_id}: {r.path}: {r.reason}" for r in case.refused]
            if case.images:
                one, _ = encode(encoders, inputs, bundle.task, torch.device(device), keep_dense=False)
                features.append(one)
                kept.append(row)
            else:
                refused.append(f"{row.case_id}: no usable image")
            progress(n, len(rows))
    encoders.to("cpu")
    return FeatureSet(
        [r.case_id for r in kept], features, label_matrix(bundle.task, kept), [r.report for r in kept]
    ), refused


def evaluate(
    bundle: Bundle, manifest: Path, *, device: str = "cpu", split: str | None = None, seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:  # fmt: skip
    """The machine-readable table. Rows with split "test" are used where there are any, else all of them."""
    started = time.perf_counter()
    rows = read_manifest(manifest)
    wanted = split or ("test" if any(r.split == "test" for r in rows) else None)
    rows = [r for r in rows if wanted is None or r.split == wanted]
    if not rows:
        raise UserError(f"{manifest}: no row has split {wanted}; give another --split")
    data, refused = features_of(bundle, rows, device, progress)
    if not data.case_ids:
        raise UserError(f"{manifest}: none of its {len(rows)} cases could be read; first: {refused[0]}")
    if (data.labels < 0).all():
        raise UserError(
            f"{manifest}: no row has a label of the task {bundle.task.name}; add labels to evaluate against"
        )
    result = tables(bundle, data, seed)
    result |= {
        "refused": refused, "manifest": str(manifest), "split": wanted, "simulated": all(r.simulated for r in rows),
        "bundle": {"name": bundle.name, "hash": bundle.hash}, "seed": seed, "seconds": round(time.perf_counter() - started, 1),
        "machine": f"{platform.machine()}, torch {torch.__version__}, medfuse {__version__}",
    }  # fmt: skip
    return result


def tables(bundle: Bundle, data: FeatureSet, seed: int) -> dict:
    task, model = bundle.task, bundle.model
    fused = collect(task, model.sizes, data)
    baselines = bundle.baselines()
    single_logits: dict[str, np.ndarray] = {}
    if baselines is not None:
        singles, stack, late = baselines
        for m, single in singles.items():
            single_logits[m] = predict_logits(single, collect(task, single.sizes, data).batch)
    out: dict = {
        "n": len(data.case_ids),
        "subsets": {},
        "baselines": {"logit_stack": {}, "late_concat": {}},
        "per_finding": {},
        "calibration": {},
    }
    for s in subsets(task.senses):
        there = np.all([data.has(m) for m in s], axis=0)
        if not there.any():
            continue
        key, labels = subset_name(s), data.labels[there]
        use = use_only(s, task.senses, len(data.labels))
        logits = predict_logits(model, fused.batch, use)[there]
        out["subsets"][key] = table_row(task, labels, logits, seed=seed)
        probability = calibrated(logits, bundle.temperature(key))
        out["calibration"][key] = {"ece": round(expected_calibration_error(labels, probability), 4)}
        auroc = finding_auroc(labels, logits)
        for f, finding in enumerate(task.findings):
            value = None if np.isnan(auroc[f]) else round(float(auroc[f]), 4)
            out["per_finding"].setdefault(
                finding.id, {"group": finding.group, "positives": int((data.labels[:, f] == 1).sum())}
            )[key] = value
        if baselines is not None:
            if key in stack.coefficients:
                out["baselines"]["logit_stack"][key] = table_row(
                    task, labels, stack.predict(s, {m: single_logits[m][there] for m in s}), seed=seed
                )
            out["baselines"]["late_concat"][key] = table_row(
                task, labels, predict_logits(late, fused.batch, use)[there], seed=seed
            )
    return out


def write_tables(result: dict, out: Path) -> None:
    """evaluation.json and a Markdown table that the README can quote."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(result, indent=1))
    (out / "evaluation.md").write_text(markdown(result))


def markdown(result: dict) -> str:
    kind = "simulated" if result["simulated"] else "real"
    lines = [
        f"{result['n']} {kind} cases, bundle `{result['bundle']['name']}` {result['bundle']['hash'][:12]}, {result['machine']}",
        "",
    ]
    lines += [
        "| Subset | n | Fusion: macro AUROC [95 %] | focal | diffuse | Logistic stack: macro | focal | Late concat: macro | focal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, row in result["subsets"].items():
        interval = "" if row["ci95"] is None else f" [{row['ci95'][0]:.3f}, {row['ci95'][1]:.3f}]"
        cells = [
            key,
            str(row["n"]),
            _number(row["macro_auroc"]) + interval,
            _number(row["focal_auroc"]),
            _number(row["diffuse_auroc"]),
        ]
        for baseline in ("logit_stack", "late_concat"):
            other = result["baselines"][baseline].get(key, {})
            cells += [_number(other.get("macro_auroc")), _number(other.get("focal_auroc"))]
        lines.append("| " + " | ".join(cells) + " |")
    keys = list(result["subsets"])
    lines += ["", "| Finding | positives | " + " | ".join(keys) + " |", "|---|---|" + "---|" * len(keys)]
    for finding, row in result["per_finding"].items():
        lines.append(f"| {finding} | {row['positives']} | " + " | ".join(_number(row.get(k)) for k in keys) + " |")
    lines += ["", "| Subset | expected calibration error |", "|---|---|"]
    lines += [f"| {k} | {v['ece']:.3f} |" for k, v in result["calibration"].items()]
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
