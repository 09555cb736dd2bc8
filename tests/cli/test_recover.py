"""`ctl operator raft recover`: from what is left of three servers to one that leads again."""

import json
import subprocess
import sys

import pytest

from agent.raft_recovery import wanted_peers
from tests.cli.conftest import ROOT
from tests.harness import CTL, ENVIRONMENT, Agent

ASK = f"{sys.executable} -m cli"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Three servers that had a key, and are stopped; their folders by name."""
    folder = tmp_path_factory.mktemp("cluster")
    words = ["--servers", "3", "--clients", "0", "--data-dir", str(folder), "--exec", f"{ASK} kv put a 1"]
    subprocess.run(
        [*CTL, "dev", "cluster", *words], cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True
    )
    return {name: folder / name / "data" for name in ("s1", "s2", "s3")}


def identity(folder):
    return (folder / "node-id").read_text().strip()


def test_shows_and_recommends(ctl, stopped):
    folders = [str(stopped[name]) for name in ("s1", "s2", "s3")]
    result = ctl("operator", "raft", "recover", *folders)
    assert (result.code, result.err) == (1, "Nothing was written; --yes writes peers.json.\n")
    lines = result.out.splitlines()
    assert lines[0].split() == ["Directory", "ID", "LastTerm", "LastIndex", "Snapshot", "State"]
    assert {line.split()[1] for line in lines[1:4]} == {identity(folder) for folder in stopped.values()}
    assert lines[1].endswith("newest")
    indexes = [int(line.split()[3]) for line in lines[1:4]]
    assert indexes == sorted(indexes, reverse=True)
    assert result.out.count("voter  stays") == 3
    assert "These are 3 of 3 voters, which is a majority: start them" in result.out
    assert not (stopped["s1"] / "raft" / "peers.json").exists()


def test_document(ctl, stopped):
    result = ctl("operator", "raft", "recover", "-o", "json", str(stopped["s1"]))
    document = json.loads(result.out)
    assert document["Newest"] == str(stopped["s1"])
    assert document["Written"] == []
    (server,) = document["Servers"]
    assert (server["ID"], server["Voter"]) == (identity(stopped["s1"]), True)
    assert document["Directories"][0]["LastIndex"] > 0


def test_refusals(ctl, stopped, tmp_path):
    recover = ("operator", "raft", "recover")
    assert ctl(*recover).code == 1
    result = ctl(*recover, str(tmp_path))
    assert result.err == f"Error: {tmp_path} holds no Raft data: it is not the data directory of a server\n"
    twice = ctl(*recover, str(stopped["s1"]), str(stopped["s1"]))
    assert "of the same server" in twice.err
    assert "-address is ID=HOST:PORT" in ctl(*recover, "-address=moon", str(stopped["s1"])).err
    (tmp_path / "raft").mkdir()
    (tmp_path / "node-id").write_text("stranger")
    result = ctl(*recover, str(stopped["s1"]), str(tmp_path))
    assert "does not know server stranger" in result.err
    assert "-address stranger=HOST:PORT" in result.err


def test_addresses_of_others_are_taken(ctl, stopped):
    other = identity(stopped["s2"])
    result = ctl("operator", "raft", "recover", "-address", f"{other}=10.0.0.9:8300", str(stopped["s1"]))
    assert f"  {other}  10.0.0.9:8300\n" in result.out
    assert f"{identity(stopped['s3'])}" in result.out
    assert "is given up" in result.out


def test_one_survivor_leads_again(ctl, stopped, tmp_path):
    """The last test: it changes what is left."""
    folder = stopped["s1"]
    address = json.loads((folder.parent.parent / "cluster.json").read_text())["Network"] + ".1"
    flags = ["-bootstrap=false", "-node", "s1", "-data-dir", str(folder)]
    alone = Agent(tmp_path, dev=False, address=address, flags=flags)
    try:
        alone.start(wait=False)
        alone.wait_http()
        running = ctl("operator", "raft", "recover", "--yes", str(folder))
        assert (running.code, "an agent runs on" in running.err) == (1, True)
        assert alone.get("/v1/status/leader") == ""
    finally:
        alone.end()
    result = ctl("operator", "raft", "recover", "--yes", str(folder))
    assert result.code == 0
    assert f"Wrote {folder}/raft/peers.json" in result.out
    assert result.out.count("is given up") == 2
    assert [server.id for server in wanted_peers(folder / "raft").servers] == [identity(folder)]
    with Agent(tmp_path, dev=False, address=address, flags=flags) as agent:
        assert agent.ctl("kv", "get", "a").stdout == b"1\n"
        assert agent.ctl("kv", "put", "b", "2").returncode == 0
        assert agent.ctl("operator", "raft", "list-peers", "--quiet").stdout == b"s1\n"
        assert not (folder / "raft" / "peers.json").exists()
