"""Whom to join: addresses as people write them, names looked up anew each time (design: pains row 12)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import NamedTuple


class Target(NamedTuple):
    """Where to join: an address, and the name of the node there if it was given."""

    name: str
    ip: str
    port: int


class Unresolved(Exception):
    """No address was found for what was to be joined; the text is for the one who asked."""


def split(address: str, port: int) -> tuple[str, str, int]:
    """Name, host and port of `host`, `host:port`, `name/host:port`, `[ipv6]:port` or `ipv6`. Unresolved."""
    name, _, place = address.rpartition("/")
    host, colon, text = place.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")) or place.endswith("]"):
        host, text = place, ""
    if text and not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise Unresolved(f"Failed to resolve {address}: invalid port {text!r}")
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise Unresolved(f"Failed to resolve {address}: missing address")
    return name, host, int(text) if text else port


async def resolve(address: str, port: int, family: socket.AddressFamily) -> list[Target]:
    """Every address that `address` stands for; `port` unless it names one. Unresolved.

    `family` is the one of the pool's own socket: members of another one cannot be reached from it."""
    name, host, port = split(address, port)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = "no such host" if _is_unknown(error) else str(error)
        raise Unresolved(f"Failed to resolve {address}: lookup {host}: {why}") from None
    return list(dict.fromkeys(Target(name, str(target[0]), int(target[1])) for *_, target in found))


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, socket.gaierror) and error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)


def report(errors: Sequence[str]) -> str:
    """Several errors as Consul lists them."""
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    return f"{count} occurred:\n\t* " + "\n\t* ".join(errors) + "\n\n"
