"""A network of its own for each agent: namespaces on one bridge, where any way can be cut, in one direction
or both, without either side being told.

Whoever may not go to another has a wrong hardware address for it, so that what it sends arrives nowhere.
The test itself opens connections from within an agent's namespace, where none is ever cut."""

from __future__ import annotations

import ctypes
import http.client
import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

_NOWHERE = "02:00:00:00:00:00"
_CLONE_NEWNET = 0x40000000
_PLACE = Path("/run/netns")


class Network:
    """Agents' addresses are 10.99.0.1, 10.99.0.2, ...; nothing leads out of it."""

    def __init__(self) -> None:
        self._id = f"ctl{random.SystemRandom().getrandbits(24):x}"
        self._count = 0
        self._spaces: dict[str, str] = {}  # namespace by address
        self._lock = threading.Lock()
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("network namespaces need root and the program ip")
        made = _ip("netns", "add", self._id, check=False)
        if made.returncode:
            pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        try:
            self._inside("link", "add", "bridge", "type", "bridge")
            self._inside("link", "set", "bridge", "up")
        except subprocess.CalledProcessError as error:
            self.close()
            pytest.skip(f"no bridges here: {error.stderr.strip()}")

    def close(self) -> None:
        for name in [*self._spaces.values(), self._id]:
            _ip("netns", "del", name, check=False)
        self._spaces.clear()

    def new_address(self) -> str:
        """A namespace with this address."""
        self._count += 1
        number, name = self._count, f"{self._id}n{self._count}"
        address = f"10.99.0.{number}"
        _ip("netns", "add", name)
        self._spaces[address] = name
        _ip(
            "-n",
            self._id,
            "link",
            "add",
            f"port{number}",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            name,
        )
        self._inside("link", "set", f"port{number}", "master", "bridge", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", "eth0", "address", _hardware(address), "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for other in self._spaces:
            if other != address:
                self._way(address, other, True)
                self._way(other, address, True)
        return address

    def prefix(self, address: str) -> tuple[str, ...]:
        """What to write before a command that shall run there."""
        return ("ip", "netns", "exec", self._spaces[address])

    # Cutting

    def cut(self, sources: Iterable[Any], targets: Iterable[Any], both: bool = True) -> None:
        """Nothing gets from any of `sources` to any of `targets` (nor back)."""
        self._set(sources, targets, both, False)

    def heal(self) -> None:
        """Everyone reaches everyone."""
        for address in self._spaces:
            for other in self._spaces:
                if other != address:
                    self._way(address, other, True)

    def _set(self, sources: Iterable[Any], targets: Iterable[Any], both: bool, open_: bool) -> None:
        ends = list(targets)
        for source in sources:
            for target in ends:
                self._way(source.address, target.address, open_)
                if both:
                    self._way(target.address, source.address, open_)

    def _way(self, source: str, target: str, open_: bool) -> None:
        hardware = _hardware(target) if open_ else _NOWHERE
        entry = ("neigh", "replace", target, "lladdr", hardware, "dev", "eth0", "nud", "permanent")
        _ip("-n", self._spaces[source], *entry)

    def _inside(self, *words: str) -> None:
        _ip("-n", self._id, *words)

    # Connections from within

    def connection(self, address: str, port: int, timeout: float) -> http.client.HTTPConnection:
        """HTTP to an agent, from its own namespace."""
        made = http.client.HTTPConnection(address, port, timeout=timeout)

        def create(where: tuple[str, int], timeout: Any = None, *_: Any) -> socket.socket:
            with self._lock:
                found = self._socket(address)
            found.settimeout(timeout)
            try:
                found.connect(where)
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                found.close()
                raise
            return found

        made._create_connection = create  # type: ignore[attr-defined]
        return made

    def _socket(self, address: str) -> socket.socket:
        """A socket of that namespace: it stays there, the thread comes back."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as here, open(_PLACE / self._spaces[address]) as there:
            if libc.setns(there.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            finally:
                if libc.setns(here.fileno(), _CLONE_NEWNET):
                    os._exit(70)  # a thread that is lost in another namespace must not run on


def _hardware(address: str) -> str:
    return f"02:63:74:6c:00:{int(address.rpartition('.')[2]):02x}"


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = ("ip", *words)
    return subprocess.run(command, capture_output=True, text=True, check=check, stdin=subprocess.DEVNULL)
