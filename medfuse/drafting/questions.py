"""What a question asks for, by its words, English and Traditional Chinese: what nobody may answer from images
is refused by name, before any finding is looked up."""

from __future__ import annotations

import re
from typing import Literal

from ..knowledge import task_graph
from ..task import Finding, Task
from .asked import concept_claims
from .change import speaks_of_change
from .labeller import LEFT, RIGHT, task_lexicon
from .organs import organ_outside
from .roles_said import MODALITIES
from .statements import named_elsewhere

Kind = Literal["shown", "held", "measured", "sure", "whether"]
SIZE = re.compile(r"\b(how (large|big)|size|diameter|measure)\b|多大|大小|直徑", re.IGNORECASE)
WHERE = re.compile(
    r"\b(where|which (side|lobe)|location|located)\b|哪裡|哪邊|哪一?(側|葉)|位置|位於", re.IGNORECASE
)
MANY = re.compile(r"\bhow many\b|幾(個|處)|多少(個|處)", re.IGNORECASE)
SHOWN_BY = re.compile(
    r"\b(which|what) (modalit\w*|examinations?|images?|sensors?|scans?)\b|哪(個|些|種|一種)(檢查|影像)",
    re.IGNORECASE,
)
SEEN_ON = re.compile(r"\b(visible|seen|shown|show|see|visuali[sz]ed)\b|看得?到|可見|顯示|見於", re.IGNORECASE)
FOUND = re.compile(  # all that was found
    r"\bwhat (are|were|is|was) (the )?(findings?|results?|diagnos[ie]s|impression|found|seen|shown)\b|"
    r"\bwhat do(es)? .{0,40} show\b|\bsummar(y|i[sz]e)\b|"
    r"\bwhat(?: i|')s (?:there|abnormal|wrong|going on)\b|\bwhat (?:do|can) (?:you|we|I) (?:see|find)\b|"
    r"\b(?:list|describe|name|tell me) (?:all |me )?(?:the )?"
    r"(?:findings?|abnormalit\w+|images?|scans?|case|report|lesions? there)\b|"
    r"有(什麼|哪些|何)(發現|異常|問題|病變)|發現(了)?什麼|看到(了)?什麼|診斷是什麼|摘要|(列出|描述).{0,6}(發現|異常|影像)",
    re.IGNORECASE,
)
HOW_SURE = re.compile(
    r"\bhow (sure|certain|likely|probable|confident)\b|"
    r"\b(probability|likelihood|chances?) (of|that|for)\b|機率|多確定|可能性(多|有多)",
    re.IGNORECASE,
)
CLOSED = re.compile(
    r"^\s*(so |and |then )?(is|are|was|were|does|do|did|has|have|can|could|any)\b|嗎|是否|有無|有沒有|呢",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"\b(what|which|who|when|how|list|describe|tell|explain|name)\b|什麼|哪|怎麼|如何|多(少|大|久|嚴重)|列出|描述",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"\b(should|shall|must|ought|needs?|needed|need to|recommend\w*|advi[cs]e|treat(ment|ed)?|therapy|"
    r"next steps?|follow[- ]?up|biops\w*|surgery|surgical|operat\w*|resect\w*|"
    r"drain(ed|age)?|aspirat(e|ed|ion)|"
    r"management|discharged?|admit(ted)?|hospitali[sz]\w*|drugs?|dose|dosage|medicat\w*|medicine|prescri\w*|"
    r"safe to|would you|order an?|refer(red|ral)?|transplant\w*|ablat\w*|chemotherap\w*)\b|"
    r"建議|治療|下一步|怎麼辦|該|追蹤|切片|手術|處置|處理|需要|需不需要|要不要|必須|引流|住院|出院|吃藥|用藥|服藥|藥物|"
    r"劑量|化療|移植|開刀|轉診",
    re.IGNORECASE,
)
_OUTLOOK = re.compile(
    r"\b(prognosis|surviv\w*|how long .{0,60}(live|left)|life expectancy|die|mortality|"
    r"cur(e|ed|able))\b|預後|存活|活多久|"
    r"還能活|會死|治得好",
    re.IGNORECASE,
)
_CAUSE = re.compile(
    r"\b(why|caus(e|es|ed|ing)|due to|because|reasons?|results? (of|from|in)|leads? to|led to|explains?|"
    r"secondary to|responsible for|aetiolog\w*|etiolog\w*|compress\w*|obstruct\w*|origin(ate\w*)? (of|from)|"
    r"come from|related to|associated with|consequence)\b|為什麼|為何|引起|造成|導致|原因|因為|"
    r"由於|所致|壓迫|阻塞|引發|起因|相關",
    re.IGNORECASE,
)
_COMPOUND = re.compile(
    r"\b(and|or)\s+(what|where|which|how|why|when|is|are|does|do|has|have|can)\b|[?？;；。]\s*\S|[.!]\s+\S|"
    r"(以及|並且|而且|還有).{0,80}(嗎|是否|有無|多大|多少|哪|什麼|幾)",
    re.IGNORECASE,
)
_NATURE = re.compile(r"\b(malignan\w*|benign|cancer\w*)|惡性|良性|癌", re.IGNORECASE)
_GRADE = re.compile(
    r"\b(sever(e|ity)|mild|moderate|grade|stage[ds]?|staging|how (much|bad|severe|"
    r"advanced|far)|extent|acute|chronic|"
    r"category|li-?rads|volume)\b|嚴重|程度|輕度|中度|重度|分期|分級|期別|急性|慢性|腹水有多少|多少(?!個|處)",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(
    r"\b(no|not|isn't|aren't|without|absent|absence|free of|rule[ds]? out|exclude[ds]?|lack\w*|missing)\b|"
    r"(?<!有)沒有|並無|排除|未見|不存在|(?<!有)無(?!回音)",
    re.IGNORECASE,
)
_OTHER_NAME = re.compile(
    r"\b(?:lesions?|mass(?:es)?|nodules?|cysts?|finding|tumou?r)\b\s+(?:really\s+|"
    r"actually\s+)?(?:an?\s+)(\w[\w ]*)|"
    r"(?:病灶|腫塊|結節|囊腫)是(?!否)(\w+?)(?:嗎|呢|$)",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"\b(larger|bigger|greater|longer|more|over|above|exceed\w*|at least)\b|大於|超過|至少|以上",
    re.IGNORECASE,
)
_LESS = re.compile(r"\b(smaller|less|under|below|shorter|at most)\b|小於|不到|未達|以下", re.IGNORECASE)
_BIG = re.compile(
    r"\b(?:is|are) (?:the|it|they|this|these)\b.{0,40}\b(?:large|big|small|huge|tiny)\b|"
    r"[很比算夠](?:較)?[大小]",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\b(more|less|fewer|at least|at most|over) (than )?(\d+|one|two|three|four|"
    r"five|several)\b(?!\s*(mm|cm|\.))|"
    r"\b(single|solitary|multiple|several|numerous)\b|單一|多發|多個|只有一",
    re.IGNORECASE,
)


def named(question: str, task: Task) -> list[Finding]:
    """Every finding that a question names, by the task's names and its lexicon, those named by their own name
    and the narrowest first."""
    lexicon = task_lexicon(task)
    found = []
    for finding in task.findings:
        by_name = any(name.lower() in question.lower() for name in finding.name.values())
        pattern = lexicon.patterns.get(finding.id) if lexicon is not None else None
        if by_name or (pattern is not None and pattern.search(question)):
            found.append((not by_name, len(finding.derived_from), finding))
    return [f for *_, f in sorted(found, key=lambda x: x[:2])]


def compares(question: str) -> bool | None:
    """True where a question asks whether something is more than a stated size, False whether it is less; None
    where it asks neither."""
    if _MORE.search(question):
        return True
    return False if _LESS.search(question) else None


def modality_named(question: str) -> str:
    """The one modality that a question names; "" for none or several."""
    there = [m for m, pattern in MODALITIES.items() if pattern.search(question)]
    return there[0] if len(there) == 1 else ""


def refusal(question: str, finding: Finding | None, task: Task, *, sized: bool) -> str:
    """Why a question is not answered whatever the images show; "" where it may be. ``sized``: it states a
    size."""
    if _ADVICE.search(question):
        return "the question asks for advice; findings are answered here, what to do is for a physician"
    if _OUTLOOK.search(question):
        return "the question asks for an outlook; images of one time tell none"
    if _CAUSE.search(question):
        return "the question asks for a cause; that two things are there does not say that one made the other"
    if not sized and speaks_of_change(question):
        return "the question asks for a change; what was measured over time is in the report's comparison"
    if _COMPOUND.search(question) or _several(question, task):
        return "these are several questions in one; ask one at a time"
    if finding is None:
        return _WITHOUT_ANSWER[0][1].format(task=task.name) if _GRADE.search(question) else ""
    return _elsewhere(question, finding, task) or _not_asked(question, finding, task, sized=sized)


def _elsewhere(question: str, finding: Finding, task: Task) -> str:
    """Another finding or organ, that the task does not look at, beside one that it does."""
    lexicon = task_lexicon(task)
    other = named_elsewhere(question, lexicon) if lexicon is not None else ""
    if other:
        return f"the task {task.name} does not ask about {other}"
    organ = organ_outside(question, finding, task)
    return f"the task {task.name} does not look at the {organ}" if organ else ""


def _several(question: str, task: Task) -> bool:
    """Whether a question names findings neither of which is the wider one of the other."""
    graph = task_graph(task)
    own = {f.id: {f.id, *(w.id for w in task.wider(f.id))} for f in named(question, task)}
    if graph is not None:
        told = {c.finding for c in concept_claims(question, graph)} & set(own)
        own = {f: own[f] for f in told} or own
    return any(a not in own[b] and b not in own[a] for a in own for b in own if a < b)


def _not_asked(question: str, finding: Finding, task: Task, *, sized: bool) -> str:
    """What is asked of a finding that the task does not ask."""
    if _of_its_nature(question, finding, task):
        return f"benign or malignant is no finding of the task {task.name}"
    sure = HOW_SURE.search(question)
    for pattern, why in _WITHOUT_ANSWER:
        if pattern.search(question) and not (sure and pattern is _GRADE):
            return why.format(task=task.name)
    if (compares(question) is not None or _BIG.search(question)) and not sized:
        return "a size is compared with a length in figures, such as 5 cm; ask with one"
    other = _OTHER_NAME.search(question)
    name = (other[1] or other[2]).strip() if other is not None else ""
    if name and not named(name, task):
        return f"the task {task.name} does not ask whether it is {name}"
    return f"the task {task.name} does not ask this of a finding" if _open(question) else ""


def _of_its_nature(question: str, finding: Finding, task: Task) -> bool:
    """Whether it asks for benign or malignant, which the finding's own name does not hold."""
    bare = named(_NATURE.sub(" ", question), task) if _NATURE.search(question) else []
    return bool(bare) and bare[0].id == finding.id


def _open(question: str) -> bool:
    """Whether it is an open question of no kind that is answered."""
    if CLOSED.search(question) or not _OPEN.search(question):
        return False
    return not _asks(question, SIZE, WHERE, MANY, SHOWN_BY, HOW_SURE)


def _asks(question: str, *kinds: re.Pattern[str]) -> bool:
    """Whether a question is of one of these kinds."""
    return any(k.search(question) for k in kinds)


_WITHOUT_ANSWER = (
    (_GRADE, "the task {task} asks whether it is there, not its degree, stage or amount"),
    (_COUNTED, "a number is not compared; ask how many there are"),
    (_NEGATIVE, "the question is asked in the negative, and yes could mean both; ask whether it is there"),
)


def side_named(question: str) -> str:
    """right or left; "" where a question names neither, or both."""
    right, left = bool(RIGHT.search(question)), bool(LEFT.search(question))
    return {(True, False): "right", (False, True): "left"}.get((right, left), "")


def kind_of(question: str, *, focal: bool) -> Kind:
    """What is asked of one finding: who shows it, whether a length or a side holds, what was measured, how
    surely, or whether it is there. ``focal``: it is of single lesions."""
    closed = bool(CLOSED.search(question))
    if SHOWN_BY.search(question) or (closed and modality_named(question) and SEEN_ON.search(question)):
        return "shown"
    if focal and closed and (compares(question) is not None or side_named(question)):
        return "held"
    if _asks(question, SIZE, WHERE, MANY):
        return "measured"
    return "sure" if HOW_SURE.search(question) else "whether"
