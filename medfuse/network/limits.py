"""What one association may cost the node: the size of a PDU and the time it takes to come; and which of many
has done nothing for the longest time, when another wants its place.

pynetdicom takes a PDU of any length that its head announces and waits for it without end: one peer could fill
the memory, forty that say nothing could keep everybody else out for a minute.
"""

from __future__ import annotations

import logging
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import wraps
from threading import Lock, Thread
from types import TracebackType
from typing import TypeVar
from weakref import WeakKeyDictionary

from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.events import Event
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine

from .tls import TidySocket

log = logging.getLogger(__name__)
Owner = TypeVar("Owner")
Answer = TypeVar("Answer")
Handler = Callable[[Owner, Event], Iterator[Answer]]
LARGEST_OBJECT = 2 * 1024**3  # bytes of a data set that somebody stores, as it comes
LARGEST_REQUEST = 4 * 1024**2  # bytes of any other message (PS3.7 6.3)
MOST_ARRIVING = 4 * 1024**3  # bytes of all messages that are on their way at a time
MOST_WAITING = 4  # messages of an association that have not been answered; we agree to one at a time
MAX_INFLATED = 200  # bytes that a byte of a deflated data set may become
LONGEST_PDU = 1024 * 1024  # bytes, announced to the peer as what we take (PS3.8 D.1)
ADMINISTRATIVE = 128 * 1024  # bytes beside: an association request may be so long
POLITE_S = 0.5  # for a peer to close the connection after our abort
CLOSING = "Sta13"
IDLE_S = 1.0  # an association that has been silent for this long gives way to one that waits


@dataclass
class Pace:
    """When an association last said something, and whether we are at work for it."""

    heard: float = field(default_factory=time.monotonic)
    at_work: int = 0


class LimitedSocket(TidySocket):
    """An association's socket that refuses what is too long, too much, or comes too slowly."""

    pace: Pace
    patience_s: float
    arriving: Callable[[], int]

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly ``nr_bytes``, fewer where the peer has gone. Raises OSError for a longer PDU than we
        announced, TimeoutError where it does not come in ``patience_s``."""
        if nr_bytes > LONGEST_PDU + ADMINISTRATIVE:
            raise OSError(f"a PDU of {nr_bytes} bytes was announced, {LONGEST_PDU} are taken")
        self._check_room()
        self.pace.heard = time.monotonic()
        until = self.pace.heard + self.patience_s
        read = bytearray(nr_bytes)
        view = memoryview(read)
        got = 0
        assert self.socket is not None
        while got < nr_bytes:
            n = self.socket.recv_into(view[got:])
            if not n:
                break
            got += n
            if got < nr_bytes and time.monotonic() > until:
                raise TimeoutError(f"{got} of {nr_bytes} bytes of a PDU came in {self.patience_s:.0f} s")
        view.release()
        self.pace.heard = time.monotonic()
        return read[:got]

    def _check_room(self) -> None:
        """Raises OSError where more has come than is held: of one message, of all, or unanswered."""
        held = self.arriving()
        with _arriving_lock:
            _arriving[self] = held
            if held and sum(_arriving.values()) > MOST_ARRIVING:
                raise OSError(f"more than {MOST_ARRIVING} bytes are on their way from all peers")

    def close(self) -> None:
        """Close it; what was arriving is forgotten."""
        with _arriving_lock:
            _arriving.pop(self, None)
        super().close()


_arriving: WeakKeyDictionary[LimitedSocket, int] = WeakKeyDictionary()  # bytes of the message that comes
_arriving_lock = Lock()


def _arriving_at(assoc: Association) -> int:
    """Bytes of the message that an association is sending. Raises OSError for a larger one than we hold, and
    where it sends more messages than it waits for."""
    if assoc.is_acceptor and assoc.dimse.msg_queue.qsize() > MOST_WAITING:
        raise OSError(f"more than {MOST_WAITING} messages wait for an answer")
    message = assoc.dimse.message
    if message is None:
        return 0
    held = message.encoded_command_set.tell() + message.data_set.tell()
    most = LARGEST_OBJECT if isinstance(message, C_STORE_RQ) else LARGEST_REQUEST
    if held > most:
        raise OSError(f"a message of more than {most} bytes")
    return held


def inflates_too_far(deflated: bytes) -> bool:
    """Whether a deflated data set (PS3.5 A.5) becomes so much larger that it is no image; raises zlib.error
    for what is not deflated. Holds a MiB of it at a time."""
    most = max(1024**2, MAX_INFLATED * len(deflated))
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    became = 0
    for at in range(0, len(deflated), 65536):
        piece = deflated[at : at + 65536]
        while piece and not unpacker.eof:
            became += len(unpacker.decompress(piece, 1024**2))
            if became > most:
                return True
            piece = unpacker.unconsumed_tail
    return False


class ClosingMachine(StateMachine):
    """The states of a connection (PS3.8 9.2) that survive our own late answer. A peer that breaks off while
    its request is being answered is closed already (Sta13) when the answer comes; pynetdicom's thread ended
    over it, and nobody closed the connection any more."""

    def do_action(self, event: str) -> None:
        """Act on an event, or let it go where the connection only waits to be closed."""
        if self.current_state == CLOSING and (event, CLOSING) not in TRANSITION_TABLE:
            log.debug("%s comes too late: the connection is being closed", event)
            return
        super().do_action(event)


def limit(assoc: Association, patience_s: float) -> None:
    """Give an association that was just opened a socket with limits."""
    sock = assoc.dul.socket
    if sock is None or sock.socket is None:
        return
    # pynetdicom makes the socket itself, and making it a second time would announce the connection twice
    sock.__class__ = LimitedSocket
    assoc.dul.state_machine.__class__ = ClosingMachine
    assert isinstance(sock, LimitedSocket)
    sock.pace = Pace()
    sock.patience_s = patience_s
    if sock.socket.gettimeout() is None:
        sock.socket.settimeout(patience_s)
    sock.arriving = lambda: _arriving_at(assoc)
    sock.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # waiting costs 40 ms an object


def end_all(associations: list[Association], patience_s: float) -> None:
    """Abort associations and close their connections; the handlers that run then may finish. Returns when all
    are over, or after ``patience_s``."""
    until = time.monotonic() + patience_s
    for assoc in associations:
        assoc.abort(block=False)
    polite = time.monotonic() + min(POLITE_S, patience_s)
    for assoc in associations:
        assoc.join(max(0.0, polite - time.monotonic()))
    killing = [Thread(target=_kill, args=(a,), name="ends", daemon=True) for a in associations]
    for thread in killing:
        thread.start()
    for thread in [*killing, *associations]:
        thread.join(max(0.0, until - time.monotonic()))
    late = sum(assoc.is_alive() for assoc in associations)
    if late:
        log.warning("%d associations had not ended after %.0f s", late, patience_s)


def _kill(assoc: Association) -> None:
    """Close its connection under it, whatever it waits for, and end its threads."""
    sock = assoc.dul.socket
    raw = sock.socket if sock is not None else None
    if raw is not None:
        with suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)  # who reads from it wakes up
    assoc.kill()
    if raw is not None:
        raw.close()


class _Working(AbstractContextManager[None]):
    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def __enter__(self) -> None:
        self.pace.at_work += 1

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pace.at_work -= 1
        self.pace.heard = time.monotonic()


def working(assoc: Association) -> AbstractContextManager[None]:
    """While this is entered, the association waits for us and is not idle."""
    sock = assoc.dul.socket
    return _Working(sock.pace) if isinstance(sock, LimitedSocket) else nullcontext()


def at_work(handler: Handler[Owner, Answer]) -> Handler[Owner, Answer]:
    """A handler of queries and retrievals, whose association is not idle until its last answer is out: of a
    C-MOVE the peer hears nothing, and says nothing, while we send to somebody else."""

    @wraps(handler)
    def held(owner: Owner, event: Event) -> Iterator[Answer]:
        with working(event.assoc):
            yield from handler(owner, event)

    return held


_giving_way = Lock()


def make_room(active: list[Association]) -> None:
    """End the association that has been silent for the longest time, if that is long enough. Returns at once;
    its place is free a moment later."""
    now = time.monotonic()
    silent = [
        (a.dul.socket.pace.heard, a)
        for a in active
        if isinstance(a.dul.socket, LimitedSocket) and not a.dul.socket.pace.at_work
    ]
    heard, assoc = min(silent, key=lambda pair: pair[0], default=(now, None))
    if assoc is None or now - heard < IDLE_S or not _giving_way.acquire(blocking=False):
        return

    def end() -> None:
        try:
            log.warning(
                "association of %r ended: silent for %.0f s while another waits",
                assoc.requestor.ae_title,
                now - heard,
            )
            assoc.abort()
        finally:
            _giving_way.release()

    Thread(target=end, name="gives way", daemon=True).start()
