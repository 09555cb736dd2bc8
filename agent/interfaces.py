"""The network interfaces of this machine, asked from the system without help of packages."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import socket
import sys

from core.config.addresses import Host
from core.config.sockaddr import Interface

_IFF_UP = 0x1
_BSD = sys.platform == "darwin" or "bsd" in sys.platform


class _Ifaddrs(ctypes.Structure):
    """`struct ifaddrs` of getifaddrs(3), as far as both Linux and the BSDs agree on it."""


_Ifaddrs._fields_ = [
    ("next", ctypes.POINTER(_Ifaddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("addr", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
]


def machine() -> Host:
    """This machine's interfaces that are up, and which one has the default route."""
    interfaces = _interfaces()
    return Host(interfaces, _default(interfaces))


def _interfaces() -> tuple[Interface, ...]:
    libc = ctypes.CDLL(None)  # the C library of this very process
    head = ctypes.POINTER(_Ifaddrs)()
    if libc.getifaddrs(ctypes.byref(head)) != 0:
        return ()
    found: dict[str, list[str]] = {}
    try:
        entry = head
        while entry:
            each = entry.contents
            if each.flags & _IFF_UP and each.addr:
                address = _address(each.addr)
                if address:
                    bits = bin(int(ipaddress.ip_address(_address(each.netmask) or "0.0.0.0"))).count("1")
                    found.setdefault(os.fsdecode(each.name), []).append(f"{address}/{bits}")
            entry = each.next
    finally:
        libc.freeifaddrs(head)
    return tuple(Interface(name, tuple(addresses)) for name, addresses in found.items())


def _address(pointer: int | None) -> str:
    """The IP address in a `struct sockaddr`, `` for other families."""
    if not pointer:
        return ""
    head = ctypes.string_at(pointer, 2)
    family = head[1] if _BSD else int.from_bytes(head, sys.byteorder)
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, ctypes.string_at(pointer + 4, 4))
    if family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, ctypes.string_at(pointer + 8, 16))
    return ""


def _default(interfaces: tuple[Interface, ...]) -> str:
    """The interface that packets to the world leave by. Connecting a datagram socket sends nothing."""
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((anywhere, 9))
            own = str(probe.getsockname()[0])
            for interface in interfaces:
                if any(address.rpartition("/")[0] == own for address in interface.addresses):
                    return interface.name
    return ""
