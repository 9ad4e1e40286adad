"""Talk to others: C-STORE and C-MOVE to DICOM nodes, QIDO, WADO and STOW to DICOMweb servers. What is already
here is not fetched again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pydicom
import requests
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from ..errors import UserError
from .archive import Archive, Instance, files_of, keys_of
from .limits import LONGEST_PDU
from .node import MAX_CONTEXTS, Peer
from .tls import no_delay

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient

REJECTIONS = {
    (1, 7): "it does not know the called AE title; check the name",
    (1, 3): "it does not accept our AE title; ask its administrator to allow it",
    (2, 1): "it refuses the association",
}


def associate(peer: Peer, contexts: list, aet: str) -> Association:
    """An established association. Raises UserError that says who refused and why."""
    ae = AE(ae_title=aet)
    ae.acse_timeout = 10
    ae.connection_timeout = 10
    ae.dimse_timeout = 60
    ae.maximum_pdu_size = LONGEST_PDU
    assoc = ae.associate(
        peer.host,
        peer.port,
        contexts=contexts,
        ae_title=peer.aet,
        evt_handlers=[(evt.EVT_CONN_OPEN, lambda e: no_delay(e.assoc))],
        tls_args=(peer.tls.context(), None) if peer.tls else None,  # type: ignore[arg-type]
    )
    if assoc.is_established:
        return assoc
    where = f"{peer.aet}@{peer.host}:{peer.port}"
    if assoc.is_rejected:
        answer = assoc.acceptor.primitive
        code = (getattr(answer, "result_source", 0), getattr(answer, "diagnostic", 0))
        raise UserError(f"{where}: {REJECTIONS.get(code, 'it rejects the association')}")
    raise UserError(
        f"{where}: no DICOM node answers there; check host, port and TLS (an expired certificate is "
        "refused too)"
    )


def echo(peer: Peer, aet: str = "MEDFUSE") -> bool:
    """Whether a node answers C-ECHO. Raises UserError where no association comes about."""
    assoc = associate(peer, [build_context(Verification)], aet)
    try:
        status = assoc.send_c_echo()
        return bool(status) and status.Status == 0
    finally:
        assoc.release()


@dataclass
class Sent:
    sent: int
    refused: list[tuple[str, str]]


RECONNECTS = 3


def send_files(peer: Peer, files: Iterable[Path], aet: str = "MEDFUSE") -> Sent:
    """C-STORE files in their own transfer syntax, one read at a time; a lost association is made anew a few
    times."""
    paths = list(files)
    headers = [pydicom.dcmread(f, stop_before_pixels=True, specific_tags=["SOPClassUID"]) for f in paths]
    pairs = list(
        dict.fromkeys((d.file_meta.MediaStorageSOPClassUID, d.file_meta.TransferSyntaxUID) for d in headers)
    )
    contexts = [build_context(c, [t]) for c, t in pairs[:MAX_CONTEXTS]]
    assoc = associate(peer, contexts, aet)
    done = Sent(0, [])
    left = RECONNECTS
    try:
        for path in paths:
            ds = pydicom.dcmread(path)
            while True:
                if not assoc.is_established and left:
                    left -= 1
                    assoc = associate(peer, contexts, aet)
                why = _store(assoc, ds)
                if why != LOST or not left:
                    break
            if why:
                done.refused.append((str(ds.SOPInstanceUID), why))
            else:
                done.sent += 1
    finally:
        if assoc.is_established:
            assoc.release()
    return done


LOST = "the association was lost"


def _store(assoc: Association, ds: Dataset) -> str:
    """Why an object was not taken; "" where it was."""
    try:
        status = assoc.send_c_store(ds)
    except ValueError as e:  # no accepted context for its class
        return str(e)
    except RuntimeError:  # not established any more
        return LOST
    if not status:
        return LOST
    return "" if status.Status in (0x0000, 0xB000, 0xB006, 0xB007) else f"status 0x{status.Status:04X}"


def find_remote(peer: Peer, query: dict[str, str], aet: str = "MEDFUSE") -> list[dict[str, str]]:
    """Studies of a remote node that match, by C-FIND."""
    assoc = associate(peer, [build_context(StudyRootQueryRetrieveInformationModelFind)], aet)
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    for key in ("StudyInstanceUID", "PatientID", "StudyDate", "AccessionNumber", "ModalitiesInStudy"):
        setattr(ds, key, query.get(key, ""))
    try:
        out = []
        for status, found in assoc.send_c_find(ds, StudyRootQueryRetrieveInformationModelFind):
            if not status or status.Status not in (0x0000, 0xFF00, 0xFF01):
                code = f"0x{status.Status:04X}" if status else "connection lost"
                raise UserError(f"{peer.aet}@{peer.host}:{peer.port}: the query failed ({code})")
            if found is not None:
                out.append({e.keyword: str(e.value) for e in found if e.keyword})
        return out
    finally:
        assoc.release()


def move_remote(peer: Peer, study_uid: str, destination: str, aet: str = "MEDFUSE") -> int:
    """Ask a remote node to send a study to AE title ``destination``; how many instances it says it sent."""
    assoc = associate(peer, [build_context(StudyRootQueryRetrieveInformationModelMove)], aet)
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    ds.StudyInstanceUID = study_uid
    sent = 0
    try:
        for status, _ in assoc.send_c_move(ds, destination, StudyRootQueryRetrieveInformationModelMove):
            if not status:
                raise UserError(
                    f"{peer.aet}@{peer.host}:{peer.port}: the connection was lost while it sent; run "
                    "the same command again"
                )
            sent = int(status.get("NumberOfCompletedSuboperations", sent) or 0)
            if status.Status not in (0x0000, 0xFF00, 0xB000):
                raise UserError(
                    f"{peer.aet}@{peer.host}:{peer.port}: C-MOVE to {destination} failed "
                    f"(0x{status.Status:04X}); does it know {destination} and its address?"
                )
    finally:
        assoc.release()
    return sent


@dataclass(frozen=True)
class Remote:
    """dicomweb:URL?KEY=VALUE or dimse:AET@HOST:PORT?KEY=VALUE, with the keys of QIDO (PatientID,
    StudyInstanceUID, …)."""

    kind: str
    where: str
    query: dict[str, str]


def parse_remote(text: str) -> Remote | None:
    """None for anything that is no remote source."""
    kind, _, rest = text.partition(":")
    if kind not in ("dicomweb", "dimse"):
        return None
    where, _, query = rest.partition("?")
    return Remote(kind, where, dict(parse_qsl(query)))


class _Session(requests.Session):
    """Retries of lost connections are the HTTP library's."""

    def __init__(self, user: str = "", password: str = "") -> None:
        super().__init__()
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        retry = Retry(
            3, backoff_factor=0.2, status_forcelist=(502, 503, 504), allowed_methods=("GET", "HEAD")
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(max_retries=retry))
        if user:
            self.auth = (user, password)


def web_client(url: str) -> DICOMwebClient:
    """A dicomweb-client for a URL that may carry user:password@. Raises UserError for one that is no URL."""
    from dicomweb_client.api import DICOMwebClient

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{url}: not a DICOMweb address; write dicomweb:http://HOST:PORT/PATH")
    host = parts.hostname + (f":{parts.port}" if parts.port else "")
    session = _Session(parts.username or "", parts.password or "")
    client = DICOMwebClient(f"{parts.scheme}://{host}{parts.path}", session=session)
    client.set_http_retry_params(retry=False)  # the session's adapter sees to that
    return client


def fetch_web(
    remote: Remote, archive: Archive, progress: Callable[[int, int], None] = lambda d, n: None
) -> tuple[list[str], list[tuple[str, str]]]:
    """QIDO, then WADO of every instance that is not here yet: (instances here now, refused with reasons).
    Runs again where it stopped."""
    client = web_client(remote.where)
    try:
        studies = client.search_for_studies(search_filters=remote.query or None)
        uids = [_tag(s, "0020000D") for s in studies]
        wanted = [
            (study, _tag(i, "0020000E"), _tag(i, "00080018"))
            for study in uids
            for i in client.search_for_instances(study_instance_uid=study)
        ]
    except requests.RequestException as e:
        raise UserError(
            f"{remote.where}: the DICOMweb server does not answer ({type(e).__name__}); check the "
            "address and that it is running"
        ) from e
    here = (
        {u for u, *_ in files_of(archive.library, {"StudyInstanceUID": "\\".join(uids)})} if uids else set()
    )
    got = []
    refused = []
    for n, (study, series, uid) in enumerate(wanted, 1):
        if uid in here:
            got.append(uid)
        else:
            try:
                ds = client.retrieve_instance(study, series, uid, media_types=(("application/dicom", "*"),))
                archive.store(instance_of(ds, "dicomweb"))
                got.append(uid)
            except (requests.RequestException, ValueError, OSError) as e:
                refused.append((uid, f"could not be fetched ({e}); run the same command again"))
        progress(n, len(wanted))
    return got, refused


def instance_of(ds: Dataset, source: str) -> Instance:
    """A data set as a received object."""
    out = BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return Instance(out.getvalue(), keys_of(ds), str(ds.file_meta.TransferSyntaxUID), source)


def stow(url: str, files: Iterable[Path]) -> None:
    """STOW-RS. Raises UserError that names what was not taken."""
    client = web_client(url)
    try:
        answer = client.store_instances([pydicom.dcmread(f) for f in files])
    except requests.RequestException as e:
        raise UserError(f"{url}: the DICOMweb server does not take the objects ({e})") from e
    failed = list(answer.get("FailedSOPSequence") or [])
    if failed:
        raise UserError(
            f"{url}: {len(failed)} objects were not taken, first {failed[0].ReferencedSOPInstanceUID}"
        )


def _tag(item: dict, tag: str) -> str:
    return str(item.get(tag, {}).get("Value", [""])[0])
