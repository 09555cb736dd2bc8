"""`ctl doctor` against real agents: what is well, and every way in which TLS between agents is got wrong."""

import json
import re
import socket
import time

import pytest

from cli.doctorcluster import _clock, check_disk, measure_syncs
from cli.doctorfacts import Facts
from core.certs import create_authority, create_certificate
from tests.cli.conftest import N1, N2, member
from tests.harness import Agent, until

SERVER = ("server.dc1.consul", "localhost")
RULES = {"verify_incoming": True, "verify_outgoing": True, "verify_server_hostname": True}


def write(folder, name, pair):
    (folder / f"{name}.pem").write_bytes(pair.certificate)
    (folder / f"{name}-key.pem").write_bytes(pair.key)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two authorities, and certificates of each."""
    folder, now = tmp_path_factory.mktemp("certificates"), time.time()
    for name in ("ca", "other"):
        authority = create_authority(now, days=400, common_name=name)
        write(folder, name, authority)
        write(
            folder,
            f"{name}-server",
            create_certificate(authority, now, days=300, common_name="s", dns_names=SERVER),
        )
        write(
            folder,
            f"{name}-client",
            create_certificate(authority, now, days=300, common_name="c", dns_names=("c",)),
        )
    authority = create_authority(now, days=400, common_name="short")
    write(folder, "short", authority)
    write(
        folder, "short-server", create_certificate(authority, now, days=20, common_name="s", dns_names=SERVER)
    )
    old = create_certificate(authority, now - 3 * 86400, days=2, common_name="s", dns_names=SERVER)
    write(folder, "old-server", old)
    return folder


def tls(files, authority="", certificate="", key="", **rules):
    """The `tls` part of a configuration."""
    given = {}
    if authority:
        given["ca_file"] = str(files / f"{authority}.pem")
    if certificate:
        given["cert_file"] = str(files / f"{certificate}.pem")
        given["key_file"] = str(files / f"{key or certificate}-key.pem")
    return {"tls": {"defaults": given, "internal_rpc": rules}}


@pytest.fixture(scope="module")
def strict(tmp_path_factory, files):
    """A server that everybody must show a certificate to."""
    config = {"node_name": "strict", **tls(files, "ca", "ca-server", **RULES)}
    with Agent(tmp_path_factory.mktemp("strict"), dev=False, config=config) as agent:
        yield agent


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A server without certificates."""
    with Agent(tmp_path_factory.mktemp("plain"), dev=False, config={"node_name": "plain"}) as agent:
        yield agent


def examine(agent, *words):
    done = agent.ctl("doctor", "-o", "json", *words)
    assert done.stderr == b""
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["Healthy"] else 1)
    return document["Findings"]


def of(findings, check, *statuses):
    return [f for f in findings if f["Check"] == check and (not statuses or f["Status"] in statuses)]


def test_all_is_well(strict, files):
    findings = examine(strict)
    assert {finding["Status"] for finding in findings} == {"ok", "warn", "skip"}
    (rpc,) = of(findings, "rpc")
    assert "answers with TLS" in rpc["Text"]
    assert f"{files}/ca-server.pem is for server.dc1.consul" in [
        f["Text"] for f in of(findings, "certificates")
    ]
    assert "fsync takes" in of(findings, "disk", "ok", "warn")[0]["Text"]
    for check in ("agent", "leader", "address", "clock", "versions"):
        assert [f["Status"] for f in of(findings, check)] == ["ok"], check
    (peers,) = of(findings, "raft peers")
    assert (peers["Status"], peers["Text"]) == ("warn", "1 voter, all alive; none may fail")
    assert of(findings, "keys", "skip")
    assert "answers without TLS" not in str(findings)


def test_lines_for_people(strict):
    done = strict.ctl("doctor")
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "ok    agent         strict, server of dc1, answers"
    assert re.fullmatch(r"\d+ ok, \d warn, 1 skip", lines[-1])
    quiet = strict.ctl("doctor", "--quiet").stdout.decode().splitlines()
    assert quiet[:2] == [
        "warn  raft peers    1 voter, all alive; none may fail",
        "                    -> three servers bear the loss of one",
    ]
    assert not [line for line in quiet if line.startswith(("ok", "skip"))]


MISTAKES = {
    "no TLS here": (
        lambda f: tls(f),
        "it closes calls without TLS: verify_incoming is set there, verify_outgoing is not set here",
        "set verify_outgoing = true with ca_file, cert_file and key_file",
    ),
    "no certificate here": (
        lambda f: tls(f, "ca", verify_outgoing=True),
        "it refuses this agent's certificate",
        "on strict set cert_file and key_file: it shows no certificate now",
    ),
    "certificate of a stranger": (
        lambda f: tls(f, "ca", "other-server", verify_outgoing=True),
        "it refuses this agent's certificate",
        "other-server.pem of strict one that an authority in ca_file of strict has signed",
    ),
    "another authority": (
        lambda f: tls(f, "other", "other-server", verify_outgoing=True),
        "its certificate is not trusted here",
        "other.pem of strict, or use the same one",
    ),
    "another domain": (
        lambda f: {"domain": "example", **tls(f, "ca", "ca-server", **RULES)},
        "is for server.dc1.consul, localhost, verify_server_hostname here wants server.dc1.example",
        "use a certificate for server.dc1.example",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_with_a_strict_server(strict, files, tmp_path, mistake):
    config, text, fix = MISTAKES[mistake]
    path = tmp_path / "here.json"
    path.write_text(json.dumps(config(files)))
    (found,) = of(examine(strict, "-config-file", str(path)), "rpc")
    assert found["Status"] == "FAIL"
    assert text in found["Text"]
    assert fix in found["Fix"]


def test_a_server_without_certificate(plain, files, tmp_path):
    path = tmp_path / "here.json"
    path.write_text(json.dumps(tls(files, "ca", "ca-client", verify_outgoing=True)))
    (found,) = of(examine(plain, "-config-file", str(path)), "rpc")
    assert (found["Status"], "it does not speak TLS" in found["Text"]) == ("FAIL", True)
    assert "on plain set cert_file, key_file and ca_file" in found["Fix"]
    assert [f["Status"] for f in of(examine(plain), "rpc")] == ["ok"]


CERTIFICATES = {
    "expired": (lambda f: tls(f, "short", "old-server", **RULES), "FAIL", "old-server.pem expired on"),
    "soon": (lambda f: tls(f, "short", "short-server", **RULES), "warn", "short-server.pem expires on"),
    "key": (
        lambda f: tls(f, "ca", "ca-server", "ca-client", **RULES),
        "FAIL",
        "ca-client-key.pem is not the key of",
    ),
    "signer": (lambda f: tls(f, "ca", "other-server", **RULES), "FAIL", "is not signed by"),
    "no authority": (
        lambda f: tls(f, "ca-client", "ca-server", **RULES),
        "FAIL",
        "not the certificate of an authority",
    ),
    "name": (lambda f: tls(f, "ca", "ca-client", **RULES), "FAIL", "is for c, not for server.dc1.consul"),
    "missing": (lambda f: tls(f, "ca", "nosuch", **RULES), "FAIL", "nosuch.pem: no such file or directory"),
    "no files": (lambda f: tls(f, verify_outgoing=True), "FAIL", "TLS is asked for, but no file is named"),
    "unused": (lambda f: tls(f, "ca", "ca-server"), "warn", "calls go out without TLS although"),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_certificates_without_an_agent(ctl, files, tmp_path, monkeypatch, case):
    monkeypatch.setenv("CTL_HTTP_ADDR", "127.0.0.1:1")
    config, status, text = CERTIFICATES[case]
    path = tmp_path / "agent.json"
    path.write_text(json.dumps({"server": True, "data_dir": str(tmp_path), **config(files)}))
    result = ctl("doctor", "-o", "json", "-config-file", str(path))
    assert result.code == 1
    findings = json.loads(result.out)["Findings"]
    assert findings[0]["Text"].startswith("127.0.0.1:1 does not answer")
    matching = [f for f in of(findings, "certificates") if text in f["Text"]]
    assert [f["Status"] for f in matching] == [status]


def test_gossip_well_and_rpc_not(strict, tmp_path):
    """The classic: a client agent without TLS joins a strict server; `members` shows it, doctor explains."""
    flags = ["-server=false", "-bootstrap=false", "-retry-join", strict.address]
    agent = Agent(tmp_path, dev=False, config={"node_name": "lost"}, flags=flags)
    try:
        agent.start(wait=False)
        agent.wait_http()
        until("it has joined", lambda: len(agent.get("/v1/agent/members")) == 2)
        until("it has tried", lambda: b"fail" in agent.ctl("members").stderr)
        done = agent.ctl("members")
        assert b"strict" in done.stdout
        assert b"strict: alive in gossip, but calls from this agent fail: " in done.stderr
        findings = examine(agent)
        assert [f["Status"] for f in of(findings, "gossip udp")] == ["ok", "ok"], "there and back"
        assert [f["Status"] for f in of(findings, "gossip tcp")] == ["ok"]
        (found,) = of(findings, "rpc")
        assert found["Fix"].startswith("on lost set verify_outgoing = true")
        assert of(findings, "leader", "FAIL")[0]["Fix"] == "see `rpc` below"
    finally:
        agent.end()


def test_encrypted_gossip(tmp_path):
    config = {"node_name": "secret", "encrypt": "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Agent(tmp_path / "a", dev=False, config=config) as server:
        flags = ["-server=false", "-bootstrap=false", "-retry-join", server.address]
        client = Agent(tmp_path / "b", dev=False, config={**config, "node_name": "other"}, flags=flags)
        with client:
            until("both are there", lambda: len(server.get("/v1/agent/members")) == 2)
            findings = examine(server)
            assert [f["Status"] for f in of(findings, "gossip udp")] == ["ok", "ok"]
            assert [f["Status"] for f in of(findings, "gossip tcp")] == ["ok"]
            assert "LAN: all 2 members have the primary key" in [f["Text"] for f in of(findings, "keys")]
            (server.data_dir / "serf" / "local.keyring").unlink()
            assert "the key is not at hand" in of(examine(server), "gossip")[0]["Text"]


# against a pretended agent, for what is hard to bring about


def server(name, address, identity, status=1, port="1"):
    return {**member(name, address, "consul", id=identity, port=port), "Port": 1, "Status": status}


def peer(name, identity, address="127.0.0.1:1", leader=False):
    return {
        "ID": identity,
        "Node": name,
        "Address": address,
        "Leader": leader,
        "Voter": True,
        "ProtocolVersion": "3",
    }


def pretend(ctl, agent):
    return json.loads(ctl("doctor", "-o", "json").out)["Findings"]


def test_no_leader(ctl, agent):
    agent.answers["/v1/status/leader"] = ""
    agent.answers["/v1/agent/members"] = [
        server("n1", "127.0.0.1", N1),
        server("n2", "127.0.0.1", N2, status=4),
    ]
    (found,) = of(pretend(ctl, agent), "leader")
    assert found["Text"] == "there is no leader; gossip calls 1 of 2 servers alive"
    assert found["Fix"].startswith("2 must be, and reach each other (`rpc` below): start the others again.")


def test_peers_beside_members(ctl, agent):
    agent.answers["/v1/agent/members"] = [
        server("n1", "127.0.0.1", N1),
        server("n2", "127.0.0.1", N2, status=4),
        server("n4", "127.0.0.1", "new"),
    ]
    path = "/v1/operator/raft/configuration"
    agent.answers[path] = {"Servers": [peer("n1", N1), peer("n2", N2), peer("n3", "gone")], "Index": 1}
    texts = {f["Text"]: f for f in of(pretend(ctl, agent), "raft peers")}
    assert texts["Raft counts n2 (127.0.0.1:1), which gossip calls failed"]["Status"] == "FAIL"
    assert (
        "remove-peer -id=gone" in texts["Raft counts n3 (127.0.0.1:1), which gossip calls no member"]["Fix"]
    )
    assert texts["n4 is an alive server that Raft does not count"]["Status"] == "warn"
    agent.answers["/v1/agent/members"][1]["Status"] = 1
    statuses = [f["Status"] for f in of(pretend(ctl, agent), "raft peers")]
    assert statuses == ["warn", "warn"], "two of three are a quorum"


def test_ports_that_are_closed(ctl, agent):
    agent.answers["/v1/agent/members"] = [server("n1", "127.0.0.1", N1), server("n2", "127.0.0.2", N2)]
    findings = pretend(ctl, agent)
    for check in ("gossip udp", "gossip tcp", "rpc"):
        found = of(findings, check, "FAIL")
        assert found[-1]["Fix"].startswith("nothing listens there: start that agent")
    assert "does not lead to the agent" in of(findings, "address", "FAIL")[0]["Text"]
    agent.answers["/v1/agent/members"][1]["Status"] = 4
    (found,) = of(pretend(ctl, agent), "gossip", "warn")[:1]
    assert "force-leave n2" in found["Fix"]


def test_ports_that_say_nothing(ctl, agent, monkeypatch):
    """A port that takes everything and answers nothing is how a firewall looks."""
    monkeypatch.setattr("cli.doctorprobe.PATIENCE", 0.3)
    with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.create_server(("127.0.0.3", 0)) as tcp:
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.3", port))
        silent = {**server("n2", "127.0.0.3", N2, port=str(port)), "Port": port}
        agent.answers["/v1/agent/members"] = [server("n1", "127.0.0.1", N1), silent]
        findings = pretend(ctl, agent)
    (found,) = of(findings, "gossip udp", "FAIL")
    assert found["Text"] == f"n2 (127.0.0.3:{port}): no answer"
    assert found["Fix"].startswith(f"let UDP port {port} through to 127.0.0.3")
    (found,) = of(findings, "gossip tcp", "FAIL")
    assert found["Text"] == f"n2 (127.0.0.3:{port}): i/o timeout"


def test_a_loopback_address_among_others(ctl, agent):
    agent.answers["/v1/agent/members"] = [
        server("n1", "127.0.0.1", N1),
        server("n2", "10.255.0.1", N2, status=3),
    ]
    (found,) = of(pretend(ctl, agent), "address")
    assert found["Text"] == "it advertises 127.0.0.1, which is no address for n2"


def test_keys_that_some_lack(ctl, agent):
    agent.answers["/v1/agent/self"]["Stats"]["serf_lan"] = {"encrypted": "true"}
    agent.answers["/v1/operator/keyring"] = [
        {
            "WAN": False,
            "Messages": {"n3": "no answer"},
            "Keys": {"aaaaaaaa": 2, "b": 1},
            "PrimaryKeys": {"aaaaaaaa": 2, "b": 1},
            "NumNodes": 3,
        }
    ]
    found = {f["Text"]: f for f in of(pretend(ctl, agent), "keys")}
    assert found["LAN: n3: no answer"]["Status"] == "FAIL"
    assert found["LAN: 2 of 3 members have the primary key aaaaaa..."]["Fix"].startswith(
        "`ctl keyring install"
    )
    assert found["LAN: members encrypt with 2 different keys"]["Status"] == "warn"


def test_versions_that_differ(ctl, agent):
    agent.answers["/v1/agent/members"][0]["Tags"]["build"] = "1.21.4:abc"
    (found,) = of(pretend(ctl, agent), "versions")
    assert (found["Status"], found["Text"]) == ("warn", "members differ: 1.21.4: n2; 1.9.8: n1")


def test_a_token_without_rights(ctl, agent):
    agent.failures["/v1/agent/self"] = (403, "Permission denied")
    (found,) = pretend(ctl, agent)
    assert found["Fix"] == "give a token with agent:read and node:read"


def test_clocks():
    date = "Mon, 23 Nov 2026 10:00:00 GMT"
    seen = 1795428000.0
    assert _clock("n2", date, seen + 0.9).status == "ok"
    assert _clock("n2", date, seen + 90.5).text == "n2 is 90 s behind this machine"
    assert _clock("n2", date, seen - 59.5).text == "n2 is 60 s ahead of this machine"
    assert _clock("n2", "yesterday", seen).status == "skip"
    assert _clock("n2", "", seen).status == "skip"


@pytest.mark.parametrize(
    ("times", "status", "text"),
    [
        ([0.001] * 19 + [0.099], "ok", "at worst 99.0 ms"),
        ([0.001] * 19 + [0.2], "warn", "some writes wait for it"),
        ([0.03] * 20, "warn", "every write waits for it"),
        ([0.03] * 19 + [0.6], "FAIL", "longer than a leader's lease"),
    ],
)
def test_slow_disks(monkeypatch, times, status, text):
    monkeypatch.setattr("cli.doctorcluster.measure_syncs", lambda folder: times)
    about = {"Config": {"NodeName": "n1", "Server": True}}
    facts = Facts(call=None, settings={"DataDir": "/x"}, about=about, members=[], local=True)
    (found,) = check_disk(facts)
    assert found.status == status
    assert text in found.text
    about["Config"]["Server"] = False
    assert [f.status for f in check_disk(facts)] == ["ok"], "a client agent writes next to nothing"


def test_the_disk_is_left_as_it_was(tmp_path):
    assert len(measure_syncs(str(tmp_path))) == 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("columns", [80, 140])
def test_lines_fit_the_terminal(terminal, agent, columns):
    agent.answers["/v1/agent/members"] = [server("n1", "127.0.0.1", N1), server("n2", "127.0.0.2", N2)]
    out = terminal("doctor", columns=columns, env={"NO_COLOR": "1"}).out
    assert max(len(line) for line in out.splitlines()) <= columns
    assert "FAIL  rpc" in out
