"""Checks that speak HTTP/2: gRPC health (grpc.health.v1.Health/Check) and H2PING.

The two protobuf messages of the health protocol have one field each, so they are read and written here."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from agent.checks_net import Dialer, NetError, TlsOptions, split_address
from core.codec.duration import quote
from core.node.checks import Result
from core.node.definitions import CheckDefinition
from core.store.structs import CRITICAL, PASSING

_CODES = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)
_SERVING = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_KNOWN_HTTP = {str(int(code)) for code in HTTPStatus}
_FROM_HTTP = {"400": 13, "401": 16, "403": 7, "404": 12, "429": 14, "502": 14, "503": 14, "504": 14}
"""gRPC codes of HTTP statuses (gRPC's http-grpc-status-mapping); others are Unknown."""

_NO_CONNECTION = "all SubConns are in TransientFailure, latest connection error: "
_MESSAGE_MAX = 64 * 1024
_PING = b"ctlcheck"


class _Client(asyncio.Protocol):
    """An HTTP/2 connection of our own to one server. `done` is set when the answer is complete or
    cannot come any more (`error` says why)."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error = ""
        self.connected = False  # it has answered in HTTP/2
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._h2.initiate_connection()
        self.ask()
        self._flush()

    def ask(self) -> None:
        """Send what is to be answered."""
        raise NotImplementedError

    def answer(self, event: Event) -> None:
        """Take one event of the answer."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        if self.done.done():
            return
        try:
            events = self._h2.receive_data(data)
        except (ProtocolError, UnicodeDecodeError) as error:
            self.fail(str(error) or "protocol error")
            return
        self.connected = self.connected or bool(events)
        for event in events:
            if isinstance(event, ConnectionTerminated):
                self.fail(f"connection closed by the server: error code {event.error_code}")
            else:
                self.answer(event)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:  # else the handshake failed, and another address may be tried
            self.fail("transport is closing")

    def fail(self, why: str) -> None:
        """There will be no answer."""
        if not self.done.done():
            self.error = why
            self.done.set_result(None)

    def finish(self) -> None:
        """The answer is complete."""
        if not self.done.done():
            self.done.set_result(None)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)


class _Ping(_Client):
    def ask(self) -> None:
        self._h2.ping(_PING)

    def answer(self, event: Event) -> None:
        if isinstance(event, PingAckReceived) and event.ping_data == _PING:
            self.finish()


class _Health(_Client):
    """One call of grpc.health.v1.Health/Check."""

    def __init__(self, authority: str, service: str, scheme: str, timeout: float) -> None:
        super().__init__()
        self.headers: dict[str, str] = {}
        self.body = b""
        self._service = service
        self._request = [
            (":method", "POST"),
            (":scheme", scheme),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("user-agent", "ctl"),
            ("te", "trailers"),
            ("grpc-timeout", f"{max(1, min(int(timeout * 1000), 99_999_999))}m"),
        ]

    def ask(self) -> None:
        message = health_request(self._service)
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, self._request)
        self._h2.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)

    def answer(self, event: Event) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            self.headers.update((str(name), str(value)) for name, value in event.headers or ())
        elif isinstance(event, DataReceived):
            self.body += event.data or b""
            if len(self.body) > _MESSAGE_MAX:
                self.fail("the answer is too long")
        elif isinstance(event, StreamReset):
            self.fail(f"stream terminated by RST_STREAM with error code: {event.error_code}")
        elif isinstance(event, StreamEnded):
            self.finish()


class GrpcProbe:
    """Passes when the server says SERVING of itself, or of the service after the slash."""

    def __init__(self, definition: CheckDefinition, dialer: Dialer, timeout: float) -> None:
        self._target = definition.grpc
        self._address, _, self._service = definition.grpc.partition("/")
        self._tls = (
            TlsOptions(definition.tls_skip_verify, definition.tls_server_name)
            if definition.grpc_use_tls
            else None
        )
        self._dialer = dialer
        self._timeout = timeout

    async def run(self) -> Result:
        """Ask once."""
        scheme = "https" if self._tls else "http"
        call = _Health(self._address, self._service, scheme, self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                await _converse(self._dialer, self._address, call, self._tls)
        except TimeoutError:
            return Result(CRITICAL, _rpc_error(4, "context deadline exceeded"))
        except NetError as error:
            what = (
                "Error while dialing"
                if str(error).startswith("dial ")
                else "authentication handshake failed:"
            )
            inner = quote(f"transport: {what} {error}")
            return Result(CRITICAL, _rpc_error(14, f"{_NO_CONNECTION}connection error: desc = {inner}"))
        if call.error:
            text = call.error if call.connected else f"{_NO_CONNECTION}connection closed"
            return Result(CRITICAL, _rpc_error(14, text))
        return self._judge(call)

    def _judge(self, call: _Health) -> Result:
        http, status = call.headers.get(":status", ""), call.headers.get("grpc-status")
        if status is None and http != "200":
            phrase = HTTPStatus(int(http)).phrase if http in _KNOWN_HTTP else ""
            text = f"unexpected HTTP status code received from server: {http} ({phrase})"
            return Result(CRITICAL, _rpc_error(_FROM_HTTP.get(http, 2), text))
        if status != "0":
            code = int(status) if status is not None and status.isascii() and status.isdigit() else 2
            return Result(CRITICAL, _rpc_error(code, unquote(call.headers.get("grpc-message", ""))))
        try:
            serving = health_status(call.body)
        except ValueError as error:
            return Result(CRITICAL, _rpc_error(13, str(error)))
        if serving != "SERVING":
            return Result(CRITICAL, f"gRPC {self._target} serving status: {serving}")
        return Result(PASSING, f"gRPC check {self._target}: success")


class H2PingProbe:
    """Passes when the server answers an HTTP/2 PING."""

    def __init__(self, definition: CheckDefinition, dialer: Dialer, timeout: float) -> None:
        self._target = definition.h2ping
        self._tls = (
            TlsOptions(definition.tls_skip_verify, definition.tls_server_name)
            if definition.h2ping_use_tls
            else None
        )
        self._dialer = dialer
        self._timeout = timeout

    async def run(self) -> Result:
        """Ping once."""
        ping = _Ping()
        try:
            async with asyncio.timeout(self._timeout):
                await _converse(self._dialer, self._target, ping, self._tls)
        except TimeoutError:
            return Result(CRITICAL, "HTTP2 ping failed: context deadline exceeded")
        except NetError as error:
            return Result(CRITICAL, f"Failed to dial to {self._target}: {error}")
        if ping.error:
            return Result(CRITICAL, f"HTTP2 ping failed: {ping.error}")
        return Result(PASSING, "HTTP2 ping was successful")


async def _converse(dialer: Dialer, address: str, client: _Client, tls: TlsOptions | None) -> None:
    host, port = split_address(address)
    transport, _ = await dialer.connect(host, port, lambda: client, tls, http2=True)
    try:
        await client.done
    finally:
        transport.abort()


def _rpc_error(code: int, text: str) -> str:
    name = _CODES[code] if code < len(_CODES) else f"Code({code})"
    return f"rpc error: code = {name} desc = {text}"


def health_request(service: str) -> bytes:
    """A HealthCheckRequest: field 1, the service name, absent when empty."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def health_status(body: bytes) -> str:
    """The serving status in a gRPC frame with a HealthCheckResponse: field 1, an enum, 0 when absent.
    ValueError if it is none."""
    if len(body) < 5:
        raise ValueError("the answer has no message")
    if body[0]:
        raise ValueError("the answer is compressed, which was not asked for")
    message = body[5 : 5 + int.from_bytes(body[1:5], "big")]
    status, at = 0, 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _read_varint(message, at)
            if tag >> 3 == 1:
                status = value
        elif wire == 2:
            size, at = _read_varint(message, at)
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("the answer is not a health status")
    return _SERVING[status] if status < len(_SERVING) else str(status)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, at
    raise ValueError("the answer is not a health status")
