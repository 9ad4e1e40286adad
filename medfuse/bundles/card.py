"""The model card of a bundle as Markdown."""

from __future__ import annotations

import json

from .domain import Domain


def card_text(card: dict, domain: Domain) -> str:
    """MODEL_CARD.md of a card and the domain it was validated in."""
    lines = [f"# {card['name']}", "", card["summary"], ""]
    if domain.simulated:
        lines += [
            "**Trained and validated on simulated patients only. It is outside its domain on every "
            "real image.**",
            "",
        ]
    lines += ["Research use only; not a medical device.", "", "| | |", "|---|---|"]
    for key, value in card.items():
        if key not in ("name", "summary"):
            lines.append(
                f"| {key.replace('_', ' ')} | "
                f"{value if isinstance(value, str) else '`' + json.dumps(value) + '`'} |"
            )
    return "\n".join(lines) + "\n"
