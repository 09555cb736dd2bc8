"""ACL listings on a terminal: readable at 80 columns, whole ids where there is room."""

import datetime
import time

import pytest

from cli.aclview import tokens_table
from tests.cli.acl_rows import BOOT, KVR, fill, role, stub, token


@pytest.fixture(autouse=True)
def objects(agent):
    fill(agent)
    agent.answers["/v1/acl/tokens"] += [
        stub(
            token(
                Description="continuous integration of the shop, all of its branches",
                Roles=[{"ID": "r", "Name": "deploy"}],
                TemplatedPolicies=[{"TemplateName": "builtin/node", "TemplateVariables": {"Name": "n1"}}],
            )
        )
    ]


def test_tokens(terminal):
    narrow = terminal("acl", "token", "list", "-no-color", columns=80).out
    assert max(map(len, narrow.splitlines())) <= 80
    assert narrow.splitlines()[0].split() == ["Accessor", "Description", "Grants", "Expires"]
    assert BOOT[:8] in narrow and BOOT not in narrow
    words = " ".join(narrow.split())
    for piece in ("global-management", "service web", "role", "node"):
        assert piece in words
    wide = terminal("acl", "token", "list", "-no-color", columns=160).out
    assert BOOT in wide
    assert "kvr, role deploy, service web, node n3" in wide


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("policy", ["Name", "ID", "Description", "Datacenters"]),
        ("role", ["Name", "ID", "Description", "Grants"]),
        ("auth-method", ["Name", "Type", "Description", "MaxTokenTTL"]),
        ("binding-rule", ["ID", "Method", "Binds", "Selector"]),
        ("templated-policy", ["Name", "Description"]),
    ],
)
def test_others(ctl, monkeypatch, kind, columns):
    """In this process, with a width as a terminal would have it."""
    monkeypatch.setattr("cli.terminal.width", lambda: 80)
    shown = ctl("acl", kind, "list", "-format=table", "-no-color")
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[0].split() == columns
    assert max(map(len, lines)) <= 80


def test_a_hint_on_a_terminal(terminal, agent):
    agent.failures["/v1/acl/policies"] = (401, "ACL support disabled")
    shown = terminal("acl", "policy", "list").out
    assert "401 (ACL support disabled)" in shown
    assert "acl { enabled = true }" in shown
    agent.answers["/v1/acl/roles"] = [role()]
    assert KVR not in terminal("acl", "role", "list").out


@pytest.mark.parametrize(
    ("left", "text"), [(None, ""), (3605, "in 1h"), (90.5, "in 1m"), (-5, "expired"), ("soon", "soon")]
)
def test_how_long_a_token_is_still_good_for(left, text):
    token = {"AccessorID": "a" * 36, "Description": "", "Policies": []}
    if isinstance(left, str):
        token["ExpirationTime"] = left
    elif left is not None:
        moment = datetime.datetime.fromtimestamp(time.time() + left, datetime.UTC)
        token["ExpirationTime"] = moment.isoformat().replace("+00:00", "123Z")
    assert tokens_table([token]).rows[0][3] == text
