"""Three simulated readers with known habits, for tests and benchmarks/tune.py: what they sign of what a
biased model said. Readers and probabilities are simulated; no image and no person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.special import expit

from medfuse.drafting.labeller import task_lexicon
from medfuse.task import load_task
from medfuse.training.signed import Predicted, statements

TASK = load_task("upper-abdomen")
LEXICON = task_lexicon(TASK)
IDS = tuple(f.id for f in TASK.findings)
SAY = tuple(f.id for f in TASK.findings if not f.derived_from)
SAID = {"present": "{} is present.", "possible": "Possible {}.", "absent": "No {}."}
# the model is that far off, in logits
BIAS = {"steatosis": -2.0, "ascites": 1.8, "dilated_ducts": -1.8, "simple_cyst": -1.8, "cirrhosis": 1.5}
NAMES = ("ann", "bo", "cy")


class Line:
    """One training record."""

    def __init__(self, case, finding, drafted, final, action, author, minute=0, kind="sentence"):
        name = TASK.finding(finding).label("en")
        self.case_id = case
        self.kind = kind
        self.action = action
        self.drafted = SAID[drafted].format(name) if drafted else ""
        self.final = SAID[final].format(name) if final else ""
        self.author = author
        self.made = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)


def world(reports=300, seed=0, bias=BIAS):
    """Cases with what is true of them and what a biased model says: case → (truth, chances)."""
    rng = np.random.default_rng(seed)
    out = {}
    for n in range(reports):
        z = rng.normal(-1.0, 2.2, len(SAY))
        truth = dict(zip(SAY, rng.random(len(SAY)) < expit(z), strict=True))
        off = np.array([bias.get(f, 0.0) for f in SAY])
        chances = dict(zip(SAY, expit(z + off).round(4).tolist(), strict=True))
        for f in TASK.findings:
            if f.derived_from:
                chances[f.id] = 1 - float(np.prod([1 - chances[x] for x in f.derived_from]))
        out[f"c{n}"] = truth, chances
    return out


def signed(cases, wrong=0.0, seed=1):
    """Records of three readers with habits: ann edits each draft that is wrong, bo rejects what is not
    there and adds what is missing, cy also hedges one in six. ``wrong``: the share that says the opposite
    of the truth."""
    rng = np.random.default_rng(seed)
    lines = []
    for n, (case, (truth, chances)) in enumerate(cases.items()):
        reader = NAMES[n % 3]
        for f in SAY:
            there = truth[f] != (rng.random() < wrong)
            drafted = "present" if chances[f] >= 0.4 else "absent"
            final = "present" if there else "absent"
            if reader == "cy" and rng.random() < 1 / 6:
                lines.append(Line(case, f, drafted, "possible", "edited", reader))
            elif drafted == final:
                lines.append(Line(case, f, drafted, final, "accepted", reader))
            elif reader == "bo":
                if drafted == "present":
                    lines.append(Line(case, f, drafted, "", "rejected", reader))
                else:
                    lines.append(Line(case, f, "", final, "added", reader))
            else:
                lines.append(Line(case, f, drafted, final, "edited", reader))
    return lines


def heard(lines, cases, **known):
    def of(case):
        return Predicted(patient=f"p{case}", chances=cases[case][1]) if case in cases else None

    return statements(lines, of, TASK, LEXICON, **known)
