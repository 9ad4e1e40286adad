"""From received objects to cases: file what has gone quiet, predict it, and send results where they may
go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..batch.plan import Job, Plan, stat_hash
from ..errors import UserError
from ..faults import fault_sentence
from ..io.cases import plan_cases
from ..io.names import log_name, plain_name
from ..io.read import open_case
from ..io.scan import scan_files
from ..library import Library
from ..library.audit import record
from ..library.ingest import keep_names
from ..library.referring import keep_objects
from ..library.store import add_case, files_of
from ..workflows.result import CommandResult
from .archive import Archive, mark_filed, quiet_studies
from .client import Remote, fetch_web, find_remote, move_remote, parse_remote, send_files, shown, stow
from .node import Node, NodeOptions, Peer
from .tls import Tls

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Destination:
    """Where unsigned results may go: a research system that an administrator has named. A DICOM node, or a
    STOW-RS address."""

    peer: Peer | None = None
    url: str = ""

    @classmethod
    def parse(cls, text: str, tls: Tls | None = None) -> Destination:
        """AET@HOST:PORT, or a STOW-RS address. Raises WrongUse for anything else."""
        return cls(url=text) if text.startswith(("http://", "https://")) else cls(Peer.parse(text, tls))

    def send(self, files: list[Path], aet: str) -> None:
        """Raises UserError that names what was not taken."""
        if self.peer is None:
            stow(self.url, files)
            return
        done = send_files(self.peer, files, aet)
        if done.refused:
            uid, why = done.refused[0]
            raise UserError(
                f"{self.peer.aet}: {len(done.refused)} of {len(files)} objects were not taken, first "
                f"{uid}: {why}"
            )


def file_cases(
    library: Library, files: list[Path], *, window: int = 30
) -> tuple[list[str], list[tuple[str, str]]]:
    """Put stored files into cases of the library: (case ids, refused with reasons). Identifiers that disagree
    wait for a person."""
    scanned = scan_files(sorted(files))
    plans = plan_cases(scanned, window=window)
    keep_names(library, plans)
    cases = []
    for plan in plans:
        case = open_case(plan, allow_empty=True)
        if case.images:
            with library.session() as s:
                add_case(library, s, case, scanned.used_files(plan.series), plan.conflict)
            cases.append(case.case_id)
    keep_objects(library, scanned.objects)
    return cases, [(r.path, r.reason) for r in scanned.refused]


@dataclass
class Service:
    """Watches for studies that have gone quiet; `step` files them, and predicts and sends where that is
    wanted."""

    quiet_s: float = 30.0
    window: int = 30
    predict: bool = False
    out: Path = Path("medfuse-out")
    bundle: str | None = None
    language: str = "en"  # of drafts
    destinations: tuple[Destination, ...] = ()
    aet: str = "MEDFUSE"
    talk: Callable[[str], None] = lambda message: None
    library: Library = field(default_factory=Library)
    _fault: str = field(default="", init=False)  # of the machine, that was said and is not over

    def step(self) -> list[str]:
        """The cases that were filed now. A fault in one patient's files is told and does not stop the
        others."""
        filed: list[str] = []
        for files in quiet_studies(self.library, self.quiet_s).values():
            try:
                cases, refused = file_cases(self.library, files, window=self.window)
            except UserError as e:
                self.talk(f"medfuse: {len(files)} objects that go together were not filed: {e}")
                continue
            mark_filed(self.library, files)
            self._fault = ""
            for path, reason in refused:
                self.talk(f"medfuse: {path}: {reason}")
            filed += cases
            self.talk(f"filed {', '.join(map(log_name, cases)) or 'nothing'} of {len(files)} objects")
        if filed and self.predict:
            self._predict(filed)
        return filed

    def _predict(self, cases: list[str]) -> None:
        # a node that only receives starts without torch
        from ..batch.run import BatchOptions, run_batch
        from ..workflows.predict import PredictOptions

        jobs = [Job(c, stat_hash([], *files_of(self.library, c)), library=True) for c in cases]

        def tell(event: dict) -> None:
            self.talk(f"{log_name(event['case_id'])}: {event['state']} {event['reason']}".rstrip())
            if event["state"] == "done":
                self._send(event["case_id"])

        try:
            run_batch(
                Plan(jobs),
                self.out,
                PredictOptions(language=self.language),
                BatchOptions(1, threads=1),
                bundle=self.bundle,
                event=tell,
                library=self.library,
            )
        except UserError as e:
            self.talk(f"medfuse: {e}")

    def _send(self, case_id: str) -> None:
        """SR and SEG of an unsigned draft, to research destinations alone; they say UNVERIFIED."""
        folder = self.out / plain_name(case_id)
        files = sorted(folder.glob("*.sr.dcm")) + sorted(folder.glob("*.seg.dcm"))
        for destination in self.destinations if files else ():
            where = destination.peer.aet if destination.peer else shown(destination.url)
            try:
                destination.send(files, self.aet)
            except UserError as e:
                self.talk(f"medfuse: {log_name(case_id)}: {e}")
                continue
            record(self.library, "draft sent", case_id=case_id, where=where, objects=len(files))
            self.talk(f"sent {len(files)} objects of {log_name(case_id)} to {where}")

    def run(self, stop: threading.Event, every_s: float = 2.0) -> None:
        """`step` again and again until ``stop`` is set. A fault of the machine (a database that is gone, a
        full disk) is said once, and tried again until it is over."""
        while not stop.wait(min(every_s, max(0.2, self.quiet_s))):
            try:
                self.step()
                self._fault = ""
            except Exception as e:
                why = fault_sentence(e)
                if why is None:
                    raise
                if why != self._fault:
                    self.talk(f"medfuse: {why}; what was received is kept, and filed when this is over")
                self._fault = why


def ingest_remote(
    sources: list[str],
    *,
    window: int,
    progress: Callable,
    aet: str,
    port: int,
    tls: Tls | None = None,
    library: Library | None = None,
) -> CommandResult:
    """`medfuse ingest dicomweb:… dimse:…`: fetch what is not here, file it, and say what was refused.
    ``tls``: how nodes are called; where it has a certificate, they send to us with TLS too."""
    library = library or Library()
    got, refused = _fetch(library, sources, progress, NodeOptions(aet=aet, port=port), tls)
    cases: list[str] = []
    for files in quiet_studies(library, 0.0).values():
        more, bad = file_cases(library, files, window=window)
        mark_filed(library, files)
        cases += more
        refused += bad
    data = {"instances": len(got), "cases": cases, "refused": [{"path": p, "reason": r} for p, r in refused]}
    lines = [f"case {c}" for c in cases] or ["nothing new"]
    lines += [f"refused {p}: {r}" for p, r in refused]
    nothing = not cases and not got
    return CommandResult(data, "\n".join(lines), 0 if not refused else 1 if nothing else 3)


def _fetch(
    library: Library, sources: list[str], progress: Callable, own: NodeOptions, tls: Tls | None
) -> tuple[list[str], list[tuple[str, str]]]:
    """Bring what the sources hold into the archive: (instances fetched by DICOMweb, refused with reasons)."""
    archive = Archive(library)
    got: list[str] = []
    refused: list[tuple[str, str]] = []
    try:
        for text in sources:
            remote = parse_remote(text)
            assert remote is not None
            if remote.kind == "dicomweb":
                here, lost = fetch_web(remote, archive, progress("fetched"))
                got += here
                refused += lost
            else:
                _fetch_dimse(library, remote, own, tls)
    finally:
        archive.close()
    return got, refused


def _fetch_dimse(library: Library, remote: Remote, own: NodeOptions, tls: Tls | None) -> None:
    """C-FIND, then C-MOVE to ourselves: a node of ours listens meanwhile, with TLS where we have a
    certificate."""
    peer = Peer.parse(remote.where, tls)
    if tls is not None and tls.certificate is not None:
        own = replace(own, certificate=tls.certificate, key=tls.key, authority=tls.authority)
    studies = [s["StudyInstanceUID"] for s in find_remote(peer, remote.query, own.aet)]
    if not studies:
        raise UserError(f"{remote.where}: no study matches {remote.query or 'the empty query'}")
    node = Node(own, Archive(library))
    node.start()
    try:
        for uid in studies:
            move_remote(peer, uid, own.aet, own.aet)
    finally:
        node.stop()
