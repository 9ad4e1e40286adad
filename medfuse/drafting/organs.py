"""Organs that words may name: one in which a finding is not looked for is outside the task."""

from __future__ import annotations

import re

from ..task import Finding, Task
from .labeller import task_lexicon

# organs that a question may name; one that is neither the task's nor the finding's own is not looked at
ORGANS = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "liver": r"\b(liver|hepatic)\b|肝",
        "gallbladder": r"\bgall ?bladder\b|膽囊",
        "kidney": r"\b(kidneys?|renal)\b|腎(?!上腺)",
        "adrenal gland": r"\badrenals?\b|腎上腺",
        "spleen": r"\b(spleen|splenic)\b|脾",
        "pancreas": r"\bpancrea\w*|胰",
        "lung": r"\b(lungs?|pulmonary)\b|肺",
        "heart": r"\b(heart|cardiac)\b|心臟",
        "brain": r"\b(brain|cerebral)\b|(?<!電)腦",
        "breast": r"\b(breasts?|mammary)\b|乳",
        "thyroid": r"\bthyroid\b|甲狀腺",
        "stomach": r"\b(stomach|gastric)\b|胃",
        "bowel": r"\b(bowel|colon\w*|intestin\w*)\b|腸",
        "bladder": r"\b(?<!gall )(urinary )?bladder\b|膀胱",
        "uterus": r"\b(uterus|uterine)\b|子宮",
        "ovary": r"\b(ovar(y|ies)|ovarian)\b|卵巢",
        "prostate": r"\bprostat\w*|攝護腺|前列腺",
        "bone": r"\b(bones?|vertebra\w*|spine)\b|骨|脊椎",
    }.items()
}


def organ_outside(question: str, finding: Finding, task: Task) -> str:
    """An organ that a question names and in which this finding is not looked for; "" where there is none."""
    lexicon = task_lexicon(task)
    words = [*finding.name.values(), task.organ, finding.region.replace("_", " ")]
    if lexicon is not None and finding.id in lexicon.patterns:
        words.append(re.sub(r"\\[a-z]", " ", lexicon.patterns[finding.id].pattern))
    own = " ".join(words)
    outside = (o for o, named in ORGANS.items() if named.search(question) and not named.search(own))
    return next(outside, "")
