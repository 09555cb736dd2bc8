"""The two sockets of a gossip pool: packets and streams, on the same port (protocols/gossip.md section 3)."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator

from agent.world import errno_text
from core.errors import ConfigError

_BUFFER = 2 << 20  # bytes asked of the kernel for bursts, and for while this process has no processor
_LARGEST = 65536
_BACKLOG = 128
_MAPPED = "::ffff:"
_WILDCARDS = ("0.0.0.0", "::")
_IP_RECVERR, _IPV6_RECVERR, _MSG_ERRQUEUE = 11, 25, 0x2000  # <linux/in.h>, which Python does not name

Address = tuple[str, int]


class Sockets:
    """A bound UDP socket and a listening TCP socket."""

    def __init__(self, pool: str, host: str, port: int) -> None:
        """ConfigError when the address cannot be had. Port 0 takes any that is free for both."""
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.host = host
        self.streams = self._bound(pool, host, port, socket.SOCK_STREAM)
        try:
            self.port: int = self.streams.getsockname()[1]
            self.packets = self._bound(pool, host, self.port, socket.SOCK_DGRAM)
        except BaseException:
            self.streams.close()
            raise
        self.packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._hears_errors = sys.platform == "linux"
        if self._hears_errors:
            v6 = self.family == socket.AF_INET6
            level, option = (socket.IPPROTO_IPV6, _IPV6_RECVERR) if v6 else (socket.IPPROTO_IP, _IP_RECVERR)
            self.packets.setsockopt(level, option, 1)
        self.streams.listen(_BACKLOG)

    @property
    def reachable(self) -> socket.AddressFamily:
        """The family of addresses that packets can go to; none in particular from a socket for both."""
        return socket.AF_UNSPEC if self.host == "::" else self.family

    @property
    def source(self) -> str:
        """The address that our streams should come from, empty when the kernel chooses."""
        return "" if self.host in _WILDCARDS else self.host

    def close(self) -> None:
        self.packets.close()
        self.streams.close()

    def send(self, to: Address, packet: bytes) -> None:
        """Send a packet; one that cannot go is lost, as any may be on its way."""
        ip, port = to
        if self.family == socket.AF_INET6 and ":" not in ip:
            ip = _MAPPED + ip
        for _ in range(2):
            try:
                self.packets.sendto(packet, (ip, port))
            except OSError:  # perhaps the word about an earlier packet, and this one has not gone
                continue
            return

    def refusals(self) -> Iterator[Address]:
        """Where packets of ours went and nobody listens, as the hosts there said (ICMP)."""
        while self._hears_errors:
            try:
                _, facts, _, to = self.packets.recvmsg(0, 512, _MSG_ERRQUEUE)
            except OSError:  # no more of them
                return
            # Each fact is a struct sock_extended_err: it begins with the errno.
            numbers = [struct.unpack_from("=I", data)[0] for _, _, data in facts if len(data) >= 4]
            if errno.ECONNREFUSED in numbers:
                yield to[0].removeprefix(_MAPPED), to[1]

    def received(self, most: int) -> Iterator[tuple[Address, bytes]]:
        """The packets that have arrived, at most `most`."""
        receive = self.packets.recvfrom
        for _ in range(most):
            try:
                data, source = receive(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about an earlier packet of ours
                continue
            yield (source[0].removeprefix(_MAPPED), source[1]), data

    def is_own(self, ip: str, port: int, advertised: Address) -> bool:
        """Whether what is sent to `ip` and `port` comes back to us."""
        if (ip, port) == advertised or (ip, port) == (self.host, self.port):
            return True
        if port != self.port or self.host not in _WILDCARDS:
            return False
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((ip, 0))  # works for the addresses of this machine
            except OSError:
                return False
        return True

    def _bound(self, pool: str, host: str, port: int, kind: socket.SocketKind) -> socket.socket:
        name = "TCP" if kind == socket.SOCK_STREAM else "UDP"
        sock = socket.socket(self.family, kind)
        try:
            sock.setblocking(False)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            words = errno_text(error)
            raise ConfigError(
                f"Failed to start {pool.upper()} gossip: Failed to start {name} listener on "
                f'"{host}" port {port}: listen {name.lower()} {place}: bind: {words}'
            ) from None
        return sock
