"""Real agents whose RPC is encrypted: servers, a client, renewed certificates, and who is kept out."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.codec import netrpc
from tests.agent.rpc_certs import Authority
from tests.harness import SERVER, Agent, own_address, until

CALL = netrpc.request("KVS.Get", 1, {"Datacenter": "dc1", "Key": "a"})


UNKNOWN = "No known Consul servers"


class Fleet:
    """Two servers and a client agent that trust one authority. Who fails gives up after a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.first = own_address()
        self.agents = {
            "s1": self.agent("s1", "server.dc1.consul", "--bootstrap-expect", "2", address=self.first),
            "s2": self.agent("s2", "server.dc1.consul", "--bootstrap-expect", "2"),
            "c1": self.agent("c1", "client.dc1.consul", "--server=false"),
        }

    def agent(
        self, name: str, certified: str, *flags: str, address: str = "", authority: Authority | None = None
    ) -> Agent:
        cert_file, key_file = (authority or self.authority).issue(name, certified)
        config: dict[str, Any] = {
            "ca_file": (authority or self.authority).ca_file,
            "cert_file": cert_file,
            "key_file": key_file,
            "verify_incoming_rpc": True,
            "verify_outgoing": True,
            "verify_server_hostname": True,
            "performance": {"rpc_hold_timeout": "1s"},
        }
        folder = self.folder / name
        folder.mkdir()
        more = ("--bootstrap=false", "--node", name, "--retry-join", self.first, *flags)
        return Agent(folder, dev=False, config=config, address=address, flags=more)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    try:
        for agent in made.agents.values():
            agent.start(wait=False)
        for agent in made.agents.values():
            agent.wait_http()
            agent.wait_leader()
        yield made
    finally:
        for agent in made.agents.values():
            agent.end()


def test_calls_cross_encrypted(fleet: Fleet) -> None:
    for name, agent in fleet.agents.items():
        agent.put(f"/v1/kv/{name}", name)
    for agent in fleet.agents.values():
        for name in fleet.agents:
            until("it is read", lambda a=agent, n=name: a.http("GET", f"/v1/kv/{n}?raw").text == n)  # type: ignore[misc]
        assert agent.get("/v1/status/leader") in agent.get("/v1/status/peers")


def test_a_blocking_read_through_a_client(fleet: Fleet) -> None:
    client, server = fleet.agents["c1"], fleet.agents["s2"]
    server.put("/v1/kv/watched", "1")
    index = client.http("GET", "/v1/kv/watched").headers["x-consul-index"]
    got: list[str] = []

    def wait() -> None:
        got.append(client.http("GET", f"/v1/kv/watched?raw&index={index}&wait=60s").text)

    thread = threading.Thread(target=wait)
    thread.start()
    server.put("/v1/kv/watched", "2")
    thread.join(20)
    assert got == ["2"]


def test_a_service_of_a_client_is_in_the_catalog(fleet: Fleet) -> None:
    client, server = fleet.agents["c1"], fleet.agents["s1"]
    client.put("/v1/agent/service/register", {"Name": "web", "Port": 80, "Check": {"TTL": "60s"}})

    def found() -> bool:
        rows = server.get("/v1/health/service/web")
        return len(rows) == 1 and rows[0]["Node"]["Node"] == "c1"

    until("the service is known", found)
    client.put("/v1/agent/service/deregister/web")
    until("it is forgotten", lambda: server.get("/v1/catalog/service/web") == [])


def _rest(sock: socket.socket) -> bytes:
    sock.settimeout(10)
    with contextlib.suppress(ConnectionError):
        return sock.recv(4096)
    return b""


def test_plain_calls_are_refused(fleet: Fleet) -> None:
    for first in (b"\0", b"\4", b"\1", b"\5"):
        with socket.create_connection((fleet.first, SERVER), 10) as sock:
            sock.sendall(first + CALL)
            assert _rest(sock) == b""


def test_who_has_another_authority_is_kept_out(fleet: Fleet, tmp_path: Path) -> None:
    stranger = fleet.agent(
        "x1", "client.dc1.consul", "--server=false", authority=Authority(tmp_path, "other")
    )

    def answer() -> str:
        return stranger.http("GET", "/v1/kv/s1").text

    try:
        stranger.start(wait=False)
        until("HTTP answers", lambda: stranger._answers("/v1/agent/self"))
        until("it knows servers", lambda: answer() != UNKNOWN)
        assert "rpc error getting client: " in answer() and ": x509: " in answer()
    finally:
        stranger.end()


def test_renewed_certificates_are_used_after_a_reload(fleet: Fleet) -> None:
    """The files are written again under the same names, by another authority; nobody is restarted."""
    renewed = Authority(fleet.folder)
    for name, agent in fleet.agents.items():
        renewed.issue(name, "client.dc1.consul" if name == "c1" else "server.dc1.consul")
        agent.put("/v1/agent/reload")
    fresh = fleet.agent("c2", "client.dc1.consul", "--server=false", authority=renewed)
    try:
        fresh.start()
        fresh.put("/v1/kv/fresh", "1")
        for agent in fleet.agents.values():
            until("it is read", lambda a=agent: a.http("GET", "/v1/kv/fresh?raw").text == "1")  # type: ignore[misc]
    finally:
        fresh.end()
