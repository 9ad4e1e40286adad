"""Peers that would keep others out: silent associations, endless PDUs, borrowed names, one bad row."""

from __future__ import annotations

import gc
import struct
import threading
import time
from contextlib import ExitStack

import pytest
from pacs import free_port
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from sqlalchemy import event

from medfuse.errors import UserError, WrongUse
from medfuse.library import Library
from medfuse.library.catalogue import InstanceRow
from medfuse.network import limits
from medfuse.network import node as node_module
from medfuse.network.archive import Archive, Instance
from medfuse.network.client import echo, find_remote
from medfuse.network.limits import LONGEST_PDU
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
