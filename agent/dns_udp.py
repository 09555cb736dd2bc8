"""One UDP socket of the DNS interface: a non-blocking socket that is emptied in one go per wake.

This is the hot path of name lookups: a remembered answer costs two system calls and one dictionary
look-up, and touches no object of the DNS rooms."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from agent.dns_memory import Answer, Packets

_DATAGRAMS = 64  # per wake, then others have their turn
_LARGEST = 4096  # a longer request is cut, and then is broken
_BUFFER = 1 << 20  # bytes in the kernel for bursts
_TURN = 0.005  # seconds after which a wake ends early

_IP_PKTINFO = 8  # linux/in.h; the socket module has no name for it
_PKTINFO = struct.Struct("=I4s4s")
_WILDCARDS = ("0.0.0.0", "::")

Send = Callable[[bytes], None]


class Answers(Protocol):
    """What a listener asks of the server."""

    udp_packets: Packets

    def pick(self, answer: Answer, now: float) -> bytes: ...

    def respond(self, data: bytes, udp: bool, send: Send, client: str) -> None: ...

    def took(self, seconds: float, questions: int) -> None: ...


class UdpListener:
    """Reads questions from `sock` and sends back what `answers` has, until `close`."""

    def __init__(self, sock: socket.socket, answers: Answers, loop: asyncio.AbstractEventLoop) -> None:
        self._sock = sock
        self._answers = answers
        self._loop = loop
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        wildcard = sock.getsockname()[0] in _WILDCARDS
        if wildcard:
            _tell_destination(sock)
        loop.add_reader(sock.fileno(), self._drain_wildcard if wildcard else self._drain)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()[:2]
        return host, port

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _drain(self) -> None:
        answers, receive, send = self._answers, self._sock.recvfrom, self._sock.sendto
        began = now = perf_counter()
        count = 0
        while count < _DATAGRAMS:
            try:
                data, peer = receive(_LARGEST)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error about an earlier answer
                count += 1
                continue
            count += 1
            answer = answers.udp_packets.young.get(data[2:])
            if answer is None or answer.watch.fired:
                answers.respond(data, True, self._sender(peer), peer[0])
                if perf_counter() - began > _TURN:
                    break
                continue
            message = answer.messages[0] if answer.make is None else answers.pick(answer, now)
            with contextlib.suppress(OSError):  # full send buffer, unreachable client: lost, as UDP may
                send(data[:2] + message, peer)
        answers.took(perf_counter() - began, count)

    def _sender(self, peer: Any) -> Send:
        def send(message: bytes) -> None:
            if message:
                with contextlib.suppress(OSError):
                    self._sock.sendto(message, peer)

        return send

    def _drain_wildcard(self) -> None:
        """The same for a socket on all addresses: an answer must leave from the address that was asked,
        or the client throws it away."""
        began = perf_counter()
        count = 0
        while count < _DATAGRAMS and perf_counter() - began < _TURN:
            try:
                data, ancillary, _, peer = self._sock.recvmsg(_LARGEST, 128)
            except BlockingIOError:
                break
            except OSError:
                count += 1
                continue
            count += 1
            send = self._sender_from(peer, _from_there(ancillary))
            answer = self._answers.udp_packets.young.get(data[2:])
            if answer is None or answer.watch.fired:
                self._answers.respond(data, True, send, peer[0])
            else:
                send(data[:2] + self._answers.pick(answer, began))
        self._answers.took(perf_counter() - began, count)

    def _sender_from(self, peer: Any, ancillary: list[tuple[int, int, bytes]]) -> Send:
        def send(message: bytes) -> None:
            if message:
                with contextlib.suppress(OSError):
                    self._sock.sendmsg([message], ancillary, 0, peer)

        return send


def _tell_destination(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _from_there(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Control messages that make an answer leave from where its question came in (ip(7), ipv6(7))."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return [(level, kind, data)]
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= _PKTINFO.size:
            _, local, _ = _PKTINFO.unpack_from(data)
            return [(level, kind, _PKTINFO.pack(0, local, b"\0\0\0\0"))]
    return []
