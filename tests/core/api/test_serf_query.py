"""Serf queries over HTTP: what is asked, what is refused, and the lines that come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.api import serf_query
from core.api.endpoint import Query, Reply, Request
from core.errors import BadRequest, CtlError, Denied, Invalid
from core.gossip.member import QueryResponse
from tests.core.api.query_server import Only


class Pool:
    """Answers with what it was given, and notes what it was asked."""

    def __init__(self, *answers: QueryResponse, error: CtlError | None = None) -> None:
        self.asked: list[tuple[str, bytes, dict[str, Any]]] = []
        self._answers, self._error = answers, error

    async def query(self, name: str, payload: bytes = b"", **options: Any) -> AsyncIterator[QueryResponse]:
        self.asked.append((name, payload, options))
        if self._error is not None:
            raise self._error
        for answer in self._answers:
            yield answer


def ask(pool: Pool, name: str, raw: str = "", body: bytes = b"", judge: Only | None = None) -> list[Any]:
    request = Request("POST", "/v1/internal/query/" + name, name, Query(raw.encode()), {}, body)
    if judge is not None:
        request.authorizer = judge
    agent: Any = SimpleNamespace(pool=pool)
    outcome: Any = serf_query.ask(agent, request)

    async def told() -> tuple[Reply, bytes]:
        reply = await outcome
        return reply, b"".join([piece async for piece in reply.stream])

    reply, raw = asyncio.run(told())
    assert (reply.status, reply.content_type) == (200, "application/x-ndjson")
    assert raw.endswith(b"\n")
    return [json.loads(line) for line in raw.splitlines()]


def test_acks_and_answers_are_lines() -> None:
    pool = Pool(QueryResponse("n1", None), QueryResponse("n2", b"\xff0.4"), QueryResponse("n1", b""))
    assert ask(pool, "load", body=b"payload") == [
        {"Type": "ack", "From": "n1"},
        {"Type": "response", "From": "n2", "Payload": "/zAuNA=="},
        {"Type": "response", "From": "n1", "Payload": ""},
        {"Type": "done", "Acks": 1, "Responses": 2},
    ]
    defaults = {"nodes": [], "tags": {}, "ack": True, "relay_factor": 0, "timeout": None}
    assert pool.asked == [("load", b"payload", defaults)]


def test_nobody_answers() -> None:
    assert ask(Pool(), "load") == [{"Type": "done", "Acks": 0, "Responses": 0}]


def test_filters_and_options() -> None:
    pool = Pool()
    ask(pool, "q", "node=a&node=b&tag=role%3D^web&tag=az%3Da=b&timeout=1500ms&no-ack&relay-factor=3")
    assert pool.asked[0][2] == {
        "nodes": ["a", "b"],
        "tags": {"role": "^web", "az": "a=b"},
        "ack": False,
        "relay_factor": 3,
        "timeout": 1.5,
    }


@pytest.mark.parametrize(
    ("name", "raw", "why"),
    [
        ("", "", "Missing query name"),
        ("_serf_install-key", "", "keys are changed by /v1/operator/keyring"),
        ("_serf_conflict", "", "a query of Serf's own"),
        ("q", "tag=role", 'Invalid tag filter "role": must be KEY=REGEXP'),
        ("q", "tag==x", "Invalid tag filter"),
        ("q", "tag=role=(", "Invalid filter of the tag role: error parsing regexp"),
        ("q", "timeout=x", "Invalid timeout: time: invalid duration"),
        ("q", "timeout=-1s", "Invalid timeout: -1s is not between"),
        ("q", "timeout=1h", "Invalid timeout: 1h is not between"),
        ("q", "relay-factor=-1", "Invalid relay-factor: strconv.ParseUint"),
        ("q", "relay-factor=256", "Invalid relay-factor: 256 is more than 255"),
    ],
)
def test_what_is_refused(name: str, raw: str, why: str) -> None:
    pool = Pool()
    with pytest.raises(BadRequest) as caught:
        ask(pool, name, raw)
    assert why in str(caught.value)
    assert not pool.asked


def test_the_ping_may_be_asked() -> None:
    assert ask(Pool(QueryResponse("n1", None)), "_serf_ping")[-1]["Acks"] == 1


def test_what_is_too_large_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="query exceeds limit"):
        ask(Pool(error=Invalid("query exceeds limit of 1024 bytes")), "q", body=b"x" * 2000)


def test_it_takes_event_write_on_the_name() -> None:
    pool = Pool()
    ask(pool, "deploy-web", judge=Only("event:write deploy"))
    for judge in (Only("event:write other"), Only("event:read", "agent:write"), Only()):
        with pytest.raises(Denied, match="event:write on deploy-web"):
            ask(pool, "deploy-web", judge=judge)
    assert len(pool.asked) == 1


KEYS = st.sampled_from(["node", "tag", "timeout", "no-ack", "relay-factor"])


@given(st.text(max_size=12), st.lists(st.tuples(KEYS, st.text("ab=1s-(*", max_size=6)), max_size=4))
def test_odd_requests_are_refused_with_a_reason(name: str, pairs: list[tuple[str, str]]) -> None:
    raw = "&".join(f"{key}={value}" for key, value in pairs)
    try:
        lines = ask(Pool(), name, raw)
    except BadRequest as error:
        assert str(error)
    else:
        assert lines[-1]["Type"] == "done"
