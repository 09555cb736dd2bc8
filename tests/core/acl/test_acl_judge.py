"""The judge: precedence against a naive one, defaults, explanations, refusals."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.acl.access import UNLIMITED, Decision
from core.acl.authorizer import Judge
from core.acl.policy import NAMED, UNNAMED, Policy, Rule, parse
from core.acl.rights import Rights
from core.errors import Denied
from core.store.acl import ANONYMOUS
from tests.core.acl.naive import Naive

names = st.text("ab/é", max_size=4)
named_rules = st.builds(
    Rule, st.sampled_from(("key", "node")), names, st.booleans(), st.sampled_from(("deny", "read", "write"))
)
key_rules = st.builds(Rule, st.just("key"), names, st.booleans(), st.just("list"))
unnamed_rules = st.builds(
    Rule,
    st.sampled_from(("acl", *UNNAMED)),
    st.just(""),
    st.just(True),
    st.sampled_from(("deny", "read", "write")),
)
rules = st.lists(st.one_of(named_rules, key_rules, unnamed_rules), max_size=14)
defaults = st.sampled_from(("allow", "deny", "manage"))
accesses = st.sampled_from(("read", "list", "write"))


def judge(*texts: str, default: str = "deny", accessor: str = "acc", **more: Any) -> Judge:
    named = [(f"p{number}", parse(text)) for number, text in enumerate(texts)]
    return Judge(accessor, Rights(named), cast(Any, default), "n1", **more)


@given(st.lists(rules, max_size=4), defaults, st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_it_judges_as_a_scan_of_all_rules_would(policies: list[list[Rule]], default: str, data: Any) -> None:
    rights = Rights([(str(number), Policy(tuple(some))) for number, some in enumerate(policies)])
    real = Judge("a", rights, cast(Any, default), "n1", key_list=True)
    naive = Naive([rule for some in policies for rule in some], default)
    for _ in range(8):
        resource = data.draw(st.sampled_from(("key", "node", "acl", *UNNAMED)))
        name = data.draw(names) if resource in ("key", "node") else ""
        access = data.draw(accesses)
        expected = naive.allows(resource, name, access)
        assert real.allows(resource, name, access) == expected
        assert real.allows(resource, name, access) == expected, "and again, from its notes"
        assert real.explain(resource, name, access).allowed == expected
        if resource in ("key", "node"):
            assert real.allows_below(resource, name, access) == naive.allows_below(resource, name, access)
            assert real.allows_any(resource, access) == naive.allows_any(resource, access)


def test_all_ways_to_nest_rules() -> None:
    """Every choice of a level, or none, for three nested prefixes and the exact name."""
    places = (("", False), ("a", False), ("ab", False), ("ab", True))
    for levels in itertools.product(("", "deny", "read", "list", "write"), repeat=len(places)):
        some = [
            Rule("key", name, exact, cast(Any, level))
            for (name, exact), level in zip(places, levels, strict=True)
            if level
        ]
        real = Judge("a", Rights([("p", Policy(tuple(some)))]), "deny", "n1", key_list=True)
        naive = Naive(some, "deny")
        for name, access in itertools.product(("", "a", "ab", "abc", "b"), ("read", "list", "write")):
            assert real.allows("key", name, cast(Any, access)) == naive.allows("key", name, access), some
            below = naive.allows_below("key", name, access)
            assert real.allows_below("key", name, cast(Any, access)) == below, some


@given(st.lists(named_rules, min_size=1, max_size=30), names)
def test_the_explanation_names_a_rule_that_decides(some: list[Rule], name: str) -> None:
    real = Judge("a", Rights([("p", Policy(tuple(some)))]), "deny", "n1")
    decision = real.explain("node", name, "write")
    level = Naive(some, "deny").level("node", name)
    if level is None:
        assert decision == Decision(False, default="deny")
    else:
        deciding = [rule for rule in some if str(rule) == decision.rule]
        assert decision.policy == "p"
        assert deciding and deciding[0].level == level
        assert deciding[0].name == name if deciding[0].exact else name.startswith(deciding[0].name)


def test_notes_do_not_grow_without_end() -> None:
    rights = Rights([("p", parse('key_prefix "a" { policy = "read" }'))])
    real = Judge("a", rights, "deny", "n1")
    assert all(real.allows("key", f"a{number}", "read") for number in range(3000))
    assert not any(real.allows("key", f"b{number}", "read") for number in range(3000))
    assert len(rights.names["key"]._notes) <= 256


def test_who_changes_a_service_sees_its_intentions() -> None:
    real = judge(
        'service "web" { policy = "write" } service "db" { policy = "read" intentions = "deny" }'
        'service "no" { policy = "deny" } service_prefix "a" { policy = "read" intentions = "write" }'
    )
    seen = {name: real.allows("intention", name, "read") for name in ("web", "db", "no", "app", "x")}
    assert seen == {"web": True, "db": False, "no": False, "app": True, "x": False}
    assert [name for name in ("web", "app") if real.allows("intention", name, "write")] == ["app"]


def test_intentions_of_two_policies_are_merged_by_themselves() -> None:
    real = judge(
        'service "web" { policy = "deny" }', 'service "web" { policy = "read" intentions = "write" }'
    )
    assert not real.allows("service", "web", "read")
    assert real.allows("intention", "web", "write")


def test_every_intention_at_once() -> None:
    some = judge('service "web" { policy = "write" intentions = "write" }')
    assert some.allows("intention", "*", "read")
    assert not some.allows("intention", "*", "write")
    assert judge('service_prefix "" { policy = "write" intentions = "write" }').allows(
        "intention", "*", "write"
    )


def test_keys_are_listed_freely_unless_there_is_a_right_to_list() -> None:
    text = 'key_prefix "a/" { policy = "read" } key_prefix "b/" { policy = "list" }'
    free, strict = judge(text), judge(text, key_list=True)
    assert free.allows("key", "c/", "list") and free.allows_below("key", "c/", "list")
    assert [name for name in ("a/", "b/", "c/") if strict.allows("key", name, "list")] == ["b/"]
    assert free.explain("key", "c/", "list").allowed


def test_default_allow_is_not_for_the_acls_themselves() -> None:
    real = judge(default="allow")
    assert real.allows("key", "a", "write") and real.allows_below("key", "", "write")
    assert not real.allows("acl", "", "read")
    assert judge(default="manage").allows("acl", "", "write")


def test_operators_see_mesh_and_peering_unless_a_rule_says_otherwise() -> None:
    assert judge('operator = "write"').allows("mesh", "", "write")
    assert judge('operator = "read"').allows("peering", "", "read")
    both = judge('operator = "write"', 'mesh = "deny"')
    assert not both.allows("mesh", "", "read") and both.allows("peering", "", "write")


def test_every_resource_can_be_asked_about() -> None:
    real = judge(default="deny")
    assert not any(real.allows(resource, "", "read") for resource in (*NAMED, *UNNAMED, "acl", "intention"))


def refusal(real: Judge, below: bool = False, name: str = "a/b") -> str:
    with pytest.raises(Denied) as caught:
        real.require_below("key", name, "write") if below else real.require("key", name, "write")
    return caught.value.text


def test_a_refusal_explains_itself() -> None:
    assert refusal(judge(accessor="1234")) == (
        "Permission denied: token with AccessorID '1234' lacks permission 'key:write' on \"a/b\" "
        '(refused by "n1")'
    )
    assert "'key:write' on all below \"a/b\"" in refusal(judge(accessor="1234"), below=True)
    assert "'operator:read' (refused" in _operator_refusal()
    assert refusal(judge(accessor="")).startswith("Permission denied: token lacks")
    anonymous = refusal(judge(accessor=ANONYMOUS))
    assert anonymous.startswith("Permission denied: anonymous token lacks permission 'key:write' on \"a/b\".")
    assert "does not specify a token" in anonymous


def _operator_refusal() -> str:
    with pytest.raises(Denied) as caught:
        judge(accessor="1").require("operator", "", "read")
    return caught.value.text


def test_what_is_allowed_is_not_refused() -> None:
    real = judge('key_prefix "a/" { policy = "write" }')
    real.require("key", "a/b", "write")
    real.require_below("key", "a/", "write")
    UNLIMITED.require("key", "a", "write")
    UNLIMITED.require_below("key", "", "write")
    assert UNLIMITED.explain("key", "a", "write") == Decision(True, default="allow")


def test_a_token_that_ends_says_so() -> None:
    assert judge(expires_at=5.0).expires and not judge().expires
