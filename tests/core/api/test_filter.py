from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.api import filter
from core.errors import Invalid
from core.store.structs import CheckServiceNode, HealthCheck, Node, NodeService, ServiceAddress, Weights

NODE = Node(
    id="u1",
    node="n1",
    address="10.0.0.1",
    datacenter="dc1",
    tagged_addresses={"lan": "10.0.0.1"},
    meta={"zone": "a", "my-key": "x y"},
)
SERVICE = NodeService(
    id="w1",
    service="web",
    tags=["blue", "v1"],
    port=80,
    meta={"ver": "1"},
    tagged_addresses={"lan": ServiceAddress("10.0.0.1", 80)},
    weights=Weights(10, 1),
    proxy={"DestinationServiceName": "db", "Upstreams": [{"DestinationName": "a"}, {"DestinationName": "b"}]},
)
BARE = NodeService(id="b", service="bare")
CHECKS = [
    HealthCheck(node="n1", check_id="c1", status="passing", service_tags=["blue"]),
    HealthCheck(node="n1", check_id="c2", status="critical", output="connection refused\n"),
]
WHOLE = CheckServiceNode(node=NODE, service=SERVICE, checks=CHECKS)


@pytest.mark.parametrize(
    ("kind", "thing", "expression", "expected"),
    [
        ("node", NODE, "Node == n1", True),
        ("node", NODE, "Node==n1", True),
        ("node", NODE, 'Node != "n1"', False),
        ("node", NODE, "Address == `10.0.0.1`", True),
        ("node", NODE, "Meta.zone == a", True),
        ("node", NODE, 'Meta["my-key"] == "x y"', True),
        ("node", NODE, "Meta.none == a", False),
        ("node", NODE, "Meta.none != a", True),
        ("node", NODE, "Meta.none matches a", True),  # as in Consul
        ("node", NODE, "Meta.none not matches a", True),
        ("node", NODE, "zone in Meta", True),
        ("node", NODE, "Meta contains zone", True),
        ("node", NODE, "Meta not contains zone", False),
        ("node", NODE, "Meta is empty", False),
        ("node", NODE, "TaggedAddresses.lan == `10.0.0.1`", True),
        ("node", Node(), "Meta is empty and not zone in Meta and Meta.zone != a", True),
        ("node", NODE, '"0.0" in Address', True),
        ("node", NODE, '"9.9" not in Address', True),
        ("node_service", SERVICE, "Port == 80", True),
        ("node_service", SERVICE, "Port != 80", False),
        ("node_service", SERVICE, "blue in Tags and v1 in Tags", True),
        ("node_service", SERVICE, "Tags contains green or Tags contains blue", True),
        ("node_service", SERVICE, "Tags is not empty", True),
        ("node_service", BARE, "Tags is empty and Meta is empty and blue not in Tags", True),
        ("node_service", SERVICE, "Weights.Passing == 10", True),
        ("node_service", BARE, "Weights.Passing == 1", True),
        ("node_service", SERVICE, "TaggedAddresses.lan.Port == 80", True),
        ("node_service", SERVICE, "TaggedAddresses.wan.Port == 80", False),
        ("node_service", SERVICE, "EnableTagOverride == false", True),
        ("node_service", SERVICE, "Proxy.DestinationServiceName == db", True),
        ("node_service", BARE, "Proxy.DestinationServiceName == db", False),
        ("node_service", SERVICE, "Proxy.Upstreams.DestinationName == b", True),
        ("node_service", BARE, "Proxy.Upstreams is empty and Connect.Native != true", True),
        ("node_service", NodeService(proxy={"Upstreams": [5], "Mode": 1}), "x in Proxy.Mode", False),
        (
            "node_service",
            NodeService(proxy={"Upstreams": [5]}),
            "Proxy.Upstreams.DestinationName == a",
            False,
        ),
        ("service_node", (NODE, SERVICE), "ServicePort == 80 and ServiceName == web and Node == n1", True),
        ("service_node", (NODE, SERVICE), "ServiceMeta.ver == 1 and NodeMeta.zone == a", True),
        ("service_node", (NODE, SERVICE), "ServiceWeights.Warning == 1 and ServiceTags contains v1", True),
        ("check_service_node", WHOLE, "Checks.Status == critical", True),
        ("check_service_node", WHOLE, "Checks.Status == warning", False),
        ("check_service_node", WHOLE, "Checks.Status != critical", True),
        ("check_service_node", WHOLE, "Checks is not empty and Node.Meta.zone == a", True),
        ("check_service_node", WHOLE, "blue in Checks.ServiceTags", True),
        (
            "check_service_node",
            WHOLE,
            "Service.Port == 81 or (Service.Port == 80 and not Node.Node == n2)",
            True,
        ),
        ("health_check", CHECKS[1], 'Output matches "^connection (refused|reset)"', True),
        ("health_check", CHECKS[1], "CheckID not matches `^c[12]$`", False),
        ("health_check", CHECKS[1], "not not Status == critical", True),
        ("health_check", CHECKS[0], " ( ( Status == passing ) ) ", True),
        # `and` binds closer than `or`, `not` closest
        ("health_check", CHECKS[0], "Status == passing or Status == x and Status == y", True),
        ("health_check", CHECKS[0], "(Status == passing or Status == x) and Status == y", False),
        ("health_check", CHECKS[0], "not Status == x and Status == passing", True),
        ("health_check", CHECKS[0], 'Notes == ""', True),
        ("health_check", CHECKS[1], 'Output == "connection refused\\n"', True),
    ],
)
def test_expressions(kind: str, thing: Any, expression: str, expected: bool) -> None:
    assert filter.compile(expression, kind)(thing) is expected


@pytest.mark.parametrize(
    ("kind", "expression", "text"),
    [
        ("node", "Bogus == 1", 'Selector "Bogus" is not valid'),
        ("node", "CreateIndex == 1", 'Selector "CreateIndex" is not valid'),
        ("node", "Node.Name == 1", 'Selector "Node.Name" is not valid'),
        ("node", "Odd.Name.a == 1", 'Selector "Odd" is not valid'),
        ("node", "Meta.a.b == 1", 'Selector "Meta.a.b" is not valid'),
        (
            "node_service",
            "Port == x",
            'Failed to coerce value "x" for selector "Port": strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            "node_service",
            "EnableTagOverride == 2",
            'Failed to coerce value "2" for selector "EnableTagOverride": strconv.ParseBool: ',
        ),
        (
            "node",
            "Node",
            r'1:5 (4): no match found, expected: "!=", ".", "==", "[", [ \t\r\n] or [a-zA-Z0-9_]',
        ),
        ("service_node", "ServicePort ==", "1:15 (14): no match found, expected: "),
        ("node", "", "1:1 (0): no match found, expected: "),
        ("node", "Node == a b", "1:11 (10): no match found, expected: "),
        ("node", "(Node == a", "1:11 (10): no match found, expected: "),
        ("node", "Node", "1:5 (4): no match found, expected: "),
        ("node", "Node ==\n  ()", "2:3 (10): no match found, expected: "),
        ("node", "1 == Node", "1:2 (1): no match found, expected: "),
        ("node", 'Node == "a', "1:9 (8): no match found, expected: "),
        ("node", "Node == 1a", "1:9 (8): no match found, expected: "),
        ("node", "Node is empty", 'Invalid match operator "Is Empty" for selector "Node"'),
        ("node", "Meta == 1", 'Invalid match operator "Equal" for selector "Meta"'),
        ("check_service_node", "Node == 1", 'Invalid match operator "Equal" for selector "Node"'),
        (
            "service_node",
            "ServicePort == banana",
            'Failed to coerce value "banana" for selector "ServicePort": ',
        ),
        (
            "service_node",
            "ServicePort matches 1",
            'Invalid match operator "Matches" for selector "ServicePort"',
        ),
        (
            "service_node",
            "ServiceEnableTagOverride == 2",
            'Failed to coerce value "2" for selector "ServiceEnableTagOverride": ',
        ),
        (
            "node",
            "Node matches `(`",
            'Failed to compile regular expression "(": error parsing regexp: missing closing ): `(`',
        ),
        ("node", "(" * 200 + "Node == a" + ")" * 200, "expression nests deeper"),
        ("node", "Node == " + "a" * 20000, "expression is longer"),
    ],
)
def test_refusals(kind: str, expression: str, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        filter.compile(expression, kind)
    assert caught.value.text.startswith("Failed to create boolean expression evaluator: " + text)


_TAGS = ["blue", "green", "v1"]
_LEAVES = st.one_of(
    st.tuples(st.just("Port == {}"), st.integers(0, 3), st.just(lambda s, v: s.port == v)),
    st.tuples(st.just("Port != {}"), st.integers(0, 3), st.just(lambda s, v: s.port != v)),
    st.tuples(st.just("{} in Tags"), st.sampled_from(_TAGS), st.just(lambda s, v: v in (s.tags or []))),
    st.tuples(
        st.just("Tags not contains {}"), st.sampled_from(_TAGS), st.just(lambda s, v: v not in (s.tags or []))
    ),
    st.tuples(
        st.just("Meta.k == {}"), st.sampled_from("ab"), st.just(lambda s, v: (s.meta or {}).get("k") == v)
    ),
    st.tuples(
        st.just("ID matches `{}`"),
        st.sampled_from(["^a", "b$", "a.*b"]),
        st.just(lambda s, v: bool(re.search(v, s.id))),
    ),
)
_TREES = st.recursive(
    _LEAVES.map(lambda leaf: (leaf[0].format(leaf[1]), lambda s: leaf[2](s, leaf[1]))),
    lambda inner: (
        inner.map(lambda one: (f"not ({one[0]})", lambda s: not one[1](s)))
        | st.tuples(inner, inner).map(
            lambda two: (f"({two[0][0]}) and ({two[1][0]})", lambda s: two[0][1](s) and two[1][1](s))
        )
        | st.tuples(inner, inner).map(
            lambda two: (f"({two[0][0]}) or ({two[1][0]})", lambda s: two[0][1](s) or two[1][1](s))
        )
    ),
    max_leaves=8,
)
_SERVICES = st.builds(
    NodeService,
    id=st.text("ab", max_size=4),
    port=st.integers(0, 3),
    tags=st.none() | st.lists(st.sampled_from(_TAGS)),
    meta=st.none() | st.dictionaries(st.just("k"), st.sampled_from("ab")),
)


@given(_TREES, st.lists(_SERVICES, max_size=4))
def test_same_as_naive_evaluation(tree: Any, services: list[NodeService]) -> None:
    expression, expected = tree
    keep = filter.compile(expression, "node_service")
    for service in services:
        assert keep(service) == expected(service)


@given(st.text(alphabet='abNodePrt.()[]"`\\ ==!innotadr0 1', max_size=40))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        keep = filter.compile(text, "node_service")
    except Invalid as error:
        assert error.text
    else:
        assert keep(SERVICE) in (True, False)


def test_hostile_expressions_are_quick() -> None:
    started = time.monotonic()
    check = HealthCheck(output="a" * 4096 + "!")
    for pattern in ("(a+)+$", "(a|a)*b", ".*.*.*.*b", "(.*)*x"):
        assert filter.compile(f"Output matches `{pattern}`", "health_check")(check) is False
    filter.compile(" or ".join(["not (Output == a)"] * 500), "health_check")
    with pytest.raises(Invalid):
        filter.compile("(" * 8000, "health_check")
    assert time.monotonic() - started < 2
