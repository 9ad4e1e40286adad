"""TLS for DICOM associations, as server and as client (PS3.15 B), and the socket's own settings."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from ..errors import UserError, WrongUse


def tls_server(certificate: Path | None, key: Path | None, authority: Path | None) -> ssl.SSLContext | None:
    """TLS with these PEM files, or None for plain DICOM. Raises UserError for unusable files."""
    if certificate is None:
        return None
    if key is None:
        raise WrongUse("--tls-cert needs --tls-key: the certificate's private key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if authority is not None:
            context.load_verify_locations(authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as e:
        raise UserError(
            f"{certificate}: cannot be used for TLS ({e}); give a PEM certificate, its key and the "
            "CA's certificate"
        ) from e
    return context


@dataclass(frozen=True)
class Tls:
    """How a peer is called with TLS: ``authority`` is the PEM certificate of the CA that its certificate must
    be of; our own certificate and key are shown where the peer asks."""

    authority: Path
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """For a connection. Raises UserError for unusable files."""
        try:
            context = ssl.create_default_context(cafile=str(self.authority))
            context.check_hostname = False  # DICOM peers are known by certificate, not by name
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as e:
            raise UserError(
                f"{self.authority}: cannot be used for TLS ({e}); give the CA's PEM certificate, and your "
                "own certificate with its key"
            ) from e
        return context


def tls_of(authority: Path | None, certificate: Path | None, key: Path | None) -> Tls | None:
    """What `--tls-ca`, `--tls-cert` and `--tls-key` ask for; None for plain DICOM. Raises WrongUse where the
    CA is missing, UserError for unusable files."""
    if authority is None:
        if certificate is not None or key is not None:
            raise WrongUse("--tls-cert and --tls-key need --tls-ca: the CA that the peer's certificate is of")
        return None
    tls = Tls(authority, certificate, key)
    tls.context()
    return tls


class TidySocket(AssociationSocket):
    """An association's socket that is closed also where the peer has gone: pynetdicom leaves that to the
    garbage collector."""

    def _shutdown_socket(self) -> None:
        if self.socket is not None:
            with suppress(OSError):  # the peer has gone, or it is closed already
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


def no_delay(assoc: Association) -> None:
    """TCP_NODELAY on the socket of an association that was just opened, which will be closed at its end."""
    sock = assoc.dul.socket
    if sock is not None and sock.socket is not None:
        # pynetdicom makes the socket itself, and making it a second time would announce the connection twice
        sock.__class__ = TidySocket
        sock.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
