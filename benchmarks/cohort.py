"""A planted hospital through `medfuse cohort build`: simulated patients as small DICOM studies, their reports
as a table, HL7 v2 and FHIR, with 14 kinds of damage in known places.

python benchmarks/cohort.py --out hospital [--patients 420] [--each 10] [--write docs/cohort.md]
python benchmarks/cohort.py --out large --studies 2000     time and memory alone, as a table, undamaged

Linked: to all the studies a report is of, and to no other. Refused: rightly left to a person. Missed: could
have been linked. Wrong: linked to a study that is not its own, or though it must not be. The goal of wrong is
0. The damage was planted by the authors of the rules; a real archive has kinds that nobody thought of.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from hospital import Hospital, hospital, outcome, write_fhir, write_hl7

from medfuse.cohort.build import BuildRequest, build
from medfuse.cohort.ledger import read_ledger
from medfuse.cohort.results import CohortFile
from medfuse.io.child import children
from medfuse.task import load_task

START = "<!-- planted: written by benchmarks/cohort.py -->"
END = "<!-- end -->"


def run(planted: Hospital, reports: Path, out: Path) -> tuple[CohortFile, float]:
    """Build a cohort; what came of it, and seconds."""
    request = BuildRequest(
        archive=planted.archive, reports=[reports], task=load_task("upper-abdomen"), out=out
    )
    started = time.perf_counter()
    result = build(request, lambda what: lambda done, total: None)
    return result, time.perf_counter() - started


def memory_mib() -> float:
    """The most that this process, and the largest of its ended children, ever held."""
    every = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(who).ru_maxrss for who in every) / 1024


def planted_rows(folder: Path, patients: int, each: int) -> tuple[list[dict[str, object]], str]:
    """One row a source, and the table by kind of damage of the first."""
    planted = hospital(folder, patients, each=each)
    sources = {
        "table (CSV)": planted.table,
        "HL7 v2 ORU^R01": write_hl7(planted, folder / "hl7"),
        "FHIR R4B": write_fhir(planted, folder / "fhir"),
    }
    rows: list[dict[str, object]] = []
    kinds = ""
    for name, reports in sources.items():
        out = folder / f"cohort-{len(rows)}"
        result, seconds = run(planted, reports, out)
        ledger = read_ledger(out / "ledger.csv")
        found = outcome(planted, ledger)
        rows.append(
            {
                "source": name,
                "reports": result.reports,
                "studies": result.studies,
                "linked": found.linked,
                "refused": found.refused,
                "missed": len(found.missed),
                "wrong": len(found.wrong),
                "cases": result.cases,
                "seconds": round(seconds, 1),
            }
        )
        kinds = kinds or _by_kind(planted, ledger)
    return rows, kinds


def _by_kind(planted: Hospital, ledger: list) -> str:
    counted = Counter((planted.kind[r.id] or "none", r.status) for r in ledger if r.kind == "report")
    names = dict.fromkeys(k for k, _ in counted)
    lines = ["| Damage | reports | linked | unresolved | refused |", "|---|---|---|---|---|"]
    for name in names:
        each = [counted[name, status] for status in ("linked", "unresolved", "refused")]
        lines.append(f"| {name} | {sum(each)} | {each[0]} | {each[1]} | {each[2]} |")
    return "\n".join(lines)


def page(rows: list[dict[str, object]], kinds: str, patients: int, each: int) -> str:
    """What docs/cohort.md quotes."""
    columns = list(rows[0])
    lines = [
        f"`python benchmarks/cohort.py --out hospital --patients {patients} --each {each}` (SIMULATED "
        "patients, small studies):",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(str(r[c]) for c in columns) + " |" for r in rows),
        "",
        "By kind of damage, from the table:",
        "",
        kinds,
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=420)
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument("--studies", type=int, default=0, help="time and memory alone")
    parser.add_argument("--write", type=Path, help="a page whose block of figures is written anew")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    if given.studies:
        planted = hospital(given.out, given.studies, each=0)
        result, seconds = run(planted, planted.table, given.out / "cohort")
        children().stop()  # so that their memory counts
        found = {"studies": result.studies, "reports": result.reports, "linked": result.linked}
        print(json.dumps(found | {"seconds": round(seconds, 1), "memory_mib": round(memory_mib())}))
        return
    rows, kinds = planted_rows(given.out, given.patients, given.each)
    print(json.dumps(rows, indent=1))
    if given.write:
        text = given.write.read_text(encoding="utf-8")
        before, after = text.split(START)[0], text.split(START)[1].split(END, 1)[1]
        block = page(rows, kinds, given.patients, given.each)
        given.write.write_text(f"{before}{START}\n{block}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
