"""HL7 v2 over MLLP: report messages that a hospital sends → files that `cohort build --reports` reads
(python-hl7 speaks MLLP).

Each message is written whole before it is acknowledged (AA). Its file is named by the SHA-256 of its bytes:
the same message again is the same file, and nothing that was sent becomes part of a path. What is no report
is rejected (AR); what cannot be written is an error (AE), which a sender keeps and sends again.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
import signal
import time
from asyncio import IncompleteReadError
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import hl7
from hl7.mllp import HL7StreamReader, HL7StreamWriter, InvalidBlockError, start_hl7_server

from ..errors import OutputError, UserError, WrongUse, os_fault
from ..io.durable import write_durably
from .hl7v2 import parsed

Outcome = Literal["kept", "again", "rejected", "failed"]
LONGEST_HEADER = 4096  # bytes of the MSH segment; parsing an endless one would keep all other senders waiting
IDLE_S = 1.0  # a connection that has been silent for this long gives way to one that waits
CODES: dict[Outcome, str] = {"kept": "AA", "again": "AA", "rejected": "AR", "failed": "AE"}


@dataclass(frozen=True, kw_only=True)
class ListenOptions:
    """Where messages come in and what is borne. allow: addresses that may send; MLLP knows no login, so that
    an address other than this machine's own needs them. most_bytes: of one message. silence_s: for which a
    connection is kept open."""

    folder: Path
    address: str = "127.0.0.1"
    port: int = 2575
    allow: tuple[str, ...] = ()
    most_bytes: int = 16 << 20
    silence_s: float = 300.0
    connections: int = 40

    def __post_init__(self) -> None:
        try:
            here = ipaddress.ip_address(self.address)
            for sender in self.allow:
                ipaddress.ip_address(sender)
        except ValueError as e:
            raise WrongUse(f"{e}; give addresses such as 127.0.0.1") from e
        if not here.is_loopback and not self.allow:
            raise WrongUse(
                f"{self.address}: is open to others, and MLLP knows no login; name who may send with --allow"
            )


@dataclass
class Counts:
    """kept: messages that were acknowledged. again: of them, those that were there already. rejected: no
    reports. failed: could not be written. cut: connections that ended within a message or sent none."""

    kept: int = 0
    again: int = 0
    rejected: int = 0
    failed: int = 0
    cut: int = 0


class Listener:
    """Takes messages until it is stopped; ``counts`` says what became of them. Raises OutputError for a
    folder that cannot be made, UserError for a port that is taken."""

    def __init__(self, options: ListenOptions, talk: Callable[[str], None] = lambda message: None) -> None:
        self.options = options
        self.counts = Counts()
        self._talk = talk
        self._heard: dict[HL7StreamWriter, float] = {}  # of each open connection: when a message last came

    async def run(self, stop: asyncio.Event, *, ready: Callable[[int], None] = lambda port: None) -> None:
        """Listen until ``stop`` is set; ``ready`` is told the port."""
        o = self.options
        try:
            o.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(f"{o.folder}: cannot be made ({os_fault(e)}); choose another folder") from e
        try:
            server = await start_hl7_server(self._connected, o.address, o.port, limit=o.most_bytes)
        except OSError as e:
            raise UserError(f"{o.address}:{o.port}: cannot be listened on ({os_fault(e)})") from e
        async with server:
            ready(server.sockets[0].getsockname()[1])
            await stop.wait()
            for writer in tuple(self._heard):
                writer.close()

    async def _connected(self, reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        unknown = bool(self.options.allow) and peer not in self.options.allow
        if unknown or not self._room():
            self._talk(f"medfuse: {peer}: not taken: unknown here, or one connection too many")
            writer.close()
            return
        self._heard[writer] = time.monotonic()
        try:
            await self._messages(reader, writer)
        except (IncompleteReadError, InvalidBlockError, ValueError, TimeoutError, ConnectionError) as e:
            if not isinstance(e, IncompleteReadError) or e.partial:  # an end between messages is no fault
                self.counts.cut += 1
                self._talk(f"medfuse: {peer}: cut off: {_why(e, self.options)}")
        finally:
            self._heard.pop(writer, None)
            writer.close()

    def _room(self) -> bool:
        """Whether one more is taken; where all places are, the connection that has been silent the longest
        gives way."""
        if len(self._heard) < self.options.connections:
            return True
        silent = min(self._heard, key=self._heard.__getitem__, default=None)
        if silent is None or time.monotonic() - self._heard[silent] < IDLE_S:
            return False
        del self._heard[silent]
        silent.close()
        return True

    async def _messages(self, reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        while True:
            block = await asyncio.wait_for(reader.readblock(), self.options.silence_s)
            if writer in self._heard:
                self._heard[writer] = math.inf  # it waits for us
            outcome = await asyncio.to_thread(self._keep, block)
            self._count(outcome)
            writer.writeblock(acknowledgement(block, CODES[outcome]))
            await asyncio.wait_for(writer.drain(), self.options.silence_s)
            if writer in self._heard:
                self._heard[writer] = time.monotonic()

    def _keep(self, block: bytes) -> Outcome:
        """Write a report message; what became of it. Runs in a thread, many at a time."""
        if kind_of(block) != "ORU":
            return "rejected"
        path = self.options.folder / f"{hashlib.sha256(block).hexdigest()[:40]}.hl7"
        if path.exists():
            return "again"
        try:
            write_durably(path, block)
        except OSError as e:
            self._talk(f"medfuse: {self.options.folder}: cannot be written ({os_fault(e)})")
            return "failed"
        return "kept"

    def _count(self, outcome: Outcome) -> None:
        """Of the loop alone, so that no two threads count at once."""
        self.counts.kept += outcome in ("kept", "again")
        self.counts.again += outcome == "again"
        self.counts.rejected += outcome == "rejected"
        self.counts.failed += outcome == "failed"


def _why(e: Exception, options: ListenOptions) -> str:
    if isinstance(e, TimeoutError):
        return f"silent for {options.silence_s:g} s"
    if isinstance(e, InvalidBlockError):
        return "no MLLP"
    if isinstance(e, ValueError):
        return f"a message of more than {options.most_bytes} bytes"
    return "it ended within a message"


def _header(block: bytes) -> hl7.Message | None:
    """The MSH segment alone: its characters are ASCII whatever those of the report are."""
    first = block[: LONGEST_HEADER + 1].lstrip().split(b"\r", 1)[0]
    if len(first) > LONGEST_HEADER:
        return None
    try:
        message = parsed(first.decode("latin-1"))
        message.segment("MSH")
    except (hl7.HL7Exception, ValueError, LookupError):
        return None
    return message


def kind_of(block: bytes) -> str:
    """The kind of a message (MSH-9.1), such as ORU; empty where it is no HL7."""
    message = _header(block)
    try:
        return "" if message is None else str(message["MSH.F9.R1.C1"])
    except LookupError:
        return ""


def acknowledgement(block: bytes, code: str) -> bytes:
    """The answer to a message: AA kept, AR rejected, AE to be sent again."""
    message = _header(block)
    try:
        if message is not None:
            return str(message.create_ack(code, application="MEDFUSE")).encode("latin-1", "replace")
    except (LookupError, TypeError):  # a header too short to be answered by its own words
        pass
    return f"MSH|^~\\&|MEDFUSE||||||ACK|0|P|2.5\rMSA|{code}|\r".encode()


def listen(options: ListenOptions, talk: Callable[[str], None]) -> Counts:
    """Take messages until SIGINT or SIGTERM; what became of them. Raises what `Listener.run` does."""
    listener = Listener(options, talk)

    async def until_stopped() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await listener.run(stop, ready=lambda port: talk(f"ready: {options.address}:{port}"))

    asyncio.run(until_stopped())
    return listener.counts
