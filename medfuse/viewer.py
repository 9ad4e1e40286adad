"""Start the Streamlit viewer on a library. Loopback by default; any other address only where people must sign in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from .errors import UserError, WrongUse
from .library.accounts import list_accounts


def serve(*, port: int, home: Path, address: str = "127.0.0.1", log: Callable[[str], None]) -> None:
    """Run until interrupted."""
    environment = {**os.environ, "MEDFUSE_HOME": str(home.resolve())}
    secrets = home / "secrets.toml"  # the identity provider, where there is one
    if address not in ("127.0.0.1", "localhost", "::1"):
        os.environ["MEDFUSE_HOME"] = environment["MEDFUSE_HOME"]
        if not secrets.exists() and not list_accounts():
            raise WrongUse(
                f"--address {address}: without accounts the viewer is served on 127.0.0.1 only; make one with medfuse account add NAME --role admin"
            )
    if find_spec("streamlit") is None:
        raise UserError("the viewer is not installed; run pip install 'medfuse[viewer]'")
    app = Path(__file__).resolve().parent.parent / "apps" / "viewer" / "server.py"
    command = [
        sys.executable, "-m", "streamlit", "run", str(app), "--server.port", str(port), "--server.address", address,
        "--server.headless", "true", "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none",
        "--server.maxUploadSize", "4000", "--theme.base", "dark", "--theme.primaryColor", "#4fb3bf", "--theme.backgroundColor", "#101417",
        "--theme.secondaryBackgroundColor", "#1a2126", "--client.toolbarMode", "minimal",
        "--client.showErrorDetails", "type", "--client.showErrorLinks", "false",
    ]  # fmt: skip
    if secrets.exists():
        environment["MEDFUSE_OIDC"] = "1"
        command += ["--secrets.files", str(secrets)]
    log(f"viewer: http://{address}:{port}  (stop with Ctrl-C)")
    with subprocess.Popen(command, env=environment) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # whoever stops this command stops the server
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            return
    if code > 0:
        raise UserError(f"the viewer stopped with code {code}; is port {port} taken? choose another with --port")
