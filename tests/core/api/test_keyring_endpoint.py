"""`/v1/operator/keyring`: what is asked of the pools, and how their answers look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from core.api import keyring as endpoint
from core.api.endpoint import AgentDoor, Errand, KeyringAnswer, Query, Request, ServerDoor
from core.api.keyring import KeyringRequest, KeyringResponse
from core.codec import wire
from core.errors import BadRequest, CtlError, Invalid, Unavailable

KEY = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="


class Agent:
    datacenter = "dc1"
    server = True

    def self_description(self) -> dict[str, Any]:
        return {"Config": {"Server": self.server}}


class Pool:
    def __init__(self, answer: KeyringAnswer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, int]] = []

    async def keyring(self, operation: str, key: str, relay_factor: int) -> KeyringAnswer:
        self.asked.append((operation, key, relay_factor))
        return self.answer


class Server:
    datacenter = "dc1"

    def __init__(self, lan: KeyringAnswer, wan: KeyringAnswer | None) -> None:
        self.lan = Pool(lan)
        self.wan = Pool(wan) if wan is not None else None
        self.others: dict[str, list[KeyringResponse] | CtlError] = {}
        self.errands: list[Errand] = []

    def other_datacenters(self) -> list[str]:
        return list(self.others)

    async def run_all(self, errands: Sequence[Errand]) -> list[list[KeyringResponse] | CtlError]:
        self.errands += errands
        return [self.others[errand.datacenter] for errand in errands]


def ask(method: str, query: str = "", body: bytes = b"", agent: Agent | None = None) -> Any:
    request = Request(method, "", "", Query(query.encode()), {}, body)
    return endpoint.keyring(cast(AgentDoor, agent or Agent()), request)


def run(server: Server, args: KeyringRequest) -> Any:
    return asyncio.run(cast(Any, endpoint.OPERATE.run(cast(ServerDoor, server), args)))


def test_a_listing_of_both_pools() -> None:
    errand = ask("GET", "relay-factor=3")
    assert isinstance(errand, Errand) and errand.action.rpc == "Internal.KeyringOperation"
    server = Server(
        KeyringAnswer(keys={KEY: 3}, primary_keys={KEY: 3}, nodes=3),
        KeyringAnswer(messages={"n1.dc1": "truncated"}, keys={KEY: 1}, primary_keys={KEY: 1}, nodes=1),
    )
    answers = run(server, errand.args)
    assert server.lan.asked == [("list", "", 3)]
    assert json.loads(errand.render(answers).body or b"") == [
        {
            "WAN": True,
            "Datacenter": "dc1",
            "Segment": "",
            "Messages": {"n1.dc1": "truncated"},
            "Keys": {KEY: 1},
            "PrimaryKeys": {KEY: 1},
            "NumNodes": 1,
        },
        {
            "WAN": False,
            "Datacenter": "dc1",
            "Segment": "",
            "Keys": {KEY: 3},
            "PrimaryKeys": {KEY: 3},
            "NumNodes": 3,
        },
    ]


def test_the_wan_is_left_out_when_it_was_asked_or_is_not_meant() -> None:
    answer = KeyringAnswer()
    for args in (KeyringRequest("list", local_only=True), KeyringRequest("list", forwarded=True)):
        server = Server(answer, answer)
        assert [one.wan for one in run(server, args)] == [False]
    assert len(run(Server(answer, None), KeyringRequest("list"))) == 1


def test_all_datacenters_are_asked_with_the_token_and_those_out_of_reach_are_told_of() -> None:
    answer = KeyringAnswer(keys={KEY: 1}, nodes=1)
    server = Server(answer, answer)
    there = KeyringResponse(datacenter="dc2", keys={KEY: 4}, num_nodes=4)
    server.others = {"dc2": [there], "dc3": Unavailable("No path to datacenter")}
    found = run(server, KeyringRequest("install", KEY, "dc1", relay_factor=2, token="secret"))
    assert [(one.wan, one.datacenter, one.num_nodes) for one in found] == [
        (True, "dc1", 1),
        (False, "dc1", 1),
        (False, "dc2", 4),
        (False, "dc3", 0),
    ]
    assert [errand.token for errand in server.errands] == ["secret", "secret"]
    for errand, name in zip(server.errands, ("dc2", "dc3"), strict=True):
        args = KeyringRequest("install", KEY, name, True, 2, token="secret")
        assert (errand.datacenter, errand.args) == (name, args)
    with pytest.raises(Invalid, match=r"dc3 \(LAN\) error: No path to datacenter"):
        endpoint._done(found)
    server.errands.clear()
    run(server, KeyringRequest("list", local_only=True))
    run(server, KeyringRequest("list", forwarded=True))
    assert server.errands == []


@pytest.mark.parametrize(("method", "operation"), [("POST", "install"), ("PUT", "use"), ("DELETE", "remove")])
def test_changes(method: str, operation: str) -> None:
    errand = ask(method, "", json.dumps({"Key": KEY}).encode())
    server = Server(KeyringAnswer(nodes=1), KeyringAnswer(nodes=1))
    reply = errand.render(run(server, errand.args))
    assert (reply.status, reply.body) == (200, None)
    assert server.lan.asked == [(operation, KEY, 0)] and server.wan is not None
    assert server.wan.asked == server.lan.asked


def test_failures_are_listed_with_their_nodes() -> None:
    text = "Keyring is empty (encryption not enabled)"
    lan = KeyringAnswer(messages={"n2": text, "n1": text}, nodes=2, error="2/2 nodes reported failure")
    wan = KeyringAnswer(messages={"n1.dc1": text}, nodes=1, error="1/1 nodes reported failure")
    errand = ask("GET")
    with pytest.raises(Invalid) as error:
        errand.render(run(Server(lan, wan), errand.args))
    assert error.value.text == (  # as recorded: reference/cli.md, keyring
        "5 errors occurred:\n\t* WAN error: 1/1 nodes reported failure\n"
        f"\t* n1.dc1: {text}\n\t* dc1 (LAN) error: 2/2 nodes reported failure\n"
        f"\t* n1: {text}\n\t* n2: {text}\n\n"
    )


@pytest.mark.parametrize(
    ("method", "query", "body", "text"),
    [
        ("POST", "", b"", "Bad request: Request decode failed: EOF"),
        (
            "GET",
            "relay-factor=6",
            b"",
            "Bad request: Invalid relay-factor: Relay factor must be in range: [0, 5]",
        ),
        (
            "GET",
            "relay-factor=banana",
            b"",
            'Bad request: Error parsing relay factor: strconv.Atoi: parsing "banana": invalid syntax',
        ),
        (
            "GET",
            "local-only=banana",
            b"",
            'Bad request: Error parsing local-only: strconv.ParseBool: parsing "banana": invalid syntax',
        ),
        (
            "PUT",
            "local-only=true",
            b'{"Key": "x"}',
            "Bad request: Invalid use of local-only: local-only can only be set for list requests",
        ),
    ],
)
def test_what_is_refused(method: str, query: str, body: bytes, text: str) -> None:
    with pytest.raises(BadRequest) as error:
        ask(method, query, body)
    assert error.value.text == text


def test_client_agents_refuse() -> None:
    agent = Agent()
    agent.server = False
    with pytest.raises(Unavailable, match="must run against a server node"):
        ask("GET", agent=agent)


def test_operations_that_servers_refuse() -> None:
    server = Server(KeyringAnswer(), None)
    with pytest.raises(Invalid, match="LocalOnly can only be used for List operations"):
        run(server, KeyringRequest("install", local_only=True))
    with pytest.raises(Invalid, match="operation"):
        run(server, KeyringRequest("erase"))


def test_names_on_the_wire() -> None:
    assert list(wire.to_wire(KeyringRequest("list"))) == [
        "Datacenter",
        "Forwarded",
        "Key",
        "LocalOnly",
        "Operation",
        "RelayFactor",
        "Token",
    ]
    assert list(wire.to_wire(KeyringResponse())) == [
        "Datacenter",
        "Error",
        "Keys",
        "Messages",
        "NumNodes",
        "PrimaryKeys",
        "Segment",
        "WAN",
    ]
