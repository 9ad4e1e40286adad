"""kill -9 over everything that is acknowledged: `python tests/kills.py [--kills 200]`. Prints JSON; exits 1
where anything that was acknowledged is lost, or anything is half.

In turn a process reads cases in, receives objects as a node, signs reports, or backs the library up, and is
killed after a random time. Then the library is looked at by another: what was acknowledged is there with its
bytes, every image has its hash, the audit log agrees with the database both ways, the backup is a whole one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from pacs import free_port
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import build_context
from slices import write_stack
from test_signoff import CASE, edited, prediction_of, report_of

from medfuse.errors import UserError
from medfuse.library import Library, accounts, audit, integrity, reports, results, store
from medfuse.library.audit_check import differences
from medfuse.library.backup import backup, read_manifest
from medfuse.library.catalogue import CaseRow
from medfuse.library.ingest import ingest
from medfuse.library.restoration import verify_backup
from medfuse.network.archive import files_of
from medfuse.network.client import associate
from medfuse.network.node import Node, NodeOptions, Peer

ACTS = ("ingest", "store", "sign", "backup")
LONGEST_S = {"ingest": 4.0}  # before a process is killed, counted from when it is ready
OTHERS_S = 1.0
SLICES = 3
CT = "1.2.840.10008.5.1.4.1.1.2"
Say = Callable[[str], None]


@dataclass
class Round:
    """What is known of all rounds so far. kept: act → what was acknowledged of it."""

    folder: Path
    kept: dict[str, list[str]] = field(default_factory=lambda: {act: [] for act in ACTS})
    lost: list[str] = field(default_factory=list)
    half: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def copy(self) -> Path:
        """Of the backup."""
        return self.folder / "copy"


def prepare(folder: Path) -> Library:
    """A library with one case whose report is signed, and an author."""
    library = Library(folder / "home")
    with library.session() as s:
        s.add(CaseRow(id=CASE, patient_id="p"))
        audit.enter(s, "case added", case_id=CASE)
    results.save_result(library, prediction_of(), report_of("Ascites is present."))
    ann = accounts.add_account(library, "ann", "correct horse battery", "author")
    now = reports.current(library, CASE)
    assert now is not None
    now = reports.save(library, CASE, now.revision, edited(now.report), ann)
    reports.sign(library, CASE, now.revision, ann)
    return library


def series(folder: Path, first: int) -> Iterator[tuple[str, Path]]:
    """Folders of one new series each, with a study and a patient of its own."""
    for n in count(first):
        where = folder / str(n)
        uid = f"1.2.826.{n}"
        if not where.exists():
            ids = {"patient": f"K{n}", "study": uid, "series": f"{uid}.1"}
            part = where.with_name(f".{n}.{os.getpid()}")  # who writes it may be killed too
            write_stack(part, [(0, 0, 2.5 * k) for k in range(SLICES)], **ids)
            part.rename(where)
        yield uid, where


def ingesting(library: Library, at: Round, say: Say) -> None:
    for uid, where in series(at.folder / "in", len(at.kept["ingest"])):
        ingest(library, where)
        say(uid)


def signing(library: Library, at: Round, say: Say) -> None:
    ann = accounts.list_accounts(library)[0]
    for _ in range(10_000):
        now = reports.current(library, CASE)
        assert now is not None
        if now.state == "draft":
            now = reports.sign(library, CASE, now.revision, ann)
            say(str(now.version))
        else:
            reports.amend(library, CASE, ann, "again")


def backing_up(library: Library, at: Round, say: Say) -> None:
    for _ in range(10_000):
        say(str(backup(library, at.copy).images))


def receiving(port: int) -> Callable[[Library, Round, Say], None]:
    def run(library: Library, at: Round, say: Say) -> None:
        os.environ["MEDFUSE_HOME"] = str(library.home)
        Node(NodeOptions(port=port)).start()
        say("ready")
        time.sleep(60)

    return run


def send(port: int, at: Round) -> Iterator[str]:
    """Objects one after the other, each named once it is acknowledged, until the node is gone."""
    with suppress(UserError, RuntimeError, ValueError, OSError):
        assoc = associate(
            Peer("MEDFUSE", "127.0.0.1", port), [build_context(CT, ["1.2.840.10008.1.2.1"])], "KILLS"
        )
        for n in range(len(at.kept["store"]), 10**6):
            path = at.folder / "out" / f"{n}.dcm"
            if not path.exists():
                one = {"patient": "S", "study": "1.2.840.1", "series": "1.2.840.1.1", "sop": generate_uid()}
                write_stack(path.parent / str(n), [(0, 0, float(n))], **one)
                (path.parent / str(n) / "001.dcm").rename(path)
            status = assoc.send_c_store(dcmread(path))
            if not status or status.Status != 0:
                break
            yield str(path)


def forked(work: Callable[[Library, Round, Say], None], at: Round) -> tuple[int, int]:
    """A process that does this with the library, opened anew, and the end of a pipe where it says what is
    done."""
    reads, writes = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.close(writes)
        return child, reads
    try:
        os.close(reads)
        work(Library(at.folder / "home"), at, lambda word: os.write(writes, f"{word}\n".encode()) and None)
    except BaseException as e:
        os.write(2, f"{type(e).__name__}: {e}\n".encode())
    finally:
        os._exit(3)


def one(act: str, at: Round, rng: random.Random) -> None:
    """One process, killed after a random time; notes what it acknowledged."""
    port = free_port()
    works = {"ingest": ingesting, "store": receiving(port), "sign": signing, "backup": backing_up}
    child, reads = forked(works[act], at)
    with os.fdopen(reads) as said:
        if act == "store":
            said.readline()
        timer = threading.Timer(
            0.02 + LONGEST_S.get(act, OTHERS_S) * rng.random(), os.kill, [child, signal.SIGKILL]
        )
        timer.start()
        if act == "store":
            at.kept[act] += list(send(port, at))
        at.kept[act] += [line.strip() for line in said]
    timer.join()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    at.kills[act] += status == -signal.SIGKILL
    if status != -signal.SIGKILL:
        at.half.append(f"{act} ended by itself ({status})")


def look(at: Round) -> None:
    """Another process's look at the library after a kill: what is lost, and what is half."""
    with Library(at.folder / "home") as library:
        at.half += [d.what for d in differences(library)]
        at.half += [f"{d.file}: {d.what}" for d in integrity.verify(library).damaged]
        cases = {c.patient_id: c.case_id for c in store.list_cases(library)}
        names = [f"K{uid.split('.')[-1]}" for uid in at.kept["ingest"]]
        at.lost += [f"case of {name}" for name in names if name not in cases]
        for name, case_id in cases.items():
            n = len(store.files_of(library, case_id))
            if name.startswith("K") and n != SLICES:
                at.half.append(f"case of {name}: {n} files")
        signed = reports.final_version(library, CASE)
        newest = max(map(int, at.kept["sign"]), default=1)
        if signed is None or signed.version < newest:
            at.lost.append(f"signed version {newest}")
        sent = {str(dcmread(p, stop_before_pixels=True).SOPInstanceUID): Path(p) for p in at.kept["store"]}
        there = {u: p for u, _, _, p in files_of(library, {"StudyInstanceUID": "1.2.840.1"})} if sent else {}
        at.lost += [f"object {uid}" for uid in sent if uid not in there]
        same = {uid: data_of(there[uid]) == data_of(p) for uid, p in sent.items() if uid in there}
        at.half += [f"object {uid}: other bytes" for uid, good in same.items() if not good]
    if at.kept["backup"] and read_manifest(at.copy) is None:
        at.lost.append("backup")
    if read_manifest(at.copy) is not None:
        at.half += [f"backup: {d.file}: {d.what}" for d in verify_backup(at.copy).damaged]


def data_of(path: Path) -> bytes:
    """A DICOM file behind its file meta, which each side writes for itself."""
    meta = dcmread(path, stop_before_pixels=True).file_meta
    return path.read_bytes()[144 + meta.FileMetaInformationGroupLength :]


def main() -> int:
    """Kill, look, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="medfuse-kills-") as name:
        at = Round(Path(name))
        prepare(at.folder).close()
        for n in range(given.kills):
            act = ACTS[n % len(ACTS)]
            one(act, at, rng)
            look(at)
            if at.lost or at.half:
                print(f"after kill {n + 1}, of {act}:", *at.lost, *at.half, sep="\n", file=sys.stderr)
                break
        acknowledged = {act: len(kept) for act, kept in at.kept.items()}
        result = {
            "kills": sum(at.kills.values()),
            "by_act": dict(at.kills),
            "acknowledged": acknowledged,
            "lost": len(at.lost),
            "half": len(at.half),
        }
        print(json.dumps(result))
    return 0 if not result["lost"] and not result["half"] and result["kills"] == given.kills else 1


if __name__ == "__main__":
    sys.exit(main())
