"""A door before pynetdicom's server: a connection costs a thread only once its whole association request has
arrived.

pynetdicom starts a thread a connection and keeps it for the ACSE timeout, also when the peer has gone: a few
    hundred bare connects fill the association limit and hundreds of MiB. Here they wait in a selector, and go
    when they close or are too slow. TLS handshakes, which pynetdicom does in its accept loop, move to the
    connection's own thread.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from pynetdicom.transport import ThreadedAssociationServer

from .limits import IDLE_S, make_room

log = logging.getLogger(__name__)
PATIENCE_S = 10.0  # for an association request to arrive whole
LONGEST = 128 * 1024  # bytes of one
MOST_HELD = 256  # connections without an association; pynetdicom cannot watch a file of number 1024
SWEEP_S = 0.5  # between looks at every connection for those that are late
ASSOCIATE_RQ = 0x01
TLS_HANDSHAKE = 0x16


def announced(head: bytes, tls: bool) -> int | None:
    """Bytes of the first PDU (PS3.8 9.3.2) or TLS record, header included; None for anything else."""
    if tls:
        return 5 + int.from_bytes(head[3:5], "big") if head[0] == TLS_HANDSHAKE else None
    return 6 + int.from_bytes(head[2:6], "big") if head[0] == ASSOCIATE_RQ else None


class GatedServer(ThreadedAssociationServer):
    """``networks``: who may connect, none for everyone."""

    networks: tuple[str, ...] = ()
    # Of connections the kernel holds for us; one too many is asked for again after 1 s, then after 3 s.
    request_queue_size = 1024

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._selector = selectors.DefaultSelector()
        self._read, self._write = os.pipe()
        self._never, self._unwritten = os.pipe()
        self._selector.register(self._read, selectors.EVENT_READ, None)
        self._lock = threading.Lock()
        self._open = True
        self._ready: deque[tuple[socket.socket, Any, float]] = deque()  # whole requests that wait for a place
        self._held: dict[Any, None] = {}  # connections that have not said enough, the oldest first
        self._starting = 0  # handed over, and not yet among the server's associations
        self._greeting: dict[ssl.SSLSocket, float] = {}  # in the middle of a TLS handshake, since when
        self._gate = threading.Thread(target=self._watch, name="gate", daemon=True)
        super().__init__(*args, **kwargs)  # closes this where the port is taken
        self.socket.setblocking(False)
        self._selector.register(self.socket, selectors.EVENT_READ, None)
        self._gate.start()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept alone; TLS is spoken later, in the connection's thread."""
        return self.socket.accept()

    def verify_request(self, request: socket.socket, client_address: Any) -> bool:
        """Called by socketserver: whether a connection may go on."""
        if not self.networks:
            return True
        address = ipaddress.ip_address(client_address[0].split("%")[0])
        allowed = any(address in ipaddress.ip_network(n, strict=False) for n in self.networks)
        if not allowed:
            log.warning("connection from %s closed: not among the allowed addresses", address)
        return allowed

    def fileno(self) -> int:
        """What socketserver's own loop waits at, in vain: the gate accepts. Two threads that take turns at a
        flood wait for each other, and the kernel drops who comes meanwhile."""
        return self._never

    def process_request_thread(self, request: socket.socket, client_address: Any) -> None:
        """Called by socketserver in the connection's own thread; when it ends, the association's own runs."""
        try:
            self._begin(request, client_address)
        finally:
            with self._lock:
                self._starting -= 1

    def _begin(self, request: socket.socket, client_address: Any) -> None:
        if self.ssl_context is not None:
            try:
                request = self._greeted(request, self.ssl_context)
            except (OSError, ssl.SSLError) as e:
                log.warning("TLS with %s failed: %s", client_address[0], e)
                return
        request.settimeout(self.ae.network_timeout)
        super().process_request_thread(request, client_address)

    def _greeted(self, request: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        """The connection after its TLS handshake. Raises OSError where that fails, and closes it then."""
        try:
            request.settimeout(PATIENCE_S)
            wrapped = context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        except OSError:
            self.shutdown_request(request)
            raise
        with self._lock:
            self._greeting[wrapped] = time.monotonic()
        try:
            if not self._open:
                raise OSError("the node stops")
            wrapped.do_handshake()
        except OSError:
            self.shutdown_request(wrapped)
            raise
        finally:
            with self._lock:
                self._greeting.pop(wrapped, None)
        return wrapped

    def server_close(self) -> None:
        """Close the socket and every connection that has no association yet. When this returns, there are
        associations alone, and no thread that could start another."""
        self._open = False
        if self._gate.is_alive():
            os.write(self._write, b".")
            self._gate.join()
        self._close_gate()
        with self._lock:
            greeting = list(self._greeting)
        for request in greeting:
            with suppress(OSError):  # it is over meanwhile
                socket.socket.shutdown(request, socket.SHUT_RDWR)
        super().server_close()

    def _watch(self) -> None:
        """The selector's loop: hand over what is complete, close what is gone, wrong or late."""
        swept = time.monotonic()
        while self._open:
            for key, _ in self._selector.select(0.1 if self._ready else 1.0):
                if key.data is not None:
                    self._look(key.fileobj, *key.data)
                elif key.fd == self._read:
                    os.read(self._read, 65536)
                else:
                    self._accept()
            self._hand_over()
            now = time.monotonic()
            if now - swept < SWEEP_S:
                continue
            swept = now
            for key in list(self._selector.get_map().values()):
                if key.data is not None and now > key.data[1]:
                    self._drop(key.fileobj)

    def _close_gate(self) -> None:
        """Close every connection that waits, and what watched over them."""
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._drop(key.fileobj)
        for request, _, _ in self._ready:
            self.shutdown_request(request)
        self._selector.close()
        for end in (self._read, self._write, self._never, self._unwritten):
            os.close(end)

    def _accept(self) -> None:
        """Everybody who waits in the kernel's queue: one a turn, a flood would fill it."""
        for _ in range(self.request_queue_size):
            try:
                request, address = self.get_request()
            except BlockingIOError:
                return
            except OSError:  # it is gone again, or there are no more files for now
                continue
            if self.verify_request(request, address):
                self._admit(request, address)
            else:
                self.shutdown_request(request)

    def _admit(self, request: socket.socket, address: Any) -> None:
        """It waits at the gate until it has said enough; one that has closed already is closed at once."""
        try:
            request.setblocking(False)
            with suppress(BlockingIOError):
                if not request.recv(1, socket.MSG_PEEK):
                    self.shutdown_request(request)
                    return
            request.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 6)
            until = time.monotonic() + PATIENCE_S
            self._selector.register(request, selectors.EVENT_READ, (address, until, 6))
            self._held[request] = None
            if len(self._held) > MOST_HELD:
                self._drop(next(iter(self._held)))
        except (OSError, ValueError):
            self.shutdown_request(request)

    def _look(self, request: Any, address: Any, until: float, needed: int) -> None:
        try:
            head = request.recv(needed, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self._drop(request)
            return
        if len(head) < needed:  # it closed before it had said enough
            self._drop(request)
            return
        length = announced(head, self.ssl_context is not None)
        if length is None or length > LONGEST:
            log.warning("connection from %s closed: no association request", address[0])
            self._drop(request)
        elif len(head) < length:
            try:
                request.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, length)
                self._selector.modify(request, selectors.EVENT_READ, (address, until, length))
            except OSError:
                self._drop(request)
        else:
            if len(self._ready) >= MOST_HELD:
                self._drop(request)
                return
            self._selector.unregister(request)
            self._held.pop(request, None)
            request.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            request.setblocking(True)
            self._ready.append((request, address, until))

    def _hand_over(self) -> None:
        """Whole requests go on, as many as there are places; where none is left, the association that has
        been silent the longest gives way. One that waits too long is rejected by pynetdicom, politely."""
        while self._ready:
            active = self.active_associations
            request, address, until = self._ready[0]
            if len(active) + self._starting >= self.ae.maximum_associations and time.monotonic() < until:
                self._hurry()
                make_room(active)
                return
            self._ready.popleft()
            with self._lock:
                self._starting += 1
            super().process_request(request, address)

    def _hurry(self) -> None:
        """End the TLS handshake that has taken the longest, if that is long enough: a place is wanted."""
        with self._lock:
            request, since = min(self._greeting.items(), key=lambda pair: pair[1], default=(None, 0.0))
            if request is None or time.monotonic() - since < IDLE_S:
                return
            del self._greeting[request]
        with suppress(OSError):  # it is over meanwhile
            socket.socket.shutdown(request, socket.SHUT_RDWR)

    def _drop(self, request: Any) -> None:
        self._selector.unregister(request)
        self._held.pop(request, None)
        self.shutdown_request(request)
