"""Texts recorded from `consul` 1.9.8, byte for byte, of what scripts and people see most."""

import pytest


def test_empty_values_leave_no_spaces_at_the_end(ctl, agent):
    agent.put("empty", b"")
    assert ctl("kv", "get", "-detailed", "empty").out.endswith("Session          -\nValue\n")
    assert ctl("kv", "get", "-recurse", "-detailed", "empty").out.endswith("Session          -\nValue\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("kv put a b c", "Error! Too many arguments (expected 1 or 2, got 3)"),
        ("kv import a b", "Error! Too many arguments (expected 1, got 2)"),
        ("kv get a b", "Too many arguments (expected 1, got 2)"),
        ("kv put a @/", "Error! Failed to read file: read /: is a directory"),
        ("force-leave a b", "A single node name must be specified to force leave."),
        ("services register -id=only", "Service registration requires at least one argument or flags."),
        (
            "services register -name=a -tagged-address=lan=1.2.3.4",
            "Invalid Tagged Address: address 1.2.3.4: missing port in address",
        ),
        (
            "services register -name=a -tagged-address=lan=1.2.3.4:x",
            'Invalid Tagged Address: strconv.Atoi: parsing "x": invalid syntax',
        ),
        (
            "event -name=x -node=(",
            "Failed to compile node filter regexp: error parsing regexp: missing closing ): `(`",
        ),
        (
            "event -name=x -service=[",
            "Failed to compile service filter regexp: error parsing regexp: missing closing ]: `[`",
        ),
        (
            "members -status=[",
            "Failed to compile status regexp: error parsing regexp: missing closing ]: `[`",
        ),
        (
            "members -status=*",
            "Failed to compile status regexp: error parsing regexp: missing argument to repetition "
            "operator: `*`",
        ),
        (
            "members -status=a{2,1}",
            "Failed to compile status regexp: error parsing regexp: invalid repeat count: `{2,1}`",
        ),
        (
            "kv get -http-addr=tcp://127.0.0.1:8500 a",
            "Error connecting to Consul agent: Unknown protocol scheme: tcp",
        ),
        (
            "members -http-addr=unix:///nosuch.sock",
            'Error retrieving members: Get "http://%2Fnosuch.sock/v1/agent/members?segment=_all": '
            "dial unix /nosuch.sock: connect: no such file or directory",
        ),
        (
            "members -token-file=/no/such",
            "Error connecting to Consul agent: Error loading token file: open /no/such: "
            "no such file or directory",
        ),
        (
            "members -token-file=/",
            "Error connecting to Consul agent: Error loading token file: read /: is a directory",
        ),
        (
            "operator raft list-peers -http-addr=127.0.0.1:1",
            "Error getting peers: Failed to retrieve raft configuration: "
            'Get "http://127.0.0.1:1/v1/operator/raft/configuration": '
            "dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        (
            "operator autopilot state -http-addr=127.0.0.1:1",
            'Error querying Autopilot state: Get "http://127.0.0.1:1/v1/operator/autopilot/state": '
            "dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        (
            "kv import {nope",
            "Cannot unmarshal data: invalid character 'n' looking for beginning of object key string",
        ),
        ('kv import [{"key":"a"}', "Cannot unmarshal data: unexpected end of JSON input"),
        (
            'kv import [{"key":"q","value":"***"}]',
            "Error base 64 decoding value for key q: illegal base64 data at input byte 0",
        ),
    ],
)
def test_refusals(ctl, words, text):
    result = ctl(*words.split())
    assert (result.code, result.out, result.err) == (1, "", text + "\n")


@pytest.mark.parametrize("command", ["info", "reload", "maint"])
def test_surplus_words_are_ignored_as_consul_ignores_them(ctl, agent, command):
    plain = ctl(*command.split())
    surplus = ctl(*command.split(), "a", "b")
    assert plain.code == 0
    assert (surplus.code, surplus.out, surplus.err) == (plain.code, plain.out, plain.err)


def test_a_person_is_told_of_surplus_words(agent, terminal):
    assert "Not used: a b\n" in terminal("info", "a", "b").out


@pytest.mark.parametrize("words", ["leave n2", "acl token delete -id=a b"])
def test_what_cannot_be_undone_takes_no_surplus_words(ctl, words):
    result = ctl(*words.split())
    assert result.code == 1
    assert "Too many arguments" in result.err


def test_version_ends_in_an_empty_line_in_a_pipe(ctl):
    assert ctl("version").out.endswith("when speaking to compatible agents)\n\n")


def test_what_is_told_when_access_is_denied(ctl, agent):
    agent.failures["/v1/kv/a"] = (403, "Permission denied")
    agent.failures["/v1/kv/"] = (403, "Permission denied")
    for words, text in (
        ("kv get a", "Error querying Consul agent: Unexpected response code: 403"),
        ("kv export", "Error querying Consul agent: Unexpected response code: 403"),
        ("kv export a", "Error querying Consul agent: Unexpected response code: 403"),
        ("kv delete a", "Error deleting key a: Unexpected response code: 403 (Permission denied)"),
        (
            "kv delete -recurse a",
            "Error! Did not delete prefix a: Unexpected response code: 403 (Permission denied)",
        ),
    ):
        result = ctl(*words.split())
        assert (result.code, result.out, result.err) == (1, "", text + "\n")


def test_a_policy_of_all_datacenters_says_so_in_json(ctl, agent):
    agent.answers["/v1/acl/policy/00000000-0000-0000-0000-000000000001"] = {
        "ID": "00000000-0000-0000-0000-000000000001",
        "Name": "p",
        "Description": "",
        "Rules": "x",
        "Hash": "aGFzaA==",
        "CreateIndex": 1,
        "ModifyIndex": 2,
    }
    words = "acl policy read -format=json -id=00000000-0000-0000-0000-000000000001"
    assert '    "Rules": "x",\n    "Datacenters": null,\n    "Hash"' in ctl(*words.split()).out
