"""The nginx of docs/security.md, as it stands there, before a running viewer."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from certificates import self_signed
from pacs import free_port
from viewers import serving

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
NAME = "viewer.hospital.example"
DOCUMENTED = Path(__file__).resolve().parent.parent / "docs" / "security.md"

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (.ci/install-debian)"),
]


def documented(certificate: Path, key: Path, port: int, viewer: str) -> str:
    """The server of the documentation, with the places of this test."""
    block = re.search(r"^    server \{\n.*?^    \}\n", DOCUMENTED.read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    text = block[0]
    for there, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/viewer.pem", str(certificate)),
        ("/etc/ssl/viewer.key", str(key)),
        ("http://127.0.0.1:8501", viewer),
    ):
        assert there in text, there
        text = text.replace(there, here)
    return text


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """Its port, and what is trusted."""
    folder = tmp_path_factory.mktemp("nginx")
    certificate, key = self_signed(folder, host=NAME)
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDFUSE_VIEWER_HOSTS", NAME)
        with serving(tmp_path_factory.mktemp("home")) as viewer:
            temporary = "\n".join(
                f"{kind}_temp_path {folder}/{kind};"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            server = documented(certificate, key, port, viewer)
            (folder / "nginx.conf").write_text(
                f"daemon off;\nuser root;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
                f"http {{\naccess_log off;\n{temporary}\n{server}}}\n"
            )
            process = subprocess.Popen(
                [str(NGINX), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
            )
            try:
                for _ in range(100):
                    with closing(socket.socket()) as s:
                        if s.connect_ex(("127.0.0.1", port)) == 0:
                            break
                    time.sleep(0.05)
                yield port, ssl.create_default_context(cafile=str(certificate))
            finally:
                process.terminate()
                process.wait(20)


def asked(proxy, path: str = "/", **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of one answer over TLS."""
    port, trusted = proxy
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection = http.client.HTTPConnection(NAME, port)
    with closing(trusted.wrap_socket(raw, server_hostname=NAME)) as connection.sock:
        named = {"Host": NAME} | {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request("GET", path, headers=named)
        with closing(connection.getresponse()) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_the_viewer_answers_through_the_documented_proxy(proxy):
    status, headers = asked(proxy)
    assert status == 200
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert asked(proxy, "/_stcore/stream", Origin=f"https://{NAME}", **UPGRADE)[0] == 101


def test_no_other_name_and_no_other_page_gets_through(proxy):
    """The only server of this nginx answers to every name; the viewer does not."""
    assert asked(proxy, Host="attacker.example")[0] in (400, 403, 421)
    for origin in ("https://attacker.example", "http://localhost:8501", "null"):
        assert asked(proxy, "/_stcore/stream", Origin=origin, **UPGRADE)[0] in (400, 403), origin
