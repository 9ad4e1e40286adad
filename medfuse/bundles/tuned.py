"""A copy of a bundle with shifted findings: what `medfuse tune` writes. The old bundle stays as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from ..errors import WrongUse
from .bundle import Bundle
from .card import card_text
from .contracts import Calibration, read_contract
from .seal import seal


def tuned_copy(bundle: Bundle, out: Path, shift: Mapping[str, float], note: Mapping[str, object]) -> None:
    """Copy to ``out``, which must be new; add the shifts to those it has, and the note to its cards as
    ``tuned``. How often probabilities came true (reliability) is left out: it was counted before the
    shift."""
    if out.exists():
        raise WrongUse(f"--out {out}: is there already; give the name of a new folder")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(bundle.path, part)
    calibration = read_contract(part / "calibration.json", Calibration)
    added = {f: round(calibration.shift.get(f, 0.0) + v, 4) for f, v in shift.items()}
    changed = calibration.model_copy(update={"shift": {**calibration.shift, **added}, "reliability": {}})
    (part / "calibration.json").write_text(changed.model_dump_json(indent=1), encoding="utf-8")
    card = {**bundle.card, "tuned": dict(note)}
    (part / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    (part / "MODEL_CARD.md").write_text(card_text(card, bundle.domain), encoding="utf-8")
    seal(part)
    part.rename(out)
