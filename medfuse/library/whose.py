"""Whose study a case of the library is, as its headers say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import WrongUse
from .catalogue import CaseRow, LabelRow

if TYPE_CHECKING:
    from .library import Library


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whose study it is, as the headers say; empty where they do not. Dates are YYYYMMDD. conflict: why its
    identifiers wait for a person."""

    patient_id: str
    sex: str
    birth_date: str
    study_date: str
    conflict: str = ""
    name: str = ""
    accession: str = ""
    description: str = ""

    @property
    def age(self) -> int | None:
        """Whole years at the study; None where a date is missing or is none."""
        return age_at(self.birth_date, self.study_date)


def age_at(birth_date: str, study_date: str) -> int | None:
    """Whole years between two DICOM dates; None where one is missing or is none."""
    born, seen = (x.replace("-", "") for x in (birth_date, study_date))
    if not (len(born) == len(seen) == 8 and born.isdigit() and seen.isdigit()):
        return None
    return int(seen[:4]) - int(born[:4]) - (seen[4:] < born[4:])


def identity_of(library: Library, case_id: str) -> Identity:
    """Whose case it is. Raises WrongUse for a case that the library does not hold."""
    with library.session() as s:
        row = s.get(CaseRow, case_id)
        if row is None:
            raise WrongUse(f"{case_id}: no such case in the library; see medfuse cases")
        said = s.get(LabelRow, case_id)
        return Identity(
            patient_id=row.patient_id,
            sex=row.sex,
            birth_date=row.birth_date,
            study_date=row.study_date,
            conflict=row.conflict,
            name=said.name if said else "",
            accession=said.accession if said else "",
            description=said.description if said else "",
        )
