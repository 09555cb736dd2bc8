"""One request and its answer over a connection of its own, bytes as they are."""

from __future__ import annotations

import http.client
import io
import socket
import zlib

from tests.compare.normal import Answer

_LONGEST = 4 << 20


class _Bytes(io.BytesIO):
    """What was received, as http.client wants to read it."""

    def makefile(self, mode: str) -> _Bytes:
        return self


def exchange(address: str, request: bytes, method: str, timeout: float = 15.0) -> Answer:
    """Status 0 with the reason as body when there is no answer that can be read."""
    try:
        with socket.create_connection((address, 8500), timeout) as conn:
            data = _received(conn, request)
        return _parsed(data, method)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, (), type(error).__name__.encode())


def _received(conn: socket.socket, request: bytes) -> bytes:
    try:
        conn.sendall(request)
        conn.shutdown(socket.SHUT_WR) if b"Connection: close" not in request else None
    except OSError:
        pass  # who refuses a long body hangs up before it has come
    data = b""
    try:
        while len(data) < _LONGEST:
            piece = conn.recv(1 << 16)
            if not piece:
                break
            data += piece
    except ConnectionResetError:
        if not data:
            raise
    return data


def _parsed(data: bytes, method: str) -> Answer:
    answer = http.client.HTTPResponse(_Bytes(data), method=method or "GET")  # type: ignore[arg-type]
    answer.begin()
    body = answer.read()
    if answer.getheader("Content-Encoding") == "gzip":
        body = zlib.decompress(body, 31)
    return Answer(answer.status, tuple(answer.getheaders()), body)
