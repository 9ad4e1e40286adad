"""Words → findings: which findings a text affirms, hedges or denies, with side and size. Rules in the manner
of NegEx.

A lexicon is data (YAML): for each finding the patterns that name it, and patterns that deny it outright
("gallbladder is unremarkable"). Negation and uncertainty reach to the end of their clause. (Chapman et al., J
Biomed Inform 2001; CheXpert labeller, Irvin et al. 2019.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from ..errors import UserError
from ..foreign import yaml_as_json
from ..pattern import Pattern, Place
from ..task import Task
from .sections import split_sentences

Said = Literal["present", "possible", "absent"]

_NEGATION = re.compile(
    r"\b(no|not|without|free of|absence of|absent|negative for|never|neither|nor|resolved|cleared|"
    r"rather than|rule out|ruled out)\b|無(?!回音|痛|顯影|增強|併發)|未見|未發現|沒有|未有|排除",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\b(not|wasn't|weren't)\b|\b(is|are|was|were) (absent|excluded|ruled out|normal|unremarkable)\b|未見",
    re.IGNORECASE,
)
_NOT_A_NEGATION = re.compile(
    r"\bno (significant )?(interval )?change\b|\bnot excluded\b|\bcannot be excluded\b|\bnot only\b|"
    r"\bwithout (iv |intravenous )?contrast\b|\bwithout (significant )?(interval )?change\b|"
    r"無法排除|不(?:能)?排除|無明顯變化",
    re.IGNORECASE,
)
DOUBT = re.compile(
    r"\b(possible|possibly|possibility|probable|probably|may|might|could|suspicious|suspected|suspect|"
    r"likely|suggest\w*|favou?r\w*|cannot be excluded|not excluded|questionable|equivocal)\b|"
    r"疑|可能|無法排除|不(?:能)?排除|傾向",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"[;；]|,\s*(?:but|however|although)\b|\bbut\b|\bhowever\b|\bexcept\b|\bapart from\b|，但|但是|惟",
    re.IGNORECASE,
)
RIGHT = re.compile(r"\bright\b|右", re.IGNORECASE)
LEFT = re.compile(r"\bleft\b|左", re.IGNORECASE)
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:[x×]\s*(\d+(?:\.\d+)?)\s*)?(mm|cm|公分|毫米)", re.IGNORECASE)


@dataclass(frozen=True)
class Claim:
    """What one sentence says of one finding. side "" where none or both are named; size_mm the longest
    stated."""

    finding: str
    said: Said
    side: str = ""
    size_mm: float | None = None
    sentence: str = ""


@dataclass(frozen=True)
class Lexicon:
    """patterns: finding → what names it; denied: finding → what says outright that it is absent."""

    patterns: dict[str, Pattern]
    denied: dict[str, Pattern] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[str, ...]:
        """Ids of the findings that it has words for."""
        return tuple(self.patterns)


@cache
def load_lexicon(path: str | Path) -> Lexicon:
    """Read a lexicon. Raises UserError that names the file and the finding whose pattern is wrong."""
    try:
        data = yaml_as_json(Path(path).read_text(encoding="utf-8"))
        every = {
            f: Pattern.any_of(row.get("names", []), f"{path}: finding {f}")
            for f, row in data["findings"].items()
        }
        denied = {
            f: Pattern.any_of(row["denied"], f"{path}: finding {f}")
            for f, row in data["findings"].items()
            if row.get("denied")
        }
    except (KeyError, AttributeError, TypeError, yaml.YAMLError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not a lexicon ({e}); compare with the shipped lexicon.yaml") from e
    return Lexicon(every, denied)


def task_lexicon(task: Task) -> Lexicon | None:
    """The lexicon beside a task's templates, where there is one."""
    path = Path(task.folder) / "lexicon.yaml"
    return load_lexicon(path) if path.exists() else None


def claims(text: str, lexicon: Lexicon) -> list[Claim]:
    """Every claim in order of appearance, at most one a finding and sentence."""
    return [claim for sentence in split_sentences(text) for claim in sentence_claims(sentence, lexicon)]


def sentence_claims(sentence: str, lexicon: Lexicon) -> list[Claim]:
    """What one sentence says: a denial outright, else each name with the negation or doubt that governs
    it."""
    side = ""
    right = bool(RIGHT.search(sentence))
    left = bool(LEFT.search(sentence))
    if right != left:
        side = "right" if right else "left"
    sizes = [size_in_mm(m) for m in SIZE.finditer(sentence)]
    size = max(sizes, default=None)
    out: dict[str, Claim] = {}
    for clause in _clauses(sentence):
        for finding, pattern in lexicon.patterns.items():
            denial = lexicon.denied.get(finding)
            if denial is not None and denial.search(clause):
                out.setdefault(finding, Claim(finding, "absent", sentence=sentence))
                continue
            for place in pattern.places(clause):
                said = _governed(clause, place)
                before = out.get(finding)
                if before is None or _WEIGHT[said] > _WEIGHT[before.said]:
                    out[finding] = Claim(finding, said, side, size if said != "absent" else None, sentence)
    return list(out.values())


def doubted(sentence: str, lexicon: Lexicon) -> set[str]:
    """Findings that a sentence names with a doubt anywhere, though another clause may name what is seen of
    them without one."""
    return {
        finding
        for clause in _clauses(sentence)
        for finding, pattern in lexicon.patterns.items()
        if any(_governed(clause, place) == "possible" for place in pattern.places(clause))
    }


_WEIGHT = {"absent": 0, "possible": 1, "present": 2}


def size_in_mm(m: re.Match) -> float:
    """The larger number of a match of one or two, in mm."""
    values = [float(v) for v in m.groups()[:2] if v]
    return max(values) * (10.0 if m[3].lower() in ("cm", "公分") else 1.0)


def _clauses(sentence: str) -> list[str]:
    return [c for c in _CLAUSE.split(sentence) if c and c.strip()]


def _governed(clause: str, place: Place) -> Said:
    plain = _NOT_A_NEGATION.sub(lambda x: "~" * len(x[0]), clause)
    before = plain[: place.start]
    after = plain[place.end :]
    if _NEGATION.search(before) or _AFTER.search(after):
        return "absent"
    return "possible" if DOUBT.search(clause) else "present"


def label(text: str, lexicon: Lexicon) -> dict[str, Said | None]:
    """Finding → the strongest thing said of it in the whole text, None where it is not mentioned."""
    out: dict[str, Said | None] = dict.fromkeys(lexicon.findings)
    for claim in claims(text, lexicon):
        before = out[claim.finding]
        if before is None or _WEIGHT[claim.said] > _WEIGHT[before]:
            out[claim.finding] = claim.said
    return out
