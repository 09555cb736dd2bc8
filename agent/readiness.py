"""Telling a service manager that the agent is up: systemd's `Type=notify`, as Consul's packages use it.

The manager names a datagram socket in NOTIFY_SOCKET; `READY=1` on it lets units start that wait for this
one. Consul says so after each join and never without one; here an agent that joins nobody says it too."""

from __future__ import annotations

import os
import socket

from agent import logs

READY = b"READY=1"


def ready() -> None:
    """Say that the agent has started and, where it is to join others, has joined them."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    if path.startswith("@"):  # a name that is in no file system
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(READY, path)
    except OSError as error:
        logs.get_logger("agent").warn("the service manager was not told of the start", error=str(error))
