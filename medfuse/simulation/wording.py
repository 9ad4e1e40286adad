"""Reference reports of simulated patients: what an attentive reader with all the images would write.

Several phrasings a sentence (`wording.yaml`), in English and Traditional Chinese; the last of each list is
held out (used with ``held_out=True`` only), so that a text model can be tested on wording it has never seen.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict

from .anatomy import Anatomy
from .shapes import Lesion

# what matters most comes first in an impression
RANK = (
    "abscess",
    "hcc_like",
    "metastasis_like",
    "dilated_ducts",
    "cirrhosis",
    "ascites",
    "haemangioma",
    "fnh_like",
    "septated_cyst",
    "iron",
    "steatosis",
    "gallstone",
    "simple_cyst",
    "calcified_granuloma",
)


class Headings(BaseModel):
    """What stands above each section."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    findings: str
    impression: str


class Phrases(BaseModel):
    """Every sentence of one language, by finding; and the names of the lobes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    right: str
    left: str
    headings: Headings
    positive: dict[str, list[str]]
    negative: dict[str, list[str]]
    impression: dict[str, list[str]]


@cache
def _by_language() -> dict[str, Phrases]:
    raw = yaml.safe_load(files("medfuse.simulation").joinpath("wording.yaml").read_text(encoding="utf-8"))
    return {language: Phrases(**branch) for language, branch in raw.items()}


def phrases(language: str = "en") -> Phrases:
    """The sentences of one language, as wording.yaml has them."""
    return _by_language()[language]


def languages() -> tuple[str, ...]:
    """The languages that reports can be written in."""
    return tuple(_by_language())


def _pick(rng: np.random.Generator, options: list[str], held_out: bool) -> str:
    return options[-1] if held_out else options[int(rng.integers(0, len(options) - 1))]


def _place(lesion: Lesion, words: Phrases) -> dict[str, object]:
    lobe = words.right if lesion.centre[0] > 38 else words.left
    return {"lobe": lobe, "lobe_c": lobe.capitalize(), "mm": round(lesion.diameter)}


def report(
    rng: np.random.Generator, anatomy: Anatomy, *, held_out: bool = False, language: str = "en"
) -> str:
    """Findings in random order of organs, as free text."""
    words = phrases(language)
    positive = words.positive
    negative = words.negative
    sentences = [
        _pick(rng, positive[lesion.kind], held_out).format(**_place(lesion, words))
        for lesion in anatomy.lesions
    ]
    if not anatomy.lesions:
        sentences.append(_pick(rng, negative["focal"], held_out))
    rest = [
        _pick(rng, positive[f] if anatomy.findings[f] else negative[f], held_out)
        for f in ("gallstone", "dilated_ducts", "ascites")
    ]
    diffuse = [
        _pick(rng, positive[f], held_out) for f in ("steatosis", "cirrhosis", "iron") if anatomy.findings[f]
    ]
    rest += diffuse or [_pick(rng, negative["diffuse"], held_out)]
    rng.shuffle(rest)
    return ("" if language == "zh-TW" else " ").join(sentences + rest)


def sectioned(
    rng: np.random.Generator, anatomy: Anatomy, *, held_out: bool = False, language: str = "en"
) -> str:
    """The same with an impression, ranked by importance, under headings."""
    words = phrases(language)
    findings = report(rng, anatomy, held_out=held_out, language=language)
    lines = []
    for finding in RANK:
        places = {lesion.centre[0] > 38: lesion for lesion in anatomy.lesions if lesion.kind == finding}
        if places:  # one line a lobe
            lines += [
                _pick(rng, words.impression[finding], held_out).format(**_place(x, words))
                for x in places.values()
            ]
        elif anatomy.findings.get(finding):
            lines.append(_pick(rng, words.impression[finding], held_out))
    lines = lines or [_pick(rng, words.impression["none"], held_out)]
    heading = words.headings
    gap = "" if language == "zh-TW" else " "
    return f"{heading.findings}{gap}{findings}{gap}{heading.impression}{gap}{gap.join(lines)}"
