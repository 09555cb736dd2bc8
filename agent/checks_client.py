"""A small HTTP/1.1 client for checks: one request on one connection, parsed by httptools' C parser.

A new connection each time, as Consul does it: a check that lives on an old connection says nothing about
whether a new client could get one."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.parse import quote as percent_encode

import httptools
from msgspec import Struct

from agent.checks_net import NetError, host_port, is_numeric
from core.codec.duration import quote

_DEADLINE = "context deadline exceeded"
_HEAD_MAX = 1 << 20
_BODY_MAX = 8 << 20
"""A body is read to its end because its last bytes are the output; one that never ends stops here."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_URI_SAFE = "/%:@!$&'()*+,;=~-._?"
_AUTHORITY = re.compile(r"[^:/?#]+://(?:[^/?#]*@)?([^/?#]*)")
# Go takes brackets around any host, and programs put them around all addresses to be right for IPv6.
_BRACKETED = re.compile(r"^(\w+://(?:[^/?#@]*@)?)\[([\w.-]*)\](?=[:/?#]|$)")


class BadRequest(NetError):
    """No request can be made: of the URL or the method."""


class Response(Struct):
    """The head of a response. `complete`: the body came to its end."""

    code: int = 0
    reason: str = ""  # with the space before it, if there was one
    location: str | None = None
    complete: bool = False

    @property
    def status_text(self) -> str:
        """`200 OK`, as the server wrote it."""
        return f"{self.code}{self.reason}"


Connecting = Awaitable[tuple[asyncio.Transport, "Exchange"]]
Opener = Callable[[Callable[[], "Exchange"]], Connecting]


class Exchange(asyncio.Protocol):
    """One request and its response on one connection."""

    def __init__(self, request: bytes, head_only: bool, sink: Callable[[bytes], None]) -> None:
        self.response = Response()
        self.head_done = False
        self.error = ""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._head_only = head_only
        self._sink = sink
        self._parser = httptools.HttpResponseParser(self)
        self.connected = False
        self._first = b""
        self._head_size = 0
        self._body_size = 0
        self._framed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connected = True
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.done.done():
            return
        if not self.head_done:
            self._first = self._first or data[:128]
            self._head_size += len(data)
            if self._head_size > _HEAD_MAX:
                self._fail(f"net/http: server response headers exceeded {_HEAD_MAX} bytes; aborted")
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end(complete=True)
        except httptools.HttpParserError:
            self._malformed()

    def eof_received(self) -> None:
        self._lost("EOF")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.connected:  # else the handshake failed, and another address may be tried
            self._lost("read: connection reset by peer" if isinstance(exc, ConnectionResetError) else "EOF")

    def release(self) -> None:
        """The connection is gone. Lets go of the parser, which refers to us and we to it."""
        self._end(complete=False)
        del self._parser

    def _lost(self, why: str) -> None:
        if self.head_done:
            self._end(complete=not self._framed)  # a body without a length ends with the connection
        else:
            self._fail("unexpected EOF" if self._first and why == "EOF" else why)

    def _malformed(self) -> None:
        if self.head_done:  # broken chunks: the status stands, the rest of the body is lost
            self._end(complete=False)
            return
        self._fail(f"net/http: HTTP/1.x transport connection broken: {_malformation(self._first)}")

    def _fail(self, text: str) -> None:
        if not self.done.done():
            self.error = text
            self.done.set_result(None)

    def _end(self, complete: bool) -> None:
        if not self.done.done():
            self.response.complete = complete
            self.done.set_result(None)

    # httptools calls these, even for what comes after the end (the body of a 204)

    def on_message_begin(self) -> None:
        if not self.done.done():
            self.response = Response()
            self._framed = False

    def on_status(self, status: bytes) -> None:
        if not self.done.done():
            self.response.reason += status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if self.done.done():
            return
        if key == b"location":
            self.response.location = value.decode("latin-1")
        elif key in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        if self.done.done():
            return
        code = self._parser.get_status_code()
        self.response.code = code
        if self.response.reason or self._first.startswith((b"HTTP/1.1 %d " % code, b"HTTP/1.0 %d " % code)):
            self.response.reason = f" {self.response.reason}"
        if code >= 200 or code == 101:
            self.head_done = True
            if self._head_only:
                self._end(complete=True)

    def on_body(self, body: bytes) -> None:
        if self.done.done():
            return
        self._sink(body)
        self._body_size += len(body)
        if self._body_size > _BODY_MAX:
            self._end(complete=False)

    def on_message_complete(self) -> None:
        if self.head_done:
            self._end(complete=True)


def _malformation(data: bytes) -> str:
    """What is wrong with the first line of an answer, in Go's words."""
    line = data.partition(b"\n")[0].rstrip(b"\r").decode("latin-1")
    _, space, rest = line.partition(" ")
    code = rest.lstrip(" ").partition(" ")[0]
    if space and not (len(code) == 3 and code.isascii() and code.isdigit()):
        return f"malformed HTTP status code {quote(code)}"
    return f"malformed HTTP response {quote(line)}"


async def fetch(exchange: Exchange, opener: Opener, deadline: float, dialed: str = "") -> Response:
    """Run the exchange over a connection that `opener` makes (to `dialed`, if that is known), until the
    loop's time `deadline`. Time that runs out within the body ends the body; NetError (Go's text) if there
    is no head of a response."""
    try:
        async with asyncio.timeout_at(deadline):
            transport, _ = await opener(lambda: exchange)
            try:
                await exchange.done
            finally:
                transport.abort()
                exchange.release()
    except TimeoutError:
        if not exchange.head_done:
            why = f"dial tcp {dialed}: i/o timeout" if dialed and not exchange.connected else _DEADLINE
            raise NetError(f"{why} (Client.Timeout exceeded while awaiting headers)") from None
    if exchange.error:
        raise NetError(exchange.error)
    return exchange.response


class Target:
    """A URL taken apart for a request."""

    def __init__(self, url: str) -> None:
        """BadRequest if it is no URL, NetError if nothing can be asked of it."""
        host, port = host_and_port(url)
        try:
            parts = urlsplit(_BRACKETED.sub(r"\1\2", url))
        except ValueError as error:
            raise BadRequest(f"parse {quote(url)}: {error}") from error
        self.url = url
        self.shown = _without_password(url, parts)
        self._parts = parts
        if parts.scheme not in ("http", "https"):
            raise NetError(f"unsupported protocol scheme {quote(parts.scheme)}")
        if not parts.netloc.rpartition("@")[2]:
            raise NetError("http: no Host in request URL")
        if port and int(port) > 65535:
            raise NetError(f"dial tcp: address {port}: invalid port")
        self.host = host.lower()
        self.secure = parts.scheme == "https"
        self.port = int(port) if port else 443 if self.secure else 80
        self.authority = parts.netloc.rpartition("@")[2]
        path = percent_encode(parts.path or "/", _URI_SAFE)
        self.uri = f"{path}?{percent_encode(parts.query, _URI_SAFE)}" if parts.query else path

    def credentials(self) -> str:
        """The Authorization header that `user:password@` in the URL asks for; empty without."""
        if self._parts.username is None:
            return ""
        pair = f"{unquote(self._parts.username)}:{unquote(self._parts.password or '')}"
        return "Basic " + b64encode(pair.encode()).decode()

    @property
    def dialed(self) -> str:
        """The one address that is connected to, "" if there may be several or TLS takes time, too."""
        return "" if self.secure or not is_numeric(self.host) else host_port(self.host, self.port)


def host_and_port(url: str) -> tuple[str, str]:
    """The host and the digits of the port of a URL. BadRequest, with Go's text, if it has none such."""
    if url.startswith(":"):
        raise BadRequest(f"parse {quote(url)}: missing protocol scheme")
    found = _AUTHORITY.match(url)
    text = found[1] if found else ""
    host, colon, port = text.rpartition(":") if ":" in text else (text, "", "")
    if text.startswith("["):
        inner, bracket, behind = text[1:].partition("]")
        if not bracket:
            raise BadRequest(f"parse {quote(url)}: missing ']' in host")
        host, colon, port = inner, behind[:1], behind[1:]
    if port and not (colon == ":" and port.isascii() and port.isdigit()):
        raise BadRequest(f"parse {quote(url)}: invalid port {quote(colon + port)} after host")
    return host, port


def build_request(
    method: str, target: Target, headers: list[tuple[str, str]], host: str, body: bytes
) -> bytes:
    """The bytes of a request; BadRequest if the method, NetError if a header cannot be sent."""
    if not _TOKEN.fullmatch(method):
        raise BadRequest(f"net/http: invalid method {quote(method)}")
    lines = [f"{method} {target.uri} HTTP/1.1"]
    for name, value in [("Host", host or target.authority), *headers]:
        if not _TOKEN.fullmatch(name):
            raise NetError(f"net/http: invalid header field name {quote(name)}")
        if _CONTROL.search(value):
            raise NetError(f"net/http: invalid header field value for {quote(name)}")
        lines.append(f"{name}: {value}")
    lines.append("Connection: close")
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _without_password(url: str, parts: SplitResult) -> str:
    """The URL for people, as Go shows it."""
    if parts.password is None:
        return url
    user_info, _, authority = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user_info.partition(':')[0]}:***@{authority}"))
