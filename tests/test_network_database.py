"""A node whose PostgreSQL goes away while it takes objects: what was acknowledged is there afterwards, what
was not gets a failure, and node and filing go on by themselves."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Postgres
from pacs import free_port
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage
from slices import write_stack

from medfuse.library import Library, integrity, store
from medfuse.library.audit_check import differences
from medfuse.network.archive import files_of
from medfuse.network.client import echo
from medfuse.network.node import OUT_OF_RESOURCES, SUCCESS, Node, NodeOptions, Peer
from medfuse.network.service import Service

pytestmark = [
    pytest.mark.attack,
    # pynetdicom leaves the socket of a refused connection to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]
SENDERS = 3
SLICES = 3  # of a study


@pytest.fixture
def server() -> Iterator[Postgres]:
    made = Postgres()
    yield made
    made.close()
    gc.collect()


@dataclass
class Scanner:
    """Sends new objects without end, each once, on one association, and notes what it was told of each."""

    port: int
    studies: Path
    number: int
    told: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)  # objects of which nothing was said

    def send(self, stop: threading.Event) -> None:
        ae = AE(ae_title=f"SCANNER{self.number}")
        ae.dimse_timeout = 20
        ae.add_requested_context(CTImageStorage)
        assoc = ae.associate("127.0.0.1", self.port, ae_title="MEDFUSE")
        assert assoc.is_established
        turn = 0
        while not stop.is_set():
            for ds in self.study(turn):
                status = assoc.send_c_store(ds)
                if "Status" in status:
                    self.told[ds.SOPInstanceUID] = status.Status
                else:
                    self.lost.append(ds.SOPInstanceUID)
            turn += 1
        assoc.release()

    def study(self, turn: int) -> list[Dataset]:
        """Slices of a patient of their own."""
        folder = self.studies / f"{self.number}-{turn}"
        write_stack(folder, [(0, 0, 2.5 * k) for k in range(SLICES)])
        out = [dcmread(p) for p in sorted(folder.iterdir())]
        for k, ds in enumerate(out):
            tail = f"{self.number}.{turn}"
            ds.PatientID = f"P{self.number}x{turn}"
            ds.StudyInstanceUID = f"1.2.5.{tail}"
            ds.SeriesInstanceUID = f"1.2.6.{tail}"
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.7.{tail}.{k}"
        return out

    def count(self, status: int) -> int:
        return sum(s == status for s in list(self.told.values()))


def until(wanted, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def test_a_database_that_goes_away_costs_nothing_that_was_acknowledged(server, home, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDFUSE_DATABASE_URL", server.database())
    node = Node(NodeOptions(port=free_port()))
    node.start()
    said: list[str] = []
    service = Service(quiet_s=0.3, talk=said.append, library=Library())
    stop = threading.Event()
    filing_ends = threading.Event()
    scanners = [Scanner(node.options.port, tmp_path, n) for n in range(SENDERS)]
    threads = [threading.Thread(target=s.send, args=(stop,)) for s in scanners]
    filing = threading.Thread(target=service.run, args=(filing_ends, 0.2))

    def told(status: int) -> int:
        return sum(s.count(status) for s in scanners)

    def outages() -> int:
        return sum("database" in line for line in said)

    try:
        for t in (*threads, filing):
            t.start()
        for outage in (1, 2):
            before = (told(SUCCESS), len(said))
            until(lambda before=before: told(SUCCESS) >= before[0] + 9 and len(said) > before[1] + 1)
            refused = told(OUT_OF_RESOURCES)
            server.stop()
            until(lambda refused=refused: told(OUT_OF_RESOURCES) >= refused + 6)
            until(lambda outage=outage: outages() == outage)
            assert echo(Peer("MEDFUSE", "127.0.0.1", node.options.port))  # the node itself is there
            server.start()
        before = told(SUCCESS)
        until(lambda: told(SUCCESS) >= before + 9)
        stop.set()
        for t in threads:
            t.join(30)
        statuses = {s for x in scanners for s in x.told.values()}
        assert statuses == {SUCCESS, OUT_OF_RESOURCES}
        assert not any(s.lost for s in scanners)
        kept = [uid for s in scanners for uid, status in s.told.items() if status == SUCCESS]
        library = Library()
        there = {uid: path for uid, _, _, path in files_of(library, {"SOPInstanceUID": "\\".join(kept)})}
        assert sorted(there) == sorted(kept)
        assert {dcmread(p, stop_before_pixels=True).SOPInstanceUID for p in there.values()} == set(kept)
        assert integrity.verify(library).damaged == ()
        whole = [uid.rsplit(".", 1)[0] for uid in kept]
        patients = {f"P{a}x{b}" for a, b in (u.split(".")[-2:] for u in whole if whole.count(u) == SLICES)}
        until(lambda: patients <= {c.patient_id for c in store.list_cases(Library())}, 60)
        assert differences(library) == []
        assert outages() == 2, said  # each is said, and once
    finally:
        stop.set()
        filing_ends.set()
        for t in (*threads, filing):
            t.join(30)
        node.stop()
