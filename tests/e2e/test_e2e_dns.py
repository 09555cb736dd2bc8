"""Other programs that follow services by our DNS: dnsmasq that forwards a domain, HAProxy by SRV records."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.e2e import Backend, Program, get, register
from tests.harness import Agent, own_address, until

PORT = 5353


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent")) as running:
        yield running


class Forwarder:
    """A dnsmasq that sends .consul to an agent, and questions to it."""

    def __init__(self, agent: Agent, program: str, folder: Path) -> None:
        self.address = own_address()
        words = [program, "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-hosts"]
        words += [f"--user={getpass.getuser()}", f"--port={PORT}", f"--listen-address={self.address}"]
        words += ["--bind-interfaces", "--no-resolv", "--log-facility=-"]
        words += [f"--server=/consul/{agent.address}#{agent.dns_port}"]
        words += [f"--rev-server=10.0.0.0/8,{agent.address}#{agent.dns_port}"]
        self.process = Program(words, folder, "dnsmasq.log")

    def __enter__(self) -> Forwarder:
        self.process.__enter__()
        until("dnsmasq answers", lambda: self.ask("consul.service.consul", "A"))
        return self

    def __exit__(self, *error: object) -> None:
        self.process.__exit__(*error)  # type: ignore[arg-type]

    def ask(self, name: str, kind: str) -> list[str]:
        """The records, sorted; none when there is no such name."""
        question = dns.message.make_query(name, kind, use_edns=0)
        try:
            answer, _ = dns.query.udp_with_fallback(question, self.address, 2.0, PORT)
        except (OSError, dns.exception.Timeout):
            return []
        wanted = answer.question[0].rdtype
        return sorted(item.to_text() for found in answer.answer for item in found if found.rdtype == wanted)

    def rcode(self, name: str) -> str:
        question = dns.message.make_query(name, "A")
        return dns.rcode.to_text(dns.query.udp(question, self.address, 2.0, PORT).rcode())


def test_dnsmasq_forwards_our_domain(agent: Agent, tmp_path: Path, tool: Callable[[str], str]) -> None:
    def place(number: int) -> None:
        service = {"ID": f"api{number}", "Service": "api", "Tags": [f"v{number % 2}"], "Port": 9000 + number}
        node = {"Node": f"m{number}", "Address": f"10.1.0.{number}", "SkipNodeUpdate": False}
        agent.put("/v1/catalog/register", {**node, "Service": service})

    with Forwarder(agent, tool("dnsmasq"), tmp_path) as dnsmasq:
        assert dnsmasq.rcode("api.service.consul") == "NXDOMAIN"  # what it might remember for too long
        place(1)
        until("the first", lambda: dnsmasq.ask("api.service.consul", "A") == ["10.1.0.1"], 1.5)
        place(2)
        both = ["10.1.0.1", "10.1.0.2"]
        until("both", lambda: dnsmasq.ask("api.service.consul", "A") == both, 1.5)
        assert dnsmasq.ask("v1.api.service.consul", "A") == ["10.1.0.1"]
        assert dnsmasq.ask("m2.node.consul", "A") == ["10.1.0.2"]
        assert dnsmasq.ask("_api._tcp.service.consul", "SRV") == [
            "1 1 9001 m1.node.dc1.consul.",
            "1 1 9002 m2.node.dc1.consul.",
        ]
        assert dnsmasq.ask("2.0.1.10.in-addr.arpa", "PTR") == ["m2.node.dc1.consul."]
        for number in range(3, 61):  # more than a datagram holds: dnsmasq hands TCP on as well
            place(number)
        many = sorted(f"10.1.0.{number}" for number in range(1, 61))
        until("all over TCP", lambda: dnsmasq.ask("api.service.consul", "A") == many)
        for number in range(1, 61):
            agent.put("/v1/catalog/deregister", {"Node": f"m{number}"})
        until("all are gone", lambda: dnsmasq.rcode("api.service.consul") == "NXDOMAIN", 1.5)


HAPROXY = """
global
  log stdout format raw local0
resolvers agent
  nameserver here {address}:{dns}
  accepted_payload_size 8192
  resolve_retries 3
  timeout resolve 100ms
  timeout retry 100ms
  hold valid 100ms
  hold obsolete 100ms
  hold nx 100ms
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend all
  bind {own}:8080
  default_backend web
backend web
  balance roundrobin
  server-template web 5 _web._tcp.service.consul resolvers agent init-addr none check inter 200ms
"""


def test_haproxy_follows_srv_records(agent: Agent, tmp_path: Path, tool: Callable[[str], str]) -> None:
    program, own = tool("haproxy"), own_address()
    config = tmp_path / "haproxy.cfg"
    config.write_text(HAPROXY.format(address=agent.address, dns=agent.dns_port, own=own))
    backends = {name: Backend(name, own_address(), 9000) for name in ("w1", "w2", "w3")}

    def served() -> set[str]:
        return {get(own, 8080) for _ in range(9)}

    def until_served(*names: str) -> None:
        until(f"{names} are served", lambda: served() == set(names))

    with Program([program, "-f", str(config), "-db"], tmp_path, "haproxy.log"):
        until_served("")  # nobody to hand on to
        register(agent, "web", backends["w1"])
        until_served("w1")
        for name in ("w2", "w3"):
            register(agent, "web", backends[name])
        until_served("w1", "w2", "w3")
        agent.put("/v1/agent/check/fail/w2-up")
        until_served("w1", "w3")
        agent.put("/v1/agent/check/pass/w2-up")
        until_served("w1", "w2", "w3")
        agent.put("/v1/agent/service/deregister/w1")
        agent.put("/v1/agent/service/deregister/w3")
        until_served("w2")
        agent.put("/v1/agent/service/deregister/w2")
        until_served("")
    for backend in backends.values():
        backend.__exit__()
