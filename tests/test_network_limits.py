"""Peers that would keep others out: silent associations, endless PDUs, borrowed names, one bad row."""

from __future__ import annotations

import gc
import os
import socket
import struct
import threading
import time
import warnings
import zlib
from contextlib import ExitStack, suppress
from io import BytesIO

import psutil
import pytest
from certificates import self_signed
from pacs import free_port
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, dsutils
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.fsm import InvalidEventError
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    UltrasoundImageStorage,
    Verification,
)
from sqlalchemy import event

from medfuse.errors import UserError, WrongUse
from medfuse.library import Library
from medfuse.library.catalogue import InstanceRow
from medfuse.network import gate, limits
from medfuse.network import node as node_module
from medfuse.network.archive import Archive, Instance, files_of
from medfuse.network.client import associate, echo, find_remote
from medfuse.network.limits import LONGEST_PDU, ClosingMachine
from medfuse.network.node import Node, NodeOptions, Peer
from medfuse.network.tls import tls_of

pytestmark = [
    pytest.mark.attack,
    # pynetdicom leaves the socket of a refused connection to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]


@pytest.fixture
def node(home):
    made = Node(NodeOptions(port=free_port(), associations=6))
    made.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def collected():
    """What pynetdicom leaves open is closed while its warning is still let pass."""
    yield
    gc.collect()


def peer_of(node, aet: str = "MEDFUSE") -> Peer:
    return Peer(aet, "127.0.0.1", node.options.port)


def associated(node):
    """An association of a peer that will say nothing more."""
    ae = AE(ae_title="SILENT")
    ae.add_requested_context(Verification)
    assoc = ae.associate("127.0.0.1", node.options.port, ae_title="MEDFUSE")
    assert assoc.is_established
    return assoc


def test_silent_associations_give_way_to_one_that_waits(node):
    with ExitStack() as ends:
        silent = [associated(node) for _ in range(node.options.associations)]
        for assoc in silent:
            ends.callback(assoc.abort)
        for _ in range(3):
            assert echo(peer_of(node))
        assert any(not assoc.is_established for assoc in silent)
        assert sum(assoc.is_established for assoc in silent) >= 3  # no more than was needed


def test_one_that_waits_for_our_answer_is_not_idle(home, monkeypatch):
    """A query that takes us long was silent as its peer waited, and would have given way."""
    node = Node(NodeOptions(port=free_port(), associations=1))
    node.start()
    monkeypatch.setattr(limits, "IDLE_S", 0.1)
    begun = threading.Event()
    ready = threading.Event()

    def slow(*_):
        begun.set()
        assert ready.wait(30)
        yield from ()

    monkeypatch.setattr(node_module, "find", slow)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(find_remote(peer_of(node), {})))
    waiting = threading.Thread(target=lambda: answers.append(echo(peer_of(node))))
    try:
        asking.start()
        assert begun.wait(30)
        waiting.start()
        time.sleep(1.0)  # ten times what silence is allowed
        ready.set()
        asking.join(30)
        waiting.join(30)
    finally:
        ready.set()
        node.stop()
    assert answers == [[], True]


def test_a_pdu_longer_than_announced_ends_its_association_alone(node):
    assoc = associated(node)
    assert assoc.acceptor.maximum_length == LONGEST_PDU
    assoc.dul.socket.socket.sendall(struct.pack(">BBL", 0x04, 0, 4 * 1024**3 - 1) + b"x" * 64)
    for _ in range(200):
        if not assoc.is_established:
            break
        time.sleep(0.05)
    assert not assoc.is_established
    assert echo(peer_of(node))


def test_who_calls_another_node_is_rejected(node, home):
    with pytest.raises(UserError, match="does not know the called AE title"):
        echo(peer_of(node, "OTHER"))
    lenient = Node(NodeOptions(port=free_port(), any_called_aet=True))
    lenient.start()
    try:
        assert echo(peer_of(lenient, "OTHER"))
    finally:
        lenient.stop()


def test_an_ae_title_alone_guards_no_open_address(home):
    with pytest.raises(WrongUse, match="proves nothing"):
        Node(NodeOptions(port=free_port(), address="0.0.0.0", allow_aets=("FRIEND",))).start()


def test_tls_files_without_a_ca_are_refused(tmp_path):
    with pytest.raises(WrongUse, match="need --tls-ca"):
        tls_of(None, tmp_path / "own.pem", None)
    with pytest.raises(UserError, match="cannot be used for TLS"):
        tls_of(tmp_path / "missing.pem", None, None)


def test_one_bad_row_does_not_cost_the_others_theirs(home):
    library = Library(home)
    archive = Archive(library)

    def refuse(mapper, connection, row):
        if row.uid == "1.2.13":
            raise ValueError("a row that the database refuses")

    outcomes = {}

    def store(n: int) -> None:
        uid = f"1.2.{n}"
        try:
            outcomes[n] = archive.store(
                Instance(bytes([n]) * 8, {"SOPInstanceUID": uid}, "1.2.840.10008.1.2", "X")
            )
        except ValueError as e:
            outcomes[n] = str(e)

    event.listen(InstanceRow, "before_insert", refuse)
    try:
        threads = [threading.Thread(target=store, args=(n,)) for n in range(10, 20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        event.remove(InstanceRow, "before_insert", refuse)
        archive.close()
    assert outcomes.pop(13) == "a row that the database refuses"
    assert set(outcomes.values()) == {"stored"}


def test_bytes_that_trickle_do_not_hold_a_place_for_ever(node):
    node.options = NodeOptions(port=node.options.port, associations=6, timeout_s=1.0)
    assoc = associated(node)
    assoc.dul.socket.socket.sendall(struct.pack(">BBL", 0x04, 0, 4096))
    try:
        for _ in range(60):
            assoc.dul.socket.socket.sendall(b"x")
            time.sleep(0.1)
    except (OSError, AttributeError):
        pass  # the node has closed it
    assert not assoc.is_established


def left_open(port: int) -> list[str]:
    """Sockets of this process at a port of our own: what a node that was stopped still holds."""
    return [str(c) for c in psutil.Process().net_connections("tcp") if c.laddr and c.laddr.port == port]


def bare(port: int, said: bytes = b"") -> socket.socket:
    s = socket.create_connection(("127.0.0.1", port), timeout=5)
    s.sendall(said)
    return s


def test_a_node_that_stops_leaves_no_connection_open(home):
    """Silent and slow ones, associations, and those that were accepted at the very end."""
    for late in range(2):
        node = Node(NodeOptions(port=free_port(), associations=3))
        node.start()
        port = node.options.port
        with ExitStack() as ends:
            for _ in range(2):
                ends.callback(associated(node).abort)
            half = associated(node)
            ends.callback(half.abort)
            half.dul.socket.socket.sendall(struct.pack(">BBL", 0x04, 0, 4096) + b"x" * 10)
            for said in (b"", b"\x01", struct.pack(">BBL", 0x01, 0, 5000)):
                ends.enter_context(bare(port, said))
            assert len(left_open(port)) >= 4
            gc.disable()
            try:
                stopping = threading.Thread(target=node.stop)
                stopping.start()
                with suppress(OSError):
                    for _ in range(40 * late):
                        ends.enter_context(bare(port))
                stopping.join(20)
                assert left_open(port) == []
            finally:
                gc.enable()
        assert [t.name for t in threading.enumerate() if t.name.startswith(("Acceptor", "gate"))] == []


def test_a_peer_that_resets_its_connection_leaves_none_here(node):
    """pynetdicom closes a socket only where shutting it down went well."""
    port = node.options.port
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        for n in range(8):
            raw = associated(node).dul.socket.socket
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.sendall(struct.pack(">BBLBBBB", 0x07, 0, 4, 0, 0, 0, 0))  # A-ABORT
            time.sleep(n * 2e-4)
            raw.close()
        until = time.monotonic() + 5
        while len(left_open(port)) > 1 and time.monotonic() < until:
            time.sleep(0.02)
        gc.collect()
    assert len(left_open(port)) == 1  # the one that listens
    assert [str(w.message) for w in said if f"laddr=('127.0.0.1', {port})" in str(w.message)] == []


def test_who_stores_into_a_closed_archive_is_told(home):
    """An association that outlived its node waited for ever for a committer that was gone."""
    archive = Archive(Library(home))
    archive.close()
    archive.close()
    with pytest.raises(OSError, match="closed"):
        archive.store(Instance(b"late", {"SOPInstanceUID": "1.2.3"}, "1.2.840.10008.1.2", "X"))


def test_a_tls_handshake_that_never_ends_does_not_hold_up_the_stop(home, tmp_path):
    certificate, key = self_signed(tmp_path)
    node = Node(NodeOptions(port=free_port(), certificate=certificate, key=key))
    node.start()
    hello = b"\x16\x03\x01\x00\x04" + b"\x01\x00\x00\x40"  # a record that is whole, a message that is not
    with bare(node.options.port, hello):
        time.sleep(0.5)
        begun = time.monotonic()
        node.stop()
        assert time.monotonic() - begun < 5
        assert left_open(node.options.port) == []


def test_an_answer_that_comes_too_late_ends_no_thread():
    """Evt7, our answer to a request, where the connection waits to be closed: the thread that would close it
    ended."""
    machine = ClosingMachine.__new__(ClosingMachine)
    machine.current_state = "Sta13"
    machine.do_action("Evt7")
    machine.current_state = "Sta1"
    with pytest.raises(InvalidEventError):
        machine.do_action("Evt7")


def stranger(node, *classes: str, syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,)):
    """An association whose messages are sent by hand."""
    ae = AE(ae_title="STRANGER")
    ae.dimse_timeout = 3
    contexts = [build_context(c, list(syntaxes)) for c in classes]
    assoc = ae.associate("127.0.0.1", node.options.port, ae_title="MEDFUSE", contexts=contexts)
    assoc._reactor_checkpoint.clear()
    return assoc


def object_of(uid: str, **more) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = UltrasoundImageStorage, uid
    ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "P", "1.2.3", "1.2.3.4"
    ds.BitsAllocated = 16
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def stored_by_hand(assoc, uid: str, data: bytes, number: int = 1) -> None:
    asked = C_STORE()
    asked.MessageID, asked.Priority = number, 2
    asked.AffectedSOPClassUID, asked.AffectedSOPInstanceUID = UltrasoundImageStorage, uid
    asked.DataSet = BytesIO(data)
    assoc.dimse.send_msg(asked, assoc.accepted_contexts[0].context_id)


def test_a_deflated_object_that_swells_is_refused(node, home):
    """300 kB became 300 MiB in the node's memory, and were kept."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    head = dsutils.encode(object_of("1.2.9"), False, True)
    bomb = packer.compress(head + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 32 * 1024**2))
    bomb += packer.compress(bytes(32 * 1024**2)) + packer.flush()
    assoc = stranger(node, UltrasoundImageStorage, syntaxes=(DeflatedExplicitVRLittleEndian,))
    try:
        stored_by_hand(assoc, "1.2.9", bomb)
        _, answer = assoc.dimse.get_msg(block=True)
    finally:
        assoc._reactor_checkpoint.set()
        assoc.release()
    assert answer.Status == node_module.NOT_UNDERSTOOD
    assert files_of(node.archive.library, {"SOPInstanceUID": "1.2.9"}) == []
    honest = dsutils.encode(object_of("1.2.8", PixelData=os.urandom(5000)), False, True)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    assert not limits.inflates_too_far(packer.compress(honest) + packer.flush())


def test_a_question_is_taken_unpacked_alone(node):
    find_class = StudyRootQueryRetrieveInformationModelFind
    assoc = stranger(node, find_class, syntaxes=(DeflatedExplicitVRLittleEndian,))
    assert not assoc.is_established
    assoc = stranger(node, find_class)
    assert assoc.is_established
    assoc._reactor_checkpoint.set()
    assoc.release()


def test_who_sends_without_waiting_for_answers_is_cut_off(node, monkeypatch):
    """Everything was kept in memory until it was its turn."""
    held = threading.Event()
    monkeypatch.setattr(Archive, "store", lambda *_: held.wait(20) and "stored")
    data = dsutils.encode(object_of("1.2.7", PixelData=bytes(100_000)), False, True)
    assoc = stranger(node, UltrasoundImageStorage)
    most = 0
    try:
        for n in range(1, 200):
            if not assoc.is_established:
                break
            stored_by_hand(assoc, "1.2.7", data, n)
            time.sleep(0.005)
            most = max([most, *(a.dimse.msg_queue.qsize() for a in node.server.active_associations)])
    finally:
        held.set()
        assoc._reactor_checkpoint.set()
        assoc.abort()
    assert most <= limits.MOST_WAITING + 2
    assert echo(peer_of(node))


@pytest.mark.parametrize(("bound", "most"), [("LARGEST_OBJECT", 300_000), ("MOST_ARRIVING", 300_000)])
def test_an_object_without_end_is_cut_off(node, monkeypatch, bound, most):
    monkeypatch.setattr(limits, bound, most)
    small = dsutils.encode(object_of("1.2.5", PixelData=bytes(200_000)), False, True)
    endless = dsutils.encode(object_of("1.2.6", PixelData=bytes(8_000_000)), False, True)
    for uid, data, taken in (("1.2.5", small, True), ("1.2.6", endless, False)):
        assoc = stranger(node, UltrasoundImageStorage)
        try:
            with suppress(RuntimeError, AttributeError):
                stored_by_hand(assoc, uid, data)
            _, answer = assoc.dimse.get_msg(block=True)
        finally:
            assoc._reactor_checkpoint.set()
            assoc.abort()
        assert (answer is not None and answer.Status == 0) == taken
    assert echo(peer_of(node))


def asked_of(node, level: str, **values) -> list[int]:
    """The statuses of the answers to a query."""
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in {"Rows": None, "InstanceNumber": "", "PatientName": "", **values}.items():
        setattr(ds, keyword, value)
    assoc = associate(peer_of(node), [build_context(StudyRootQueryRetrieveInformationModelFind)], "ASKS")
    try:
        found = assoc.send_c_find(ds, StudyRootQueryRetrieveInformationModelFind)
        return [status.Status for status, _ in found]
    finally:
        assoc.release()


def test_one_object_with_wrong_values_spoils_no_query(node):
    """Rows that are a word: every query of images ended in a failure from then on."""
    wrong = object_of("1.2.31", PatientName="A\x00B")
    for keyword, said in (("Rows", "abc"), ("InstanceNumber", "zz"), ("StudyDate", "banana")):
        wrong.add(DataElement(keyword, "LO", said))
    assoc = stranger(node, UltrasoundImageStorage)
    try:
        for ds in (wrong, object_of("1.2.32", Rows=4)):
            stored_by_hand(assoc, ds.SOPInstanceUID, dsutils.encode(ds, False, True))
            assert assoc.dimse.get_msg(block=True)[1].Status == 0
    finally:
        assoc._reactor_checkpoint.set()
        assoc.release()
    assert asked_of(node, "IMAGE", StudyDate="", StudyTime="") == [0xFF00, 0xFF00, 0]


def test_a_question_is_bounded(node):
    refused = [node_module.REFUSED_IDENTIFIER]
    assert asked_of(node, "STUDY", PatientName="*a" * 20_000) == refused
    assert asked_of(node, "STUDY", StudyInstanceUID=[f"1.2.{n}" for n in range(130_000)]) == refused


def test_silent_connections_leave_files_for_others(node, monkeypatch):
    """A thousand of them took every file that the process may open, for ten seconds again and again."""
    monkeypatch.setattr(gate, "MOST_HELD", 8)
    port = node.options.port
    with ExitStack() as ends:
        for n in range(40):
            ends.enter_context(bare(port, b"\x01" if n % 2 else b""))
        assert echo(peer_of(node))
        assert len([c for c in left_open(port) if "ESTABLISHED" in c and f"port={port}), raddr" in c]) <= 10


def test_tls_handshakes_that_never_end_give_way(home, tmp_path):
    """One stranger without a certificate kept all places for ten seconds, again and again."""
    certificate, key = self_signed(tmp_path)
    node = Node(NodeOptions(port=free_port(), certificate=certificate, key=key, associations=2))
    node.start()
    hello = b"\x16\x03\x01\x00\x04" + b"\x01\x00\x00\x40"
    try:
        with ExitStack() as ends:
            for _ in range(2):
                ends.enter_context(bare(node.options.port, hello))
            time.sleep(0.3)
            begun = time.monotonic()
            assert echo(Peer("MEDFUSE", "127.0.0.1", node.options.port, tls_of(certificate, None, None)))
            assert time.monotonic() - begun < 6
    finally:
        node.stop()


def test_commitments_are_answered_a_few_at_a_time(node, monkeypatch):
    """Each started a thread that calls somebody else."""
    monkeypatch.setattr(node, "_committing", threading.BoundedSemaphore(2))
    held = threading.Event()
    monkeypatch.setattr(Node, "_report", lambda *_: held.wait(20))
    assoc = associate(peer_of(node), [build_context(StorageCommitmentPushModel)], "ASKS")
    asked = Dataset()
    try:
        answers = []
        for uid in ("", "1.2.1", "1.2.2", "1.2.3"):
            if uid:
                asked.TransactionUID = uid
            else:
                asked.PatientID = "X"
            status, _ = assoc.send_n_action(
                asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            answers.append(status.Status)
    finally:
        held.set()
        assoc.release()
    assert answers == [node_module.NO_ATTRIBUTE, 0, 0, node_module.NO_ROOM]
