"""Small servers for checks to look at: HTTP told byte by byte, HTTP/2, a Docker engine, certificates."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Http:
    """Reads one request a connection, hands it to the handler, hangs up. Remembers the requests."""

    def __init__(self, handler: Handler) -> None:
        self.requests: list[bytes] = []
        self.port = 0
        self.open = 0
        self._handler = handler

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            request = await reader.readuntil(b"\r\n\r\n")
            for line in request.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    request += await reader.readexactly(int(line.split(b":")[1]))
            self.requests.append(request)
            await self._handler(request, writer)
            await writer.drain()
        self.open -= 1
        writer.close()


def fixed(response: bytes) -> Handler:
    """Always the same bytes."""

    async def handler(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(response)

    return handler


@contextlib.asynccontextmanager
async def http_server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Http]:
    """An HTTP server on a free port of 127.0.0.1."""
    http = Http(handler)
    server = await asyncio.start_server(http, "127.0.0.1", 0, ssl=tls)
    http.port = server.sockets[0].getsockname()[1]
    try:
        yield http
    finally:
        server.close()


def certificate(folder: Path, name: str = "localhost", days: int = 2) -> tuple[ssl.SSLContext, Path]:
    """A server context with a self-signed certificate for `name`, and the certificate's file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - datetime.timedelta(days=10))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    return context, cert_file


Answer = Callable[[H2Connection, int, dict[str, str], bytes], None]


@contextlib.asynccontextmanager
async def h2_server(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """An HTTP/2 server; `answer` gets each whole request. Yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        heads: dict[int, dict[str, str]] = {}
        bodies: dict[int, bytes] = {}
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.write(connection.data_to_send())
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, RequestReceived):
                        heads[event.stream_id] = dict(event.headers)  # type: ignore[arg-type]
                        bodies[event.stream_id] = b""
                    elif isinstance(event, DataReceived):
                        bodies[event.stream_id] += event.data
                    elif isinstance(event, StreamEnded):
                        answer(connection, event.stream_id, heads[event.stream_id], bodies[event.stream_id])
                writer.write(connection.data_to_send())
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Docker:
    """A Docker engine with one container `web`. `script` decides what a command does."""

    def __init__(self) -> None:
        self.execs: dict[str, dict[str, Any]] = {}
        self.output: list[tuple[int, bytes]] = [(1, b"fine\n")]
        self.exit_code = 0
        self.hang = False
        self.broken = b""
        self.running_for = 0

    async def handler(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        method, path = head.split(b" ")[:2]
        if self.broken:
            writer.write(self.broken)
        elif path == b"/containers/web/exec" and method == b"POST":
            exec_id = f"exec{len(self.execs)}"
            self.execs[exec_id] = {"cmd": json.loads(body)["Cmd"], "running": 0}
            self._json(writer, 201, {"Id": exec_id})
        elif path == b"/containers/paused/exec":
            self._json(writer, 409, {"message": "paused"})
        elif path.endswith(b"/start"):
            await self._start(path.split(b"/")[2].decode(), writer)
        elif path.endswith(b"/json"):
            state = self.execs[path.split(b"/")[2].decode()]
            running = state["running"] > 0
            state["running"] -= 1
            code = None if running else self.exit_code
            self._json(writer, 200, {"ID": "x", "Running": running, "ExitCode": code, "Pid": 7})
        else:
            self._json(writer, 404, {"message": "No such container"})

    async def _start(self, exec_id: str, writer: asyncio.StreamWriter) -> None:
        self.execs[exec_id]["running"] = self.running_for
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n")
        for stream, data in self.output:
            frame = bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data
            for at in range(0, len(frame), 3000):
                writer.write(frame[at : at + 3000])
                await writer.drain()
        if self.hang:
            await asyncio.sleep(60)

    @staticmethod
    def _json(writer: asyncio.StreamWriter, code: int, body: Any) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)


@contextlib.asynccontextmanager
async def docker_engine(path: Path) -> AsyncIterator[Docker]:
    """A Docker engine on a Unix socket."""
    docker = Docker()
    server = await asyncio.start_unix_server(Http(docker.handler), path)
    try:
        yield docker
    finally:
        server.close()
