"""Strangers at the viewer's door: other names, other pages, proxies, and passwords that are tried out."""

from __future__ import annotations

import http.client
import os
import time
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from viewers import serving

from apps.viewer.browsers import Browsers, browsers
from apps.viewer.guard import Guard, Known, may_fetch, on_this_machine
from apps.viewer.seats import IDLE_S, cookie_name
from apps.viewer.tries import MOST, MOST_ADDRESS, MOST_NAME, WITHIN_S, Tries
from apps.viewer.words import MARKUP, plain
from medfuse.errors import WrongUse
from medfuse.workflows.view import serve


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("home")) as address:
        yield address


def asked(url: str, path: str = "/", **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to one bare request."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=20)
    with closing(connection):
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        connection.putrequest("GET", path, skip_host="Host" in named)
        for name, value in named.items():
            connection.putheader(name, value)
        connection.endheaders()
        with closing(connection.getresponse()) as answer:
            return answer.status, dict(answer.headers)


WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.attack
@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:8501", "127.0.0.1.attacker.example", "", "[", "10.0.0.5"]
)
def test_a_name_that_points_here_opens_nothing(url, host):
    for path in ("/", "/_stcore/health", "/medfuse/ui/medfuse.js"):
        assert asked(url, path, Host=host)[0] in (400, 403), path
    assert asked(url, "/_stcore/stream", Host=host, **WEBSOCKET)[0] in (400, 403)


@pytest.mark.attack
@pytest.mark.parametrize(
    "origin",
    [
        "http://attacker.example",
        "https://localhost.attacker.example",
        "null",
        "http://localhost:9999",  # another server of this machine
        "http://127.0.0.1:1",
        "http://127.0.0.1",
        "http://[",
    ],
)
def test_a_page_of_somebody_else_opens_no_connection(url, origin):
    started = time.monotonic()
    assert asked(url, "/_stcore/stream", Origin=origin, **WEBSOCKET)[0] == 403
    assert time.monotonic() - started < 5  # nobody was asked who we are
    assert asked(url, "/_stcore/stream", Origin=url, **WEBSOCKET)[0] == 101


@pytest.mark.attack
def test_browsers_are_told_to_keep_others_out(url):
    status, headers = asked(url)
    assert status == 200
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "img-src 'self' data: blob:;" in policy
    assert headers["x-frame-options"] == "DENY"


def test_a_page_is_of_the_server_that_it_calls():
    known = Known.of("0.0.0.0", "viewer.hospital.example")
    assert known.own_page("https://viewer.hospital.example", "viewer.hospital.example")
    assert known.own_page("https://viewer.hospital.example:8443", "127.0.0.1:8501")
    assert known.own_page("http://192.168.1.5:8501", "192.168.1.5:8501")
    assert known.own_page("http://LOCALHOST", "localhost:80")
    assert not known.own_page("http://192.168.1.6:8501", "192.168.1.5:8501")
    assert not known.own_page("http://localhost:9999", "localhost:8501")
    assert not known.own_page("http://localhost:8501", "viewer.hospital.example")


def test_who_is_at_this_machine():
    assert on_this_machine({"Host": "127.0.0.1:8501"})
    assert on_this_machine({"host": "[::1]:8501"})
    assert not on_this_machine({"Host": "viewer.hospital.example"})
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "x-forwarded-proto"):
        assert not on_this_machine({"Host": "localhost", name: "1"}), name


def test_stated_names_and_addresses_as_numbers():
    assert Known.of("0.0.0.0", "Viewer.Hospital.example").holds("viewer.hospital.example:443")
    assert Known.of("0.0.0.0", "").holds("192.168.1.5:8501")
    assert not Known.of("0.0.0.0", "").holds("attacker.example")
    assert not Known.of("127.0.0.1", "").holds("192.168.1.5")
    assert Known.of("192.168.1.5", "").holds("192.168.1.5:8501")


@pytest.mark.attack
def test_an_empty_address_is_not_every_address(home):
    with pytest.raises(WrongUse, match="every address"):
        serve(port=1, home=home, address=" ", log=lambda line: None)


@pytest.mark.attack
def test_passwords_are_not_tried_out():
    tries = Tries()
    for n in range(MOST):
        assert tries.wait_s("ari", now=float(n)) == 0
        tries.wrong("ari", now=float(n))
    assert tries.wait_s("ari", now=5.0) > WITHIN_S - 10
    assert tries.wait_s("bo", now=5.0) == 0
    assert tries.wait_s("ari", now=WITHIN_S + 1) == 0
    tries.right("ari")


@pytest.mark.attack
def test_who_tries_many_names_closes_only_where_they_are():
    tries = Tries()
    for n in range(MOST_ADDRESS):
        tries.wrong(f"name {n}", "10.0.0.66", now=1000.0)
    assert tries.wait_s("ari", "10.0.0.66", now=1001.0) > 0
    assert tries.wait_s("ari", "10.0.0.5", now=1001.0) == 0  # before, nobody could sign in any more
    assert tries.wait_s("ari", "", now=1001.0) == 0


@pytest.mark.attack
def test_who_tries_one_name_from_many_addresses_closes_that_name():
    tries = Tries()
    for n in range(MOST_NAME):
        tries.wrong("ari", f"10.0.0.{n}", now=1000.0)
    assert tries.wait_s("ari", "10.0.1.1", now=1001.0) > 0
    assert tries.wait_s("bo", "10.0.1.1", now=1001.0) == 0
    tries.wrong("bo", "10.0.0.66", now=1000.0)
    tries.right("bo", "10.0.0.66")
    assert tries.wait_s("bo", "10.0.0.66", now=1001.0) == 0


@pytest.mark.attack
def test_the_first_account_takes_the_printed_word(home, monkeypatch):
    from test_viewer import page

    from medfuse.library import Library
    from medfuse.library.accounts import list_accounts

    assert not [x for x in page().text_input if x.key == "first-name"]
    monkeypatch.setenv("MEDFUSE_FIRST_ACCOUNT", "a word")
    app = page()
    app.text_input(key="first-name").set_value("eve")
    app.text_input(key="first-password").set_value("long enough")
    app.text_input(key="first-word").set_value("guessed")
    make = next(n for n, b in enumerate(app.button) if b.label == "Make account")
    app = app.button[make].click().run()
    assert app.error
    assert not list_accounts(Library())
    app.text_input(key="first-word").set_value(os.environ["MEDFUSE_FIRST_ACCOUNT"])
    app.button[make].click().run()
    assert [a.role for a in list_accounts(Library())] == ["admin"]


@pytest.mark.attack
def test_a_removed_account_is_signed_out_at_once(home):
    from test_viewer import page

    from medfuse.library import Library
    from medfuse.library.accounts import add_account, remove_account

    who = add_account(Library(), "ari", "long enough", "author")
    add_account(Library(), "bo", "long enough", "admin")
    app = page(who=who)
    assert any(b.key == "sign-out" for b in app.button)
    remove_account(Library(), "ari")
    app.run()
    assert not any(b.key == "sign-out" for b in app.button)


COOKIE = cookie_name("")


def seen_by_app(scope_headers: list[tuple[str, str]], path: str = "/_stcore/stream") -> dict:
    """What a guarded app sees of a websocket."""
    from starlette.testclient import TestClient

    seen: dict = {}

    async def app(scope, receive, send):
        seen.update(scope)
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    with TestClient(Guard(app, "127.0.0.1"), base_url="http://127.0.0.1").websocket_connect(
        path, headers=dict(scope_headers)
    ):
        pass
    return seen


def protocols(scope: dict) -> str:
    return next(v.decode() for k, v in scope["headers"] if k == b"sec-websocket-protocol")


@pytest.mark.attack
@pytest.mark.parametrize("cookie", ["", f"{COOKIE}=guessed", f"{COOKIE}=", "a=b; ;;", f"x={COOKIE}"])
def test_a_sessions_id_takes_no_session_over(cookie):
    browsers.note("a-session", "its browser's word")
    asked_for = ("Sec-WebSocket-Protocol", "streamlit, token, a-session")
    theirs = seen_by_app([("Host", "127.0.0.1"), asked_for, ("Cookie", cookie)])
    assert "a-session" not in protocols(theirs)
    assert "a-session" not in str(theirs["subprotocols"])
    browsers.note("a-session", "guessed")  # nor is it noted as another's later
    again = seen_by_app([("Host", "127.0.0.1"), asked_for, ("Cookie", f"{COOKIE}=guessed")])
    assert "a-session" not in protocols(again)


def test_a_browser_comes_back_to_its_session():
    browsers.note("my-session", "mine")
    headers = [("Host", "127.0.0.1"), ("Sec-WebSocket-Protocol", "streamlit, token, my-session")]
    assert "my-session" in protocols(seen_by_app([*headers, ("Cookie", f"{COOKIE}=mine")]))


@pytest.mark.attack
@pytest.mark.parametrize("path", ["/media/0123abcd.pdf", "/_stcore/upload_file/a-session/file"])
@pytest.mark.parametrize("cookie", ["", f"{COOKIE}=guessed"])
def test_what_is_a_sessions_own_opens_to_nobody_else(url, path, cookie):
    """An exported report lies under /media; before, whoever knew the address had it."""
    assert asked(url, path, Cookie=cookie)[0] == 404


def test_the_guard_lets_a_browser_have_its_own():
    browsers.note("b-session", "b's word")
    assert may_fetch("/media/x.pdf", "b's word")
    assert may_fetch("/_stcore/upload_file/b-session/f", "b's word")
    assert not may_fetch("/media/x.pdf", "")
    assert not may_fetch("/media/x.pdf", "guessed")
    assert not may_fetch("/_stcore/upload_file/b-session/f", "guessed")
    assert not may_fetch("/_stcore/upload_file", "b's word")
    assert not may_fetch("//media/x.pdf", "")
    assert may_fetch("/", "")


@pytest.mark.attack
def test_a_browser_gets_a_word_that_no_page_reads(url):
    headers = asked(url, Accept="text/html")[1]
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert len(cookie.split("=")[1].split(";")[0]) >= 40


@pytest.mark.attack
def test_a_page_loaded_anew_is_no_new_sign_in():
    known = Browsers()
    assert known.idle_s("w", 0.0) == 0
    assert known.idle_s("w", 100.0) == 100
    assert known.idle_s("w", 100.0 + IDLE_S) >= IDLE_S
    known.forget("w")
    assert known.idle_s("w", 1e6) == 0


@pytest.mark.attack
@pytest.mark.parametrize(
    "text",
    [
        "![x](http://attacker.example/a.png)",
        "<img src=http://attacker.example>",
        "[a](http://x)",
        "`x`",
        "$x$",
    ],
)
def test_what_somebody_wrote_draws_nothing(text):
    drawn = plain(text)
    assert "](" not in drawn.replace("\\]", "")
    assert not any(c in MARKUP and drawn[n - 1] != "\\" and c != "\\" for n, c in enumerate(drawn))


PICTURE = "![x](http://attacker.example/a.png)` ![x](http://attacker.example/b.png)"


@pytest.mark.attack
def test_a_picture_in_a_patients_id_is_words(home, tmp_path):
    from slices import write_stack
    from test_viewer import page

    from medfuse.library import Library
    from medfuse.library.ingest import ingest

    write_stack(tmp_path / "in", [(0, 0, 2.5 * k) for k in range(3)], patient=PICTURE[:64])
    (case,) = ingest(Library(), tmp_path / "in").cases
    app = page("reading", case=case)
    shown = [m.value for m in app.markdown if "attacker" in m.value]
    assert shown
    for text in shown:
        held = text.split(":blue[`")[1].rsplit("`]")[0]
        assert "`" not in held  # all of it is code, where Markdown makes no picture


@pytest.mark.attack
@pytest.mark.parametrize(
    "password", ["password1", "12345678", "qwertyuiop", "Passw0rd!", "radiology1", "medfuse2026", "hunter22"]
)
def test_a_password_that_is_soon_guessed_is_refused(home, password):
    from medfuse.library import Library
    from medfuse.library.accounts import add_account, list_accounts

    with pytest.raises(WrongUse, match="guessed"):
        add_account(Library(), "ari", password, "admin")
    assert not list_accounts(Library())


@pytest.mark.attack
def test_a_reader_adds_no_case(home, tmp_path):
    from slices import write_stack

    from medfuse.library import Library
    from medfuse.library.accounts import acting_as, add_account
    from medfuse.library.ingest import ingest
    from medfuse.library.worklist import worklist

    reader = add_account(Library(), "ro", "long enough", "reader")
    write_stack(tmp_path / "in", [(0, 0, 2.5 * k) for k in range(3)])
    with acting_as(reader), pytest.raises(WrongUse, match="may not"):
        ingest(Library(), tmp_path / "in")
    assert not worklist(Library())
