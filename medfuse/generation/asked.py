"""What is asked for in words: claims of a task's findings, each there or not."""

from __future__ import annotations

import re

from ..drafting.labeller import Lexicon, sentence_claims, task_lexicon
from ..errors import WrongUse
from ..task import Task

PARTS = re.compile(r"[,;.，；。、]|\band\b", re.IGNORECASE)
DENIED = re.compile(r"^(no|without|not)\s+|^(無|沒有|未見)", re.IGNORECASE)


def claims_asked(words: str, task: Task) -> dict[str, bool]:
    """Finding → whether it is to be there. Ids and names are known, and what the task's lexicon reads. Raises
    WrongUse for what names no finding of the task, and for claims that cannot hold together."""
    lexicon = task_lexicon(task)
    names = {f.id.lower(): f.id for f in task.findings}
    for finding in task.findings:
        names |= {finding.label(language).lower(): finding.id for language in finding.name}
    out: dict[str, bool] = {}
    for part in (p.strip() for p in PARTS.split(words)):
        if not part:
            continue
        for said, there in _said(part, names, lexicon, task).items():
            if out.setdefault(said, there) != there:
                raise WrongUse(f"--claims {words!r}: says {said} is there and is not; say one of them")
    if not out:
        raise WrongUse("--claims: names no finding; name one of the task's, such as " + task.findings[0].id)
    return _with_wider(out, words, task)


def _said(part: str, names: dict[str, str], lexicon: Lexicon | None, task: Task) -> dict[str, bool]:
    """What one part of the words says."""
    bare = DENIED.sub("", part).strip()
    if bare.lower() in names:
        return {names[bare.lower()]: bare == part}
    read = {} if lexicon is None else {c.finding: c.said != "absent" for c in sentence_claims(part, lexicon)}
    wide = {w.id for finding in read for w in task.wider(finding)}
    read = {f: there for f, there in read.items() if f not in wide}
    if not read:
        known = ", ".join(f.id for f in task.findings)
        raise WrongUse(f"--claims: {part!r} names no finding of {task.name}; it knows {known}")
    return read


def _with_wider(claims: dict[str, bool], words: str, task: Task) -> dict[str, bool]:
    """With what follows: a wider finding of one that is there is there, a narrower one of one denied not."""
    out = dict(claims)
    for finding, there in claims.items():
        follows = [w.id for w in task.wider(finding)] if there else list(task.finding(finding).derived_from)
        for other in follows:
            if out.setdefault(other, there) != there:
                raise WrongUse(f"--claims {words!r}: {finding} and {other} cannot be so together")
    both = [f for f in task.exclusive if out.get(f)]
    if len(both) > 1:
        raise WrongUse(f"--claims {words!r}: {both[0]} and {both[1]} exclude each other")
    return out
