"""Words of change in a sentence, and whether an earlier case proves them; English and Traditional Chinese."""

from __future__ import annotations

import re

from ..prediction import Prediction
from ..task import Task
from .labeller import Claim
from .priors import Prior, Trend, compare, compared
from .scale import DENIED, POSSIBLE

_LOOK = (  # what is seen may be increased without any prior
    r"(?!\s+(?:\w+\s+){0,2}(?:echogenicity|attenuation|density|signal|uptake|enhancement|intensity|"
    r"reflectivity|vascularity|echoes)\b)"
)
_LARGER = re.compile(
    rf"\bincreas(?:ed|es|ing){_LOOK}\b|\b(larger (?:than|now)|enlarg(?:ing|ed since)|ha(?:s|ve) enlarged|"
    r"grow(?:n|s|ing)|grew|progress\w*|worse\w*)\b|增大|變大|長大|進展|惡化|"
    r"(?<!回音)(?<!密度)(?<!訊號)(?<!攝取)增加|增長",
    re.IGNORECASE,
)
_SMALLER = re.compile(
    rf"\bdecreas(?:ed|es|ing){_LOOK}\b|"
    r"\b(smaller (?:than|now)|ha(?:s|ve) shrunk|shrank|shrinking|regress\w*|improv\w*|reduced in size|"
    r"resolv\w*|no longer|disappeared)\b|縮小|變小|減小|"
    r"(?<!回音)(?<!密度)(?<!訊號)(?<!攝取)減少|消失|改善|消退",
    re.IGNORECASE,
)
_STABLE = re.compile(
    r"\b(stable|unchanged|no (?:significant |interval )*change|unaltered|persist(?:s|ed|ing) since)\b|"
    r"穩定|不變|無(?:明顯|顯著)?變化|無改變",
    re.IGNORECASE,
)
_NEW = re.compile(
    r"\b(new(?:ly)?|has developed|have developed|has appeared|have appeared)\b|新出現|新增|新發現|新生(?!兒)|"
    r"新發",
    re.IGNORECASE,
)
_COMPARES = re.compile(
    r"\b(interval|previous\w*|again|prior|earlier (?:study|examination|exam|scan|imaging|report)|"
    r"compar(?:ed|ison)|since (?:the )?(?:last|\d)|last (?:study|examination|exam|scan|visit)|"
    r"(?<!the )(?<!its )(?:larger|smaller)|"
    r"known from|relative to (?:the )?(?:last|baseline)|baseline|formerly|"
    r"follow(?:ed)?[- ]?up (?:shows|study of|of the))\b|"
    r"較前|較先前|較之前|較上次|先前|以前|上次|前次|相比|與前|舊片|原有|既往|以往|追蹤(?:顯示|檢查)",
    re.IGNORECASE,
)
_ALL = (_LARGER, _SMALLER, _STABLE, _NEW, _COMPARES)


def speaks_of_change(text: str) -> bool:
    """Whether a sentence compares with an earlier time."""
    return any(p.search(text) for p in _ALL)


def unproven(text: str, told: list[Claim], prediction: Prediction, task: Task, prior: Prior | None) -> str:
    """Why what a sentence says of change may not stand; "" where it says nothing of it, or where an earlier
    case that was measured proves it. Growth and shrinkage hold of matched lesions alone."""
    if not speaks_of_change(text):
        return ""
    earlier = compared(prior)
    if earlier is None:
        return "it speaks of change, and no prior is available"
    for claim in told:
        why = _unproven(text, claim, prediction, task, earlier)
        if why:
            return why
    return ""


def _unproven(text: str, claim: Claim, prediction: Prediction, task: Task, earlier: Prior) -> str:
    then = _then(claim, earlier)
    if _NEW.search(text) and claim.said != "absent":
        denied = then is not None and then < DENIED
        return "" if denied else f"{claim.finding} is said to be new, and the prior does not deny it"
    wanted = {t for t, p in _TRENDS.items() if p.search(text)}
    if not wanted:
        return ""
    if task.finding(claim.finding).group == "focal":
        if wanted & _trends(claim, prediction, task, earlier):
            return ""
        return f"{claim.finding} is said to be {' or '.join(sorted(wanted))}, and no measured match proves it"
    if wanted != {"stable"}:
        return f"a change of {claim.finding} is not measured"
    alike = then is not None and (then >= POSSIBLE) == (claim.said != "absent")
    return "" if alike else f"{claim.finding} is said to be unchanged, and the prior says otherwise"


_TRENDS: dict[Trend, re.Pattern[str]] = {"larger": _LARGER, "smaller": _SMALLER, "stable": _STABLE}


def _then(claim: Claim, earlier: Prior) -> float | None:
    """The probability of a finding in the earlier case; None where it was not assessed."""
    assert earlier.prediction is not None
    record = next((f for f in earlier.prediction.findings if f.id == claim.finding), None)
    return record.probability if record is not None and record.assessed else None


def _trends(claim: Claim, prediction: Prediction, task: Task, earlier: Prior) -> set[Trend]:
    """How the matched lesions changed that a claim may speak of."""
    names = {claim.finding, *task.finding(claim.finding).derived_from}
    names |= {f.id for f in task.wider(claim.finding)}
    pairs = [p for p in compare(prediction, earlier, task) if p.placed and p.now.finding in names]
    return {p.trend for p in pairs if not claim.side or p.now.side in ("", claim.side)}
