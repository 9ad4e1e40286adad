"""What a cohort's folder holds, which steps are done, and whether its counts add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from ..errors import UserError, WrongUse, fault_of
from ..io.manifest import ManifestRow, read_manifest
from .audit import AUDITED
from .ledger import LedgerRow, counts, read_ledger
from .results import CohortFile, sha256_of


@dataclass(frozen=True, kw_only=True)
class Built:
    """A cohort as `build` left it."""

    folder: Path
    cohort: CohortFile
    ledger: list[LedgerRow]
    rows: list[ManifestRow]


@dataclass(frozen=True, kw_only=True)
class Status:
    """steps: each with what is done or what comes next. faults: counts that do not add up, and files that
    were changed since."""

    steps: dict[str, str]
    reports: dict[str, int]
    studies: dict[str, int]
    cases: int
    files: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def open_cohort(folder: Path) -> Built:
    """Raises WrongUse for a folder that holds no cohort, UserError for damaged files."""
    path = folder / "cohort.json"
    if not path.is_file():
        raise WrongUse(f"{folder}: holds no cohort.json; give the folder that medfuse cohort build wrote")
    try:
        cohort = CohortFile.model_validate_json(path.read_bytes())
        ledger = read_ledger(folder / cohort.ledger)
    except ValidationError as e:
        raise UserError(f"{path}: is damaged ({fault_of(e)}); run medfuse cohort build again") from e
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise UserError(
            f"{folder / 'ledger.csv'}: cannot be read ({e}); run medfuse cohort build again"
        ) from e
    rows = read_manifest(folder / cohort.manifest) if cohort.cases else []
    return Built(folder=folder, cohort=cohort, ledger=ledger, rows=rows)


def status_of(built: Built) -> Status:
    """Counts by status, steps, and faults."""
    reports, studies = (counts(built.ledger, kind) for kind in ("report", "study"))
    there = {
        "audit": "audit.csv written, to be judged" if (built.folder / "audit.csv").is_file() else "",
        "audited labels": AUDITED if (built.folder / AUDITED).is_file() else "",
    }
    steps = {"build": f"{built.cohort.cases} cases by medfuse {built.cohort.version}"}
    steps |= {name: text or "not done" for name, text in there.items()}
    return Status(
        steps=steps,
        reports=dict(reports),
        studies=dict(studies),
        cases=built.cohort.cases,
        files=built.cohort.files,
        rows=built.cohort.rows,
        faults=_faults(built, reports, studies),
    )


def _faults(built: Built, reports: Counter[str], studies: Counter[str]) -> list[str]:
    cohort = built.cohort
    said = {"linked": cohort.linked, "unresolved": cohort.unresolved, "refused": cohort.refused}
    pairs = [
        ("report rows of the ledger", reports.total(), cohort.reports),
        ("study rows of the ledger", studies.total(), cohort.studies),
        *((f"reports {name}", reports[name], n) for name, n in said.items()),
        *((f"files {k}", n, cohort.files.get(k, 0)) for k, n in counts(built.ledger, "file").items()),
        *((f"rows of tables {k}", n, cohort.rows.get(k, 0)) for k, n in counts(built.ledger, "row").items()),
        ("files in the ledger", counts(built.ledger, "file").total(), sum(cohort.files.values())),
        ("rows of tables in the ledger", counts(built.ledger, "row").total(), sum(cohort.rows.values())),
        ("linked reports by rule", sum(cohort.by_rule.values()), cohort.linked),
        ("rows of the manifest", len(built.rows), cohort.cases),
    ]
    if cohort.funnel:
        left = cohort.funnel[-1].studies + sum(cohort.excluded.values())
        pairs.append(("studies in cases and left out", left, cohort.studies))
    out = [f"{name}: {found}, and cohort.json says {n}" for name, found, n in pairs if found != n]
    out += [
        f"{name} was changed after it was written; run medfuse cohort build again if that was not meant"
        for name, digest in cohort.sha256.items()
        if sha256_of(built.folder / name) != digest
    ]
    return out
