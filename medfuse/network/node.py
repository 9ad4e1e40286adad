"""`medfuse node`: a DICOM node on pynetdicom. Storage with acknowledgement only after disk and index, C-ECHO,
C-FIND, C-MOVE, C-GET, storage commitment; allow-lists, TLS, limits (PS3.4, PS3.7, PS3.8)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, _config, build_context, evt
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from ..errors import UserError, WrongUse, os_fault
from ..faults import fault_sentence
from ..io.names import uid_name
from ..library import Library
from ..library.audit import record
from ..library.integrity import why_unusable
from .answers import LONGEST_VALUE, bounded, commitment_result, element_of, uids_of
from .archive import Archive, Instance, files_of, find, keys_of
from .gate import GatedServer
from .limits import LONGEST_PDU, at_work, end_all, inflates_too_far, limit, working
from .tls import Tls, no_delay, tls_server

log = logging.getLogger(__name__)
# what is sent and asked for names patients, and has no place in a log, at any level
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
logging.getLogger("pynetdicom").setLevel(logging.ERROR)
QUERY = (
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelMove,
    PatientRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelGet,
)
STOPPING_S = 10.0  # for what runs when the node stops
SUCCESS = 0x0000
PENDING = 0xFF00
OUT_OF_RESOURCES = 0xA700
DUPLICATE = 0x0111
NOT_UNDERSTOOD = 0xC000
REFUSED_IDENTIFIER = 0xA900
UNKNOWN_DESTINATION = 0xA801
CANCELLED = 0xFE00
NOT_THERE = 0xB000
UNPACKED = [ImplicitVRLittleEndian, ExplicitVRLittleEndian]
MOST_COMMITMENTS = 8  # that are being answered at a time
NO_ROOM = 0x0213
NO_ATTRIBUTE = 0x0120
MAX_CONTEXTS = 120  # an association has 128 at most
Sent = int | tuple[int, Dataset | None]  # how many objects follow; then a status and an object each
Address = tuple[str, int, dict[str, Any]] | tuple[None, None]  # where C-MOVE sends; the second: unknown


@dataclass(frozen=True)
class Peer:
    """Another node: AE title, host and port."""

    aet: str
    host: str
    port: int
    tls: Tls | None = None

    @classmethod
    def parse(cls, text: str, tls: Tls | None = None) -> Peer:
        """AET@HOST:PORT. Raises WrongUse for anything else."""
        aet, _, rest = text.partition("@")
        host, _, port = rest.rpartition(":")
        if not aet or not host or not port.isdigit() or len(aet) > 16:
            raise WrongUse(f"{text}: write a DICOM node as AETITLE@HOST:PORT")
        return cls(aet, host, int(port), tls)


@dataclass(frozen=True)
class NodeOptions:
    aet: str = "MEDFUSE"
    port: int = 11112
    address: str = "127.0.0.1"
    allow_aets: tuple[str, ...] = ()  # calling AE titles; none: every one
    allow_addresses: tuple[str, ...] = ()  # networks such as 10.0.0.0/8; none: every one
    destinations: tuple[Peer, ...] = ()  # where C-MOVE may send
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None  # of client certificates
    associations: int = 40
    timeout_s: float = 30.0
    projects: tuple[str, ...] = ("default",)  # whose cases peers may query and fetch
    any_called_aet: bool = False  # also take associations that call another AE title than ours


@dataclass
class Node:
    """A running node; `stop` ends it."""

    options: NodeOptions
    archive: Archive = field(default_factory=Archive)
    server: GatedServer | None = None
    _committing: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MOST_COMMITMENTS), init=False
    )

    def start(self) -> None:
        """Listen. Raises UserError where the port is taken or a certificate is not usable."""
        o = self.options
        if o.address not in ("127.0.0.1", "::1", "localhost") and not (o.allow_addresses or o.authority):
            raise WrongUse(
                f"--address {o.address}: on an open address say who may connect (--allow-address, or TLS "
                "with --tls-ca); an AE title proves nothing, so --allow-aet alone is not enough"
            )
        ae = AE(ae_title=o.aet)
        ae.maximum_associations = o.associations
        ae.acse_timeout = ae.dimse_timeout = o.timeout_s
        ae.network_timeout = o.timeout_s * 2
        ae.maximum_pdu_size = LONGEST_PDU
        ae.require_called_aet = not o.any_called_aet
        if o.allow_aets:
            ae.require_calling_aet = list(o.allow_aets)
        ae.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(
                context.abstract_syntax, ALL_TRANSFER_SYNTAXES, scp_role=True, scu_role=True
            )
        for sop_class in (*QUERY, StorageCommitmentPushModel):
            ae.add_supported_context(sop_class, UNPACKED)  # a deflated question could fill the memory
        handlers = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_MOVE, self._move),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_N_ACTION, self._commit),
        ]
        try:
            server = ae.make_server(
                (o.address, o.port),
                evt_handlers=handlers,
                ssl_context=tls_server(o.certificate, o.key, o.authority),
                server_class=GatedServer,
            )
        except OSError as e:
            raise UserError(
                f"port {o.port} on {o.address}: {os_fault(e)}; is another node running? choose another --port"
            ) from e
        ae._servers.append(server)  # as AE.start_server does: it takes it away again when the server stops
        server.networks = o.allow_addresses
        threading.Thread(target=server.serve_forever, name="node", daemon=True).start()
        self.server = server

    def stop(self) -> None:
        """Stop listening, end what is running, and keep what was taken. No connection is left."""
        server = self.server
        if server is not None:
            self.server = None
            server.shutdown()
            end_all(server.active_associations, STOPPING_S)
        self.archive.close()

    def _opened(self, event: Event) -> None:
        limit(event.assoc, self.options.timeout_s)

    def _store(self, event: Event) -> int:
        with working(event.assoc):
            return self._kept(event)

    def _kept(self, event: Event) -> int:
        try:
            if event.context.transfer_syntax == DeflatedExplicitVRLittleEndian and inflates_too_far(
                event.request.DataSet.getbuffer()
            ):
                log.warning("object from %r: its data set swells too far", event.assoc.requestor.ae_title)
                return NOT_UNDERSTOOD
            ds = event.dataset
            keys = keys_of(ds)
            if keys.get("SOPInstanceUID") != event.request.AffectedSOPInstanceUID:
                return NOT_UNDERSTOOD
            instance = Instance(
                event.encoded_dataset(),
                keys,
                str(event.context.transfer_syntax),
                event.assoc.requestor.ae_title,
            )
        except Exception as e:  # a peer may send anything; it gets a status, the node goes on
            log.warning(
                "object from %r not understood (%s)", event.assoc.requestor.ae_title, type(e).__name__
            )
            return NOT_UNDERSTOOD
        try:
            outcome = self.archive.store(instance)
        except Exception as e:  # disk full, database away: not acknowledged
            log.error(
                "%s: cannot be stored: %s", uid_name(instance.uid), fault_sentence(e) or type(e).__name__
            )
            return OUT_OF_RESOURCES
        return DUPLICATE if outcome == "conflict" else SUCCESS

    @at_work
    def _find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        level = str(asked.get("QueryRetrieveLevel", ""))
        if level not in ("PATIENT", "STUDY", "SERIES", "IMAGE"):
            yield REFUSED_IDENTIFIER, None
            return
        query = {
            e.keyword: str(e.value)
            if not isinstance(e.value, (list, tuple))
            else "\\".join(map(str, e.value))
            for e in asked
            if e.keyword
            and e.VR != "SQ"
            and e.keyword not in ("QueryRetrieveLevel", "SpecificCharacterSet")
            and e.value
        }
        modalities = set(query.pop("ModalitiesInStudy", "").split("\\")) - {""}
        query = {k: v for k, v in query.items() if not k.startswith("NumberOf")}
        if not bounded(query):
            yield REFUSED_IDENTIFIER, None
            return
        self._noted(event, "queried", {"level": level, **query})
        for row in find(self._shown, level, query):
            if event.is_cancelled:
                yield CANCELLED, None
                return
            if modalities and not modalities & set(row["_modalities"].split("\\")):
                continue
            yield PENDING, self._answer(asked, level, row)

    def _answer(self, asked: Dataset, level: str, row: dict[str, str]) -> Dataset:
        """What was asked for, as far as it is known."""
        out = Dataset()
        out.SpecificCharacterSet = "ISO_IR 192"
        out.QueryRetrieveLevel = level
        out.RetrieveAETitle = self.options.aet
        counted = {
            "ModalitiesInStudy": row["_modalities"],
            "NumberOfStudyRelatedInstances": row["_instances"],
            "NumberOfSeriesRelatedInstances": row["_instances"],
        }
        for element in asked:
            if element.keyword and element.VR != "SQ" and element.keyword not in out:
                value = counted.get(element.keyword, row.get(element.keyword, ""))
                answer = element_of(element.keyword, value)
                if answer is not None:
                    out.add(answer)
        return out

    def _named(self, identifier: Dataset) -> list:
        asked = uids_of(identifier)
        return files_of(self._shown, asked) if bounded(asked) else []

    @property
    def _shown(self) -> Library:
        """The library as peers may see it."""
        return self.archive.library.seen_by(frozenset(self.options.projects))

    @at_work
    def _move(self, event: Event) -> Iterator[Address | Sent]:
        destination = next((p for p in self.options.destinations if p.aet == event.move_destination), None)
        if destination is None:
            yield (None, None)
            return
        files = self._named(event.identifier)
        pairs = dict.fromkeys((sop_class, syntax) for _, sop_class, syntax, _ in files)
        contexts = [build_context(c, [s]) for c, s in pairs][:MAX_CONTEXTS] or [build_context(Verification)]
        yield (
            destination.host,
            destination.port,
            {"ae_title": destination.aet, "contexts": contexts, **_calling(destination)},
        )
        named = uids_of(event.identifier)
        self._noted(event, "objects sent", {"to": destination.aet, "objects": len(files), **named})
        yield from self._send(event, files)

    @at_work
    def _get(self, event: Event) -> Iterator[Sent]:
        files = self._named(event.identifier)
        self._noted(event, "objects sent", {"objects": len(files), **uids_of(event.identifier)})
        yield from self._send(event, files)

    def _noted(self, event: Event, what: str, asked: dict[str, JsonValue]) -> None:
        """An entry of the audit log for what a peer reads, before it gets it."""
        short = {k: v[:LONGEST_VALUE] if isinstance(v, str) else v for k, v in asked.items()}
        record(self.archive.library, what, who=f"aet:{event.assoc.requestor.ae_title}", asked=short)

    def _send(self, event: Event, files: list) -> Iterator[Sent]:
        yield len(files)
        for uid, _, _, path in files:
            if event.is_cancelled:
                yield CANCELLED, None
                return
            if why := why_unusable(self.archive.library, [path.name]):
                log.error("%s: not sent, its file is %s", uid_name(uid), why)
                yield NOT_THERE, None
                continue
            yield PENDING, dcmread(path)

    def _commit(self, event: Event) -> tuple[int, Dataset | None]:
        """Storage commitment (PS3.4 J): accepted at once, the result follows on an association to the
        requestor's known address."""
        if event.request.RequestedSOPClassUID != StorageCommitmentPushModel:
            return 0x0118, None
        asked = event.action_information
        if "TransactionUID" not in asked:
            return NO_ATTRIBUTE, None
        if not self._committing.acquire(blocking=False):
            return NO_ROOM, None
        peer = next((p for p in self.options.destinations if p.aet == event.assoc.requestor.ae_title), None)
        threading.Thread(target=self._report_commitment, args=(asked, peer, event.assoc), daemon=True).start()
        return SUCCESS, None

    def _report_commitment(self, asked: Dataset, peer: Peer | None, assoc: Association) -> None:
        try:
            self._report(asked, peer, assoc)
        except Exception as e:  # a peer may ask anything, or be gone
            log.error(
                "storage commitment for %r not answered: %s", assoc.requestor.ae_title, type(e).__name__
            )
        finally:
            self._committing.release()

    def _report(self, asked: Dataset, peer: Peer | None, assoc: Association) -> None:
        result = commitment_result(self.archive.library, asked)
        kind = 1 if "FailedSOPSequence" not in result else 2
        if peer is None:
            log.warning(
                "storage commitment for %s: it is not a known destination, no result can be sent",
                assoc.requestor.ae_title,
            )
            return
        ae = AE(ae_title=self.options.aet)
        ae.add_requested_context(StorageCommitmentPushModel, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        from pynetdicom import build_role

        role = build_role(StorageCommitmentPushModel, scp_role=True)
        back = ae.associate(
            peer.host,
            peer.port,
            ae_title=peer.aet,
            ext_neg=[role],
            **_calling(peer),
        )
        if not back.is_established:
            log.error("storage commitment: %s at %s:%d does not answer", peer.aet, peer.host, peer.port)
            return
        back.send_n_event_report(result, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        back.release()


def _calling(peer: Peer) -> dict[str, Any]:
    """How pynetdicom is to call a peer: without waiting to fill packets, with TLS where it speaks it."""
    tls = {"tls_args": (peer.tls.context(), None)} if peer.tls else {}
    return {"evt_handlers": [(evt.EVT_CONN_OPEN, lambda e: no_delay(e.assoc))], **tls}
