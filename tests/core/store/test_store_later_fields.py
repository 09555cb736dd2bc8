"""What versions after the recorded one say in their records is kept, handed on and shown."""

from __future__ import annotations

from typing import Any

import pytest

from core.api import fragments, query_shapes, render
from core.api.config_entry_kinds import show_entry
from core.api.remote_reads import _pair, _service_node
from core.api.remote_structs import ServiceNode
from core.codec import gojson, msgpack, wire
from core.store import acl_structs, commands, mesh, persist, structs
from tests.core.store.maker import Bench

NODE = {"PeerName": "east", "Locality": {"Region": "r", "Zone": "z"}}
SERVICE = {"SocketPath": "/run/web.sock", "Locality": {"Region": "r", "Zone": ""}}
CHECK = {"ExposedPort": 21500, "Interval": "10s", "Timeout": "1s"}
DEFINITION = {"H2PING": "127.0.0.1:80", "TLSServerName": "web.local"}


def registration(**check: Any) -> dict[str, Any]:
    """A request as a leader of version 1.10 and later logs it."""
    base = wire.to_wire(structs.RegisterRequest(datacenter="dc1", node="n1", address="10.0.0.1"))
    service = wire.to_wire(structs.NodeService(id="web", service="web")) | SERVICE
    service["Proxy"] = structs.ZERO_PROXY | {
        "Mode": "",
        "TransparentProxy": {"DialedDirectly": False, "OutboundListenerPort": 0},
    }
    definition = wire.to_wire(structs.CheckSpec(interval=10)) | DEFINITION
    checked = wire.to_wire(structs.HealthCheck(node="n1", check_id="c", status="passing")) | CHECK
    return base | NODE | {"Service": service, "Check": checked | {"Definition": definition} | check}


def log(kind: int, value: Any) -> bytes:
    return bytes([kind]) + msgpack.encode(value)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.ok(log(commands.REGISTER, registration()))
    return bench


def test_a_registration_keeps_them_through_a_snapshot(bench: Bench) -> None:
    for store in (bench.store, persist.load(b"".join(persist.dump(bench.store)))):
        node = store.node_rows.rows["n1"]
        service = store.service_rows.rows["n1", "web"]
        check = store.check_rows.rows["n1", "c"]
        assert node.extra == NODE
        assert service.extra == SERVICE
        assert check.extra == CHECK
        assert check.definition.extra == DEFINITION
        assert service.proxy is None  # nothing but zero values was said of it


def test_the_same_registration_is_no_change(bench: Bench) -> None:
    bench.ok(log(commands.REGISTER, registration()))
    assert bench.store.index("nodes", "services", "checks") == 11
    bench.ok(log(commands.REGISTER, registration(Interval="20s", Type="http")))
    assert bench.store.index("nodes", "services", "checks") == 11, "these are copies of the definition's"
    definition = wire.to_wire(structs.CheckSpec(interval=10)) | {"H2PING": "127.0.0.1:81"}
    bench.ok(log(commands.REGISTER, registration(Definition=definition)))
    assert bench.store.index("checks") == 14


def test_zero_values_are_not_kept() -> None:
    value = msgpack.decode(wire.pack(structs.HealthCheck(node="n1")))
    later = {b"Interval": b"", b"ExposedPort": 0, b"Locality": {b"Region": b"", b"Zone": None}}
    assert wire.from_wire(structs.HealthCheck, value | later) == structs.HealthCheck(node="n1")


def test_proxies_of_later_versions_are_kept_but_for_zero_values() -> None:
    proxy = structs.ZERO_PROXY | {
        "DestinationServiceName": "web",
        "Mode": "transparent",
        "TransparentProxy": {"DialedDirectly": False, "OutboundListenerPort": 15001},
        "LocalServiceSocketPath": "",
    }
    sent = msgpack.decode(msgpack.encode(wire.to_wire(structs.NodeService(id="p")) | {"Proxy": proxy}))
    kept = wire.from_wire(structs.NodeService, sent).proxy
    del proxy["LocalServiceSocketPath"]
    assert kept == proxy


def test_json_shows_them(bench: Bench) -> None:
    node, service = bench.store.node_rows.rows["n1"], bench.store.service_rows.rows["n1", "web"]
    check = bench.store.check_rows.rows["n1", "c"]
    whole = gojson.decode(fragments.check_service_node(structs.CheckServiceNode(node, service, [check])))
    assert NODE.items() <= whole["Node"].items()
    assert SERVICE.items() <= whole["Service"].items()
    assert CHECK.items() <= whole["Checks"][0].items()
    assert DEFINITION.items() <= whole["Checks"][0]["Definition"].items()
    flat = render.service_node(node, service)
    assert flat["ServiceSocketPath"] == "/run/web.sock"
    assert flat["ServiceLocality"] == SERVICE["Locality"]
    assert flat["PeerName"] == "east"
    assert "Locality" not in flat


def test_instances_of_rpc_have_them_on_both_sides(bench: Bench) -> None:
    row = _service_node((bench.store.node_rows.rows["n1"], bench.store.service_rows.rows["n1", "web"]))
    node, service = _pair(wire.unpack(ServiceNode, wire.pack(row)))
    assert node.extra == {"PeerName": "east"}
    assert service.extra == {**SERVICE, "PeerName": "east"}


def test_queries_and_tokens_keep_them() -> None:
    bench = Bench()
    later = {"Peer": "east", "SamenessGroup": "g"}
    query = wire.to_wire(structs.PreparedQuery(id="q1", name="q"))
    query["Service"] = wire.to_wire(structs.ServiceQuery(service="web")) | later
    target = {"Datacenter": "dc2", "Peer": "", "Partition": "p"}
    query["Service"]["Failover"] = {"NearestN": 0, "Datacenters": None, "Targets": [target]}
    bench.ok(log(commands.PREPARED_QUERY, {"Datacenter": "dc1", "Op": "create", "Query": query, "Token": ""}))
    token = wire.to_wire(acl_structs.ACLToken(accessor_id="a", secret_id="s")) | {
        "ACLAuthMethodNamespace": "x"
    }
    bench.ok(log(commands.ACL_TOKEN_SET, {"Tokens": [token]}))
    store = persist.load(b"".join(persist.dump(bench.store)))
    kept = store.queries.rows["q1"]
    assert kept.service.extra == later
    assert query_shapes.show(kept)["Service"]["Failover"]["Targets"] == [target]
    assert store.acl_tokens.rows["s"].extra == {"ACLAuthMethodNamespace": "x"}


def test_config_entries_without_a_field_for_their_kind_are_saved() -> None:
    """The kind `mesh` of 1.10 has neither kind nor name in its body."""
    bench = Bench()
    entry = {
        "Meta": None,
        "TransparentProxy": {"MeshDestinationsOnly": True},
        "CreateIndex": 0,
        "ModifyIndex": 0,
    }
    bench.ok(log(commands.CONFIG_ENTRY, mesh.write_entry_request("mesh", entry, "upsert")))
    store = persist.load(b"".join(persist.dump(bench.store)))
    kept = store.config_entry("mesh", "")[1]
    assert kept == entry | {"Kind": "mesh", "CreateIndex": 11, "ModifyIndex": 11}


def test_config_entries_show_later_fields() -> None:
    bench = Bench()
    entry = {
        "Kind": "service-defaults",
        "Name": "web",
        "Protocol": "http",
        "Mode": "transparent",
        "Later": {"A": 0},
    }
    bench.ok(log(commands.CONFIG_ENTRY, mesh.write_entry_request("service-defaults", entry, "upsert")))
    kept = bench.store.config_entry("service-defaults", "web")[1]
    assert kept is not None
    assert kept["Later"] == {"A": 0}
    shown = show_entry(kept)
    assert shown["Mode"] == "transparent"
    assert "Later" not in shown


def test_upstreams_are_shown_without_zero_values() -> None:
    upstream = {
        "CentrallyConfigured": False,
        "Config": None,
        "Datacenter": "",
        "DestinationName": "db",
        "DestinationNamespace": "",
        "DestinationType": "",
        "IngressHosts": None,
        "LocalBindAddress": "",
        "LocalBindPort": 0,
        "LocalBindSocketPath": "/run/db",
        "MeshGateway": {"Mode": ""},
    }
    shown = render.mesh_proxy(structs.ZERO_PROXY | {"Upstreams": [upstream]})["Upstreams"]
    assert shown == [
        {
            "Datacenter": "",
            "DestinationName": "db",
            "DestinationType": "",
            "LocalBindPort": 0,
            "LocalBindSocketPath": "/run/db",
            "MeshGateway": {},
        }
    ]
