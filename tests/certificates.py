"""Certificates for tests, signed by themselves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest


def self_signed(folder: Path, name: str = "own", host: str = "localhost") -> tuple[Path, Path]:
    """A PEM certificate for ``host`` and its key. Skips the test where openssl is not installed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate = folder / f"{name}.pem"
    key = folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    return certificate, key


TSA = """[tsa]
default_tsa = one
[one]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
certs = {folder}/ca.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
"""


def openssl(*arguments: str) -> None:
    """Run openssl; its fault is the test's."""
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@contextmanager
def time_stamp_authority(folder: Path) -> Iterator[str]:
    """The address of a time stamp authority (RFC 3161): `openssl ts` behind HTTP on loopback. FOLDER/ca.pem
    is its authority's certificate."""
    folder.mkdir(exist_ok=True)
    self_signed(folder, "ca", host=f"authority {folder.name}")
    request = folder / "tsa.csr"
    files = ["-keyout", str(folder / "tsa.key"), "-out", str(request)]
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=stamps", *files)
    (folder / "usage").write_text("extendedKeyUsage = critical,timeStamping\n")
    ours = ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-days", "2"]
    to = ["-extfile", str(folder / "usage"), "-out", str(folder / "tsa.pem")]
    openssl("x509", "-req", "-in", str(request), *ours, *to)
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(TSA.format(folder=folder))

    class Authority(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query, answer = folder / "query", folder / "answer"
            query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            config = ["-config", str(folder / "tsa.cnf"), "-queryfile", str(query), "-out", str(answer)]
            openssl("ts", "-reply", *config)
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write(answer.read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Authority) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
