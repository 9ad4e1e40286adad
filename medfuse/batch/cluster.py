"""How a dask cluster of somebody else's is reached: with TLS, or not at all."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from distributed.security import Security

from ..errors import UserError, WrongUse


@dataclass(frozen=True)
class ClusterTls:
    """PEM files: the CA that the scheduler's certificate must be of, our own certificate and its key."""

    authority: Path
    certificate: Path
    key: Path


def cluster_security(address: str, given: ClusterTls | None, *, plain: bool) -> Security:
    """The keys with which a cluster is called; ``plain``: also without any. Raises WrongUse where that was
    not said: whoever reaches a scheduler runs code in its workers, and they read patients."""
    encrypted = address.startswith(("tls://", "wss://"))
    if not encrypted and plain:
        return Security(require_encryption=False)
    if not encrypted:
        raise WrongUse(
            f"--cluster {address}: speaks without TLS, so that anybody who reaches it can run code in "
            "its workers and read these patients; give a tls:// address with --cluster-ca, --cluster-cert "
            "and --cluster-key, or say --cluster-plain where nobody else reaches it"
        )
    if given is None:
        stated = Security(require_encryption=True)  # of dask's own configuration
        if not all(getattr(stated, name) for name in ("tls_ca_file", "tls_client_cert")):
            raise WrongUse(
                f"--cluster {address}: give --cluster-ca, --cluster-cert and --cluster-key, or name "
                "them in dask's configuration (distributed.comm.tls)"
            )
        return stated
    made = Security(
        tls_ca_file=str(given.authority),
        tls_client_cert=str(given.certificate),
        tls_client_key=str(given.key),
        require_encryption=True,
    )
    try:
        made.get_connection_args("client")
    except (OSError, ssl.SSLError) as e:
        raise UserError(
            f"{given.certificate}: cannot be used for TLS ({e}); give PEM files of a CA, a certificate of it "
            "and its key"
        ) from e
    return made
