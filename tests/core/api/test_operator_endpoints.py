"""The operator's endpoints: over HTTP, against a server that is only pretended, and the same through RPC.

The conformance scenarios hold the exact bodies of a cluster of one; here is what they leave out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import fields, replace

from core.api import operator, operator_shapes, remote_operator
from core.api.endpoint import AgentDoor, Command, Errand, Query, Reply, Request, ServerDoor
from core.api.remote import REMOTES
from core.api.remote_operator import OPERATOR
from core.api.router import Router
from core.codec import msgpack, wire
from core.codec.duration import MILLISECOND, SECOND
from core.errors import BadRequest, CtlError, Invalid, Unavailable
from core.gossip.member import ALIVE, FAILED, NONE, Member
from core.node.autopilot import DEFAULTS, Health, ServerHealth
from core.raft.configuration import NONVOTER, Configuration, Server
from core.store import commands
from core.store.fsm import FSM
from core.store.structs import RegisterRequest
from tests.core.node.cluster_kit import server

VECTORS = Path(__file__).parents[2] / "vectors" / "rpc"
STRUCTS: dict[str, Any] = json.loads((VECTORS / "structs.json").read_text())["structs"]
CALLS = json.loads((VECTORS / "client_agent_calls.json").read_text())["vectors"]
ROUTES = Router(operator.ROUTES)
URL = "/v1/operator/"


class Raft:
    """A RaftDoor that changes at once."""

    def __init__(self) -> None:
        self.configuration = Configuration(
            (
                Server("id-s1", "10.0.0.1:8300"),
                Server("id-s2", "10.0.0.2:8300"),
                Server("id-gone", "10.0.0.7:8300", NONVOTER),
            )
        )
        self.leader_id = "id-s1"

    async def change(self, configuration: Configuration) -> None:
        self.configuration = configuration


class Lan:
    def members(self) -> tuple[Member, ...]:
        return server("s1", address="10.0.0.1"), server("s2", FAILED, "10.0.0.2", raft_vsn="2")


class PretendedServer:
    """A ServerDoor."""

    datacenter = "dc1"

    def __init__(self) -> None:
        self.fsm = FSM()
        self.store = self.fsm.store
        self.raft = Raft()
        self.lan = Lan()
        self.transferred: list[str] = []
        self.health = Health()
        self._index = 0

    def autopilot_health(self) -> Health:
        return self.health

    async def transfer_leader(self, target: str) -> None:
        if target == "id-s9":
            raise Invalid("cannot transfer leadership to id-s9: not a voter of the configuration")
        self.transferred.append(target)

    def apply(self, data: bytes) -> object:
        self._index += 1
        return self.fsm.apply(self._index, data)


class Agent:
    datacenter = "dc1"


def asked(what: str, body: Any = None) -> Any:
    """What the endpoint makes of `METHOD path?query` (below /v1/operator/)."""
    method, _, target = what.partition(" ")
    path, _, query = target.partition("?")
    found = ROUTES.find(URL + path)
    assert found is not None and method in found[0].methods
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    request = Request(method, URL + path, found[1], Query(query.encode()), {}, raw, token="t")
    return found[0].handler(cast(AgentDoor, Agent()), request)


def outcome(at: PretendedServer, work: Errand | Command) -> Any:
    """What the server gives for an errand or a command."""
    if isinstance(work, Errand):
        return asyncio.run(cast(Any, work.action.run(cast(ServerDoor, at), work.args)))
    data = work.write.prepare(at.store, work.args)
    assert isinstance(data, bytes)
    return at.apply(data)


@pytest.fixture(params=["here", "over RPC"])
def ask(request: pytest.FixtureRequest) -> Any:
    """(server, `METHOD path?query`, body) -> status and body. Over RPC everything travels as bytes."""

    def here(at: PretendedServer, what: str, body: Any = None) -> tuple[int, Any]:
        work = asked(what, body)
        return shown(work.render(outcome(at, work)))

    def far(at: PretendedServer, what: str, body: Any = None) -> tuple[int, Any]:
        work = asked(what, body)
        remote = REMOTES[work.action.rpc if isinstance(work, Errand) else work.write.rpc]
        sent = msgpack.decode(msgpack.encode(remote.request(work, "dc1")))
        taken: Any = remote.accept(sent)
        assert taken.datacenter == "dc1"
        answered = msgpack.decode(msgpack.encode(remote.reply(outcome(at, taken))))
        return shown(work.render(remote.answer(answered)))

    return here if request.param == "here" else far


def shown(reply: Reply) -> tuple[int, Any]:
    return reply.status, json.loads(reply.body) if reply.body is not None else None


def row(name: str, **more: Any) -> ServerHealth:
    usual = {
        "id": f"id-{name}",
        "name": name,
        "address": "10.0.0.1:8300",
        "status": ALIVE,
        "version": "1.9.8",
        "raft_version": 3,
        "leader": False,
        "voter": True,
        "read_replica": False,
        "last_contact": 0,
        "last_term": 3,
        "last_index": 99,
        "healthy": True,
        "stable_since": 1_700_000_000.4,
    }
    return ServerHealth(**{**usual, **more})


# Raft


def test_the_configuration_names_members_and_tells_who_is_unknown(ask: Any) -> None:
    status, body = ask(PretendedServer(), "GET raft/configuration")
    assert status == 200 and body["Index"] == 0
    rows = [(r["ID"], r["Node"], r["Leader"], r["ProtocolVersion"], r["Voter"]) for r in body["Servers"]]
    assert rows == [
        ("id-s1", "s1", True, "3", True),
        ("id-s2", "s2", False, "2", True),
        ("id-gone", "(unknown)", False, "unknown", False),
    ]
    assert body["Servers"][2]["Address"] == "10.0.0.7:8300"


def test_a_stale_read_is_for_any_server() -> None:
    for path in ("raft/configuration", "autopilot/configuration", "autopilot/health", "autopilot/state"):
        plain, stale = asked(f"GET {path}"), asked(f"GET {path}?stale")
        assert plain.action.leader and not stale.action.leader
        remote = REMOTES[plain.action.rpc]
        for errand in (plain, stale):
            taken: Any = remote.accept(msgpack.decode(msgpack.encode(remote.request(errand, "dc1"))))
            assert taken.action == errand.action and taken.args == errand.args and taken.token == "t"


@pytest.mark.parametrize(("what", "left"), [("id=id-gone", 2), ("address=10.0.0.2:8300", 2)])
def test_a_peer_is_removed(ask: Any, what: str, left: int) -> None:
    at = PretendedServer()
    assert ask(at, f"DELETE raft/peer?{what}") == (200, None)
    assert len(at.raft.configuration.servers) == left


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("id=x", 'id "x" was not found in the Raft configuration'),
        ("id=id-s", 'id "id-s" was not found in the Raft configuration'),
        ("address=10.0.0.9:8300", 'address "10.0.0.9:8300" was not found in the Raft configuration'),
    ],
)
def test_a_peer_that_is_none(ask: Any, what: str, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask(PretendedServer(), f"DELETE raft/peer?{what}")
    assert str(caught.value) == text


def test_the_last_voter_cannot_be_removed(ask: Any) -> None:
    at = PretendedServer()
    at.raft.configuration = at.raft.configuration.without("id-s2")
    with pytest.raises(Invalid, match="need at least one voter"):
        ask(at, "DELETE raft/peer?id=id-s1")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_leadership_is_handed_over(ask: Any, method: str) -> None:
    at = PretendedServer()
    assert ask(at, f"{method} raft/transfer-leader?id=id-s2") == (200, {"Success": True})
    assert ask(at, f"{method} raft/transfer-leader") == (200, {"Success": True})
    assert at.transferred == ["id-s2", ""]
    with pytest.raises(CtlError, match="not a voter"):
        ask(at, f"{method} raft/transfer-leader?id=id-s9")


# Autopilot


def test_health_of_a_cluster_that_is_not_well(ask: Any) -> None:
    at = PretendedServer()
    at.health = Health(
        healthy=False,
        failure_tolerance=0,
        leader="id-s1",
        voters=("id-s1", "id-s2"),
        servers=(
            row("s1", leader=True),
            row("s2", healthy=False, status=FAILED, last_contact=2500 * MILLISECOND, stable_since=1e9 + 0.6),
            row("x", version="", status=NONE, voter=False, healthy=False),
        ),
    )
    status, body = ask(at, "GET autopilot/health")
    assert status == 429
    assert (body["Healthy"], body["FailureTolerance"]) == (False, 0)
    assert body["Servers"][0] == {
        "ID": "id-s1",
        "Name": "s1",
        "Address": "10.0.0.1:8300",
        "SerfStatus": "alive",
        "Version": "1.9.8",
        "Leader": True,
        "LastContact": "0s",
        "LastTerm": 3,
        "LastIndex": 99,
        "Healthy": True,
        "Voter": True,
        "StableSince": "2023-11-14T22:13:20Z",
    }
    told = [(one["SerfStatus"], one["LastContact"], one["StableSince"]) for one in body["Servers"][1:]]
    assert told == [("failed", "2.5s", "2001-09-09T01:46:41Z"), ("none", "0s", "2023-11-14T22:13:20Z")]


def test_health_of_a_cluster_that_is_well(ask: Any) -> None:
    at = PretendedServer()
    at.health = Health(True, 1, "id-s1", ("id-s1",), (row("s1", leader=True),))
    status, body = ask(at, "GET autopilot/health")
    assert status == 200 and body["Healthy"] and body["FailureTolerance"] == 1


def test_a_leader_that_has_not_looked_yet(ask: Any) -> None:
    status, body = ask(PretendedServer(), "GET autopilot/health")
    assert (status, body) == (429, {"Healthy": False, "FailureTolerance": 0, "Servers": []})


def test_the_state_has_roles_and_metadata(ask: Any) -> None:
    at = PretendedServer()
    at.apply(commands.register(RegisterRequest(node="s1", address="10.0.0.1", node_meta={"rack": "r1"})))
    at.health = Health(
        True,
        1,
        "id-s1",
        ("id-s1", "id-s2"),
        (row("s2"), row("s1", leader=True), row("s3", voter=False, read_replica=True, status=NONE)),
    )
    status, body = ask(at, "GET autopilot/state")
    assert status == 200
    assert list(body) == [
        *("Healthy", "FailureTolerance", "OptimisticFailureTolerance", "Servers", "Leader", "Voters"),
    ]
    assert (body["Leader"], body["Voters"]) == ("id-s1", ["id-s1", "id-s2"])
    rows = [
        (key, one["Status"], one["NodeStatus"], one["NodeType"], one["ReadReplica"], one["Meta"])
        for key, one in body["Servers"].items()
    ]
    assert rows == [
        ("id-s1", "leader", "alive", "voter", False, {"rack": "r1"}),
        ("id-s2", "voter", "alive", "voter", False, None),
        ("id-s3", "non-voter", "unknown", "read-replica", True, None),
    ]


def test_the_configuration_is_read_and_set(ask: Any) -> None:
    at = PretendedServer()
    path = "autopilot/configuration"
    assert ask(at, f"GET {path}")[1]["ServerStabilizationTime"] == "10s"  # before a leader wrote any
    body = {
        "cleanupDEADservers": False,
        "LastContactThreshold": "1.5s",
        "ServerStabilizationTime": 3 * SECOND,
    }
    assert ask(at, f"PUT {path}", {**body, "CreateIndex": 7, "ModifyIndex": 7}) == (200, True)
    found = ask(at, f"GET {path}")[1]
    assert found == {
        "CleanupDeadServers": False,
        "LastContactThreshold": "1.5s",
        "MaxTrailingLogs": 250,
        "MinQuorum": 0,
        "ServerStabilizationTime": "3s",
        "RedundancyZoneTag": "",
        "DisableUpgradeMigration": False,
        "UpgradeVersionTag": "",
        "CreateIndex": 1,
        "ModifyIndex": 1,
    }
    assert ask(at, f"PUT {path}?cas=5", {"MinQuorum": 3}) == (200, False)
    assert ask(at, f"PUT {path}?cas=1", {"MinQuorum": 3}) == (200, True)
    assert at.store.autopilot_config() == replace(DEFAULTS, min_quorum=3, create_index=1, modify_index=3)


@pytest.mark.parametrize(
    ("query", "body", "text"),
    [
        ("", b"", "Bad request: Error parsing autopilot config: EOF"),
        ("", b"{", "Bad request: Error parsing autopilot config: unexpected EOF"),
        ("", b'{"Nope": 1}', 'Bad request: Error parsing autopilot config: json: unknown field "Nope"'),
        (
            "",
            b'{"LastContactThreshold": "soon"}',
            'Bad request: Error parsing autopilot config: time: invalid duration "soon"',
        ),
        (
            "",
            b'{"LastContactThreshold": []}',
            "Bad request: Error parsing autopilot config: invalid duration []",
        ),
        ("", b'{"MinQuorum": -1}', None),
        (
            "?cas=x",
            b"{}",
            'Bad request: Error parsing cas value: strconv.ParseUint: parsing "x": invalid syntax',
        ),
        (
            "?cas",
            b"{}",
            'Bad request: Error parsing cas value: strconv.ParseUint: parsing "": invalid syntax',
        ),
    ],
)
def test_configurations_that_make_no_sense(query: str, body: bytes, text: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        asked(f"PUT autopilot/configuration{query}", body)
    assert text is None or str(caught.value) == text


# RPC


@pytest.mark.parametrize(
    "call", [c for c in CALLS if c["method"].startswith("Operator.")], ids=lambda c: c["method"]
)
def test_replies_of_a_real_server(call: dict[str, Any]) -> None:
    """What a real server answered has a place in our structs, and goes back to the same fields."""

    def binary(value: Any) -> Any:
        if isinstance(value, dict):
            return (
                bytes.fromhex(value["hex"])
                if list(value) == ["hex"]
                else {k: binary(v) for k, v in value.items()}
            )
        return [binary(one) for one in value] if isinstance(value, list) else value

    remote = REMOTES[call["method"]]
    reply = msgpack.decode(msgpack.encode(binary(call["response"])))
    again = msgpack.decode(msgpack.encode(remote.reply(remote.answer(reply))))
    assert again == reply


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (operator_shapes.RaftServer, "RaftServer"),
        (operator_shapes.RaftConfigurationResponse, "RaftConfigurationResponse"),
        (operator_shapes.AutopilotServerHealth, "AutopilotServerHealth"),
        (operator_shapes.AutopilotHealthReply, "AutopilotHealthReply"),
        (operator_shapes.AutopilotState, "raft-autopilot.State"),
        (operator_shapes.ServerState, "raft-autopilot.ServerState"),
        (operator_shapes.StateServer, "raft-autopilot.Server"),
        (operator_shapes.StateHealth, "raft-autopilot.ServerHealth"),
        (operator_shapes.StateStats, "raft-autopilot.ServerStats"),
        (remote_operator.RaftRemovePeerRequest, "RaftRemovePeerRequest"),
    ],
)
def test_structs_have_all_fields(cls: Any, name: str) -> None:
    names = sorted(field.encode_name for field in fields(cls))
    assert names == [field["name"] for field in STRUCTS[name]["fields"]]
    assert wire.pack(cls()).hex() == STRUCTS[name]["zero_hex"]


@pytest.mark.parametrize("remote", OPERATOR, ids=lambda remote: remote.rpc)
def test_nonsense_from_a_server(remote: Any) -> None:
    for reply in (5, b"x", [1], {b"Servers": 5, b"MinQuorum": b"x"}):
        if remote.rpc not in ("Operator.RaftRemovePeerByID", "Operator.RaftRemovePeerByAddress"):
            with pytest.raises(Unavailable):
                remote.answer(reply)
