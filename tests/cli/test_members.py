"""`members`, `join`, `force-leave`: recorded outputs of Consul."""

import json

import pytest

TABLE = """\
Node  Address         Status  Type    Build  Protocol  DC   Segment
n1    127.0.0.1:8301  alive   server  1.9.8  2         dc1  <all>
n2    127.0.0.2:8301  alive   client  1.9.8  2         dc1  <default>
"""
DETAILED = """\
Node  Address         Status  Tags
n1    127.0.0.1:8301  alive   build=1.9.8:,dc=dc1,role=consul,segment=<all>,vsn=2,vsn_max=3,vsn_min=2
n2    127.0.0.2:8301  alive   build=1.9.8:,dc=dc1,role=node,segment=<default>,vsn=2,vsn_max=3,vsn_min=2
"""


def test_members(ctl, agent):
    result = ctl("members", "ignored")
    assert (result.code, result.out, result.err) == (0, TABLE, "")
    assert agent.requests[-1][1] == "/v1/agent/members?segment=_all"
    assert ctl("members", "-detailed").out == DETAILED


def test_empty_result_is_code_2(ctl, agent):
    result = ctl("members", "-status=left")
    assert (result.code, result.out, result.err) == (2, "", "")
    agent.answers["/v1/agent/members"] = []
    assert ctl("members").code == 2


def test_status_is_a_search(ctl, agent):
    agent.answers["/v1/agent/members"][0]["Status"] = 4
    assert ctl("members", "-status", "fail|left").out.splitlines()[1].split()[:3] == [
        "n2",
        "127.0.0.2:8301",
        "failed",
    ]
    result = ctl("members", "-status=(")
    text = "Failed to compile status regexp: error parsing regexp: missing closing ): "
    assert result.code == 1
    assert result.err.startswith(text)


def test_unknown_roles_and_old_builds(ctl, agent):
    agent.answers["/v1/agent/members"][0]["Tags"] = {"role": "other"}
    agent.answers["/v1/agent/members"][1]["Tags"] = {"role": "consul", "dc": "dc1", "vsn": "2"}
    rows = ctl("members").out.splitlines()
    assert rows[1].split()[3:6] == ["server", "<", "0.3"]
    assert rows[2].split() == ["n2", "127.0.0.2:8301", "alive", "unknown"]


def test_structured_and_quiet(ctl, agent):
    document = json.loads(ctl("members", "-o", "json").out)
    assert [member["Name"] for member in document] == ["n1", "n2"]
    assert document[0]["Tags"]["role"] == "consul"
    assert ctl("members", "--quiet").out == "n1\nn2\n"


def test_unreachable(ctl, monkeypatch):
    monkeypatch.setenv("CTL_HTTP_ADDR", "127.0.0.1:1")
    result = ctl("members")
    assert result.code == 1
    assert result.err == (
        'Error retrieving members: Get "http://127.0.0.1:1/v1/agent/members?segment=_all": '
        "dial tcp 127.0.0.1:1: connect: connection refused\n"
    )


REFUSED = """\
Unexpected response code: 500 (1 error occurred:
\t* Failed to join 127.0.0.8: dial tcp 127.0.0.8:8301: connect: connection refused

)
"""


def test_join(ctl, agent):
    result = ctl("join", "127.0.0.2")
    assert (result.code, result.out) == (0, "Successfully joined cluster by contacting 1 nodes.\n")
    agent.failures["/v1/agent/join/127.0.0.8"] = (500, REFUSED[31:-2])
    result = ctl("join", "127.0.0.2", "127.0.0.8")
    assert (result.code, result.out) == (0, "Successfully joined cluster by contacting 1 nodes.\n")
    assert result.err == "Error joining address '127.0.0.8': " + REFUSED
    result = ctl("join", "-wan", "127.0.0.8")
    assert (result.code, result.out) == (1, "")
    assert result.err == "Error joining address '127.0.0.8': " + REFUSED + "Failed to join any nodes.\n"
    assert agent.paths()[-1] == "PUT /v1/agent/join/127.0.0.8?wan=1"


def test_join_needs_an_address(ctl, agent):
    result = ctl("join")
    assert result.code == 1
    assert result.err.startswith("At least one address to join must be specified.\n")
    assert "Usage: ctl join" in result.err


def test_force_leave_and_leave(ctl, agent):
    result = ctl("force-leave", "-prune", "n3")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert agent.paths() == ["PUT /v1/agent/force-leave/n3?prune=1"]
    agent.failures["/v1/agent/force-leave/nosuch"] = (500, "agent: No node found with name 'nosuch'")
    result = ctl("force-leave", "nosuch")
    assert (result.code, result.err) == (
        1,
        "Error force leaving: Unexpected response code: 500 (agent: No node found with name 'nosuch')\n",
    )
    assert ctl("force-leave").err == "A single node name must be specified to force leave.\n"
    assert ctl("leave").out == "Graceful leave complete\n"


@pytest.mark.parametrize("format", ["json", "yaml", "plain", "table", "pretty"])
def test_every_format_names_every_member(ctl, agent, format):
    out = ctl("members", "--format", format).out
    assert "n1" in out
    assert "n2" in out
