"""The recorded answers of a real server (tests/conformance/scenarios/dns), replayed without a socket."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.reversename
import pytest

from core.dns import packet
from core.dns import record as rr
from core.dns.answer import answer
from core.dns.settings import DnsSettings, Soa
from tests.core.dns.maker import Maker

KIT = Path(__file__).parents[2] / "conformance"
TUNED = json.loads((KIT / "targets" / "tuned.json").read_text())
LEFT_TO_THE_KIT = {"agent-services"}  # needs an agent; tests/conformance runs it
SERIAL = 1_700_000_000


def kit() -> Any:
    loader = importlib.machinery.SourceFileLoader("conformance_run", str(KIT / "run"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


run = kit()


def tuned() -> DnsSettings:
    options = dict(TUNED["dns_config"])
    options["node_ttl"] = int(options["node_ttl"].rstrip("s"))
    options["service_ttl"] = {name: int(ttl.rstrip("s")) for name, ttl in options["service_ttl"].items()}
    options["soa"] = Soa(**options["soa"])
    return DnsSettings(alt_domain=TUNED["alt_domain"], **options)


def ask(maker: Maker, settings: DnsSettings, wire: bytes, udp: bool) -> bytes:
    query = packet.parse(wire)
    assert query is not None and not query.error
    reply = answer(maker.store, query.name.lower(), query.type, settings, SERIAL)
    if reply is None:
        reverse = query.name.lower().endswith(b"\x04arpa\0")
        reply = packet.refusal(rr.SERVFAIL if reverse else rr.REFUSED, recursion=reverse)
    entries = packet.order(query, reply, settings, udp, random.Random(1))
    return packet.pack(query, reply, entries, settings, udp)


def dns_step(maker: Maker, settings: DnsSettings, step: dict[str, Any], variables: dict[str, str]) -> None:
    type, name, *options = step["dns"].split(" ")
    if type == "PTR" and not name.rstrip(".").endswith(("arpa", "consul")):
        name = dns.reversename.from_address(name).to_text()
    size = next((int(option[5:]) for option in options if option.startswith("edns=")), None)
    edns: dict[str, Any] = {"use_edns": 0, "payload": size} if size else {}
    query = dns.message.make_query(name, type, "IN", **edns)
    if "norec" in options:
        query.flags &= ~dns.flags.RD
    wire = ask(maker, settings, query.to_wire(), "tcp" not in options)
    got = dns.message.from_wire(wire)
    got.size = len(wire)  # type: ignore[attr-defined]
    run.check_dns(step, got, variables)


def write_step(maker: Maker, step: dict[str, Any]) -> None:
    body = step["send"]
    if step["do"].endswith("/register"):
        maker.register(body)
    else:
        maker.deregister(body["Node"], body.get("ServiceID", ""))


SCENARIOS = sorted(
    path for path in (KIT / "scenarios" / "dns").glob("*.yaml") if path.stem not in LEFT_TO_THE_KIT
)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    document = run.load(path)
    settings = tuned() if "tuned" in document["needs"] else DnsSettings()
    maker = Maker()
    variables = {"uid": "u12345678", "dc": "dc1", "node": "me", "addr": "127.0.0.7"}
    maker.node("me", "127.0.0.7")
    maker.add("me", "consul", port=8300)
    if "cluster" in document["needs"]:
        for name in ("two", "three"):
            maker.node(name, f"127.0.0.{len(name) + 10}")
            maker.add(name, "consul", port=8300)
    for step in document["steps"]:
        for row in step.get("each", [{}]):
            values = {**variables, **row}
            one = {key: run.subst(value, values) for key, value in step.items() if key != "each"}
            if "dns" in one:
                dns_step(maker, settings, one, values)
            else:
                write_step(maker, one)
