"""Peers that would keep others out: silent associations, endless PDUs, borrowed names, one bad row."""

from __future__ import annotations

import gc
import socket
import struct
import threading
import time
import warnings
from contextlib import ExitStack, suppress

import psutil
import pytest
from certificates import self_signed
from pacs import free_port
from pynetdicom import AE
from pynetdicom.fsm import InvalidEventError
from pynetdicom.sop_class import Verification
from sqlalchemy import event

from medfuse.errors import UserError, WrongUse
from medfuse.library import Library
from medfuse.library.catalogue import InstanceRow
from medfuse.network import limits
from medfuse.network import node as node_module
from medfuse.network.archive import Archive, Instance
from medfuse.network.client import echo, find_remote
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
