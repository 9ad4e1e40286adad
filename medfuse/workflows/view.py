"""Start the Streamlit viewer on a library. Loopback by default; any other address only where people must sign
in."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from secrets import token_urlsafe

from ..errors import UserError, WrongUse, os_fault
from ..library import Library
from ..library.accounts import list_accounts

OPTIONS = {
    "server.headless": "true",
    "browser.gatherUsageStats": "false",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "4000",  # MB
    "theme.base": "dark",
    "theme.primaryColor": "#4fb3bf",
    "theme.backgroundColor": "#101417",
    "theme.secondaryBackgroundColor": "#1a2126",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    "client.showErrorLinks": "false",
}


@dataclass(frozen=True)
class ServerTls:
    """PEM files of the viewer's own port: a certificate (with those between it and its CA) and its key."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Raises UserError where they are no pair that a server can use without asking for a password."""
        try:
            # a key that is locked would be asked for on the terminal
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, lambda: "")
        except (OSError, ValueError) as e:  # SSLError is an OSError
            named = e.filename if isinstance(e, OSError) and e.filename else self.certificate
            raise UserError(
                f"{named}: cannot be used for TLS ({os_fault(e) if isinstance(e, OSError) else e}); give "
                "a PEM certificate and its own key, without a password"
            ) from e


def serve(
    *,
    port: int,
    home: Path,
    address: str = "127.0.0.1",
    tls: ServerTls | None = None,
    log: Callable[[str], None],
) -> None:
    """Run until interrupted, with ``tls`` over HTTPS alone. Raises WrongUse for an open address where nobody
    could sign in, UserError where Streamlit is not installed or stops with a fault, or ``tls`` is no pair."""
    secrets = home / "secrets.toml"  # the identity provider, where there is one
    if not address.strip():
        raise WrongUse('--address "" would mean every address; give 127.0.0.1, or the one that is meant')
    if address not in ("127.0.0.1", "localhost", "::1"):
        _somebody_can_sign_in(home, secrets, address)
    if Path(".streamlit").exists() and Path.cwd() != Path.home():
        raise WrongUse(
            f"{Path.cwd()}: holds .streamlit, which would change the viewer; start it in another folder"
        )
    if tls is not None:
        tls.check()
    if find_spec("streamlit") is None:
        raise UserError("the viewer is not installed; run pip install 'medfuse[viewer]'")
    environment = {**os.environ, "MEDFUSE_HOME": str(home.resolve()), "PYTHONSAFEPATH": "1"}
    if secrets.exists():
        environment["MEDFUSE_OIDC"] = "1"
    if not secrets.exists() and not list_accounts(Library(home)):
        word = environment.setdefault("MEDFUSE_FIRST_ACCOUNT", token_urlsafe(9))
        log(f"no account exists yet; who makes the first one in the viewer needs this word: {word}")
    log(f"viewer: http{'s' if tls else ''}://{address}:{port}  (stop with Ctrl-C)")
    with subprocess.Popen(_command(port, address, secrets, tls), env=environment) as process:
        # whoever stops this command stops the server
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            return
    if code > 0:
        raise UserError(
            f"the viewer stopped with code {code}; is port {port} taken? choose another with --port"
        )


def _somebody_can_sign_in(home: Path, secrets: Path, address: str) -> None:
    """Raises WrongUse where there is neither an account nor an identity provider."""
    if not secrets.exists() and not list_accounts(Library(home)):
        raise WrongUse(
            f"--address {address}: without accounts the viewer is served on 127.0.0.1 only; make "
            "one with medfuse account add NAME --role admin"
        )


def _command(port: int, address: str, secrets: Path, tls: ServerTls | None) -> list[str]:
    """Streamlit's command line."""
    app = Path(__file__).resolve().parents[2] / "apps" / "viewer" / "server.py"
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(app)]
    for name, value in {"server.port": str(port), "server.address": address, **OPTIONS}.items():
        command += [f"--{name}", value]
    if tls is not None:
        files = {"server.sslCertFile": tls.certificate, "server.sslKeyFile": tls.key}
        command += [part for name, path in files.items() for part in (f"--{name}", str(path.resolve()))]
    return command + (["--secrets.files", str(secrets)] if secrets.exists() else [])
