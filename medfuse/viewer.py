"""Start the Streamlit viewer on a library. Loopback only: other addresses need authentication, which is not built yet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from .errors import UserError, WrongUse


def serve(*, port: int, home: Path, address: str = "127.0.0.1", log: Callable[[str], None]) -> None:
    """Run until interrupted."""
    if address not in ("127.0.0.1", "localhost", "::1"):
        raise WrongUse(f"--address {address}: without authentication the viewer is served on 127.0.0.1 only")
    if find_spec("streamlit") is None:
        raise UserError("the viewer is not installed; run pip install 'medfuse[viewer]'")
    app = Path(__file__).resolve().parent.parent / "apps" / "viewer" / "app.py"
    environment = {**os.environ, "MEDFUSE_HOME": str(home.resolve())}
    command = [
        sys.executable, "-m", "streamlit", "run", str(app), "--server.port", str(port), "--server.address", address,
        "--server.headless", "true", "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none",
        "--theme.base", "dark", "--theme.primaryColor", "#4fb3bf", "--theme.backgroundColor", "#101417",
        "--theme.secondaryBackgroundColor", "#1a2126", "--client.toolbarMode", "minimal",
    ]  # fmt: skip
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
