"""One long sentence → statements, each about one thing at one place: what is denied in one clause is not
denied in the next, and a size or a side belongs to the lesion it stands with. English, Traditional Chinese.

A statement that names no finding ("and is not seen on ultrasound") speaks of the last one that was named, or,
at the start of a sentence, of the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

from ..pattern import Pattern
from .doubts import UNLIKELY
from .labeller import DOUBT, LEFT, RIGHT, SIZE, Claim, Lexicon, Said, sentence_claims, size_in_mm
from .roles_said import without_dissent

_DETERMINED = r"(?:an?|the|there|another|two|three|four|multiple|several|many|it|its|this|these)\b"
_HARD = re.compile(  # a new statement begins here whatever follows
    rf"[;；，]|,?\s*\b(?:but|however|while|whilst|whereas|although|though)\b|,\s*(?:and\s+)?(?=no\b|without\b)|"
    rf",\s*and\s+(?={_DETERMINED})|\band\s+(?=no\b)|,?\s*\bas (?:is|are)\b|"
    r"但是?|惟|並(?=有|可見|伴)|合併|伴有",
    re.IGNORECASE,
)
_SOFT = re.compile(r",\s*(?:and\s+)?|\band\b|[及與和、]", re.IGNORECASE)
_BREAK = re.compile(rf"(?P<hard>{_HARD.pattern})|(?:{_SOFT.pattern})", re.IGNORECASE)
_DETERMINED_FIRST = re.compile(rf"\s*{_DETERMINED}", re.IGNORECASE)
_SHORT = 12  # characters of a doubt that belongs to what stands before it
_BRACKETS = re.compile(r"\([^()]*\)|（[^（）]*）")
_RELATIVE = re.compile(r"[\s,]*(?:which|that|who)\b", re.IGNORECASE)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|lies?|measures?|shows?|demonstrates?|contains?|enhances?|appears?|"
    r"raises?|suggests?|remains?|can|could|may|might|cannot|does|do|represents?|exhibits?|displays?)\b|"
    r"[見有呈為示無未疑具達約在於屬像]|位於|可能|符合",
    re.IGNORECASE,
)
_DENIES = re.compile(r"\b(?:no|not|without|neither|free of|negative for)\b|無|未|沒有|排除", re.IGNORECASE)
_LEFT_SEGMENT = re.compile(
    r"\bsegments?\s+(?:II|III|IV[ab]?|[234][ab]?)\b|\bS[234]\b|第[二三四234]節", re.IGNORECASE
)
_RIGHT_SEGMENT = re.compile(
    r"\bsegments?\s+(?:VIII|VII|VI|V|[5-8])\b|\bS[5-8]\b|第[五六七八5-8]節", re.IGNORECASE
)
_REST = re.compile(  # "no other lesion" denies none that is named, nor does "no lesion could be outlined"
    r"\bno lesions? could be outlined\b|"
    r"\b(?:no|without)(?: \w+)? (?:other|further|additional) (?:\w+ ){0,3}?(?:lesions?|mass(?:es)?|nodules?|"
    r"abnormalit\w+)|(?:無|未見|沒有)(?:其他|其它|另外)(?:局部)?(?:肝)?(?:病灶|腫塊)",
    re.IGNORECASE,
)
_OF_IT = re.compile(r"\bwithout\b|\bno (?:internal|mural|associated)\b|[其之]?內無", re.IGNORECASE)
_GONE = re.compile(
    r"\b(?:is|are|was|were) (?:absent|excluded|ruled out|not (?:present|confirmed))\b|不存在|已排除",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Statement:
    """A part of a sentence with what joins it to the part before. claims: of the findings that it names, in
    their order. carried: whether it names none, and its claims are of another statement."""

    text: str
    claims: tuple[Claim, ...] = ()
    carried: bool = False


def statements(sentence: str, lexicon: Lexicon) -> list[Statement]:
    """The statements of a sentence, in order; joined together their texts are the sentence."""
    read = [_read(part, sentence, lexicon) for part in _parts(sentence, lexicon)]
    return [x if x.claims else _carried(n, read) for n, x in enumerate(read)]


def named_elsewhere(text: str, lexicon: Lexicon) -> str:
    """A finding that a text names and that the task does not ask of; "" where there is none."""
    own = [place for pattern in lexicon.patterns.values() for place in pattern.places(text)]
    for place in _elsewhere().places(text):
        if not any(o.start <= place.start and place.end <= o.end for o in own):
            return text[place.start : place.end]
    return ""


@cache
def _elsewhere() -> Pattern:
    path = Path(__file__).parents[1] / "lexicons" / "elsewhere.yaml"
    return Pattern.any_of(yaml.safe_load(path.read_text(encoding="utf-8"))["names"], str(path))


def _parts(sentence: str, lexicon: Lexicon) -> list[str]:
    """The sentence cut where a new statement begins."""
    cuts = [0]
    bracketed = [m.span() for m in _BRACKETS.finditer(sentence)]
    breaks = [m for m in _BREAK.finditer(sentence) if not any(a < m.start() < b for a, b in bracketed)]
    for n, at in enumerate(breaks):
        end = breaks[n + 1].start() if n + 1 < len(breaks) else len(sentence)
        before = sentence[cuts[-1] : at.start()]
        after = sentence[at.end() : end]
        if before.strip() and after.strip() and _begins(before, at, after, lexicon):
            cuts.append(at.start())
    return [sentence[a:b] for a, b in zip(cuts, [*cuts[1:], len(sentence)], strict=True)]


def _begins(before: str, joint: re.Match, after: str, lexicon: Lexicon) -> bool:
    """Whether what follows a joint is a statement of its own."""
    named = _names(after, lexicon)
    if _short_doubt(after) and not named:
        return False
    if joint[0] in ("，", "、") and named and _DENIES.search(before) and _bare(after):  # 未見腹水，膽結石
        return False
    if joint["hard"] or (SIZE.search(before) and SIZE.search(after)) or (_side(before) and _side(after)):
        return True
    return joint[0].isascii() and _begins_in_english(before, after, named, lexicon)


def _begins_in_english(before: str, after: str, named: bool, lexicon: Lexicon) -> bool:
    """The same after a comma or an "and". named: whether what follows names a finding."""
    if _VERB.search(before) and _VERB.search(after):
        return True
    if not named:
        return False
    if _RELATIVE.match(before):  # which is visible on CT, and ascites
        return True
    if not _names(before, lexicon):
        return False
    if _DENIES.search(after) and not _DENIES.search(before):  # gallstones, ducts not dilated
        return not _VERB.search(after)
    return bool(_DETERMINED_FIRST.match(after) or SIZE.search(after))


def _short_doubt(text: str) -> bool:
    """腹水，可能。"""
    return len(text.strip()) <= _SHORT and bool(DOUBT.search(text))


def _bare(text: str) -> bool:
    return not _VERB.search(text) and not SIZE.search(text)


def _names(text: str, lexicon: Lexicon) -> bool:
    return any(p.search(text) for p in lexicon.patterns.values())


def _read(part: str, sentence: str, lexicon: Lexicon) -> Statement:
    """One part with its own claims: what it denies of a lesion that it names is no finding."""
    plain = without_dissent(_REST.sub(lambda m: "no" if m[0].isascii() else "無", part))
    found = sentence_claims(plain, lexicon)
    if UNLIKELY.search(part):
        found = [replace(c, said="absent", size_mm=None) for c in found]
    found.sort(key=lambda c: next((p.start for p in lexicon.patterns[c.finding].places(plain)), len(plain)))
    return Statement(part, tuple(replace(c, side=_side(part), sentence=sentence) for c in found))


def of_its_own(statement: Statement, focal: set[str], before: Statement | None = None) -> list[Claim]:
    """The claims of a statement without features that one of its lesions, or the lesion just named, is said
    not to have ("a cyst without solid parts"). focal: ids of findings that are lesions."""
    named = [*statement.claims, *(before.claims if before is not None else ())]
    there = any(c.said != "absent" and c.finding in focal for c in named)
    denied = _OF_IT.search(statement.text)
    if not there or not denied:
        return list(statement.claims)
    return [c for c in statement.claims if c.said != "absent" or c.finding not in focal]


def as_claims(text: str, lexicon: Lexicon) -> tuple[Claim, ...]:
    """The claims of a text that is one statement."""
    return _read(text, text, lexicon).claims


def gone(text: str) -> bool:
    """Whether a statement that names nothing says of what was named that it is not there."""
    return bool(_GONE.search(text))


def _carried(n: int, read: list[Statement]) -> Statement:
    """A statement that names nothing, with the claims that it adds to: the last before it, else the next."""
    text = read[n].text
    before = next((x.claims for x in reversed(read[:n]) if x.claims), ())
    after = next((x.claims for x in read[n + 1 :] if x.claims), ())
    about = before[-1:] or after[:1]
    longest = max((size_in_mm(m) for m in SIZE.finditer(text)), default=None)
    claims = tuple(replace(c, side=_side(text), size_mm=longest, said=_later(c, text)) for c in about)
    return Statement(text, claims, carried=True)


def _later(claim: Claim, text: str) -> Said:
    """How surely a claim holds after a statement that names nothing."""
    if gone(text):
        return "absent"
    return "possible" if claim.said == "present" and DOUBT.search(text) else claim.said


def _side(text: str) -> str:
    """The one side that a text names, by word or by segment of the liver; "" for none or both."""
    right = bool(RIGHT.search(text) or _RIGHT_SEGMENT.search(text))
    left = bool(LEFT.search(text) or _LEFT_SEGMENT.search(text))
    return "" if right == left else "right" if right else "left"
