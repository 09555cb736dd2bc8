"""Two clusters on one machine, joined over the WAN: each has its own Raft, and they answer as one.

All RPC is within TLS, by the names of the datacenters; gossip is encrypted."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from tests.agent.rpc_certs import Authority
from tests.cluster import Cluster, Node
from tests.harness import Agent, until

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()
WAN_ADDRESS = {"dc1": "198.51.100.1", "dc2": "198.51.100.2"}

LONGEST = 10.0  # seconds until a lost datacenter is an error: the hold time and one more try

# The timing of the WAN is for another planet than a loopback interface.
QUICK = {"gossip_interval": "100ms", "probe_interval": "300ms", "probe_timeout": "200ms", "suspicion_mult": 2}


class Federation(NamedTuple):
    """Two datacenters."""

    dc1: Cluster
    dc2: Cluster

    @property
    def asked(self) -> list[Node]:
        """A server and a client agent of the first."""
        return [self.dc1["s1"], self.dc1["c1"]]


def _cluster(folder: Path, authority: Authority, name: str, **more: Any) -> Cluster:
    place = folder / name
    place.mkdir()
    cert_file, key_file = authority.issue(f"server-{name}", f"server.{name}.consul")
    config = {
        "datacenter": name,
        "encrypt": KEY,
        "verify_incoming": True,
        "verify_outgoing": True,
        "verify_server_hostname": True,
        "ca_file": authority.ca_file,
        "cert_file": cert_file,
        "key_file": key_file,
        "gossip_wan": QUICK,
        "tagged_addresses": {"wan": WAN_ADDRESS[name], "wan_ipv4": WAN_ADDRESS[name]},
        **more,
    }
    return Cluster(place, servers=1, clients=1, config=config)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("datacenters")
    authority = Authority(folder)
    dc1 = _cluster(folder, authority, "dc1")
    dc2 = _cluster(folder, authority, "dc2", retry_join_wan=[dc1["s1"].address], translate_wan_addrs=True)
    try:
        for cluster in (dc1, dc2):
            cluster.start(wait=False)
        for cluster in (dc1, dc2):
            cluster.settle()
        found = Federation(dc1, dc2)
        _wait_joined(found)
        yield found
    finally:
        dc1.end()
        dc2.end()


def _wait_joined(federation: Federation) -> None:
    for cluster in federation:
        for agent in cluster.agents:
            until("it knows both", lambda a=agent: len(a.get("/v1/catalog/datacenters")) == 2)


def _wan(agent: Node) -> dict[str, int]:
    return {one["Name"]: one["Status"] for one in agent.get("/v1/agent/members?wan=1")}


def _ask(agent: Node, name: str, type: str = "A") -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, type), agent.address, port=agent.dns_port, timeout=15)


def addresses(agent: Node, name: str) -> set[str]:
    found = _ask(agent, name).answer
    return {record.address for rrset in found for record in rrset if record.rdtype == dns.rdatatype.A}


def test_they_know_each_other(federation: Federation) -> None:
    dc1, dc2 = federation
    assert _wan(dc1["s1"]) == _wan(dc2["s1"]) == {"s1.dc1": 1, "s1.dc2": 1}
    assert _wan(dc1["c1"]) == {}
    for agent in dc1.agents:
        assert agent.get("/v1/catalog/datacenters") == ["dc1", "dc2"]
        assert agent.ctl("catalog", "datacenters").stdout.split() == [b"dc1", b"dc2"]
    for agent in dc2.agents:
        assert agent.get("/v1/catalog/datacenters") == ["dc2", "dc1"]
    lines = dc1["s1"].ctl("members", "-wan").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["Node", "s1.dc1", "s1.dc2"]
    assert dc1["c1"].http("PUT", f"/v1/agent/join/{dc2['s1'].address}?wan=1").status == 500
    joined = dc1["s1"].ctl("join", "-wan", dc2["s1"].address)
    assert joined.returncode == 0, joined.stderr


def test_distances_between_datacenters(federation: Federation) -> None:
    for agent in federation.asked:

        def areas(agent: Node = agent) -> list[tuple[str, str]]:
            found = agent.get("/v1/coordinate/datacenters")
            return [(one["Datacenter"], one["AreaID"]) for one in found]

        until("both were probed", lambda: areas() == [("dc1", "wan"), ("dc2", "wan")])
        shown = agent.ctl("rtt", "-wan", "s1.dc1", "s1.dc2").stdout
        assert shown.startswith(b"Estimated s1.dc1 <-> s1.dc2 rtt: ") and b"WAN" in shown


def test_calls_are_forwarded(federation: Federation) -> None:
    there = federation.dc2["s1"]
    for agent in federation.asked:
        name = agent.name
        key = f"/v1/kv/{name}"
        assert agent.put(f"{key}?dc=dc2", "far").json() is True
        assert there.http("GET", f"{key}?raw").text == "far"
        assert agent.http("GET", key).status == 404  # it is nobody else's
        for mode in ("", "&stale", "&consistent"):
            assert agent.http("GET", f"{key}?raw&dc=dc2{mode}").text == "far"
        assert agent.put(f"{key}?cas=0&dc=dc2", "no").json() is False
        node = {"Datacenter": "dc2", "Node": f"n-{name}", "Address": "10.2.2.2"}
        agent.put("/v1/catalog/register", {**node, "Service": {"Service": f"far-{name}", "Port": 80}})
        assert [one["Node"] for one in agent.get(f"/v1/catalog/service/far-{name}?dc=dc2")] == [f"n-{name}"]
        assert agent.get(f"/v1/catalog/service/far-{name}") == []
        session = agent.put("/v1/session/create?dc=dc2", {"Node": "s1", "Checks": []}).json()["ID"]
        assert agent.put(f"{key}-lock?acquire={session}&dc=dc2", "x").json() is True
        assert there.get(f"{key}-lock")[0]["Session"] == session
        assert agent.http("PUT", f"/v1/session/renew/{session}?dc=dc2").status == 200
        txn = [{"KV": {"Verb": "set", "Key": f"txn-{name}", "Value": "dHhu"}}]
        assert agent.put("/v1/txn?dc=dc2", txn).status == 200
        assert there.http("GET", f"/v1/kv/txn-{name}?raw").text == "txn"
        assert agent.get("/v1/operator/raft/configuration?dc=dc2")["Servers"][0]["Node"] == "s1"
        assert agent.ctl("kv", "get", "-datacenter=dc2", name).stdout == b"far\n"
        assert "far" in agent.ctl("catalog", "services", "-datacenter=dc2").stdout.decode()
        archive = agent.folder / "far.snap"
        saved = agent.ctl("snapshot", "save", "-datacenter=dc2", str(archive))
        assert saved.returncode == 0, saved.stderr
        assert b"KVS" in agent.ctl("snapshot", "inspect", str(archive)).stdout
        usage = agent.get("/v1/operator/usage?dc=dc2")["Usage"]
        assert list(usage) == ["dc2"]
        usage = agent.get("/v1/operator/usage?global")["Usage"]
        assert list(usage) == ["dc1", "dc2"] and usage["dc2"]["Nodes"] >= 2
        everywhere = agent.ctl("operator", "usage", "instances", "-all-datacenters")
        assert b"dc1" in everywhere.stdout and b"dc2" in everywhere.stdout


def test_a_read_waits_for_a_write_far_away(federation: Federation) -> None:
    there = federation.dc2["s1"]
    there.put("/v1/kv/blocked", "before")
    for agent in federation.asked:
        index = agent.http("GET", "/v1/kv/blocked?dc=dc2").consul_index
        connection = agent.connection(20)
        connection.request("GET", f"/v1/kv/blocked?dc=dc2&index={index}&wait=15s")
        there.put("/v1/kv/blocked", f"for {agent.name}")
        entry = json.loads(connection.getresponse().read())[0]
        assert base64.b64decode(entry["Value"]).decode() == f"for {agent.name}"
        connection.close()


def test_events_far_away(federation: Federation) -> None:
    for agent in federation.asked:
        name = f"deploy-{agent.name}"
        assert agent.ctl("event", "-name", name, "-datacenter", "dc2", "now").returncode == 0
        for other in federation.dc2.agents:
            until("it came", lambda o=other, n=name: o.get(f"/v1/event/list?name={n}"))
        assert agent.get(f"/v1/event/list?name={name}") == []


def test_keys_of_all_datacenters(federation: Federation) -> None:
    server = federation.dc1["s1"]

    def keys() -> dict[tuple[bool, str], tuple[dict[str, int], dict[str, int]]]:
        found = server.get("/v1/operator/keyring")
        return {(one["WAN"], one["Datacenter"]): (one["Keys"], one["PrimaryKeys"]) for one in found}

    pools = [(True, "dc1"), (False, "dc1"), (False, "dc2")]
    assert keys() == dict.fromkeys(pools, ({KEY: 2}, {KEY: 2}))
    assert server.ctl("keyring", "-install", OTHER_KEY).returncode == 0
    assert server.ctl("keyring", "-use", OTHER_KEY).returncode == 0
    assert keys() == dict.fromkeys(pools, ({KEY: 2, OTHER_KEY: 2}, {OTHER_KEY: 2}))
    assert server.ctl("keyring", "-remove", KEY).returncode == 0
    assert keys() == dict.fromkeys(pools, ({OTHER_KEY: 2}, {OTHER_KEY: 2}))


def test_names(federation: Federation) -> None:
    far = federation.dc2["s1"]
    service = {"Name": "web", "Port": 8080, "Tags": ["blue"], "Meta": {}}
    assert federation.dc2["c1"].put("/v1/agent/service/register", service).status == 200
    address = federation.dc2["c1"].address
    for agent in federation.asked:
        until("it is there", lambda a=agent: addresses(a, "web.service.dc2.consul") == {address})
        assert addresses(agent, "blue.web.service.dc2.consul") == {address}
        assert addresses(agent, "c1.node.dc2.consul") == {address}
        assert addresses(agent, "c1.node.dc2.dc.consul") == {address}
        assert addresses(agent, "consul.service.dc2.consul") == {far.address}
        reply = _ask(agent, "_web._tcp.service.dc2.consul", "SRV")
        (record,) = reply.answer[0]
        assert (record.port, str(record.target)) == (8080, "c1.node.dc2.consul.")
        assert [str(rrset.name) for rrset in reply.additional][:1] == ["c1.node.dc2.consul."]
        for name in ("web.service.consul", "nothing.service.dc2.consul", "web.service.nowhere.consul"):
            reply = _ask(agent, name)
            assert reply.rcode() == dns.rcode.NXDOMAIN, name
            assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]
    # What changes there is seen here.
    federation.dc2["c1"].http("PUT", "/v1/agent/service/deregister/web")
    for agent in federation.asked:
        until("it is gone", lambda a=agent: not addresses(a, "web.service.dc2.consul"))


def test_addresses_from_afar(federation: Federation) -> None:
    """The second datacenter translates addresses, the first does not."""
    service = {"Name": "api", "Port": 80, "TaggedAddresses": {"wan": {"Address": "203.0.113.9", "Port": 443}}}
    assert federation.dc1["c1"].put("/v1/agent/service/register", service).status == 200
    assert federation.dc1["c1"].put("/v1/agent/service/register", {"Name": "plain", "Port": 80}).status == 200
    own = federation.dc1["c1"].address

    def wan_address() -> str | None:
        node = federation.dc1["c1"].get("/v1/catalog/node/c1")["Node"]
        return (node["TaggedAddresses"] or {}).get("wan")

    # A server may have told of the member before the agent told of itself.
    until("the node's addresses are known", lambda: wan_address() == WAN_ADDRESS["dc1"])
    for agent in federation.dc2.agents:
        path = "/v1/health/service/api?dc=dc1"
        until("it is there", lambda a=agent, p=path: a.get(p))
        answer = agent.http("GET", path)
        assert answer.headers["x-consul-translate-addresses"] == "true"
        (one,) = answer.json()
        assert (one["Service"]["Address"], one["Service"]["Port"]) == ("203.0.113.9", 443)
        assert one["Node"]["Address"] == WAN_ADDRESS["dc1"]
        (one,) = until("plain, too", lambda a=agent: a.get("/v1/catalog/service/plain?dc=dc1"))
        assert (one["Address"], one["ServiceAddress"], one["ServicePort"]) == (WAN_ADDRESS["dc1"], "", 80)
        found = {one["Node"]: one["Address"] for one in agent.get("/v1/catalog/nodes?dc=dc1")}
        assert found["c1"] == WAN_ADDRESS["dc1"]
        assert agent.get("/v1/catalog/node/c1")["Node"]["Address"] == federation.dc2["c1"].address
        assert addresses(agent, "api.service.dc1.consul") == {"203.0.113.9"}
        assert addresses(agent, "plain.service.dc1.consul") == {WAN_ADDRESS["dc1"]}
        assert addresses(agent, "c1.node.dc1.consul") == {WAN_ADDRESS["dc1"]}
        (record,) = _ask(agent, "api.service.dc1.consul", "SRV").answer[0]
        assert record.port == 443
    for agent in federation.dc1.agents:
        answer = agent.http("GET", "/v1/catalog/node/c1?dc=dc2")
        assert "x-consul-translate-addresses" not in answer.headers
        node = answer.json()["Node"]
        assert node["Address"] == federation.dc2["c1"].address
        assert node["TaggedAddresses"]["wan"] == WAN_ADDRESS["dc2"]
        assert node["TaggedAddresses"]["lan"] == federation.dc2["c1"].address
    assert own not in addresses(federation.dc2["c1"], "plain.service.dc1.consul")


def test_queries_fail_over(federation: Federation) -> None:
    service = {"Node": "db-2", "Address": "10.2.0.1", "Service": {"Service": "db", "Port": 5432}}
    federation.dc2["s1"].put("/v1/catalog/register", service)
    query = {"Name": "db", "Service": {"Service": "db", "Failover": {"NearestN": 1}}}
    body = json.dumps(query).encode()
    made = federation.dc1["c1"].http("POST", "/v1/query", body).json()["ID"]
    for agent in federation.asked:
        found = agent.get("/v1/query/db/execute")
        assert (found["Datacenter"], found["Failovers"]) == ("dc2", 1)
        assert [one["Node"]["Address"] for one in found["Nodes"]] == ["10.2.0.1"]
        assert addresses(agent, "db.query.consul") == {"10.2.0.1"}
    far = federation.dc2["c1"]
    assert _ask(far, "db.query.consul").rcode() == dns.rcode.NXDOMAIN
    assert addresses(far, "db.query.dc1.consul") == {"10.2.0.1"}
    local = {"Node": "db-1", "Address": "10.1.0.1", "Service": {"Service": "db", "Port": 5432}}
    federation.dc1["s1"].put("/v1/catalog/register", local)
    assert federation.dc1["c1"].get("/v1/query/db/execute")["Failovers"] == 0
    federation.dc1["s1"].http("DELETE", f"/v1/query/{made}")


def test_an_unknown_datacenter(federation: Federation) -> None:
    for agent in federation.asked:
        for path in ("/v1/kv/a?dc=nowhere", "/v1/catalog/nodes?dc=nowhere", "/v1/session/list?dc=nowhere"):
            began = time.monotonic()
            answer = agent.http("GET", path)
            assert (answer.status, answer.text.rpartition(": ")[2]) == (500, "No path to datacenter")
            assert time.monotonic() - began < 2
        assert agent.http("PUT", "/v1/kv/a?dc=nowhere", "x").status == 500
        failed = agent.ctl("catalog", "services", "-datacenter=nowhere")
        assert failed.returncode == 1 and b"No path to datacenter" in failed.stderr


def test_a_datacenter_with_a_wrong_certificate(federation: Federation, tmp_path: Path) -> None:
    """Gossip takes it in (it has the key), calls do not: its server proves to be one of another datacenter.
    It joins when it starts, and its WAN port is not the usual one."""
    here = federation.dc1["s1"]
    key = here.get("/v1/operator/keyring")[0]["PrimaryKeys"]
    authority = Authority(tmp_path)  # knows neither of the others, and claims to be dc1
    config = {
        "datacenter": "dc3",
        "encrypt": next(iter(key)),
        "ports": {"serf_wan": 18302},
        "start_join_wan": [f"{here.address}:8302"],
        "gossip_wan": QUICK,
        "performance": {"rpc_hold_timeout": "500ms"},
    }
    cert_file, key_file = authority.issue("server", "server.dc1.consul")
    tls = {"verify_outgoing": True, "verify_server_hostname": True, "ca_file": authority.ca_file}
    tls |= {"cert_file": cert_file, "key_file": key_file}
    with Agent(tmp_path, dev=False, config={**config, **tls, "node_name": "s9"}) as wrong:
        until("it is known", lambda: _wan(here).get("s9.dc3") == 1)
        (member,) = [one for one in here.get("/v1/agent/members?wan=1") if one["Name"] == "s9.dc3"]
        assert (member["Addr"], member["Port"]) == (wrong.address, 18302)
        for agent, datacenter in ((federation.dc1["c1"], "dc3"), (wrong, "dc1")):
            answer = agent.http("GET", f"/v1/kv/a?dc={datacenter}", timeout=30)
            assert answer.status == 500 and "x509" in answer.text, answer.text
        assert wrong.put("/v1/kv/own", "x").json() is True
    until("it is gone", lambda: _wan(here).get("s9.dc3") == 4)
    assert here.ctl("force-leave", "-wan", "-prune", "s9.dc3").returncode == 0
    until("it is forgotten", lambda: "s9.dc3" not in _wan(here))


def _wait_for_change(agent: Node, path: str) -> http.client.HTTPConnection:
    index = agent.http("GET", path).consul_index
    connection = agent.connection(LONGEST)
    connection.request("GET", f"{path}&index={index}&wait=5m")
    return connection


def test_a_datacenter_is_lost_and_returns(federation: Federation) -> None:
    """Nobody waits long for it, and nobody else is touched."""
    dc1, dc2 = federation
    gone = dc2["s1"]
    gone.put("/v1/kv/a", "x")
    waiting = [_wait_for_change(agent, "/v1/kv/a?dc=dc2") for agent in federation.asked]
    assert all(addresses(agent, "s1.node.dc2.consul") == {gone.address} for agent in federation.asked)
    dc2.kill9([gone])
    for agent in federation.asked:
        began = time.monotonic()
        answer = agent.http("GET", "/v1/kv/a?dc=dc2", timeout=30)
        assert answer.status == 500, answer
        assert time.monotonic() - began < LONGEST
        began = time.monotonic()
        assert agent.put("/v1/kv/here", "x").json() is True
        assert agent.http("GET", "/v1/kv/here?raw&consistent").text == "x"
        assert addresses(agent, "s1.node.consul") == {dc1["s1"].address}
        assert time.monotonic() - began < 2
        reply = until(
            "it is known to fail",
            lambda a=agent: (m := _ask(a, "s1.node.dc2.consul")).rcode() == dns.rcode.SERVFAIL and m,
        )
        assert not reply.answer
    for connection in waiting:  # those who wait are not left waiting
        assert connection.getresponse().status == 500
        connection.close()
    until("gossip knows", lambda: _wan(dc1["s1"])["s1.dc2"] == 4, 60)
    for agent in federation.asked:
        began = time.monotonic()
        answer = agent.http("GET", "/v1/kv/a?dc=dc2")
        assert answer.status == 500 and "Remote DC has no server currently reachable" in answer.text
        assert time.monotonic() - began < 1
    assert dc1["s1"].ctl("catalog", "datacenters").stdout.split() == [b"dc1", b"dc2"]
    gone.start()
    until("it is back", lambda: _wan(dc1["s1"])["s1.dc2"] == 1, 60)
    for agent in federation.asked:
        until("it answers", lambda a=agent: a.http("PUT", "/v1/kv/back?dc=dc2", b"x").status == 200)
        until("names", lambda a=agent: addresses(a, "s1.node.dc2.consul") == {gone.address})


def test_a_lost_server_is_forced_out(federation: Federation) -> None:
    dc1, dc2 = federation
    dc2.kill9([dc2["s1"]])
    until("gossip knows", lambda: _wan(dc1["s1"])["s1.dc2"] == 4, 60)
    assert dc1["s1"].ctl("force-leave", "-wan", "s1").returncode == 1
    assert dc1["s1"].ctl("force-leave", "-wan", "s1.dc2").returncode == 0
    until("it left", lambda: _wan(dc1["s1"])["s1.dc2"] == 3)
    assert dc1["s1"].http("PUT", "/v1/agent/force-leave/s1.dc2?wan=1&prune").status == 200
    until("it is forgotten", lambda: "s1.dc2" not in _wan(dc1["s1"]))
    assert dc1["c1"].get("/v1/catalog/datacenters") == ["dc1"]
    answer = dc1["c1"].http("GET", "/v1/kv/a?dc=dc2")
    assert answer.status == 500 and "No path to datacenter" in answer.text
