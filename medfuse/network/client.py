"""Talk to others: C-STORE and C-MOVE to DICOM nodes, QIDO, WADO and STOW to DICOMweb servers. What is already
here is not fetched again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import pydicom
import requests
from pydicom.dataset import Dataset
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from ..errors import UserError, os_fault
from .archive import Archive, Instance, files_of, keys_of
from .limits import LARGEST_OBJECT, LONGEST_PDU, inflates_too_far, limit
from .node import MAX_CONTEXTS, Peer

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient

PATIENCE_S = 60.0  # for a peer's PDU, and for an answer of a server beside what its length takes
SLOWEST_BYTES_S = 20_000  # of an answer
LARGEST_LIST = 256 * 1024**2  # bytes of a server's answer to a query, unpacked
MOST_STUDIES = 100_000  # of a peer's answer to a query
DEFLATED = DeflatedExplicitVRLittleEndian.encode()
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
        evt_handlers=[(evt.EVT_CONN_OPEN, lambda e: limit(e.assoc, PATIENCE_S))],
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
        out: list[dict[str, str]] = []
        for status, found in assoc.send_c_find(ds, StudyRootQueryRetrieveInformationModelFind):
            if len(out) > MOST_STUDIES:
                raise UserError(f"{peer.aet}@{peer.host}:{peer.port}: too many studies match; ask for less")
            if not status or status.Status not in (0x0000, 0xFF00, 0xFF01):
                code = f"0x{status.Status:04X}" if status else "connection lost"
                raise UserError(f"{peer.aet}@{peer.host}:{peer.port}: the query failed ({code})")
            if found is not None and found.get("StudyInstanceUID"):
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


class _Adapter(HTTPAdapter):
    """Reads each answer whole, that of a redirection too, within limits."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """The answer. Raises RequestException for one that is too large or too slow."""
        answer = super().send(request, *args, **{**kwargs, "stream": True})
        most = LARGEST_LIST if "json" in request.headers.get("Accept", "") else LARGEST_OBJECT
        began = time.monotonic()
        body = BytesIO()
        with answer:
            for piece in answer.iter_content(65536):
                body.write(piece)
                if body.tell() > most:
                    raise requests.RequestException(f"its answer has more than {most} bytes")
                if time.monotonic() - began > PATIENCE_S + body.tell() / SLOWEST_BYTES_S:
                    raise requests.Timeout("its answer trickles")
        answer._content = body.getvalue()
        return answer


class _Session(requests.Session):
    """Retries of lost connections are the HTTP library's; no answer leads to another server."""

    def __init__(self, user: str = "", password: str = "") -> None:
        super().__init__()
        retry = Retry(
            3, backoff_factor=0.2, status_forcelist=(502, 503, 504), allowed_methods=("GET", "HEAD")
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(max_retries=retry))
        if user:
            self.auth = (user, password)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where an answer leads. Raises RequestException for another server than was asked: it would be sent
        what was meant for this one, or be asked in our name what only we can reach."""
        target = super().get_redirect_target(resp)
        if target is not None and _origin(urljoin(resp.url, target)) not in (
            _origin(resp.url),
            ("https", *_origin(resp.url)[1:]),
        ):
            raise requests.RequestException("it leads to another server; give that address if it is meant")
        return target


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Whom an address asks. An encrypted way to the same host's usual port is the same."""
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    port = parts.port if parts.port not in (None, usual) else None
    return parts.scheme, parts.hostname, port


def shown(url: str) -> str:
    """An address as others may see it: without the name and password that it may carry."""
    head, slashes, rest = url.partition("//")
    host, slash, path = rest.partition("/")
    return f"{head}{slashes}{host.rpartition('@')[2]}{slash}{path}"


def web_client(url: str) -> DICOMwebClient:
    """A dicomweb-client for a URL that may carry user:password@. Raises UserError for one that is no URL."""
    from dicomweb_client.api import DICOMwebClient

    class Client(DICOMwebClient):
        """Looks at each part of an answer before it is parsed."""

        def _decode_multipart_message(self, response: requests.Response, stream: bool) -> Iterator[bytes]:
            for part in super()._decode_multipart_message(response, stream):
                _check_part(bytes(part))
                yield part

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{shown(url)}: not a DICOMweb address; write dicomweb:http://HOST:PORT/PATH")
    host = parts.hostname + (f":{parts.port}" if parts.port else "")
    session = _Session(parts.username or "", parts.password or "")
    client = Client(f"{parts.scheme}://{host}{parts.path}", session=session)
    client.set_http_retry_params(retry=False)  # the session's adapter sees to that
    return client


def _check_part(part: bytes) -> None:
    """Raises ValueError for a deflated data set that swells further than an image does."""
    if DEFLATED not in part[:4096]:
        return
    file = BytesIO(part)
    read_preamble(file, force=True)
    syntax = _read_file_meta_info(file).get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian and inflates_too_far(part[file.tell() :]):
        raise ValueError("it swells further than an image does")


def fetch_web(
    remote: Remote, archive: Archive, progress: Callable[[int, int], None] = lambda d, n: None
) -> tuple[list[str], list[tuple[str, str]]]:
    """QIDO, then WADO of every instance that is not here yet: (instances here now, refused with reasons).
    Runs again where it stopped."""
    client = web_client(remote.where)
    wanted = _wanted(client, remote)
    here = _known(archive, wanted)
    got = []
    refused = []
    for n, (study, series, uid) in enumerate(wanted, 1):
        if uid in here:
            got.append(uid)
        else:
            try:
                ds = client.retrieve_instance(study, series, uid, media_types=(("application/dicom", "*"),))
                if ds.get("SOPInstanceUID") != uid:
                    raise ValueError("the server sent another object")
                instance = instance_of(ds, "dicomweb")
            except Exception as e:  # a server may answer anything; what else it has is fetched
                refused.append((uid, f"could not be fetched ({str(e)[:200]}); run the same command again"))
            else:
                _keep(archive, instance, got, refused)
        progress(n, len(wanted))
    return got, refused


def _keep(archive: Archive, instance: Instance, got: list[str], refused: list[tuple[str, str]]) -> None:
    try:
        archive.store(instance)
    except OSError as e:
        refused.append((instance.uid, f"could not be kept ({os_fault(e)}); run the same command again"))
    else:
        got.append(instance.uid)


def _wanted(client: DICOMwebClient, remote: Remote) -> list[tuple[str, str, str]]:
    """Study, series and instance of all that matches. Raises UserError where the server does not say it."""
    try:
        studies = client.search_for_studies(search_filters=remote.query or None)
        return [
            (study, _tag(i, "0020000E"), _tag(i, "00080018"))
            for study in [_tag(s, "0020000D") for s in studies]
            for i in client.search_for_instances(study_instance_uid=study)
        ]
    except requests.RequestException as e:
        why = f"; {e}" if not isinstance(e, requests.ConnectionError) else ""
        raise UserError(
            f"{shown(remote.where)}: the DICOMweb server does not answer ({type(e).__name__}{why}); check "
            "the address and that it is running"
        ) from e
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as e:
        raise UserError(
            f"{shown(remote.where)}: its answer is no list of DICOM objects ({type(e).__name__}); is it "
            "a DICOMweb server?"
        ) from e


def _known(archive: Archive, wanted: list[tuple[str, str, str]]) -> set[str]:
    """Instances of these studies that are here."""
    studies = dict.fromkeys(study for study, *_ in wanted)
    return {u for study in studies for u, *_ in files_of(archive.library, {"StudyInstanceUID": study})}


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
        raise UserError(f"{shown(url)}: the DICOMweb server does not take the objects ({e})") from e
    failed = list(answer.get("FailedSOPSequence") or [])
    if failed:
        raise UserError(
            f"{shown(url)}: {len(failed)} objects were not taken, first {failed[0].ReferencedSOPInstanceUID}"
        )


def _tag(item: dict, tag: str) -> str:
    return str(item.get(tag, {}).get("Value", [""])[0])
