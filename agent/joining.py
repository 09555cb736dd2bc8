"""Joining a cluster. Agents do not gossip yet: an agent can join itself, and every other address gets
the error that says what is in the way."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from core.errors import Unavailable

if TYPE_CHECKING:
    from agent.agent import Agent

_DIAL_SECONDS = 10.0


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
