"""How `ctl doctor` knocks at doors: gossip by UDP and TCP, RPC plain and within TLS. Plain sockets, each
with a time limit; nothing that is sent changes anything."""

from __future__ import annotations

import random
import socket
import ssl
import time
from typing import NamedTuple

from cli.client import error_text
from core.certs import CertificateError, Facts, facts
from core.codec import msgpack
from core.codec.msgpack import DecodeError
from core.gossip import messages
from core.gossip.keyring import Keyring
from core.gossip.messages import Ack, IndirectPing, Ping
from core.gossip.packet import Envelope, open_message
from core.gossip.settings import LAN
from core.gossip.streams import Inbound

PATIENCE = 2.0  # seconds for one answer
_RPC_SINGLE, _RPC_TLS = b"\x00", b"\x03"  # protocols/rpc.md section 1


class Rpc(NamedTuple):
    """How an attempt to call a server ended. `failed` is empty when it was answered."""

    failed: str = ""  # dial, closed, timeout, verify, alert, tls, reply
    detail: str = ""
    certificate: Facts | None = None
    seconds: float = 0.0


def envelope(keys: list[bytes]) -> Envelope:
    """Seals and opens gossip as the agent's pool does."""
    return Envelope(LAN, Keyring(keys) if keys else None, random.SystemRandom())


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def can_bind(address: str) -> bool:
    """Whether an address is one of this machine."""
    with socket.socket(family_of(address)) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True


def remedy(problem: str, otherwise: str) -> str:
    """What to do about a port that does not answer: one that refuses is reached, and nobody is there."""
    if "refused" not in problem:
        return otherwise
    return "nothing listens there: start that agent, or see in its log which addresses it listens on"


def tcp(address: str, port: int) -> str:
    """Why a TCP connection cannot be made, `` when it can."""
    try:
        socket.create_connection((address, port), PATIENCE).close()
    except OSError as error:
        return error_text(error)
    return ""


def ping(address: str, port: int, node: str, seal: Envelope) -> float | str:
    """Seconds until a member answers a ping by UDP, or why it does not."""
    sequence = random.randrange(1, 1 << 31)
    message = messages.encode_ping(Ping(sequence, node))
    return _udp(address, port, seal.seal_packet(message), sequence, seal)


def ping_through(through: tuple[str, int], target: tuple[str, int], node: str, seal: Envelope) -> float | str:
    """Seconds until the member at `through` says that `node` at `target` has answered its ping; else why
    not. This is how a path is tried that does not begin here (protocols/gossip.md, indirect pings)."""
    sequence = random.randrange(1, 1 << 31)
    request = IndirectPing(sequence, target[0], target[1], node, nack=True)
    return _udp(*through, seal.seal_packet(messages.encode_indirect_ping(request)), sequence, seal)


def _udp(address: str, port: int, packet: bytes, sequence: int, seal: Envelope) -> float | str:
    """Send up to three times, since packets get lost, and wait for the ack."""
    start = time.monotonic()
    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
            sock.connect((address, port))
            for attempt in range(1, 4):
                sock.send(packet)
                limit = start + attempt * PATIENCE / 3
                while (left := limit - time.monotonic()) > 0:
                    sock.settimeout(left)
                    try:
                        answer = sock.recv(65536)
                    except TimeoutError:
                        break
                    said = _answer(answer, sequence, seal)
                    if said is not None:
                        return said or time.monotonic() - start
    except OSError as error:
        return error_text(error)
    return "no answer"


def _answer(packet: bytes, sequence: int, seal: Envelope) -> str | None:
    """`` for our ack, words for our nack, None for what is not for us."""
    try:
        for message in open_message(seal.open_packet(packet))[0]:
            if message[0] == messages.ACK and messages.ack_of(messages.fields_of(message)).seq == sequence:
                return ""
            if message[0] == messages.NACK and messages.nack_of(messages.fields_of(message)).seq == sequence:
                return "no answer"
    except (DecodeError, IndexError):
        return None
    return None


def stream_ping(address: str, port: int, node: str, seal: Envelope) -> float | str:
    """Seconds until a member answers a ping over TCP, which shows that data passes both ways; else why."""
    sequence = random.randrange(1, 1 << 31)
    start = time.monotonic()
    parser = Inbound(seal)
    try:
        with socket.create_connection((address, port), PATIENCE) as sock:
            sock.sendall(seal.seal_stream(messages.encode_ping(Ping(sequence, node))))
            while True:
                data = sock.recv(65536)
                if not data:
                    return "the connection was closed without an answer"
                found = parser.feed(data)
                if isinstance(found, Ack) and found.seq == sequence:
                    return time.monotonic() - start
                if found is not None:
                    return f"it answered {found}"
    except DecodeError as error:
        return str(error)
    except OSError as error:
        return error_text(error)


def call_plain(address: str, port: int) -> Rpc:
    """Status.Ping without TLS."""
    start = time.monotonic()
    try:
        sock = socket.create_connection((address, port), PATIENCE)
    except OSError as error:
        return Rpc("dial", error_text(error))
    with sock:
        return _status_ping(sock, _RPC_SINGLE, start)


def call_tls(address: str, port: int, context: ssl.SSLContext, name: str) -> Rpc:
    """Status.Ping within TLS; `name` is checked when the context says so."""
    start = time.monotonic()
    try:
        sock = socket.create_connection((address, port), PATIENCE)
    except OSError as error:
        return Rpc("dial", error_text(error))
    try:
        with sock:
            sock.sendall(_RPC_TLS)
            with context.wrap_socket(sock, server_hostname=name or None) as secure:
                found = _peer(secure)
                return _status_ping(secure, _RPC_SINGLE, start)._replace(certificate=found)
    except ssl.SSLCertVerificationError as error:
        return Rpc("verify", error.verify_message)
    except ssl.SSLEOFError:
        return Rpc("closed", "it closed the connection during the TLS handshake")
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        return Rpc("alert" if "ALERT" in reason else "tls", reason.replace("_", " ").lower())
    except TimeoutError:
        return Rpc("timeout", "it does not go on with the TLS handshake")
    except OSError as error:
        return Rpc("closed", error_text(error))


def certificate_of(address: str, port: int, context: ssl.SSLContext) -> Facts | None:
    """What a server shows as its certificate, whether it can be trusted or not."""
    try:
        with socket.create_connection((address, port), PATIENCE) as sock:
            sock.sendall(_RPC_TLS)
            with context.wrap_socket(sock) as secure:
                return _peer(secure)
    except OSError:
        return None


def _peer(secure: ssl.SSLSocket) -> Facts | None:
    der = secure.getpeercert(binary_form=True)
    if not der:
        return None
    try:
        return facts(ssl.DER_cert_to_PEM_cert(der).encode())
    except CertificateError:
        return None


def _status_ping(sock: socket.socket, first: bytes, start: float) -> Rpc:
    """One call over a connection that begins with `first` (protocols/rpc.md section 3)."""
    header = msgpack.encode({"Seq": 1, "ServiceMethod": "Status.Ping"})
    sock.settimeout(PATIENCE)
    try:
        sock.sendall(first + header + msgpack.encode({}))
        data = b""
        while True:
            piece = sock.recv(4096)
            if not piece:
                return Rpc("closed", "it closed the connection without an answer")
            data += piece
            try:
                answer = msgpack.Reader(data).value()
            except DecodeError:
                continue  # not all of it yet
            error = answer.get(b"Error", b"") if isinstance(answer, dict) else b"not a reply"
            if error:
                return Rpc("reply", bytes(error).decode("utf-8", "replace"))
            return Rpc(seconds=time.monotonic() - start)
    except TimeoutError:
        return Rpc("timeout", "no answer")
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        return Rpc("alert" if "ALERT" in reason else "tls", reason.replace("_", " ").lower())
    except OSError as error:
        return Rpc("closed", error_text(error))
