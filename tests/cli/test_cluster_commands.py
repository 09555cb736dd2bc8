"""`rtt`, `keyring`, `event`, `operator`, and what `members` says of RPC: recorded texts of Consul."""

import json
import signal
import time

import pytest

from tests.cli.conftest import N1, member

KEY = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
EVENT = {
    "ID": "cda8fb6d-5ef6-44d2-a5ea-d10efdcbd8e8",
    "Name": "deploy",
    "Payload": "djQy",
    "NodeFilter": "",
    "ServiceFilter": "",
    "TagFilter": "",
    "Version": 1,
    "LTime": 7,
}


def coordinate(*vector, height=1e-5, adjustment=0.0):
    return {"Vec": list(vector), "Error": 1.5, "Adjustment": adjustment, "Height": height}


@pytest.fixture
def coordinates(agent):
    agent.answers["/v1/coordinate/nodes"] = [
        {"Node": "n1", "Segment": "", "Coord": coordinate(0.0, 0.0)},
        {"Node": "n2", "Segment": "", "Coord": coordinate(3e-4, 4e-4)},
        {"Node": "n3", "Segment": "", "Coord": coordinate(0.0, 0.0, adjustment=-1.0)},
        {"Node": "far", "Segment": "other", "Coord": coordinate(0.0, 0.0)},
    ]
    agent.answers["/v1/coordinate/datacenters"] = [
        {
            "Datacenter": "dc1",
            "AreaID": "wan",
            "Coordinates": [{"Node": "n1.dc1", "Segment": "", "Coord": coordinate(0.0)}],
        },
        {
            "Datacenter": "dc2",
            "AreaID": "wan",
            "Coordinates": [{"Node": "a.b.dc2", "Segment": "", "Coord": coordinate(0.1)}],
        },
    ]
    return agent


def test_rtt(ctl, coordinates):
    expected = "Estimated n1 <-> n2 rtt: 0.520 ms (using LAN coordinates)\n"
    assert ctl("rtt", "n1", "n2").out == expected
    assert ctl("rtt", "n2").out == "Estimated n2 <-> n1 rtt: 0.520 ms (using LAN coordinates)\n"
    assert ctl("rtt", "n3", "n3").out.endswith("0.020 ms (using LAN coordinates)\n"), "not below zero"
    wan = "Estimated a.b.dc2 <-> n1.dc1 rtt: 100.020 ms (using WAN coordinates)\n"
    assert ctl("rtt", "-wan", "a.b.dc2").out == wan
    assert json.loads(ctl("rtt", "-o", "json", "n1", "n2").out)["Milliseconds"] == 0.52


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "One or two node names must be specified\n"),
        (["a", "b", "c"], "One or two node names must be specified\n"),
        (["zz"], 'Could not find a coordinate for node "zz"\n'),
        (["n1", "far"], "Could not find coordinates of both nodes in one segment\n"),
        (["-wan", "n1"], "Node names must be specified as <node name>.<datacenter> with -wan\n"),
        (["-wan", "n1.dc1", "n1.dc3"], 'Could not find a coordinate for node "n1.dc3"\n'),
    ],
)
def test_rtt_refuses(ctl, coordinates, words, text):
    result = ctl("rtt", *words)
    assert (result.code, result.out, result.err) == (1, "", text)


POOLS = [
    {
        "WAN": True,
        "Datacenter": "dc1",
        "Segment": "",
        "Keys": {KEY: 2},
        "PrimaryKeys": {KEY: 2},
        "NumNodes": 2,
    },
    {
        "WAN": False,
        "Datacenter": "dc1",
        "Segment": "",
        "Messages": {"n2": "no answer"},
        "Keys": {"b": 1, "a": 3},
        "PrimaryKeys": {"a": 3},
        "NumNodes": 3,
    },
]
LISTED = f"""\
==> Gathering installed encryption keys...

WAN:
  {KEY} [2/2]

dc1 (LAN):
  ===> n2: no answer
  a [3/3]
  b [1/3]
"""


@pytest.mark.parametrize("words", [["-list"], ["list"]])
def test_keyring_list(ctl, agent, words):
    agent.answers["/v1/operator/keyring"] = POOLS
    result = ctl("keyring", *words, "-relay-factor=3", "-local-only")
    assert (result.code, result.out, result.err) == (0, LISTED, "")
    assert agent.paths() == ["GET /v1/operator/keyring?relay-factor=3&local-only=true"]
    assert json.loads(ctl("keyring", *words, "-o", "json").out) == POOLS
    assert ctl("keyring", *words, "--quiet").out == f"{KEY}\na\nb\n"
    flag = "-list-primary" if words == ["-list"] else "--primary"
    primary = ctl("keyring", *(words if words == ["list"] else []), flag).out
    assert primary.startswith("==> Gathering installed primary encryption keys...\n")
    assert "  a [3/3]\n" in primary
    assert "  b [1/3]\n" not in primary


@pytest.mark.parametrize(
    ("words", "method", "text"),
    [
        ([f"-install={KEY}"], "POST", "Installing new gossip encryption key..."),
        (["use", KEY], "PUT", "Changing primary gossip encryption key..."),
        (["remove", KEY], "DELETE", "Removing gossip encryption key..."),
    ],
)
def test_keyring_changes(ctl, agent, words, method, text):
    result = ctl("keyring", *words)
    assert (result.code, result.out, result.err) == (0, f"==> {text}\n", "")
    assert agent.requests[0][:3] == (
        method,
        "/v1/operator/keyring",
        json.dumps({"Key": KEY}, separators=(",", ":")).encode(),
    )


def test_keyring_refuses(ctl, agent):
    assert ctl("keyring").err.startswith("Usage: ctl keyring")
    assert ctl("keyring").code == 1
    assert ctl("keyring", "-list", "-use=a").err == "Only a single action is allowed\n"
    text = "Error parsing relay factor: Relay factor must be in range: [0, 5]\n"
    assert ctl("keyring", "-list", "-relay-factor=9").err == text
    assert agent.requests == []
    agent.failures["/v1/operator/keyring"] = (500, "2 errors occurred:\n\t* n1: Keyring is empty\n\n")
    result = ctl("keyring", "-list")
    assert (result.code, result.out) == (1, "==> Gathering installed encryption keys...\n")
    assert result.err == (
        "error: Unexpected response code: 500 (2 errors occurred:\n\t* n1: Keyring is empty\n\n)\n"
    )


def test_event_fire(ctl, agent):
    fired = []
    respond = agent.respond

    def answer(method, path, query, body):
        if path.startswith("/v1/event/fire/"):
            fired.append((path, query, body))
            return 200, {"ID": EVENT["ID"], "Name": "deploy"}, 0
        return respond(method, path, query, body)

    agent.respond = answer
    text = f"Event ID: {EVENT['ID']}\n"
    assert ctl("event", "-name=deploy", "-service=web", "-tag=v1", "payload here").out == text
    assert ctl("event", "fire", "deploy", "v42").out == text
    assert ctl("event", "fire", "deploy", "-", stdin=b"\x00\xff").out == text
    assert ctl("event", "-name=deploy", "@literal").out == text
    assert fired == [
        ("/v1/event/fire/deploy", {"service": "web", "tag": "v1"}, b"payload here"),
        ("/v1/event/fire/deploy", {}, b"v42"),
        ("/v1/event/fire/deploy", {}, b"\x00\xff"),
        ("/v1/event/fire/deploy", {}, b"@literal"),
    ]
    assert ctl("event", "fire", "deploy", "--quiet").out == EVENT["ID"] + "\n"


def test_event_refuses(ctl, agent):
    assert ctl("event", "-http-addr=a").err == "Event name must be specified\n"
    assert ctl("event", "fire").err == "Event name must be specified\n"
    assert ctl("event", "-name=a", "-tag=b").err == "Cannot provide tag filter without service filter.\n"
    assert ctl("event", "-name=a", "b", "c").err == "Too many command line arguments.\n"
    agent.failures["/v1/event/fire/a"] = (500, "user event exceeds limit")
    result = ctl("event", "fire", "a")
    assert (result.code, result.err) == (
        1,
        "Error firing event: Unexpected response code: 500 (user event exceeds limit)\n",
    )
    assert agent.requests[0][0] == "PUT"


def test_event_list(ctl, agent):
    agent.answers["/v1/event/list"] = [EVENT, {**EVENT, "Payload": "/w==", "LTime": 8}]
    rows = ctl("event", "list", "deploy").out.splitlines()
    assert rows[0].split() == ["ID", "Name", "LTime", "Payload"]
    assert rows[1].split() == [EVENT["ID"], "deploy", "7", "v42"]
    assert rows[2].split() == [EVENT["ID"], "deploy", "8", "base64:/w=="]
    assert agent.paths() == ["GET /v1/event/list?name=deploy"]


def test_event_list_follows(spawn, agent, eventually):
    agent.answers["/v1/event/list"] = [EVENT]
    process = spawn("event", "list", "--follow", "-o", "json")
    assert json.loads(process.stdout.readline()) == EVENT
    eventually(lambda: len(agent.requests) == 2)
    newer = {**EVENT, "ID": "b", "LTime": 8}
    agent.change("/v1/event/list", [EVENT, newer])
    assert json.loads(process.stdout.readline()) == newer
    eventually(lambda: len(agent.requests) == 3)
    time.sleep(0.05)  # until it waits
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert process.stderr.read() == b""


PEERS = {
    "Servers": [
        {
            "ID": N1,
            "Node": "n1",
            "Address": "127.0.0.1:8300",
            "Leader": True,
            "ProtocolVersion": "3",
            "Voter": True,
        }
    ],
    "Index": 22,
}
PEERS_TABLE = f"""\
Node  ID                                    Address         State   Voter  RaftProtocol
n1    {N1}  127.0.0.1:8300  leader  true   3
"""


@pytest.mark.parametrize("words", [["operator", "raft", "list-peers"], ["raft", "peers"]])
def test_raft_peers(ctl, agent, words):
    agent.answers["/v1/operator/raft/configuration"] = PEERS
    result = ctl(*words, "-stale")
    assert (result.code, result.out, result.err) == (0, PEERS_TABLE, "")
    assert agent.paths() == ["GET /v1/operator/raft/configuration?stale"]


def test_raft_peers_beside_gossip(terminal, agent):
    agent.answers["/v1/operator/raft/configuration"] = PEERS
    one = member("n1", "127.0.0.1", "consul", id=N1, port="8300")
    other = member("n3", "127.0.0.3", "consul", id="c0ffee00", port="8300", raft_vsn="3")
    agent.answers["/v1/agent/members"] = [{**one, "Status": 4}, other]
    out = terminal("operator", "raft", "list-peers", columns=140, env={"NO_COLOR": "1"}).out
    rows = [line.split() for line in out.splitlines()]
    assert rows[2] == ["n1", N1, "127.0.0.1:8300", "leader", "true", "failed"]
    assert rows[3] == ["n3", "c0ffee00", "127.0.0.3:8300", "no", "peer", "alive"]


def test_raft_remove_peer(ctl, agent):
    path = "/v1/operator/raft/peer"
    assert ctl("operator", "raft", "remove-peer", "-id=a").out == 'Removed peer with id "a"\n'
    out = ctl("operator", "raft", "remove-peer", "-address=127.0.0.3:8300").out
    assert out == 'Removed peer with address "127.0.0.3:8300"\n'
    assert agent.paths() == [f"DELETE {path}?id=a", f"DELETE {path}?address=127.0.0.3%3A8300"]
    text = "Error removing peer: an address or id is required for the peer to remove\n"
    assert ctl("operator", "raft", "remove-peer").err == text
    both = ctl("operator", "raft", "remove-peer", "-id=a", "-address=b")
    assert (both.code, both.err) == (1, "Error removing peer: cannot give both an address and id\n")
    agent.failures[path] = (500, 'id "zz" was not found in the Raft configuration')
    assert ctl("operator", "raft", "remove-peer", "-id=zz").err == (
        "Error removing peer: Unexpected response code: 500 "
        '(id "zz" was not found in the Raft configuration)\n'
    )


def test_transfer_leader(ctl, agent):
    respond = agent.respond
    agent.respond = lambda *q: (200, {"Success": True}, 0) if "transfer" in q[1] else respond(*q)
    assert ctl("operator", "raft", "transfer-leader", "-id=a").out == "Success\n"
    assert agent.paths() == ["POST /v1/operator/raft/transfer-leader?id=a"]


AUTOPILOT = {
    "CleanupDeadServers": True,
    "LastContactThreshold": "200ms",
    "MaxTrailingLogs": 250,
    "MinQuorum": 0,
    "ServerStabilizationTime": "10s",
    "RedundancyZoneTag": "",
    "DisableUpgradeMigration": False,
    "UpgradeVersionTag": "",
    "CreateIndex": 5,
    "ModifyIndex": 9,
}
CONFIG = """\
CleanupDeadServers = true
LastContactThreshold = 200ms
MaxTrailingLogs = 250
MinQuorum = 0
ServerStabilizationTime = 10s
RedundancyZoneTag = ""
DisableUpgradeMigration = false
UpgradeVersionTag = ""
"""


def test_autopilot_config(ctl, agent):
    path = "/v1/operator/autopilot/configuration"
    agent.answers[path] = AUTOPILOT
    assert ctl("operator", "autopilot", "get-config").out == CONFIG
    answer = b"true"
    respond = agent.respond
    agent.respond = lambda *q: (200, answer, 0) if q[0] == "PUT" else respond(*q)
    words = ["-cleanup-dead-servers=false", "-last-contact-threshold=1s", "-min-quorum=3"]
    assert ctl("operator", "autopilot", "set-config", *words).out == "Configuration updated!\n"
    method, target, body, _ = agent.requests[-1]
    assert (method, target) == ("PUT", f"{path}?cas=9")
    changes = {"CleanupDeadServers": False, "LastContactThreshold": "1s", "MinQuorum": 3}
    assert json.loads(body) == {**AUTOPILOT, **changes}
    answer = b"false"
    result = ctl("operator", "autopilot", "set-config")
    assert result.err == "Configuration could not be atomically updated, please try again\n"
    bad = ctl("operator", "autopilot", "set-config", "-cleanup-dead-servers=maybe")
    assert bad.err.startswith('invalid boolean value "maybe" for -cleanup-dead-servers: parse error\n')


STATE = {
    "Healthy": True,
    "FailureTolerance": 0,
    "OptimisticFailureTolerance": 0,
    "Leader": N1,
    "Voters": [N1],
    "Servers": {
        N1: {
            "ID": N1,
            "Name": "n1",
            "Address": "127.0.0.1:8300",
            "NodeStatus": "alive",
            "Version": "1.9.8",
            "LastContact": "0s",
            "LastTerm": 2,
            "LastIndex": 75,
            "Healthy": True,
            "StableSince": "2026-01-01T00:00:00Z",
            "Status": "leader",
            "NodeType": "voter",
            "Meta": {"consul-network-segment": ""},
        }
    },
}
STATE_TEXT = f"""\
Healthy:                      true
Failure Tolerance:            0
Optimistic Failure Tolerance: 0
Leader:                       {N1}
Voters:
   {N1}
Servers:
   {N1}
      Name:            n1
      Address:         127.0.0.1:8300
      Version:         1.9.8
      Status:          leader
      Node Type:       voter
      Node Status:     alive
      Healthy:         true
      Last Contact:    0s
      Last Term:       2
      Last Index:      75
"""


def test_autopilot_state(ctl, agent):
    agent.answers["/v1/operator/autopilot/state"] = STATE
    assert ctl("operator", "autopilot", "state").out.startswith(STATE_TEXT)
    assert json.loads(ctl("operator", "autopilot", "state", "-format=json").out) == STATE


def test_autopilot_health(ctl, agent):
    server = {
        "ID": N1,
        "Name": "n1",
        "Address": "127.0.0.1:8300",
        "SerfStatus": "alive",
        "Version": "1.9.8",
        "Leader": True,
        "LastContact": "0s",
        "LastTerm": 2,
        "LastIndex": 75,
        "Healthy": False,
        "Voter": True,
        "StableSince": "2026-01-01T00:00:00Z",
    }
    path = "/v1/operator/autopilot/health"
    found = {"Healthy": False, "FailureTolerance": 0, "Servers": [server]}
    agent.failures[path] = (429, json.dumps(found))
    result = ctl("operator", "autopilot", "health")
    assert result.code == 1
    assert result.out.splitlines()[1].split() == [
        *("n1", "127.0.0.1:8300", "alive", "unhealthy", "leader", "0s", "2", "75")
    ]
    assert result.out.endswith("The cluster is NOT healthy. Failure tolerance: 0\n")
    agent.failures.clear()
    agent.answers[path] = {**found, "Healthy": True}
    assert ctl("operator", "autopilot", "health").code == 0


@pytest.mark.parametrize(
    "words", [["operator"], ["operator", "raft"], ["operator", "raft", "nosuch"], ["tls", "ca"]]
)
def test_groups_inside_groups_show_their_commands(ctl, words):
    result = ctl(*words)
    assert (result.code, result.out) == (1, "")
    group = " ".join(words[:2])
    before, usage, listed = result.err.partition(f"Usage: ctl {group} <command>")
    assert usage and before == ("" if words[2:] == [] else f'Error: no such command: "{" ".join(words)}"\n\n')
    assert all(line.strip().startswith(group) for line in listed.splitlines()[3:])
    assert ctl(*words[:2], "--help").code == 0


def test_members_tells_that_rpc_fails(ctl, terminal, agent):
    members = agent.answers["/v1/agent/members"]
    members[1]["Ctl"] = {"RPC": "ok"}
    plain = ctl("members")
    assert plain.err == ""
    members[1]["Ctl"] = {"RPC": "failed: the server closed the connection"}
    result = ctl("members")
    assert (result.code, result.out) == (0, plain.out), "scripts read the same table"
    assert result.err == (
        "n1: alive in gossip, but calls from this agent fail: the server closed the connection\n"
        "`ctl doctor` says which side, which rule and what to change.\n"
    )
    assert json.loads(ctl("members", "-o", "json").out)[0]["Ctl"]["RPC"].startswith("failed")
    out = terminal("members", columns=140, env={"NO_COLOR": "1"}).out
    assert out.splitlines()[0].split()[:4] == ["Node", "Address", "Status", "RPC"]
    assert out.splitlines()[2].split()[:4] == ["n1", "127.0.0.1:8301", "alive", "failed"]
