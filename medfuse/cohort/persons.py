"""Who reports name: persons, their numbers and addresses, as HL7 v2, FHIR, SR and tables state them. They
stay in the cohort's ``work`` folder, and `medfuse cohort export` takes them out of the words."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hl7

from ..errors import UserError
from ..io.cells import harmless_row

FILE = "persons.csv"
COLUMNS = ("case_id", "kind", "value")
KINDS = ("names", "numbers", "places")
# fields of HL7 v2 that hold persons: of type XPN (family, given), XCN (number, family, given), NDL (the same
# as sub-components of its first component)
XPN = {"PID": (5, 6, 9), "NK1": (2, 30)}
XCN = {
    "PV1": (7, 8, 9, 17, 52),
    "OBR": (10, 16, 28),
    "ORC": (10, 11, 12, 19),
    "OBX": (16,),
    "ROL": (4,),
    "PD1": (4,),
}
NDL = {"OBR": (32, 33, 34, 35)}
HL7_NUMBERS = {
    "PID": (2, 3, 4, 13, 14, 18, 19),
    "PV1": (19,),
    "OBR": (2, 3, 18, 19),
    "ORC": (2, 3),
    "NK1": (5, 6),
}
HL7_PLACES = {"PID": (11,), "NK1": (4,)}
SHORTEST_OF_STAFF = 5  # a reader's number of three digits would take sizes out of words
FHIR_NUMBERS = ("identifier", "telecom")
FHIR_PEOPLE = ("subject", "performer", "resultsInterpreter", "requester", "author", "interpreter")


@dataclass(frozen=True, kw_only=True)
class Persons:
    """Whom a message names: names with their parts in any order, numbers and places, as written."""

    names: frozenset[str] = field(default_factory=frozenset)
    numbers: frozenset[str] = field(default_factory=frozenset)
    places: frozenset[str] = field(default_factory=frozenset)

    def __or__(self, other: Persons) -> Persons:
        return Persons(
            names=self.names | other.names,
            numbers=self.numbers | other.numbers,
            places=self.places | other.places,
        )

    @classmethod
    def of(
        cls, names: Iterable[str] = (), numbers: Iterable[str] = (), places: Iterable[str] = ()
    ) -> Persons:
        """Those that are not empty."""
        kept = (frozenset(v.strip() for v in values if v.strip()) for values in (names, numbers, places))
        return cls(**dict(zip(KINDS, kept, strict=True)))


def of_hl7(message: hl7.Message) -> Persons:
    """Whom the segments of a message name: patient, kin, and who asked, saw and read."""
    patients = _components(message, XPN)
    staff = [*_components(message, XCN), *_components(message, NDL)]
    homes = _components(message, HL7_PLACES)
    numbers = [v[0] for v in _components(message, HL7_NUMBERS)]
    return Persons.of(
        # towns are words that a text may use too: as names they go where they are written as one
        ["^".join(v[:3]) for v in patients] + ["^".join(v[1:4]) for v in staff] + [v[-1] for v in homes],
        numbers + [v[0] for v in staff if len(v[0]) >= SHORTEST_OF_STAFF],
        [v[0] for v in homes],
    )


def _components(message: hl7.Message, fields: Mapping[str, Sequence[int]]) -> list[list[str]]:
    """The first three components of each repetition of these fields, with sub-components as components."""
    repetition, component, part = message.separators[2:5]
    out = []
    for segment in message:
        for n in (n for n in fields.get(str(segment[0]), ()) if n < len(segment)):
            for one in str(segment[n]).split(repetition):
                parts = component.join(one.split(component)[:3]).replace(part, component)
                out.append([message.unescape(c) for c in parts.split(component)])
    return out


def of_fhir(resources: Iterable[dict[str, Any]]) -> Persons:
    """Whom resources name: HumanNames, the words of References to persons, identifiers, telephones,
    addresses."""
    out = Persons()
    for resource in resources:
        out |= _of_resource(resource)
    return out


def _of_resource(resource: dict[str, Any]) -> Persons:
    called, homes = _dicts(resource, "name"), _dicts(resource, "address")
    names = ["^".join([*_texts(one.get("family")), *_texts(one.get("given"))]) for one in called]
    names += [said for one in called for said in _texts(one.get("text"))]
    names += [said for one in _dicts(resource, *FHIR_PEOPLE) for said in _texts(one.get("display"))]
    names += [town for one in homes for town in _texts(one.get("city"))]
    numbers = [said for one in _dicts(resource, *FHIR_NUMBERS) for said in _texts(one.get("value"))]
    return Persons.of(names, numbers, [line for one in homes for line in _texts(one.get("line"))])


def _dicts(resource: dict[str, Any], *keys: str) -> list[dict[str, Any]]:
    """The objects under these keys, one or a list of them."""
    return [v for key in keys for v in _several(resource.get(key)) if isinstance(v, dict)]


def _texts(value: object) -> list[str]:
    return [str(v) for v in _several(value) if v]


def _several(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def write_persons(path: Path, persons: Mapping[str, Persons]) -> None:
    """By case: a CSV that stays at home."""
    with path.open("w", newline="", encoding="utf-8") as f:
        table = csv.writer(f)
        table.writerow(COLUMNS)
        for case, said in persons.items():
            for kind in KINDS:
                table.writerows(harmless_row((case, kind, v)) for v in sorted(getattr(said, kind)))


def read_persons(path: Path) -> dict[str, Persons]:
    """By case. Raises UserError where the file is not there or damaged: words would keep names that only a
    report's feed states."""
    again = "run medfuse cohort build again, so that names of the reports are known"
    found: dict[str, Persons] = {}
    try:
        with path.open(newline="", encoding="utf-8") as f:
            for row in csv.DictReader(f):
                said = Persons.of(**{row["kind"]: (row["value"].removeprefix("'"),)})
                found[row["case_id"]] = found.get(row["case_id"], Persons()) | said
    except FileNotFoundError:
        raise UserError(f"{path}: is not there; {again}") from None
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read ({e}); {again}") from e
    return found
