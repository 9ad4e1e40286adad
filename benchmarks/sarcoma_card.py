"""Put what `real.py --set sarcoma` printed into the card of a bundle, and seal it again.

python benchmarks/real.py --set sarcoma --steps 500 > table.md
python benchmarks/sarcoma_card.py soft-tissue-mass-real table.md --command "real.py --set sarcoma --steps 500"
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from medfuse.bundles.bundle import load_bundle
from medfuse.bundles.card import card_text
from medfuse.bundles.seal import FOR_PEOPLE, seal

SUBSETS = ("CT", "MR", "PT", "CT+MR", "CT+PT", "MR+PT", "CT+MR+PT")
CONTROLS = ("size", "shape", "headers", "mean mask", "shuffled")
GAINS = {
    "all - size": "that all sensors together outline better than an ellipsoid of the crop's own size",
    "all - shape": "that they outline better than an ellipsoid by regression on the crop's sides",
    "all - best alone": "that all sensors together outline better than the best one alone",
}


def rows_of(table: str) -> dict[str, dict[str, str]]:
    """Row name → metric → "value [low, high]" of a printed table; controls lose their asterisks."""
    lines = [[c.strip() for c in x.strip("|").split("|")] for x in table.splitlines() if x.startswith("|")]
    head = lines[0][1:]
    return {
        cells[0].strip("*"): dict(zip(head, cells[1:], strict=True))
        for cells in lines[1:]
        if not cells[0].startswith("---")
    }


def figures(table: str, command: str) -> dict[str, str]:
    """Rows of the card: figures with intervals, and what is shown and what is not."""
    rows = rows_of(table)
    said = {True: [], False: []}  # type: dict[bool, list[str]]
    for name, what in GAINS.items():
        if name not in rows:
            said[False].append(f"{what} (no interval was printed)")
            continue
        low = float(rows[name]["dice"].split("[")[1].split(",")[0])
        said[low > 0].append(f"{what}: Dice {rows[name]['dice']} more")

    def of(names: tuple[str, ...], metric: str) -> str:
        return "; ".join(f"{n} {rows[n][metric]}" for n in names if rows.get(n, {}).get(metric, "–") != "–")

    return {
        "cross_validation": f"of the same recipe, not of these weights: {command}; {_last(table)}",
        "cross_validation_dice": of(SUBSETS, "dice"),
        "cross_validation_long_axis_error_mm": of(SUBSETS, "long_axis_error_mm"),
        "cross_validation_within_10_mm": of(SUBSETS, "within_10_mm"),
        "cross_validation_matched": of(SUBSETS, "matched"),
        "controls_dice": of(CONTROLS, "dice"),
        "shown": "; ".join(said[True]) or "nothing beyond the controls",
        "not_shown": "; ".join([*said[False], "anything on prognosis", "anything on volumes without a mass"]),
    }


def _last(table: str) -> str:
    return next(x for x in reversed(table.splitlines()) if x.strip() and not x.startswith("|"))


def main() -> None:
    """Write card.json, MODEL_CARD.md and files.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("table", type=Path, help="what real.py printed")
    parser.add_argument("--command", required=True, help="the command that printed it")
    given = parser.parse_args()
    bundle = load_bundle(given.bundle)
    card = {**bundle.card, **figures(given.table.read_text(), given.command)}
    card["findings"] = "every patient has the one finding, so that its probability says nothing"
    (given.bundle / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False))
    (given.bundle / FOR_PEOPLE).write_text(card_text(card, bundle.domain))
    seal(given.bundle)


if __name__ == "__main__":
    main()
