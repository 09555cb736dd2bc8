"""Joining a cluster. Agents do not gossip yet: an agent can join itself, and every other address gets
the error that says what is in the way."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from core.errors import Unavailable

if TYPE_CHECKING:
    from agent.agent import Agent

_DIAL_SECONDS = 10.0


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


async def join(agent: Agent, address: str, wan: bool) -> None:
    """Contact `host[:port]`. Unavailable with Consul's text when that fails."""
    host, port = _split(address, agent.config["ports.serf_wan" if wan else "ports.serf_lan"])
    loop = asyncio.get_running_loop()
    try:
        if not host:
            raise socket.gaierror(socket.EAI_NONAME, "missing address")
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise Unavailable(f"1 error occurred:\n\t* Failed to resolve {address}: {error}\n\n") from None
    errors: list[str] = []
    for _, _, _, _, target in found:
        ip = str(target[0])
        if (
            ip in _own(agent, wan)
            and target[1] == agent.config["ports.serf_wan" if wan else "ports.serf_lan"]
        ):
            return
        errors.append(f"Failed to join {ip}: {await _why_not(ip, int(target[1]))}")
    raise Unavailable(
        f"{len(errors)} error{'s' * (len(errors) > 1)} occurred:\n\t* " + "\n\t* ".join(errors) + "\n\n"
    )


def _split(address: str, port: int) -> tuple[str, int]:
    host, colon, text = address.rpartition(":")
    if colon and text.isdigit() and (":" not in host or host.endswith("]")):
        return host.strip("[]"), int(text)
    return address.strip("[]"), port


def _own(agent: Agent, wan: bool) -> tuple[str, ...]:
    addresses = agent.addresses
    return (addresses.serf_wan, addresses.advertise_wan) if wan else (addresses.serf_lan, addresses.advertise)


async def _why_not(ip: str, port: int) -> str:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(ip, port), _DIAL_SECONDS)
    except TimeoutError:
        return f"dial tcp {ip}:{port}: i/o timeout"
    except OSError as error:
        words = os.strerror(error.errno).lower() if error.errno else str(error)
        return f"dial tcp {ip}:{port}: connect: {words}"
    writer.close()
    return "this version of ctl is a single agent and cannot join another one"
