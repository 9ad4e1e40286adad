"""A planted hospital through `medfuse cohort build`: simulated patients as small DICOM studies, their reports
as a table, HL7 v2 and FHIR, with 14 kinds of damage in known places.

python benchmarks/cohort.py --out hospital [--patients 420] [--each 10] [--write docs/cohort.md]
python benchmarks/cohort.py --out large --studies 1000 3000 10000 [--write docs/cohort.md]
    time and memory alone, from an undamaged table, each number of studies in a process of its own

Linked: to all the studies a report is of, and to no other. Refused: rightly left to a person. Missed: could
have been linked. Wrong: linked to a study that is not its own, or though it must not be. The goal of wrong is
0. The damage was planted by the authors of the rules; a real archive has kinds that nobody thought of.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from hospital import Hospital, hospital, outcome, write_fhir, write_hl7

from medfuse.cohort.build import BuildRequest, build
from medfuse.cohort.ledger import read_ledger
from medfuse.cohort.results import CohortFile
from medfuse.io.child import children
from medfuse.task import load_task

START = "<!-- planted: written by benchmarks/cohort.py -->"
LARGE = "<!-- large: written by benchmarks/cohort.py -->"
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


def processor_s() -> float:
    """Seconds of processor time of this process and of its ended children."""
    every = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(r.ru_utime + r.ru_stime for r in every)


def large_row(folder: Path, studies: int) -> dict[str, float]:
    """Time and memory of linking and labelling so many undamaged studies, once and once again."""
    planted = hospital(folder, studies, each=0)
    before = processor_s()
    result, seconds = run(planted, planted.table, folder / "cohort")
    children().stop()  # so that their time and memory count
    found = {"studies": result.studies, "reports": result.reports, "linked": result.linked}
    found |= {"seconds": round(seconds, 1), "processor_s": round(processor_s() - before, 1)}
    _, again = run(planted, planted.table, folder / "cohort")
    children().stop()
    return found | {"again_s": round(again, 1), "memory_mib": round(memory_mib())}


def large_rows(folder: Path, sizes: list[int]) -> list[dict[str, float]]:
    """A row a size, each made in a process of its own, so that memory is that of this size alone."""
    rows = []
    for size in sizes:
        asked = [sys.executable, __file__, "--out", str(folder / str(size)), "--studies", str(size)]
        done = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout))
        shutil.rmtree(folder / str(size), ignore_errors=True)
    return rows


def grows_as(rows: list[dict[str, float]], what: str) -> float:
    """The power of the number of studies that ``what`` grows with, first row to last: 1 is linear."""
    first, last = rows[0], rows[-1]
    return math.log(last[what] / first[what]) / math.log(last["studies"] / first["studies"])


def large_page(rows: list[dict[str, float]]) -> str:
    """What docs/cohort.md quotes."""
    sizes = " ".join(str(int(r["studies"])) for r in rows)
    powers = {what: grows_as(rows, what) for what in ("processor_s", "memory_mib")}
    return "\n".join(
        [
            f"`python benchmarks/cohort.py --out large --studies {sizes}` (SIMULATED, on two cores that did "
            "other work too):",
            "",
            *_table(rows),
            "",
            f"Processor time grows with the {powers['processor_s']:.2f}th power of the studies, memory with "
            f"the {powers['memory_mib']:.2f}th; `again_s` is a second run, which reads no pixels again.",
        ]
    )


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
    lines = [
        f"`python benchmarks/cohort.py --out hospital --patients {patients} --each {each}` (SIMULATED "
        "patients, small studies):",
        "",
        *_table(rows),
        "",
        "By kind of damage, from the table:",
        "",
        kinds,
    ]
    return "\n".join(lines)


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    columns = list(rows[0])
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(str(r[c]) for c in columns) + " |" for r in rows),
    ]


def write_block(path: Path, start: str, block: str) -> None:
    """The block of a page between a mark and the next END, written anew."""
    text = path.read_text(encoding="utf-8")
    before, after = text.split(start)[0], text.split(start)[1].split(END, 1)[1]
    path.write_text(f"{before}{start}\n{block}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=420)
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument("--studies", type=int, nargs="*", default=[], help="time and memory alone")
    parser.add_argument("--write", type=Path, help="a page whose block of figures is written anew")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    if len(given.studies) == 1:
        print(json.dumps(large_row(given.out, given.studies[0])))
        return
    if given.studies:
        rows = large_rows(given.out, given.studies)
        print(json.dumps(rows, indent=1))
        if given.write:
            write_block(given.write, LARGE, large_page(rows))
        return
    planted, kinds = planted_rows(given.out, given.patients, given.each)
    print(json.dumps(planted, indent=1))
    if given.write:
        write_block(given.write, START, page(planted, kinds, given.patients, given.each))


if __name__ == "__main__":
    main()
