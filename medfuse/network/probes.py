"""`/healthz` and `/metrics` beside the DICOM port, for probes and Prometheus, on an address of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from ..errors import UserError, os_fault
from ..library import Library
from ..library.health import METRICS_TYPE, healthz, metrics

REASONS = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a probe comes every few seconds."""


def answering(library: Library) -> WSGIApplication:
    """The WSGI application: two paths, no state."""

    def app(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        code = 200
        kind = "text/plain; charset=utf-8"
        if environ.get("PATH_INFO") == "/healthz":
            code, text = healthz(library)
            body = text.encode()
        elif environ.get("PATH_INFO") == "/metrics":
            body = metrics(library)
            kind = METRICS_TYPE
        else:
            code = 404
            body = b"not found\n"
        start(REASONS[code], [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    return app


@contextmanager
def probes(library: Library, port: int, address: str = "127.0.0.1") -> Iterator[WSGIServer]:
    """Serve them while the block runs. Raises UserError where the port is taken."""
    try:
        server = make_server(address, port, answering(library), handler_class=_Silent)
    except OSError as e:
        raise UserError(f"port {port} on {address}: {os_fault(e)}; choose another --health-port") from e
    thread = threading.Thread(target=server.serve_forever, name="probes", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
