"""What is told, and how: the claims of one case, the words, the style and all that a sentence refers to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..case import Case
from ..claim import Certainty, Claim
from ..modalities import is_cine
from ..prediction import LesionRecord, Place, Prediction
from ..report import ASSERTION, Assertion, Sentence
from ..task import Task
from .priors import Pair
from .styles import Probabilities, Style
from .templates import Sentences


@dataclass(frozen=True, kw_only=True)
class Telling:
    """One case to be told. pairs: its lesions with those of an earlier case that was measured."""

    prediction: Prediction
    case: Case
    task: Task
    s: Sentences
    claims: list[Claim]
    style: Style
    probabilities: Probabilities = "hidden"
    pairs: tuple[Pair, ...] = ()

    @cached_property
    def lesions(self) -> list[Claim]:
        """Claims of single lesions, the weightiest first."""
        return [c for c in self.claims if c.lesions]

    @cached_property
    def placed(self) -> list[Claim]:
        """Lesions that two modalities outline, or that only one could: each is told by itself."""
        return [c for c in self.lesions if c.match or (not self._open(c) and not self._frame(c))]

    @cached_property
    def outlines(self) -> list[Claim]:
        """Outlines of one modality that another one does not confirm, volumes first; and those of a cine,
        which has no place in space: several may be one lesion, or one of those that are placed."""
        placed = {c.id for c in self.placed}
        return sorted((c for c in self.lesions if c.id not in placed), key=self._frame)

    def _not_shown(self, outline: Claim) -> bool:
        whole = self.findings.get(outline.finding)
        shown = set(whole.shown_by()) if whole is not None else set()
        return not shown & {self.records[i].modality for i in outline.lesions}

    def _open(self, claim: Claim) -> bool:
        """Whether another modality could have shown it."""
        return any(w.role in ("does_not_show", "unclear") and w.why != "alone" for w in claim.witnesses)

    def _frame(self, claim: Claim) -> bool:
        """Whether only a cine outlines it."""
        return all(is_cine(self.records[i].modality) for i in claim.lesions)

    @cached_property
    def best(self) -> dict[str, Claim]:
        """Finding → the outline that it may be, where it has no lesion that is told by itself: of a modality
        that shows the finding, if there is one."""
        told = {c.finding for c in self.placed}
        out: dict[str, Claim] = {}
        for claim in sorted(self.outlines, key=self._not_shown):
            if claim.finding not in told:
                out.setdefault(claim.finding, claim)
        return out

    def narrower_told(self, finding: str) -> bool:
        """Whether a lesion of a narrower name is told by itself."""
        return any(finding in self._wider(c.finding) for c in self.placed)

    def perhaps(self, finding: str) -> list[Claim]:
        """The one lesion that is told by itself under a wider name, and so may be what this finding is; none
        where there are several."""
        wider = self._wider(finding)
        found = [c for c in self.placed if c.finding in wider]
        return found if len(found) == 1 else []

    def _wider(self, finding: str) -> set[str]:
        return {f.id for f in self.task.wider(finding)}

    @cached_property
    def no_outline(self) -> str:
        """Of a known mass that no modality outlines, the sentence that says so; "" else."""
        if not self.task.around or self.lesions:
            return ""
        used = [m for m, state in self.prediction.modalities.items() if state in ("present", "limited")]
        return self.s.render("no_focal", modalities=[self.s.modality(m) for m in used])

    @cached_property
    def roles(self) -> dict[str, set[str]]:
        """Modality → the roles of its series that were used."""
        return used_roles(self.prediction)

    @cached_property
    def findings(self) -> dict[str, Claim]:
        """The claim of each finding of the whole case, in the task's order."""
        return {c.finding: c for c in self.claims if not c.lesions}

    @cached_property
    def records(self) -> dict[str, LesionRecord]:
        """Lesions of the prediction by their id."""
        return {x.id: x for x in self.prediction.lesions}

    def name(self, finding: str) -> str:
        """A finding in words."""
        return self.s.name(self.task.finding(finding))

    def said(self, certainty: Certainty, name: str, finding: str = "") -> str:
        """That something is there, or is not, as surely as is claimed; in words of its own where the
        templates have some for ``finding``."""
        own = f"said.{finding}.{certainty}"
        return self.s.render(own if self.s.has(own) else f"scale.{certainty}", name=name)

    def places(self, claim: Claim) -> list[Place]:
        """Where a claim shows: its lesions, else the places of its finding."""
        if claim.lesions:
            return [self.records[i].place for i in claim.lesions]
        return self.prediction.finding(claim.finding).evidence if claim.claimed else []

    def probability(self, claim: Claim) -> list[str]:
        """The calibrated probability of its finding, where the reader wants it beside the words."""
        p = self.prediction.finding(claim.finding).probability
        shown = self.probabilities == "shown" and claim.claimed and p is not None
        return [self.s.render("claim.probability", p=p)] if shown else []

    def contradicted(self, claim: Claim) -> list[str]:
        """What a claim cannot hold beside."""
        if not claim.contradicts or not claim.claimed:
            return []
        names = self.s.joined([self.name(f) for f in claim.contradicts])
        return [self.s.render("claim.contradicted", names=names)]

    def sentence(self, text: str, claims: list[Claim], assertion: Assertion | None = None) -> Sentence:
        """A sentence that puts claims into words, the first of which it is named after."""
        first = claims[0]
        places = self.places(first)
        places += [p for c in claims[1:] for p in self.places(c) if c.lesions and p not in places]
        return Sentence(
            text=text,
            finding=first.finding,
            probability=first.probability,
            modality=list(dict.fromkeys(m for c in claims for m in _spoken_for(c))),
            evidence=places,
            assertion=assertion or ASSERTION[first.certainty],
            claims=[c.id for c in claims],
        )


def _spoken_for(claim: Claim) -> list[str]:
    """The modalities that a sentence rests on: those that show what is claimed, or do not show what is
    denied."""
    if claim.claimed:
        return claim.shown_by()
    return [w.modality for w in claim.of_role("does_not_show")]


def used_roles(prediction: Prediction) -> dict[str, set[str]]:
    """Modality → the roles of its images that were used."""
    roles: dict[str, set[str]] = {}
    for image in prediction.images:
        if image.in_domain or prediction.outside_domain_shown:
            roles.setdefault(image.modality, set()).add(image.role)
    return roles
