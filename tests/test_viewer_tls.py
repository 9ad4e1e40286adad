"""The viewer's own port with TLS, as a real client meets it."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
from contextlib import closing

import pytest
from certificates import openssl, self_signed
from pacs import free_port
from test_cli import run
from viewers import FIRST_WORD

from medfuse.errors import UserError
from medfuse.workflows.view import ServerTls

pytestmark = pytest.mark.attack
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Its port, and what a client trusts."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = self_signed(folder)
    port = free_port()
    command = [sys.executable, "-m", "medfuse", "view", "--port", str(port)]
    environment = {**os.environ, "MEDFUSE_HOME": str(folder / "home"), "MEDFUSE_FIRST_ACCOUNT": FIRST_WORD}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    files = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    process = subprocess.Popen([*command, *files], env=environment, **quiet)
    try:
        for _ in range(600):
            with closing(socket.socket()) as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield port, ssl.create_default_context(cafile=str(certificate))
    finally:
        process.terminate()
        process.wait(timeout=20)


def asked(served, path: str = "/", **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of one answer over TLS."""
    port, trusted = served
    with closing(http.client.HTTPSConnection("localhost", port, context=trusted, timeout=30)) as connection:
        connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.headers.items()}


def test_a_client_that_trusts_its_ca_gets_pages_and_a_cookie_for_tls_alone(served):
    status, headers = asked(served, Accept="text/html")
    assert status == 200
    assert "; Secure" in headers["set-cookie"]
    origin = f"https://localhost:{served[0]}"
    named = {**UPGRADE, "Origin": origin}
    assert asked(served, "/_stcore/stream", **named)[0] == 101
    assert asked(served, "/_stcore/stream", **{**named, "Origin": "https://attacker.example"})[0] in (
        400,
        403,
    )


def test_nothing_is_said_without_tls_or_with_an_old_one(served):
    port, trusted = served
    with closing(http.client.HTTPConnection("localhost", port, timeout=30)) as plain:
        plain.request("GET", "/")
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            plain.getresponse()
    with pytest.raises(ssl.SSLError):  # a client that does not know this CA
        asked((port, ssl.create_default_context()))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asked((port, old))


def test_files_that_are_no_pair_are_named_before_anything_starts(tmp_path):
    certificate, key = self_signed(tmp_path)
    ServerTls(certificate, key).check()
    _, other = self_signed(tmp_path, "other")
    locked = tmp_path / "locked.key"
    openssl("rsa", "-aes128", "-passout", "pass:secret", "-in", str(key), "-out", str(locked))
    for wrong in (other, locked, certificate, tmp_path / "none.key"):
        with pytest.raises(UserError, match="cannot be used for TLS"):
            ServerTls(certificate, wrong).check()
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(UserError, match=r"broken\.pem: cannot be used for TLS"):
        ServerTls(broken, key).check()


def test_a_certificate_without_its_key_is_wrong_use(home, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "view", "--tls-cert", "viewer.pem")
    assert (code, "belong together" in err) == (2, True)
