"""`medfuse tune`: from what people accepted, edited, rejected and added to a tuned copy of a bundle, or to a
refusal that says why."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from ..bundles.bundle import Bundle, load_bundle
from ..bundles.tuned import tuned_copy
from ..drafting.labeller import task_lexicon
from ..errors import UserError, fault_of
from ..library import Library, results, store
from ..library.training_records import TrainingRecord
from ..training.signed import Predicted, Statements, statements
from ..training.tuning import GateRow, Scores, tune
from .outputs import check_folder


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """accepted: whether the gate let it pass; only then ``bundle`` was written. before, after: held-out
    scores. shift: by finding. records, statements, readers, patients: how many. unknown: cases without a
    stored prediction of the bundle in this library, left out."""

    accepted: bool
    bundle: str
    before: Scores
    after: Scores
    gate: tuple[GateRow, ...]
    shift: dict[str, float]
    wrong: float
    records: int
    statements: int
    readers: int
    patients: int
    unknown: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """As JSON data."""
        return asdict(self)


def read_records(path: Path) -> list[TrainingRecord]:
    """The records of a file. Raises UserError that names the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(
            f"{path}: cannot be read ({fault_of(e)}); give what medfuse export training-records wrote"
        ) from e
    out = []
    for n, line in enumerate(lines, 1):
        if line.strip():
            try:
                out.append(TrainingRecord.model_validate_json(line))
            except ValidationError as e:
                raise UserError(
                    f"{path}, line {n}: not a training record ({fault_of(e)}); give what medfuse export "
                    "training-records wrote"
                ) from e
    if not out:
        raise UserError(f"{path}: holds no training record; people make them by editing and signing reports")
    return out


def tune_bundle(name: str, records: Path, out: Path, *, library: Library | None = None) -> TuneResult:
    """Read, fit, judge, and write ``out`` where the gate lets it pass. Raises UserError where the records are
    of another bundle, or nothing can be read from them."""
    bundle = load_bundle(name)
    check_folder(out)
    lines = read_records(records)
    mine = [r for r in lines if r.bundle_hash == bundle.hash]
    if not mine:
        raise UserError(
            f"{records}: none of its {len(lines)} records is of bundle {bundle.name}; give the bundle that "
            "drafted those reports"
        )
    said = _statements(mine, bundle, library or Library(), records)
    tuned = tune(said, tuple(f.id for f in bundle.task.findings))
    result = TuneResult(
        accepted=tuned.accepted,
        bundle=str(out) if tuned.accepted else "",
        before=tuned.before,
        after=tuned.after,
        gate=tuned.gate,
        shift=tuned.shift,
        wrong=tuned.wrong,
        records=len(mine),
        statements=len(said),
        readers=len(set(said.reader.tolist())),
        patients=len(set(said.patient.tolist())),
        unknown=said.unknown,
    )
    if tuned.accepted:
        tuned_copy(bundle, out, tuned.shift, _note(result, bundle, records, said))
    return result


def _statements(mine: list[TrainingRecord], bundle: Bundle, library: Library, path: Path) -> Statements:
    lexicon = task_lexicon(bundle.task)
    if lexicon is None:
        raise UserError(
            f"bundle {bundle.name}: its task has no lexicon.yaml, so what a sentence says of a finding "
            "cannot be read"
        )
    predictions = dict(results.latest_predictions(library, bundle.hash))

    def of(case: str) -> Predicted | None:
        if case not in predictions:
            return None
        who = store.identity_of(library, case).patient_id
        return Predicted(patient=who or f"case {case}", chances=predictions[case].chances)

    said = statements(mine, of, bundle.task, lexicon)
    if not len(said):
        raise UserError(
            f"{path}: none of its records speaks of a finding that bundle {bundle.name} assessed in a case "
            "of this library; tune where the reports were signed"
        )
    return said


def _note(result: TuneResult, bundle: Bundle, records: Path, said: Statements) -> dict[str, object]:
    """What the new bundle's card says: how many people and cases, no name and no word of theirs."""
    counts = {f"reader {r + 1}": int((said.reader == r).sum()) for r in sorted(set(said.reader.tolist()))}
    return {
        "from": bundle.hash,
        "records": result.records,
        "records_sha256": hashlib.sha256(records.read_bytes()).hexdigest(),
        "statements": counts,
        "patients": result.patients,
        "shift": result.shift,
        "held_out_before": asdict(result.before),
        "held_out_after": asdict(result.after),
    }
