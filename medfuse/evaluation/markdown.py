"""The tables of an evaluation as Markdown, for the docs to quote."""

from __future__ import annotations

from typing import Any

from .results import Evaluation, Interaction, Space


def markdown(evaluation: Evaluation) -> str:
    """All tables of an evaluation."""
    result: Any = evaluation.as_json()
    kind = "simulated" if result["simulated"] else "real"
    lines = [
        f"{result['n']} {kind} cases, bundle `{result['bundle']['name']}` "
        f"{result['bundle']['hash'][:12]}, {result['machine']}",
        "",
        *_subsets(result),
        *_findings(result),
        *_calibration(result),
        *_gains(result),
    ]
    if result.get("interactions"):
        lines += ["", *interaction_rows(evaluation.interactions)]
    lines += [*_lesions(result), *_retrieval(result), *space_rows(evaluation.space)]
    for name in ("shifted", "control"):
        lines += _other_set(name, result.get(name) or {})
    return "\n".join(lines) + "\n"


def _subsets(result: Any) -> list[str]:
    """A row a subset of the modalities, beside the simple baselines."""
    lines = [
        "| Subset | n | Fusion: macro AUROC [95 %] | focal | diffuse | Logistic stack: macro | focal | "
        "Late concat: macro | focal |",
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
    return lines


def _findings(result: Any) -> list[str]:
    """A row a finding, a column a subset."""
    keys = list(result["subsets"])
    lines = ["", "| Finding | positives | " + " | ".join(keys) + " |", "|---|---|" + "---|" * len(keys)]
    for finding, row in result["per_finding"].items():
        lines.append(
            f"| {finding} | {row['positives']} | " + " | ".join(_number(row.get(k)) for k in keys) + " |"
        )
    return lines


def _calibration(result: Any) -> list[str]:
    """How well probabilities fit, a row a subset; and how often the likeliest of those that
    exclude each other is the true one."""
    lines = [
        "",
        "| Subset | expected calibration error | 90 % sets hold the answer | cannot tell |",
        "|---|---|---|---|",
    ]
    for k, v in result["calibration"].items():
        lines.append(
            f"| {k} | {v['ece']:.3f} | {_number(v.get('coverage90'))} | {_number(v.get('cannot_tell'))} |"
        )
    for k, share in result.get("accuracy", {}).items():
        lines += ["", f"Accuracy among the findings of which one holds ({k}): {_number(share)}."]
    return lines


def _lesions(result: Any) -> list[str]:
    """How well lesions were found, a row a modality, and matched between two."""
    lines = []
    if result.get("lesions"):
        lines += [
            "",
            "| Lesions | true | sensitivity at 1 false positive a case | outlines met there | Dice "
            "| diameter error (median, mm) |",
            "|---|---|---|---|---|---|",
        ]
        for m, row in result["lesions"].items():
            cells = [
                _number(row["sensitivity_at_1fp"]),
                _number(row.get("outlined_at_1fp")),
                _number(row["dice"]),
                "–" if row["diameter_error_mm"] is None else f"{row['diameter_error_mm']:.1f}",
            ]
            lines.append(f"| {m} | {row['true_lesions']} | " + " | ".join(cells) + " |")
    lines += _sizes(result.get("lesion_sizes", {}))
    for pair, row in result.get("lesion_matches", {}).items():
        lines += [
            "",
            f"Lesions of {pair} called one: {row['pairs_said']} pairs, of them rightly "
            f"{_number(row['precision'])}; of the {row['pairs_possible']} true lesions that both "
            f"found, matched {_number(row['recall'])}.",
        ]
    return lines


def _sizes(rows: dict[str, Any]) -> list[str]:
    """Reported sizes, a row a modality."""
    if not rows:
        return []
    lines = [
        "",
        "| Reported sizes | reported | on a true lesion (different ones) | diameter error (median, mm): "
        "first look | second look | Dice: first look | second look |",
        "|---|---|---|---|---|---|---|",
    ]
    for m, row in rows.items():
        cells = [
            *(
                "–" if row[k] is None else f"{row[k]:.1f}"
                for k in ("first_look_error_mm", "diameter_error_mm")
            ),
            *(_number(row[k]) for k in ("first_look_dice", "dice")),
        ]
        found = f"{row['on_true']} ({row['true_found']})"
        lines.append(f"| {m} | {row['reported']} | {found} | " + " | ".join(cells) + " |")
    return lines


def _retrieval(result: Any) -> list[str]:
    found = {k: v for k, v in result.get("retrieval", {}).items() if isinstance(v, dict)}
    if not found:
        return []
    return [
        "",
        f"| Retrieval among {result['retrieval'].get('n', result['n'])} | R@1 | R@5 | R@10 |",
        "|---|---|---|---|",
        *(f"| {k} | {v['r1']:.3f} | {v['r5']:.3f} | {v['r10']:.3f} |" for k, v in found.items()),
    ]


def space_rows(space: Space) -> list[str]:
    """The matrix of senses, a row a pair with what guessing would give; none where nothing was compared."""
    if not space.matrix:
        return []
    lines = [
        "",
        "| From → to | n | R@1 | R@5 | R@10 | R@10 by chance | compared by | trained |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for pair, row in space.matrix.items():
        guess = space.chance[str(row.n)]["r10"]
        lines.append(
            f"| {pair.replace('->', ' → ')} | {row.n} | {row.r1:.3f} | {row.r5:.3f} | {row.r10:.3f} | "
            f"{guess:.3f} | {row.by} | {'yes' if row.trained else 'no: emergent'} |"
        )
    return lines


def _other_set(name: str, table: Any) -> list[str]:
    """The subsets of a further manifest; nothing where none was given."""
    if not table:
        return []
    lines = [
        "",
        f"| {name.capitalize()} set, n = {table['n']} | Fusion | focal | diffuse | Logistic "
        "stack | Late concat |",
        "|---|---|---|---|---|---|",
    ]
    for key, row in table["subsets"].items():
        others = [
            _number(table["baselines"][b].get(key, {}).get("macro_auroc"))
            for b in ("logit_stack", "late_concat")
        ]
        lines.append(
            f"| {key} | {_number(row['macro_auroc'])} | {_number(row['focal_auroc'])} | "
            f"{_number(row['diffuse_auroc'])} | {' | '.join(others)} |"
        )
    return lines


def _gains(result: Any) -> list[str]:
    """What fusion adds to the best modality alone and to the simple baselines, paired by patient."""
    lines = []
    gain = result.get("gain_over_best_single")
    if gain and gain["ci95"]:
        low, high = gain["ci95"]
        lines += [
            "",
            f"All modalities minus the best alone ({gain['best_single']}): {gain['difference']:+.3f} "
            f"[{low:+.3f}, {high:+.3f}], paired by patient.",
        ]
    for baseline, words in (("logit_stack", "the logistic stack"), ("late_concat", "late concatenation")):
        rows = list(result["baselines"][baseline].items())
        if rows and rows[-1][1]["fusion_minus_this"]["ci95"]:
            key, row = rows[-1]
            d = row["fusion_minus_this"]
            lines.append(
                f"Fusion minus {words} ({key}): {d['difference']:+.3f} [{d['ci95'][0]:+.3f}, "
                f"{d['ci95'][1]:+.3f}], paired by patient."
            )
    return lines


def interaction_rows(table: dict[str, Interaction]) -> list[str]:
    """What two modalities share and what each adds, a row a pair."""
    lines = [
        "| Usable bits a finding [95 %] | n | both alike | the first alone | the second alone | only "
        "together | most of it for |",
        "|---|---|---|---|---|---|---|",
    ]
    for pair, row in table.items():
        cells = [f"{p.bits:.3f} [{p.ci95[0]:.3f}, {p.ci95[1]:.3f}]" for p in row.parts()]
        lines.append("| " + " | ".join([pair, str(row.n), *cells, row.most_synergy]) + " |")
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
