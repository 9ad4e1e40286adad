"""What the web server lets in: requests under names that it knows, from pages of its own; and what it tells
browsers to keep out.

A page of somebody else's that points its own name at this machine (DNS rebinding) sends that name as Host;
one that opens a connection across sites sends its own Origin. Neither gets an answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.viewer.browsers import browsers
from apps.viewer.seats import cookie_name, seats

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERY = ("0.0.0.0", "::")  # addresses that mean all of this machine's
HOSTS = "MEDFUSE_VIEWER_HOSTS"  # environment: the names that people use for the viewer, with commas between
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
# Streamlit draws charts by generated code and images from data and blobs; nothing comes from elsewhere, and
# no other page may hold this one in a frame
POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "media-src 'self' data: blob:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def name_in(host: str) -> str:
    """The name in a Host header or an Origin, without scheme and port; "" where it holds none."""
    try:
        return (urlsplit(host if "//" in host else f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def on_this_machine(headers: Mapping[str, str]) -> bool:
    """Whether a request came from this machine's own browser: it names a loopback address, and no proxy
    stands between. Where only loopback is bound, strangers can come through a proxy alone."""
    low = {k.lower(): v for k, v in headers.items()}
    return name_in(low.get("host", "localhost")) in LOOPBACK and not any(k in low for k in FORWARDED)


@dataclass(frozen=True, kw_only=True)
class Known:
    """Names under which this server is asked for; ``any_address``: its machine's addresses as numbers too.
    ``stated``: those of the names that its user stated."""

    names: frozenset[str]
    any_address: bool
    stated: frozenset[str] = frozenset()

    @classmethod
    def of(cls, address: str, hosts: str) -> Known:
        """From the address that it is bound to, and the names that its user stated."""
        stated = {h.strip().lower() for h in hosts.split(",") if h.strip()}
        own = {address.lower()} - {"", *EVERY}
        return cls(
            names=frozenset({*LOOPBACK, *own, *stated}),
            any_address=address in EVERY,
            stated=frozenset(stated),
        )

    def holds(self, host: str) -> bool:
        """Whether a Host or Origin is one of them."""
        name = name_in(host)
        if name in self.names:
            return True
        try:
            return self.any_address and ip_address(name) is not None
        except ValueError:
            return False

    def own_page(self, origin: str, host: str) -> bool:
        """Whether a page that calls is of this server: from the address that it calls, or under a stated name
        (a proxy may call under another). Another server of the same machine is not this one."""
        return name_in(origin) in self.stated or _same_server(origin, host)


def _same_server(origin: str, host: str) -> bool:
    """Whether an Origin has the name and port of a Host; a proxy may leave the port out there."""
    try:
        page, asked = urlsplit(origin), urlsplit(f"//{host}")
        port = page.port or {"http": 80, "https": 443}.get(page.scheme)
        return name_in(origin) == name_in(host) != "" and asked.port in (None, port)
    except ValueError:
        return False


class Guard:
    """Middleware around everything that is served. ``may_look``: whether somebody is signed in at the browser
    with this word."""

    def __init__(
        self,
        app: ASGIApp,
        address: str,
        port: object = "",
        may_look: Callable[[str], bool] = lambda word: False,
    ) -> None:
        self.app = app
        self.may_look = may_look
        self.alone = (address or "localhost") in LOOPBACK
        self.cookie = cookie_name(port)
        self.known = Known.of(address, os.environ.get(HOSTS, ""))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or websocket, by the ASGI protocol."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        host = headers.get("host", "")
        if not self.known.holds(host) or (origin and not self.known.own_page(origin, host)):
            await self._refuse(scope, receive, send)
            return

        word = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        if scope["type"] == "websocket":
            scope = _own_session_only(scope, headers, word)
        elif not may_fetch(scope["path"], word) or not await self._may_load(scope["path"], headers, word):
            await PlainTextResponse("not found\n", status_code=404)(scope, receive, send)
            return
        cookie = self._new_cookie(scope, headers)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    told[name] = value
                if cookie:
                    told.append("Set-Cookie", cookie)
            await send(message)

        await self.app(scope, receive, with_headers)

    async def _may_load(self, path: str, headers: Headers, word: str) -> bool:
        """Files go to the server, and what a page handed out comes from it, for who may look alone: a page
        that asks for a password is a session too. The icon of that page is a picture."""
        top, _, name = path.strip("/").partition("/")
        loads = name.startswith("upload_file") or (top == "media" and not name.endswith(".png"))
        if not loads or (self.alone and on_this_machine(headers)):
            return True
        return await run_in_threadpool(self.may_look, word)

    def _new_cookie(self, scope: Scope, headers: Headers) -> str:
        """What names a browser that asks for a page and has no name yet; "" for any other request."""
        if scope["type"] != "http" or "text/html" not in headers.get("accept", ""):
            return ""
        if seats.knows(cookie_parser(headers.get("cookie", "")).get(self.cookie, "")):
            return ""
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        return f"{self.cookie}={seats.new_browser()}; Path=/; HttpOnly; SameSite=Lax{secure}"

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        told = f"this name or page is not known here; state it in {HOSTS}\n"
        await PlainTextResponse(told, status_code=403)(scope, receive, send)


def _own_session_only(scope: Scope, headers: Headers, word: str) -> Scope:
    """The third part of Sec-WebSocket-Protocol asks for a session to come back to: taken out where that is
    another browser's, so that a new one begins."""
    parts = [p.strip() for p in headers.get("sec-websocket-protocol", "").split(",")]
    if len(parts) < 3 or browsers.owns(parts[2], word):
        return scope
    kept = ", ".join(parts[:2])
    others = [(k, v) for k, v in scope["headers"] if k.lower() != b"sec-websocket-protocol"]
    return {
        **scope,
        "headers": [*others, (b"sec-websocket-protocol", kept.encode("latin-1"))],
        "subprotocols": parts[:2],
    }


def may_fetch(path: str, word: str) -> bool:
    """Uploads go into a session of the same browser; what a session handed out is for browsers with one.
    Streamlit's way for programs, which no cookie binds, is closed also where its setting opens it."""
    parts = path.strip("/").split("/")
    if parts[:2] == ["_stcore", "agent"]:
        return False
    if parts[:2] == ["_stcore", "upload_file"]:
        return len(parts) > 2 and browsers.owns(parts[2], word)
    return parts[0] != "media" or browsers.knows(word)
