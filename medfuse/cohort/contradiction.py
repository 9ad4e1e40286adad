"""What speaks against, and for, a report being of a study: numbers, names, days, modality, side, and what the
text itself says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

from ..drafting.sections import parse_sections
from ..io.cases import parse_date
from ..io.scan import same_name
from .history import Report
from .rows import normal
from .studies import Study
from .words import opening_modalities, side_of, words

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{4,}")
WRITTEN_LATER = 31  # days after a study within which its report is dated


@dataclass(frozen=True, kw_only=True)
class Judged:
    """against: why a report cannot be of a study ("" where nothing speaks against it); mend: whether a person
    may still find that it is; signs: what agrees."""

    against: str = ""
    mend: bool = False
    signs: frozenset[str] = frozenset()


@dataclass
class Archive:
    """All that texts may name: numbers and names of persons, by what they are."""

    patients: dict[str, str] = field(default_factory=dict)  # normal patient id → patient id
    orders: dict[str, set[str]] = field(default_factory=dict)  # normal accession → normal patient ids
    names: dict[frozenset[str], set[str]] = field(default_factory=dict)  # words of a name → patient ids
    issuers: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, studies: Iterable[Study]) -> Archive:
        """What the studies of an archive are called by."""
        out = cls()
        for s in studies:
            person = normal(s.identity.patient_id)
            if _telling(person):
                out.patients[person] = s.identity.patient_id
            for number in s.accessions:
                if _telling(normal(number)):
                    out.orders.setdefault(normal(number), set()).add(person)
            words_of_name = frozenset(same_name(s.identity.name).split())
            if len(words_of_name) > 1:
                out.names.setdefault(words_of_name, set()).add(person)
            out.issuers.update(i.casefold() for i in s.issuers)
        return out


def _telling(number: str) -> bool:
    """Whether a number is long enough to be known again inside a text."""
    return len(number) >= 5 and any(c.isdigit() for c in number)


def judge(report: Report, study: Study, archive: Archive) -> Judged:
    """Compare all that both say."""
    signs: set[str] = set()
    for check in (_patient, _issuer, _name, _birth, _modality, _day):
        against, mend, agrees = check(report, study, archive)
        if against:
            return Judged(against=against, mend=mend)
        if agrees:
            signs.add(check.__name__.strip("_"))
    for look in _TEXT_LOOKS:
        against, mend = look(report, study, archive)
        if against:
            return Judged(against=against, mend=mend)
    return Judged(signs=frozenset(signs))


Answer = tuple[str, bool, bool]
NOTHING: Answer = ("", False, False)


def _patient(report: Report, study: Study, archive: Archive) -> Answer:
    said, known = normal(report.row.patient_id), normal(study.identity.patient_id)
    if not said or not known:
        return NOTHING
    if said != known:
        return "it is of another patient id than the study", False, False
    return "", False, True


def _issuer(report: Report, study: Study, archive: Archive) -> Answer:
    """Issuers compare only where the table's are among those that the archive uses."""
    said = report.row.issuer.casefold()
    if not said or said in {i.casefold() for i in study.issuers}:
        return "", False, bool(said)
    if said in archive.issuers:
        return "its numbers were issued by another site than the study's", False, False
    return NOTHING


def _name(report: Report, study: Study, archive: Archive) -> Answer:
    said = [set(same_name(part).split()) for part in report.row.name.split("=") if same_name(part)]
    known = [set(same_name(part).split()) for part in study.identity.name.split("=") if same_name(part)]
    if not said or not known:
        return NOTHING
    if any(a <= b or b <= a for a in said for b in known):
        return "", False, True
    return "it names another patient than the study", False, False


def _birth(report: Report, study: Study, archive: Archive) -> Answer:
    row, known = report.row, study.identity
    if row.sex in ("M", "F") and known.sex in ("M", "F") and row.sex != known.sex:
        return "it is of another sex than the study's patient", False, False
    if len(row.birth_date) == 8 and len(known.birth_date) == 8:
        if row.birth_date != known.birth_date:
            return "it is of another birth date than the study's patient", False, False
        return "", False, True
    return NOTHING


def _modality(report: Report, study: Study, archive: Archive) -> Answer:
    said = set(report.row.modalities)
    if not said:
        return NOTHING
    if not said & study.modalities:
        what = f"it is of {'/'.join(sorted(said))}, the study is {'/'.join(sorted(study.modalities))}"
        return what, False, False
    return "", False, True


def _day(report: Report, study: Study, archive: Archive) -> Answer:
    if not report.dates or study.date is None:
        return NOTHING
    gaps = [(d - study.date).days for d in report.dates]
    if any(abs(g) <= 1 for g in gaps):
        return "", False, True
    if all(g < -1 for g in gaps):
        return f"it is dated {-max(gaps)} days before the study", False, False
    if min(g for g in gaps if g > 1) > WRITTEN_LATER:
        return f"it is dated {min(g for g in gaps if g > 1)} days after the study", True, False
    return NOTHING


def _text_number(report: Report, study: Study, archive: Archive) -> tuple[str, bool]:
    """What the text calls the patient's number."""
    own = normal(study.identity.patient_id)
    for found in words().number.finditer(report.whole):
        if own and len(normal(found[1])) >= 3 and normal(found[1]) != own:
            return "its text states another patient id than the study's", False
    return "", False


def _text_order(report: Report, study: Study, archive: Archive) -> tuple[str, bool]:
    """What the text calls the order's number."""
    own = normal(study.identity.patient_id)
    own_orders = {normal(a) for a in study.accessions}
    for found in words().order.finditer(report.whole):
        number = normal(found[1])
        if number in archive.orders and number not in own_orders and own not in archive.orders[number]:
            return "its text states the accession number of another patient", False
    return "", False


def _text_any_number(report: Report, study: Study, archive: Archive) -> tuple[str, bool]:
    """Patient ids of the archive anywhere in the text, whatever it calls them."""
    own = normal(study.identity.patient_id)
    tokens = {normal(t) for t in _TOKEN.findall(report.whole)}
    if own not in tokens and (others := tokens & set(archive.patients)):
        return f"its text names the patient id {archive.patients[min(others)]}", False
    return "", False


def _text_names(report: Report, study: Study, archive: Archive) -> tuple[str, bool]:
    own = set(same_name(study.identity.name).split())
    if not own:
        return "", False
    for found in words().person.finditer(report.whole):
        said = set(same_name(found[1]).split())
        if len(said) > 1 and not (said <= own or own <= said):
            return "its text names another patient than the study", False
    tokens = same_name(report.whole.replace("=", " ")).split()
    for n in (2, 3):
        for i in range(len(tokens) - n + 1):
            key = frozenset(tokens[i : i + n])
            if (
                key in archive.names
                and not key <= own
                and normal(study.identity.patient_id) not in archive.names[key]
            ):
                return "its text names another patient of the archive", False
    return "", False


def _text_age(report: Report, study: Study, archive: Archive) -> tuple[str, bool]:
    born, when = parse_date(study.identity.birth_date), study.date
    for found in words().age.finditer(report.whole):
        sex = next((s for s, p in words().sex.items() if found[2] and p.match(found[2])), "")
        if sex and study.identity.sex in ("M", "F") and sex != study.identity.sex:
            return "its text is of the other sex than the study's patient", False
        if sex and born and when and abs(_age(born, when) - int(found[1])) > 1:
            return f"its text is of a patient aged {found[1]}, the study's is {_age(born, when)}", False
    return "", False


def _age(born: date, when: date) -> int:
    return when.year - born.year - ((when.month, when.day) < (born.month, born.day))


def _text_modality(report: Report, study: Study, archive: Archive) -> tuple[str, bool]:
    said = set(opening_modalities(report.text, parse_sections(report.text).get("technique", "")))
    if said and not said & study.modalities:
        return (
            f"its text opens as a report of {'/'.join(sorted(said))}, the study is "
            f"{'/'.join(sorted(study.modalities))}",
            False,
        )
    return "", False


def _text_side(report: Report, study: Study, archive: Archive) -> tuple[str, bool]:
    said = side_of(report.whole)
    if said and study.side and said != study.side:
        return f"its text speaks of the {said} side alone, the study is of the {study.side}", True
    return "", False


_TEXT_LOOKS = (
    _text_number,
    _text_order,
    _text_any_number,
    _text_names,
    _text_age,
    _text_modality,
    _text_side,
)
