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
from .contradiction import Archive, judge
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
        if report.row.study_uids:
            found = [self.by_uid.get(u, []) for u in report.row.study_uids]
            if any(found):
                return "study-uid", [g for g in found if g], []
        whole = report.row.accession
        for numbers in ([whole], list(several(whole)), list(several(report.row.also))):
            exact = [self.exact[n] for n in numbers if n in self.exact]
            loose = [self.exact.get(n) or self.loose.get(normal(n), []) for n in numbers if normal(n)]
            missing = [n for n in numbers if n not in self.exact and normal(n) not in self.loose]
            if exact and len(exact) == len(numbers):
                return "accession", exact, []
            if any(loose):
                return "accession-normalised", [g for g in loose if g], missing
        return "", [], []

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
            fits = [(s, j) for s, j in fits if j.signs & (PERSONAL | {"issuer"})]
            if len({s.person for s, _ in fits}) != 1:
                return Link(report, "unresolved", rule, [], "its number belongs to several patients")
        if len(fits) > 1:
            dated = [(s, j) for s, j in fits if "day" in j.signs]
            fits = dated or fits
            days = [s.date for s, _ in fits if s.date]
            if days and (max(days) - min(days)).days > 1:
                return Link(report, "unresolved", rule, [], "its number belongs to studies of several days")
        conflict = next((s.conflict for s, _ in fits if s.conflict), "")
        if conflict:
            return Link(report, "unresolved", rule, [], f"the study waits for a person: {conflict}")
        signs = frozenset.intersection(*(j.signs for _, j in fits))
        return Link(report, "linked", rule, [s for s, _ in fits], "", signs)

    def _by_patient(self, report: Report) -> Link:
        """The one study of this patient, modality and day, where report or study has no number."""
        row = report.row
        rule = "patient-modality-date"
        if not (row.patient_id and row.modalities and report.dates):
            what = f"no study has the number {row.accession}" if row.accession else "it has no number"
            return Link(report, "unresolved", "", [], what)
        near = []
        for study in self.people.get(normal(row.patient_id), []):
            if "day" in (found := judge(report, study, self.archive)).signs and "modality" in found.signs:
                near.append((study, found))
        if not near:
            return Link(report, "unresolved", "", [], "no study of its patient, modality and day")
        bare = [(s, j) for s, j in near if not (row.accession and s.accessions)]
        if not bare:
            return Link(report, "unresolved", "", [], f"no study has the number {row.accession}")
        if len(near) > 1:
            return Link(report, "unresolved", rule, [], "several studies of its patient and day would fit")
        study, found = bare[0]
        if (why := self._several_persons(study)) and "issuer" not in found.signs:
            return Link(report, "unresolved", rule, [], why)
        if study.conflict:
            return Link(report, "unresolved", rule, [], f"the study waits for a person: {study.conflict}")
        return Link(report, "linked", rule, [study], "", found.signs)

    def _several_persons(self, study: Study) -> str:
        """Why a patient id alone does not tell who a study is of; "" where it does."""
        all_of = self.people[normal(study.identity.patient_id)]
        if len({s.identity.issuer for s in all_of}) > 1:
            return "several issuers use its patient id"
        for what in ("birth_date", "sex"):
            if len({getattr(s.identity, what) for s in all_of} - {""}) > 1:
                return "two persons seem to share its patient id"
        names = {frozenset(same_name(s.identity.name).split()) for s in all_of} - {frozenset()}
        return "two persons seem to share its patient id" if len(names) > 1 else ""


STRENGTH = {"study-uid": 0, "accession": 0, "accession-normalised": 1, "patient-modality-date": 2}


def _settle(links: list[Link]) -> None:
    """A study that several reports claim: all of them, where each is surely of its patient and they go by its
    number; else the strongest rule alone, and none where that is shared."""
    claims: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        for study in link.studies:
            claims.setdefault(study.key, []).append(link)
    for several_links in claims.values():
        if len(several_links) < 2:
            continue
        sure = all(k.signs & PERSONAL and k.rule != "patient-modality-date" for k in several_links)
        if sure and len({k.rule for k in several_links}) == 1:
            continue
        best = min(STRENGTH[k.rule] for k in several_links if k.rule in STRENGTH)
        first = [k for k in several_links if STRENGTH.get(k.rule) == best]
        for link in several_links:
            if link not in first or len(first) > 1:
                link.status = "unresolved"
                link.studies = []
                link.reason = "another report claims the same study"
