"""Time stamps of the audit log by somebody outside (RFC 3161): who has the home folder and every key in it
can write the log anew, and cannot stamp it with a time that has passed.

What is stamped is a hash of the log's name and of its newest entry's number and seal; nothing of a patient
leaves. The answers lie beside the anchors, as *.tsr; copies kept elsewhere count too.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from cryptography import x509
from sqlalchemy import select

from ..errors import UserError, WrongUse
from ..io.names import plain_name
from .audit import record
from .audit_key import write_private
from .catalogue import AuditHeadRow, AuditRow

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse, VerifierBuilder

    from .library import Library

KEPT = "time stamp kept"  # the event; entry: the number of the stamped one, sha256: of the file
ENDING = ".tsr"
QUERY = "application/timestamp-query"
PATIENCE_S = 20.0
LONGEST = 256 * 1024  # bytes of an answer
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TimeStamp:
    """A stamp that was kept. entry: the number of the newest entry that it vouches for."""

    path: Path
    entry: int
    at: datetime


def stamp(library: Library, address: str, authority: Path | None) -> TimeStamp:
    """Have the log's newest entry stamped by the authority at ``address``, and keep the answer.
    ``authority``: PEM certificates that the answer must be of. Raises WrongUse where one is not stated,
    UserError where no answer comes or it is not to be trusted."""
    if not address or authority is None:
        raise WrongUse(
            "MEDFUSE_TIMESTAMP_URL and MEDFUSE_TIMESTAMP_CA say whose time stamps are taken: an RFC 3161 "
            "address and the PEM certificate of its authority"
        )
    _need_client()
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, VerifierBuilder

    if not library.exists:
        raise WrongUse(f"{library.home}: holds no library; there is nothing to stamp")
    with library.session() as s:
        name = s.scalars(select(AuditHeadRow.log)).one()
        newest = s.scalars(select(AuditRow).order_by(AuditRow.seq.desc()).limit(1)).first()
    if newest is None:
        raise WrongUse("the audit log holds no entry; there is nothing to stamp")
    said = _message(name, newest.seq, newest.seal)
    request = TimestampRequestBuilder().data(said).hash_algorithm(HashAlgorithm.SHA256).build()
    data = _answer(address, request.as_bytes())
    builder = VerifierBuilder.from_request(request)
    wrong = _why_not(data, said, builder, authority)
    if wrong:
        raise UserError(f"{address}: its time stamp is not to be trusted ({wrong}); nothing was kept")
    path = library.home / "anchors" / f"{plain_name(name[:12])}.{newest.seq}{ENDING}"
    write_private(path, data)
    record(library, KEPT, entry=newest.seq, sha256=hashlib.sha256(data).hexdigest())
    return TimeStamp(path=path, entry=newest.seq, at=_read(data).tst_info.gen_time)


def stamp_differences(
    library: Library, rows: list[AuditRow], name: str, authority: Path | None, folder: Path | None = None
) -> Iterator[str]:
    """What stamps say against the log as it stands: those beside the anchors, and copies in ``folder``.
    Without an authority it is not looked at who made them."""
    prefix = plain_name(name[:12]) if name else ""
    beside = sorted((library.home / "anchors").glob(f"{prefix}.*{ENDING}")) if name else []
    yield from _lost(rows, prefix, beside)
    copies = sorted(p for p in folder.rglob(f"*{ENDING}") if p.is_file()) if folder is not None else []
    if not beside and not copies:
        return
    _need_client()
    texts = (_message(name, row.seq, row.seal) for row in rows)
    said = {hashlib.sha256(text).digest(): text for text in texts}
    for path in [*beside, *copies]:
        if wrong := _wrong(path.read_bytes(), said, authority):
            yield f"{path}: {wrong}"


def _lost(rows: list[AuditRow], prefix: str, beside: list[Path]) -> Iterator[str]:
    """Stamps that the log knows of, and that are not there as they were kept."""
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in beside}
    for row in rows:
        if row.event == KEPT:
            try:
                details = json.loads(row.details)
            except ValueError:
                continue  # named by its seal
            entry = details.get("entry")
            if there.get(f"{prefix}.{entry}{ENDING}") != details.get("sha256"):
                yield f"{prefix}.{entry}{ENDING}: the time stamp of entry {entry} was changed or removed"


def _wrong(data: bytes, said: dict[bytes, bytes], authority: Path | None) -> str:
    """What is wrong with a stamp; empty where it vouches for the log. ``said``: what may have been stamped,
    by its hash."""
    from rfc3161_client import VerifierBuilder

    try:
        token = _read(data).tst_info
    except ValueError:
        return "holds no time stamp"
    text = said.get(token.message_imprint.message)
    if text is None:
        return f"the log that was stamped at {token.gen_time:%Y-%m-%d %H:%M} is not this one"
    if authority is not None and (why := _why_not(data, text, VerifierBuilder(), authority)):
        return f"is no time stamp of the authority in {authority} ({why})"
    return ""


def _message(name: str, seq: int, seal: str) -> bytes:
    """What is stamped: where the log stands."""
    return json.dumps(["head", name, seq, seal], separators=(",", ":")).encode("ascii")


def _answer(address: str, query: bytes) -> bytes:
    """What an authority answers. Raises UserError where it does not."""
    try:
        with requests.post(
            address, data=query, headers={"Content-Type": QUERY}, timeout=PATIENCE_S, stream=True
        ) as answer:
            answer.raise_for_status()
            data = answer.raw.read(LONGEST + 1, decode_content=True)
    except (requests.RequestException, OSError) as e:
        raise UserError(
            f"{address}: no time stamp comes from there ({type(e).__name__}); try again later, or look at "
            "MEDFUSE_TIMESTAMP_URL"
        ) from e
    if len(data) > LONGEST:
        raise UserError(f"{address}: answers too much to be a time stamp")
    return data


def _why_not(data: bytes, said: bytes, builder: VerifierBuilder, authority: Path) -> str:
    """Why an answer does not vouch for ``said``; empty where it does."""
    from rfc3161_client import VerificationError

    try:
        certificates = x509.load_pem_x509_certificates(authority.read_bytes())
    except (OSError, ValueError) as e:
        raise UserError(f"{authority}: cannot be used as certificates of a time stamp authority ({e})") from e
    for one in certificates:
        own = one.issuer == one.subject
        builder = (builder.add_root_certificate if own else builder.add_intermediate_certificate)(one)
    try:
        builder.build().verify_message(_read(data), said)
    except (ValueError, VerificationError) as e:
        return str(e).splitlines()[0] if str(e) else type(e).__name__
    return ""


def _read(data: bytes) -> TimeStampResponse:
    """An answer. Raises ValueError where it is none, or says that nothing was stamped."""
    from rfc3161_client import decode_timestamp_response

    answer = decode_timestamp_response(data)
    if answer.status not in (0, 1):
        raise ValueError("; ".join(answer.status_string) or f"status {answer.status}")
    return answer


def _need_client() -> None:
    if find_spec("rfc3161_client") is None:
        raise UserError("time stamps need another package: pip install 'medfuse[timestamps]'")
