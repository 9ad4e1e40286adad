"""Reports → studies, by rules in order, each link with its rule; what is not certain waits for a person.

`study-uid` the study itself (SR, FHIR); `accession` the number as written; `accession-normalised` case,
marks, zeros and issuer aside;
`patient-modality-date` where one side has no number. No rule overrules a contradiction (see `contradiction`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ..io.scan import same_name
from .contradiction import Archive, Judged, judge
from .history import Report
from .rows import normal, several
from .studies import Study

LinkStatus = Literal["linked", "unresolved", "refused"]
PERSONAL = {"patient", "name"}


@dataclass
class Link:
    """What became of a report."""

    report: Report
    status: LinkStatus
    rule: str = ""
    studies: list[Study] = field(default_factory=list)
    reason: str = ""
    signs: frozenset[str] = frozenset()


@dataclass
class Linker:
    """The studies of an archive, by each way that a report may name them."""

    studies: list[Study]
    archive: Archive = field(init=False)
    exact: dict[str, list[Study]] = field(default_factory=dict)
    loose: dict[str, list[Study]] = field(default_factory=dict)
    people: dict[str, list[Study]] = field(default_factory=dict)
    by_uid: dict[str, list[Study]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.archive = Archive.of(self.studies)
        for study in self.studies:
            self.by_uid.setdefault(study.uid, []).append(study)
            for number in study.accessions:
                self.exact.setdefault(number, []).append(study)
                self.loose.setdefault(normal(number), []).append(study)
            if study.identity.patient_id:
                self.people.setdefault(normal(study.identity.patient_id), []).append(study)

    def link(self, reports: Iterable[Report]) -> list[Link]:
        """One link a report, in order; then what several reports claim is decided."""
        links = [self._one(report) for report in reports]
        _settle(links)
        return links

    def _one(self, report: Report) -> Link:
        if report.waiting:
            found = self._named(report)
            return Link(report, "unresolved", found[0], [], f"the report {report.waiting}")
        rule, groups, missing = self._named(report)
        if not groups:
            return self._by_patient(report)
        chosen: list[Study] = []
        signs: set[str] | None = None
        for group in groups:
            link = self._choose(report, rule, group)
            if link.status != "linked":
                return link
            chosen += [s for s in link.studies if s not in chosen]
            signs = set(link.signs) if signs is None else signs & link.signs
        if len({normal(s.identity.patient_id) for s in chosen}) > 1:
            return Link(report, "refused", rule, [], "it names studies of several patients")
        reason = f"no study has the number(s) {', '.join(missing)}" if missing else ""
        return Link(report, "linked", rule, chosen, reason, frozenset(signs or ()))

    def _named(self, report: Report) -> tuple[str, list[list[Study]], list[str]]:
        """Rule, the studies of each number that the report names, and the numbers that no study has."""
        of_uids = [self.by_uid[u] for u in report.row.study_uids if u in self.by_uid]
        if of_uids:
            return "study-uid", of_uids, []
        whole = report.row.accession
        for numbers in ([whole], list(several(whole)), list(several(report.row.also))):
            exact = [self.exact[n] for n in numbers if n in self.exact]
            if exact and len(exact) == len(numbers):
                return "accession", exact, []
            loose = self._loosely(numbers)
            if loose:
                missing = [n for n in numbers if n not in self.exact and normal(n) not in self.loose]
                return "accession-normalised", loose, missing
        return "", [], []

    def _loosely(self, numbers: list[str]) -> list[list[Study]]:
        """The studies of each number that some have, as written or but for case, marks and zeros."""
        found = (self.exact.get(n) or self.loose.get(normal(n), []) for n in numbers if normal(n))
        return [group for group in found if group]

    def _choose(self, report: Report, rule: str, group: list[Study]) -> Link:
        """The studies of one number that a report can be of: those of one patient, which nothing speaks
        against."""
        judged = [(s, judge(report, s, self.archive)) for s in group]
        fits = [(s, j) for s, j in judged if not j.against]
        if not fits:
            first = judged[0][1]
            status: LinkStatus = "unresolved" if any(j.mend for _, j in judged) else "refused"
            return Link(report, status, rule, [], first.against)
        if len({s.person for s in group}) > 1:
            fits = _of_one_person(fits)
        if not fits:
            return Link(report, "unresolved", rule, [], "its number belongs to several patients")
        fits = [(s, j) for s, j in fits if "day" in j.signs] or fits
        chosen = [s for s, _ in fits]
        if why := _doubt(chosen):
            return Link(report, "unresolved", rule, [], why)
        return Link(report, "linked", rule, chosen, "", frozenset.intersection(*(j.signs for _, j in fits)))

    def _by_patient(self, report: Report) -> Link:
        """The one study of this patient, modality and day, where report or study has no number."""
        row = report.row
        rule = "patient-modality-date"
        unknown = f"no study has the number {row.accession}" if row.accession else "it has no number"
        if not (row.patient_id and row.modalities and report.dates):
            return Link(report, "unresolved", "", [], unknown)
        near = self._near(report)
        if not near:
            return Link(report, "unresolved", "", [], "no study of its patient, modality and day")
        bare = [(s, j) for s, j in near if not (row.accession and s.accessions)]
        if not bare:
            return Link(report, "unresolved", "", [], unknown)
        if len(near) > 1:
            return Link(report, "unresolved", rule, [], "several studies of its patient and day would fit")
        study, found = bare[0]
        if why := self._several_persons(study, found.signs) or _doubt([study]):
            return Link(report, "unresolved", rule, [], why)
        return Link(report, "linked", rule, [study], "", found.signs)

    def _near(self, report: Report) -> list[tuple[Study, Judged]]:
        """The studies of a report's patient, day and modality."""
        same_person = self.people.get(normal(report.row.patient_id), [])
        judged = [(study, judge(report, study, self.archive)) for study in same_person]
        return [(s, j) for s, j in judged if {"day", "modality"} <= j.signs]

    def _several_persons(self, study: Study, signs: frozenset[str]) -> str:
        """Why a patient id without its issuer does not tell who a study is of; "" where it does."""
        if "issuer" in signs:
            return ""
        all_of = self.people[normal(study.identity.patient_id)]
        if len({s.identity.issuer for s in all_of}) > 1:
            return "several issuers use its patient id"
        for what in ("birth_date", "sex"):
            if len({getattr(s.identity, what) for s in all_of} - {""}) > 1:
                return "two persons seem to share its patient id"
        names = {frozenset(same_name(s.identity.name).split()) for s in all_of} - {frozenset()}
        return "two persons seem to share its patient id" if len(names) > 1 else ""


def _of_one_person(fits: list[tuple[Study, Judged]]) -> list[tuple[Study, Judged]]:
    """Those that more than a number binds to the report; none where they are of several persons."""
    sure = [(s, j) for s, j in fits if j.signs & (PERSONAL | {"issuer"})]
    return sure if len({s.person for s, _ in sure}) == 1 else []


def _doubt(chosen: list[Study]) -> str:
    """Why studies that fit a report's number wait for a person all the same; "" where they need not."""
    days = [s.date for s in chosen if s.date]
    if days and (max(days) - min(days)).days > 1:
        return "its number belongs to studies of several days"
    conflict = next((s.conflict for s in chosen if s.conflict), "")
    return f"the study waits for a person: {conflict}" if conflict else ""


STRENGTH = {"study-uid": 0, "accession": 0, "accession-normalised": 1, "patient-modality-date": 2}


def _settle(links: list[Link]) -> None:
    """A study that several reports claim: all of them, where each is surely of its patient and they go by its
    number; else the strongest rule alone, and none where that is shared."""
    for several_links in _claims(links):
        if len(several_links) < 2 or _may_share(several_links):
            continue
        best = min(STRENGTH[k.rule] for k in several_links if k.rule in STRENGTH)
        first = [k for k in several_links if STRENGTH.get(k.rule) == best]
        for link in several_links:
            if link not in first or len(first) > 1:
                link.status = "unresolved"
                link.studies = []
                link.reason = "another report claims the same study"


def _claims(links: list[Link]) -> list[list[Link]]:
    """The links of each study that is claimed."""
    claims: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        for study in link.studies:
            claims.setdefault(study.key, []).append(link)
    return list(claims.values())


def _may_share(links: list[Link]) -> bool:
    """Whether reports may be of one study: each surely of its patient, and all by one kind of number."""
    sure = all(k.signs & PERSONAL and k.rule != "patient-modality-date" for k in links)
    return sure and len({k.rule for k in links}) == 1
