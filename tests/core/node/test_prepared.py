"""Prepared queries at work: what may be stored, what they find, in which order, and where they look next."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Invalid
from core.node import prepared
from core.node.prepared import Source
from core.store.structs import (
    CheckServiceNode,
    PreparedQuery,
    QueryDatacenterOptions,
    QueryDNSOptions,
    QueryFailoverTarget,
    QueryTemplateOptions,
    ServiceQuery,
)
from tests.core.node.test_distance import at, bench
from tests.core.store.maker import Bench


def query(**service: Any) -> PreparedQuery:
    service.setdefault("service", "web")
    return PreparedQuery(id="1", name="q", service=ServiceQuery(**service))


# --- what may be stored


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (PreparedQuery(service=ServiceQuery("x")), "Must be bound to a session"),
        (PreparedQuery(name="q"), "Must provide a Service name to query"),
        (
            PreparedQuery(name="q", token="<hidden>", service=ServiceQuery("x")),
            "Bad Token '<hidden>', it looks",
        ),
        (query(failover=QueryDatacenterOptions(-1)), "Bad NearestN '-1', must be >= 0"),
        (
            query(failover=QueryDatacenterOptions(1, None, [QueryFailoverTarget(datacenter="dc2")])),
            "Targets cannot be populated with NearestN or Datacenters",
        ),
        (
            query(failover=QueryDatacenterOptions(0, None, [QueryFailoverTarget("p")])),
            "Targets cannot name a Peer",
        ),
        (query(node_meta={"": "x"}), "Couldn't load metadata pair ('', 'x'): Key cannot be blank"),
        (
            PreparedQuery(name="q", service=ServiceQuery("x"), dns=QueryDNSOptions("-1s")),
            "DNS TTL '-1000000000'",
        ),
        (
            PreparedQuery(name="q", service=ServiceQuery("x"), dns=QueryDNSOptions("x")),
            "Bad DNS TTL 'x': time: ",
        ),
    ],
)
def test_what_may_not_be_stored(made: PreparedQuery, why: str) -> None:
    with pytest.raises(Invalid) as caught:
        prepared.validate(made)
    assert str(caught.value).startswith(why)


def test_what_may_be_stored() -> None:
    service = ServiceQuery("x", service_meta={"bad key!": "x"}, node_meta={"consul-x": "1"})
    for more in (
        {"name": "q"},
        {"session": "s"},
        {"template": QueryTemplateOptions("name_prefix_match")},
        {"name": "q", "dns": QueryDNSOptions("10s")},
    ):
        prepared.validate(PreparedQuery(service=service, **more))  # type: ignore[arg-type]


# --- what is found


@pytest.fixture
def made() -> Bench:
    made = Bench()
    for number, (tags, meta, status) in enumerate(
        [
            (["v1", "X"], {"m": "1"}, "passing"),
            (["v2", "x"], {"m": "2"}, "warning"),
            (["v2"], None, "critical"),
            (None, {"m": "1"}, "passing"),
        ],
        1,
    ):
        node = f"n{number}"
        made.register(node, address=f"10.0.0.{number}", node_meta={"zone": "ab"[number % 2]})
        connect = {"Native": True, "SidecarService": None} if number == 4 else None
        made.service(node, f"w{number}", tags=tags, meta=meta, connect=connect)
        made.check(node, f"c{number}", status, f"w{number}")
    return made


def names(items: list[CheckServiceNode]) -> str:
    return " ".join(item.node.node for item in items)


@pytest.mark.parametrize(
    ("service", "found"),
    [
        ({}, "n1 n2 n4"),
        ({"only_passing": True}, "n1 n4"),
        ({"ignore_check_ids": ["c3"]}, "n1 n2 n3 n4"),
        ({"ignore_check_ids": ["c2", "c3"], "only_passing": True}, "n1 n2 n3 n4"),
        ({"tags": ["x"]}, "n1 n2"),
        ({"tags": ["x", "V1"]}, "n1"),
        ({"tags": ["!x"]}, "n4"),
        ({"tags": ["x", "!v1"]}, "n2"),
        ({"tags": ["x", "!X"]}, ""),
        ({"node_meta": {"zone": "b"}}, "n1"),
        ({"node_meta": {"zone": "b", "other": "1"}}, ""),
        ({"service_meta": {"m": "1"}}, "n1 n4"),
        ({"connect": True}, "n4"),
        ({"service": "WEB"}, "n1 n2 n4"),
        ({"service": "none"}, ""),
    ],
)
def test_what_is_found(made: Bench, service: dict[str, Any], found: str) -> None:
    assert names(prepared.instances(made.store, query(**service))) == found


def test_mesh_capable_ones_on_demand(made: Bench) -> None:
    assert names(prepared.instances(made.store, query(), connect=True)) == "n4"


def test_a_critical_node_takes_its_instances_along(made: Bench) -> None:
    made.check("n1", "serfHealth", "critical")
    assert names(prepared.instances(made.store, query())) == "n2 n4"
    assert names(prepared.instances(made.store, query(ignore_check_ids=["serfHealth"]))) == "n1 n2 n4"


# --- in which order

HERE, NOBODY = Source("dc1", node="b"), Source()


def spread(count: int = 12) -> Bench:
    places = {chr(ord("a") + number): at(10.0 * number) for number in range(count)}
    made = bench({**places, "z": None})
    for name in (*places, "z"):
        made.service(name, f"w{name}")
    made.register("b", address="10.9.9.9")
    return made


def sort(made: Bench, source: Source = NOBODY, near: str = "", seed: int = 1, dc: str = "dc1") -> str:
    asked = query(near=near)
    found = prepared.instances(made.store, asked)
    return names(prepared.ordered(made.store, asked, found, source, HERE, dc, Random(seed)))


NEAR_B = {"b a c d e f g h i j k l z", "b c a d e f g h i j k l z"}


def test_near_to_what_is_named() -> None:
    made = spread()
    assert sort(made, Source("dc1", node="l")) == "l k j i h g f e d c b a z"
    assert sort(made, near="l") == "l k j i h g f e d c b a z"
    assert sort(made, Source("dc1", node="a"), near="l") == "a b c d e f g h i j k l z"
    assert sort(made, near="_agent") in NEAR_B
    assert sort(made, Source("dc1", node="_agent"), near="l") in NEAR_B
    assert sort(made, Source(ip="10.9.9.9"), near="_ip") in NEAR_B
    assert sort(made, Source("dc1", node="_ip", ip="10.9.9.9"), near="l") in NEAR_B


def test_without_a_start_the_order_is_chance() -> None:
    made = spread()
    for source, near in (
        (Source(), ""),
        (Source(node="nobody"), ""),
        (Source(node="z"), ""),
        (Source(ip="10.1.1.1"), "_ip"),
        (Source(), "_ip"),
        (Source("dc2", node="l"), ""),  # who asks is elsewhere
    ):
        orders = {sort(made, source, near, seed) for seed in range(5)}
        assert len(orders) == 5
        assert all(sorted(order.split()) == list("abcdefghijklz") for order in orders)


def test_the_asking_node_itself_comes_first_among_near_ones() -> None:
    made = bench({"a": at(0), "b": at(0), "c": at(0)})
    for name in "abc":
        made.service(name, f"w{name}")
    assert {sort(made, near="b", seed=seed).split()[0] for seed in range(9)} == {"b"}


@given(st.integers(0, 30), st.integers(-3, 40))
def test_limits(count: int, limit: int) -> None:
    items = [CheckServiceNode()] * count
    assert len(prepared.limited(items, limit)) == (min(count, limit) if limit > 0 else count)


# --- where else

NAMES = st.sampled_from(["dc1", "dc2", "dc3", "dc4", "dc5"])


@pytest.mark.parametrize(
    ("failover", "expected"),
    [
        (QueryDatacenterOptions(), []),
        (QueryDatacenterOptions(2), ["dc3", "dc2"]),
        (QueryDatacenterOptions(9), ["dc3", "dc2", "dc4"]),
        (QueryDatacenterOptions(0, ["dc4", "dcx", "dc3"]), ["dc4", "dc3"]),
        (QueryDatacenterOptions(1, ["dc4", "dc3", "dc4"]), ["dc3", "dc4"]),
        (QueryDatacenterOptions(0, None, [QueryFailoverTarget(datacenter="dc2")]), ["dc2"]),
    ],
)
def test_where_it_looks_next(failover: QueryDatacenterOptions, expected: list[str]) -> None:
    assert prepared.fallbacks(query(failover=failover), ["dc3", "dc2", "dc4"]) == expected


@given(st.integers(0, 6), st.lists(NAMES, max_size=6), st.lists(NAMES, unique=True, max_size=5))
def test_each_known_datacenter_is_tried_once(nearest_n: int, named: list[str], nearest: list[str]) -> None:
    tried = prepared.fallbacks(query(failover=QueryDatacenterOptions(nearest_n, named)), nearest)
    assert len(tried) == len(set(tried))
    assert set(tried) == set(nearest[:nearest_n]) | (set(named) & set(nearest))
    assert tried[:nearest_n] == nearest[:nearest_n][: len(tried)]
