"""The rule language: HCL and JSON, mistakes in it, the old syntax and its translation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.acl.authorizer import Judge
from core.acl.policy import LEGACY, NAMED, UNNAMED, Rule, parse
from core.acl.rights import Rights
from core.acl.translate import translate
from core.errors import Invalid

RECORDED = json.loads((Path(__file__).parents[2] / "vectors" / "acl_rules.json").read_text())
WORDS = [f"{resource}{end}" for resource in NAMED for end in ("", "_prefix")]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("level", ["deny", "read", "write"])
def test_named_rules(word: str, level: str) -> None:
    (rule,) = parse(f'{word} "a b" {{ policy = "{level}" }}').rules
    resource = word.removesuffix("_prefix")
    assert (rule.resource, rule.name, rule.exact, rule.level) == (resource, "a b", resource == word, level)
    assert parse(json.dumps({word: {"a b": {"policy": level}}})).rules == (rule,)
    assert parse(str(rule)).rules == (rule,)


@pytest.mark.parametrize("word", ["acl", *UNNAMED])
def test_rules_without_names(word: str) -> None:
    (rule,) = parse(f'{word} = "write"').rules
    assert (rule.resource, rule.name, rule.level) == (word, "", "write")
    assert parse(json.dumps({word: "write"})).rules == (rule,)
    assert parse(str(rule)).rules == (rule,)
    assert parse(f'{word} = ""').rules == ()


def test_forms_that_are_in_use() -> None:
    text = """
    # everything at once
    Key_Prefix "" { Policy = "list" }
    key "a" { policy = "write" sentinel { code = "x" enforcementlevel = "y" } }
    key "a" { policy = "deny" }
    service "web" { policy = "read" intentions = "write" }
    namespace_prefix "" { acl = "read" }
    """
    policy = parse(text)
    assert policy.rules == (
        Rule("key", "a", True, "write"),
        Rule("key", "a", True, "deny"),
        Rule("key", "", False, "list"),
        Rule("service", "web", True, "read", "write"),
    )
    assert policy.ignored == ("namespace_prefix",)
    assert parse(str(policy.rules[3])).rules == (policy.rules[3],)
    assert parse('{"key": [{"a": {"policy": "read"}}, {"b": [{"policy": "read"}]}]}').rules == (
        Rule("key", "a", True, "read"),
        Rule("key", "b", True, "read"),
    )
    assert parse("").rules == parse(" \n").rules == parse("{}").rules == ()


MISTAKES = {
    'key "x" { policy = "a" }': 'Invalid key policy: "a" in key "x"; it must be deny, read, list or write',
    'key_prefix "x" { policy = "" }': 'Invalid key_prefix policy: ""',
    'node "x" { policy = "list" }': 'Invalid node policy: "list" in node "x"; it must be deny, read or write',
    'service "x" { }': 'Invalid service policy: ""',
    'service "x" { policy = "read" intentions = "list" }': 'Invalid service intentions policy: "list"',
    'service_prefix "x" { policy = "read" intentions = "z" }': "Invalid service_prefix intentions policy: ",
    'acl = "list"': 'Invalid acl policy: "list"',
    'keyring = "all"': 'Invalid keyring policy: "all"',
    "operator = 1": 'Invalid operator policy: "1"',
    "not hcl {": "Failed to parse ACL rules: ",
    '{"key":1}': "Failed to parse ACL rules: key: ",
    '{"key": [null]}': "Failed to parse ACL rules: At 1:14: unexpected token while parsing list: NULL",
    '{"key": {\n "a": {"policy": nope}}}': "Failed to parse ACL rules: At 2:18: illegal char: n",
    'key = "read"': "Failed to parse ACL rules: key: ",
    'acl { policy = "read" }': "Failed to parse ACL rules: acl: ",
    'node "x" { policy = ["read"] }': "Failed to parse ACL rules: node: ",
    "agent = [1]": "Failed to parse ACL rules: agent: ",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_named(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert caught.value.text.startswith(MISTAKES[text])
    with pytest.raises(Invalid):
        parse(text)


@given(st.text('kaey_prfixs{}="[],\n \\', max_size=40) | st.text(max_size=20))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    try:
        parse(text)
        parse(text, LEGACY)
        translate(text)
    except Invalid as error:
        assert error.text.startswith(("Invalid ", "Failed to parse ACL rules: ", "Failed to parse rules: "))


def judge(text: str) -> Judge:
    return Judge("", Rights([("test", parse(text))]), "deny", "here")


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["rules"])
def test_what_consul_takes_is_taken_and_means_the_same(case: dict[str, Any]) -> None:
    if not case["taken"]:
        with pytest.raises(Invalid):
            parse(case["rules"])
        return
    allowed = []
    for asked in RECORDED["asked"]:
        right, _, name = asked.partition(" ")
        resource, _, access = right.partition(":")
        if judge(case["rules"]).allows(resource, name, access):
            allowed.append(asked)
    assert allowed == case["allows"]


@given(st.text('"kaeyprfix{}[]:,1t \\\n\0', max_size=40))
def test_no_text_that_begins_with_a_brace_does_more_than_be_refused(text: str) -> None:
    try:
        parse("{" + text)
    except Invalid as error:
        assert error.text.startswith(("Invalid ", "Failed to parse ACL rules: "))


def test_rules_that_are_nested_too_deep_are_refused() -> None:
    for text in ('{"key":' * 1000, '{"a":[' * 1000, "a {" * 1000):
        with pytest.raises(Invalid, match="nested more than"):
            parse(text)


def test_very_long_rules_are_read_all_the_same() -> None:
    text = "\n".join(f'key "{number:060d}" {{ policy = "read" }}' for number in range(1000))
    assert len(parse(text).rules) == 1000


def test_old_rules_are_all_prefixes() -> None:
    policy = parse(
        'key "a" { policy = "write" } query "" { policy = "read" } keyring = "read" acl = "x"', LEGACY
    )
    assert policy.rules == (
        Rule("key", "a", False, "write"),
        Rule("query", "", False, "read"),
        Rule("keyring", "", True, "read"),
    )


def test_old_rules_are_translated() -> None:
    assert translate('key "foo" { policy = "write" }') == 'key_prefix "foo" {\n  policy = "write"\n}'
    text = 'service "w" { intentions = "deny" policy = "read" } operator = "read" key "a" {}'
    text += 'key "" { policy = "list" }'
    assert translate(text) == (
        'service_prefix "w" {\n  intentions = "deny"\n  policy     = "read"\n}\n\n'
        'operator = "read"\n\nkey_prefix "a" {}\n\nkey_prefix "" {\n  policy = "list"\n}'
    )
    assert translate("") == ""
    with pytest.raises(Invalid):
        translate("key {")


level_names = st.sampled_from(("deny", "read", "write"))
old_rules = st.lists(
    st.tuples(st.sampled_from(NAMED), st.text('ab"\\é\n', max_size=3), level_names), max_size=8
)


@given(old_rules)
def test_translated_rules_say_what_the_old_ones_said(old: list[tuple[str, str, str]]) -> None:
    text = "\n".join(
        f'{word} {json.dumps(name, ensure_ascii=False)} {{ policy = "{level}" }}' for word, name, level in old
    )
    assert sorted(parse(translate(text)).rules) == sorted(parse(text, LEGACY).rules)
