"""Python's libraries for Consul: all that they offer, as their documentation says it goes."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.clients.lending import imported, python_folder
from tests.harness import Agent, until

LIBRARIES = ("py-consul==1.8.0", "python-consul==1.1.0", "python-consul2==0.1.5")


@pytest.fixture(scope="module", params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    with imported(python_folder(request.param), "consul") as module:
        module.__dict__["requirement"] = request.param
        yield module


@pytest.fixture
def client(library: ModuleType, home: Agent) -> Any:
    return library.Consul(host=home.address, port=home.http_port, token=home.token or None)


@pytest.fixture
def name() -> str:
    """A name that no other test has used."""
    return f"n{uuid.uuid4().hex[:8]}"


@pytest.fixture
def node(client: Any) -> str:
    found: str = client.agent.self()["Config"]["NodeName"] if not client.token else ""
    return found or client.catalog.nodes()[1][0]["Node"]


def test_keys(client: Any, name: str) -> None:
    index, missing = client.kv.get(name)
    assert missing is None and int(index) > 0
    assert client.kv.put(f"{name}/a", "1", flags=42) is True
    assert client.kv.put(f"{name}/b/c", b"\x00\xff") is True
    assert client.kv.put(f"{name}/none", None) is True
    _, row = client.kv.get(f"{name}/a")
    assert (row["Key"], row["Value"], row["Flags"], row["LockIndex"]) == (f"{name}/a", b"1", 42, 0)
    assert row["CreateIndex"] == row["ModifyIndex"]
    _, rows = client.kv.get(f"{name}/", recurse=True)
    assert [(row["Key"], row["Value"]) for row in rows] == [
        (f"{name}/a", b"1"),
        (f"{name}/b/c", b"\x00\xff"),
        (f"{name}/none", None),
    ]
    assert client.kv.get(f"{name}/", keys=True, separator="/")[1] == [
        f"{name}/a",
        f"{name}/b/",
        f"{name}/none",
    ]
    for consistency in ("consistent", "stale"):
        assert client.kv.get(f"{name}/a", consistency=consistency)[1] == row
    assert client.kv.delete(f"{name}/", recurse=True) is True
    assert client.kv.get(f"{name}/", recurse=True)[1] is None


def test_check_and_set(client: Any, name: str) -> None:
    assert client.kv.put(name, "first", cas=0) is True
    assert client.kv.put(name, "second", cas=0) is False
    at = client.kv.get(name)[1]["ModifyIndex"]
    assert client.kv.put(name, "third", cas=at) is True
    assert client.kv.delete(name, cas=at) is False
    assert client.kv.get(name)[1]["Value"] == b"third"
    assert client.kv.delete(name, cas=client.kv.get(name)[1]["ModifyIndex"]) is True


def test_waiting_for_a_key(client: Any, name: str, home: Agent) -> None:
    index, _ = client.kv.get(name)
    seen: list[Any] = []
    waiting = threading.Thread(target=lambda: seen.append(client.kv.get(name, index=index, wait="20s")))
    waiting.start()
    until(
        "the key is there", lambda: home.http("PUT", f"/v1/kv/{name}?cas=0", b"now").status == 200, pause=0.1
    )
    waiting.join(20)
    later, row = seen[0]
    assert row["Value"] == b"now" and int(later) > int(index)
    assert client.kv.get(name, index=later, wait="50ms")[0] == later


def test_sessions_and_locks(client: Any, name: str, node: str) -> None:
    mine = client.session.create(name=name, ttl=10, behavior="delete", lock_delay=0)
    other = client.session.create(name=name, lock_delay=0)
    assert client.kv.put(name, "mine", acquire=mine) is True
    assert client.kv.put(name, "mine", acquire=mine) is True
    assert client.kv.put(name, "other", acquire=other) is False
    _, row = client.kv.get(name)
    assert (row["Session"], row["LockIndex"], row["Value"]) == (mine, 1, b"mine")
    assert client.kv.put(name, "left", release=mine) is True
    assert client.kv.put(name, "other", acquire=other) is True
    assert client.kv.get(name)[1]["LockIndex"] == 2
    _, told = client.session.info(mine)
    assert (told["ID"], told["Name"], told["TTL"], told["Behavior"]) == (mine, name, "10s", "delete")
    assert told["Node"] == node and told["LockDelay"] == 0
    for listing in (client.session.list()[1], client.session.node(node)[1]):
        assert {mine, other} <= {one["ID"] for one in listing}
    assert client.session.renew(mine)["ID"] == mine
    assert client.session.destroy(other) is True
    assert "Session" not in client.kv.get(name)[1]
    client.kv.put(name, "mine", acquire=mine)
    assert client.session.destroy(mine) is True
    assert client.kv.get(name)[1] is None
    assert client.session.info(mine)[1] is None


def test_renewing_what_is_gone(client: Any, library: ModuleType) -> None:
    with pytest.raises(library.NotFound):
        client.session.renew(str(uuid.uuid4()))
    with pytest.raises(library.ConsulException):
        client.kv.put("held", "x", acquire=str(uuid.uuid4()))


def test_transactions(client: Any, name: str, library: ModuleType) -> None:
    value = base64.b64encode(b"v").decode()
    # What a transaction wrote it returns without the value, what it read with it.
    done = client.txn.put(
        [
            {"KV": {"Verb": "set", "Key": name, "Value": value}},
            {"KV": {"Verb": "get", "Key": name}},
        ]
    )
    assert done["Errors"] is None and [row["KV"]["Value"] for row in done["Results"]] == [None, value]
    with pytest.raises(library.ConsulException):
        client.txn.put([{"KV": {"Verb": "delete", "Key": name}}, {"KV": {"Verb": "get", "Key": f"{name}x"}}])
    assert client.kv.get(name)[1]["Value"] == b"v"


def test_the_catalog(client: Any, library: ModuleType, name: str) -> None:
    if client.token and library.requirement.startswith(("py-consul", "python-consul==")):
        # They put the token in the body too, under a name that Consul since 1.7 does not take.
        with pytest.raises(library.ConsulException, match='unknown field "WriteRequest"'):
            client.catalog.register(f"{name}n", "10.1.2.3")
        client.token = None
    service = {"service": name, "id": f"{name}1", "tags": ["a", "b"], "port": 99}
    check = {"name": "up", "checkid": f"{name}c", "status": "passing", "serviceid": f"{name}1"}
    assert client.catalog.register(f"{name}n", "10.1.2.3", service=service, check=check) is True
    _, rows = client.catalog.service(name)
    assert (rows[0]["Address"], rows[0]["ServicePort"], rows[0]["ServiceTags"]) == (
        "10.1.2.3",
        99,
        ["a", "b"],
    )
    assert client.catalog.service(name, tag="none")[1] == []
    assert set(client.catalog.services()[1][name]) == {"a", "b"}
    assert f"{name}n" in [node["Node"] for node in client.catalog.nodes()[1]]
    _, told = client.catalog.node(f"{name}n")
    assert told["Node"]["Address"] == "10.1.2.3" and list(told["Services"]) == [f"{name}1"]
    assert client.catalog.datacenters() == ["dc1"]
    assert client.health.node(f"{name}n")[1][0]["Status"] == "passing"
    assert client.health.service(name, passing=True)[1][0]["Service"]["ID"] == f"{name}1"
    assert client.catalog.deregister(f"{name}n", check_id=f"{name}c") is True
    assert client.health.checks(name)[1] == []
    assert client.catalog.deregister(f"{name}n", service_id=f"{name}1") is True
    assert client.catalog.deregister(f"{name}n") is True
    assert client.catalog.node(f"{name}n")[1] is None


def test_the_agent_s_services(client: Any, library: ModuleType, name: str) -> None:
    register = client.agent.service.register
    assert register(name, service_id=f"{name}1", address="10.0.0.1", port=80, tags=["x"]) is True
    told = client.agent.services()[f"{name}1"]
    assert (told["Service"], told["Address"], told["Port"], told["Tags"]) == (name, "10.0.0.1", 80, ["x"])
    until("it is in the catalog", lambda: client.catalog.service(name)[1])
    assert register(name, service_id=f"{name}1", check=library.Check.ttl("20s")) is True
    check_id = f"service:{name}1"
    until("the check is critical", lambda: _status(client, name, check_id) == "critical")
    for call, status in (("ttl_pass", "passing"), ("ttl_warn", "warning"), ("ttl_fail", "critical")):
        assert getattr(client.agent.check, call)(check_id, notes=f"is {status}") is True
        until(f"the catalog has {status}", lambda wanted=status: _status(client, name, check_id) == wanted)
    assert client.agent.checks()[check_id]["Output"] == "is critical"
    assert client.health.service(name, passing=True)[1] == []
    assert check_id in [check["CheckID"] for check in client.health.state("critical")[1]]
    assert client.agent.service.maintenance(f"{name}1", True, reason="work") is True
    assert f"_service_maintenance:{name}1" in client.agent.checks()
    assert client.agent.service.maintenance(f"{name}1", False) is True
    assert client.agent.service.deregister(f"{name}1") is True
    assert f"{name}1" not in client.agent.services()
    until("it left the catalog", lambda: not client.catalog.service(name)[1])


def _status(client: Any, service: str, check_id: str) -> str:
    return {check["CheckID"]: check["Status"] for check in client.health.checks(service)[1]}.get(check_id, "")


def test_the_agent_s_checks(client: Any, library: ModuleType, name: str, home: Agent) -> None:
    port = {"http": home.http_port, "tcp": home.http_port}
    url = f"http://{home.address}:{port['http']}/v1/status/leader"
    kinds = {
        "ttl": library.Check.ttl("30s"),
        "http": library.Check.http(url, "100ms", timeout="2s"),
        "tcp": library.Check.tcp(home.address, port["tcp"], "100ms"),
    }
    for kind, check in kinds.items():
        assert client.agent.check.register(f"{name}-{kind}", check=check) is True
    for kind in ("http", "tcp"):
        until(
            f"{kind} passes",
            lambda kind=kind: client.agent.checks()[f"{name}-{kind}"]["Status"] == "passing",
        )
    for kind in kinds:
        assert client.agent.check.deregister(f"{name}-{kind}") is True
    assert not [check for check in client.agent.checks() if check.startswith(name)]


def test_the_agent_itself(client: Any, home: Agent) -> None:
    assert home.address in [member["Addr"] for member in client.agent.members()]
    assert client.agent.maintenance(True, "work") is True
    assert client.agent.checks()["_node_maintenance"]["Notes"] == "work"
    assert client.agent.maintenance(False) is True
    assert client.status.leader() == f"{home.address}:8300"
    assert client.status.peers() == [f"{home.address}:8300"]


def test_events(client: Any, name: str) -> None:
    fired = client.event.fire(name, "body")
    assert (fired["Name"], fired["Version"]) == (name, 1)

    def heard() -> list[dict[str, Any]]:
        return [event for event in client.event.list(name)[1] if event["ID"] == fired["ID"]]

    (event,) = until("the event is heard", heard)
    payload = event["Payload"]
    assert (payload if isinstance(payload, bytes) else base64.b64decode(payload)) == b"body"


def test_prepared_queries(client: Any, library: ModuleType, name: str) -> None:
    client.agent.service.register(name, port=7)
    until("it is in the catalog", lambda: client.catalog.service(name)[1])
    made = client.query.create(name, name=f"{name}-query")["ID"]
    assert made in [query["ID"] for query in client.query.list()]
    (told,) = client.query.get(made)
    assert told["Name"] == f"{name}-query" and told["Service"]["Service"] == name
    assert [row["Service"]["Port"] for row in client.query.execute(f"{name}-query")["Nodes"]] == [7]
    with pytest.raises(library.ConsulException, match="by name, not by ID"):
        client.query.execute(made)  # these libraries make each query a template
    assert client.query.explain(f"{name}-query")["Query"]["ID"] == made
    assert client.query.delete(made) is True
    client.agent.service.deregister(name)


def test_coordinates_and_operator(client: Any, home: Agent) -> None:
    (local,) = [place for place in client.coordinate.datacenters() if place["AreaID"] == "lan"] or [None]
    assert local is None or local["Datacenter"] == "dc1"
    assert isinstance(client.coordinate.nodes()[1], list)
    if hasattr(client, "operator"):
        (server,) = client.operator.raft_config()["Servers"]
        assert server["Leader"] and server["Address"] == f"{home.address}:8300"


# --- access control ----------------------------------------------------------------------------------

guarded = pytest.mark.parametrize("home", ["guarded"], indirect=True)


@pytest.fixture
def stranger(library: ModuleType, home: Agent) -> Any:
    """A client whose token may do nothing."""
    token = home.put("/v1/acl/token", {}).json()["SecretID"]
    return library.Consul(host=home.address, port=home.http_port, token=token)


@guarded
def test_strangers_are_refused(stranger: Any, library: ModuleType, client: Any, name: str) -> None:
    assert client.kv.put(name, "secret") is True
    refused: list[Callable[[], Any]] = [
        lambda: stranger.kv.get(name),
        lambda: stranger.kv.put(name, "x"),
        lambda: stranger.kv.delete(name),
    ]
    for call in refused:
        with pytest.raises(library.ACLPermissionDenied):
            call()
    assert not stranger.kv.get(name, keys=True)[1]
    assert stranger.catalog.nodes()[1] == [] and stranger.health.service("consul")[1] == []
    assert client.kv.get(name)[1]["Value"] == b"secret"


@guarded
@pytest.mark.parametrize("library", LIBRARIES[:1], indirect=True)
def test_the_tokens_of_today(client: Any, stranger: Any, library: ModuleType, name: str) -> None:
    """py-consul writes rules as JSON; what such a token may do, and what not."""
    acl = client.acl
    policy = acl.policy.create(name, rules={"key_prefix": {name: {"policy": "write"}}}, description="d")
    assert acl.policy.read(policy["ID"])["Name"] == name
    role = acl.role.create(f"{name}-role", policies_id=[policy["ID"]])
    mixed = f"00000000-DEAD-BEEF-{uuid.uuid4().hex[:4]}-000000000000"
    token = acl.token.create(accessor_id=mixed, roles_name=[f"{name}-role"], description="mine")
    assert token["AccessorID"] == mixed, "an id is kept as it was given"
    assert acl.token.read(mixed.lower())["SecretID"] == token["SecretID"]
    assert acl.token.read_self(token=token["SecretID"])["Description"] == "mine"
    assert mixed in [one["AccessorID"] for one in acl.token.list()]
    assert stranger.kv.put(f"{name}/x", "1", token=token["SecretID"]) is True
    with pytest.raises(library.ACLPermissionDenied):
        stranger.kv.put("elsewhere", "1", token=token["SecretID"])
    copy = acl.token.clone(mixed, description="copy")
    assert stranger.kv.put(f"{name}/y", "1", token=copy["SecretID"]) is True
    for accessor in (mixed, copy["AccessorID"]):
        assert acl.token.delete(accessor) is True
    assert acl.role.delete(role["ID"]) is True and acl.policy.delete(policy["ID"]) is True
    with pytest.raises(library.ConsulException):
        stranger.kv.put(f"{name}/x", "1", token=token["SecretID"])


@guarded
@pytest.mark.parametrize("library", LIBRARIES[1:2], indirect=True)
def test_the_tokens_of_once(client: Any, stranger: Any, name: str) -> None:
    """python-consul knows only the legacy system, whose endpoints Consul 1.9 still serves."""
    rules = json.dumps({"key": {name: {"policy": "write"}}})
    secret = client.acl.create(name=name, rules=rules)
    told = client.acl.info(secret)
    assert (told["ID"], told["Name"], told["Type"]) == (secret, name, "client")
    assert stranger.kv.put(f"{name}/x", "1", token=secret) is True
    copy = client.acl.clone(secret)
    assert {secret, copy} <= {one["ID"] for one in client.acl.list()}
    assert client.acl.update(secret, name="renamed", rules=rules) == secret
    assert client.acl.destroy(copy) is True and client.acl.destroy(secret) is True
