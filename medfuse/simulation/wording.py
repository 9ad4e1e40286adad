"""Reference reports of simulated patients: what an attentive reader with all the images would write.

Several phrasings a sentence (`wording.yaml`), in English and Traditional Chinese; the last of each list is held out (used with
``held_out=True`` only), so that a text model can be tested on wording it has never seen.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import yaml

# what matters most comes first in an impression
RANK = (
    "abscess", "hcc_like", "metastasis_like", "dilated_ducts", "cirrhosis", "ascites", "haemangioma", "fnh_like",
    "septated_cyst", "iron", "steatosis", "gallstone", "simple_cyst", "calcified_granuloma",
)  # fmt: skip


@cache
def phrases(language: str = "en") -> dict:
    """{"positive": {finding: [...]}, "negative": …, "impression": …} and the names of lobes and headings."""
    return yaml.safe_load(files("medfuse.simulation").joinpath("wording.yaml").read_text())[language]


def languages() -> tuple[str, ...]:
    return tuple(yaml.safe_load(files("medfuse.simulation").joinpath("wording.yaml").read_text()))


def _pick(rng: np.random.Generator, options: list[str], held_out: bool) -> str:
    return options[-1] if held_out else options[int(rng.integers(0, len(options) - 1))]


def _place(lesion, words: dict) -> dict:
    lobe = words["right"] if lesion.centre[0] > 38 else words["left"]
    return {"lobe": lobe, "lobe_c": lobe.capitalize(), "mm": round(lesion.diameter)}


def report(rng: np.random.Generator, anatomy, *, held_out: bool = False, language: str = "en") -> str:
    """Findings in random order of organs, as free text."""
    words = phrases(language)
    positive, negative = words["positive"], words["negative"]
    sentences = [
        _pick(rng, positive[lesion.kind], held_out).format(**_place(lesion, words)) for lesion in anatomy.lesions
    ]
    if not anatomy.lesions:
        sentences.append(_pick(rng, negative["focal"], held_out))
    rest = [
        _pick(rng, positive[f] if anatomy.findings[f] else negative[f], held_out)
        for f in ("gallstone", "dilated_ducts", "ascites")
    ]
    diffuse = [_pick(rng, positive[f], held_out) for f in ("steatosis", "cirrhosis", "iron") if anatomy.findings[f]]
    rest += diffuse or [_pick(rng, negative["diffuse"], held_out)]
    rng.shuffle(rest)
    return ("" if language == "zh-TW" else " ").join(sentences + rest)


def sectioned(rng: np.random.Generator, anatomy, *, held_out: bool = False, language: str = "en") -> str:
    """The same with an impression, ranked by importance, under headings."""
    words = phrases(language)
    findings = report(rng, anatomy, held_out=held_out, language=language)
    lines = []
    for finding in RANK:
        places = {lesion.centre[0] > 38: lesion for lesion in anatomy.lesions if lesion.kind == finding}
        if places:  # one line a lobe
            lines += [
                _pick(rng, words["impression"][finding], held_out).format(**_place(x, words)) for x in places.values()
            ]
        elif anatomy.findings.get(finding):
            lines.append(_pick(rng, words["impression"][finding], held_out))
    lines = lines or [_pick(rng, words["impression"]["none"], held_out)]
    heading = words["headings"]
    gap = "" if language == "zh-TW" else " "
    return f"{heading['findings']}{gap}{findings}{gap}{heading['impression']}{gap}{gap.join(lines)}"
