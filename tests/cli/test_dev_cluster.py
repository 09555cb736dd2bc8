"""`ctl dev cluster`: real agents that come, agree, are talked to, and end with their parent."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT
from tests.harness import CTL, ENVIRONMENT, until

ASK = f"{sys.executable} -m cli"
PATIENCE = 40


def pids_below(folder):
    """Processes that have `folder` in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read()
                with open(f"/proc/{name}/stat", "rb") as file:
                    state = file.read().rpartition(b")")[2].split()[0]
            except OSError:
                continue
            if f"{folder}/".encode() in words and b"agent\0start" in words and state != b"Z":
                found.append(int(name))
    return found


@pytest.fixture
def start(tmp_path):
    """Start a cluster whose agents are found by their folder, and see to it that nothing is left."""
    started = []

    def call(*words, **options):
        command = [*CTL, "dev", "cluster", "--data-dir", str(tmp_path / "data"), *words]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, **options)
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    for pid in pids_below(tmp_path / "data"):
        os.kill(pid, signal.SIGKILL)


def test_exec_talks_to_a_whole_cluster(start, tmp_path):
    script = (
        f"{ASK} kv put a 1 && {ASK} kv get -http-addr=${{CTL_DEV_CLIENTS##* }} a && {ASK} members --quiet && "
        f"{ASK} operator raft list-peers --quiet && {ASK} keyring list --quiet | wc -l && "
        f"{ASK} doctor -o json > {tmp_path}/doctor && exit 7"
    )
    process = start("--encrypt", "--tls", "--exec", script, "--timeout", "30s")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 7, err
    lines = out.splitlines()
    assert lines[:7] == ["Success! Data written to: a", "1", "s1", "s2", "s3", "c1", "c2"]
    assert (sorted(lines[7:10]), lines[10:]) == (["s1", "s2", "s3"], ["1"])
    document = json.loads((tmp_path / "doctor").read_text())
    assert document["Healthy"], document
    assert {f["Check"] for f in document["Findings"] if f["Status"] in ("warn", "FAIL")} <= {"disk"}
    assert len([f for f in document["Findings"] if f["Check"] == "rpc" and "with TLS" in f["Text"]]) == 3
    assert pids_below(tmp_path / "data") == []


def agents_run(start, tmp_path, servers=1, clients=1):
    process = start("--servers", str(servers), "--clients", str(clients))
    until("both agents run", lambda: len(pids_below(tmp_path / "data")) == 2)
    return process


def lines_until_it_stays(process):
    """What it prints until all agents agree."""
    lines = []
    while "Ctrl-C ends all agents." not in (lines or [""])[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    return "".join(lines)


def test_a_signal_ends_all(start, tmp_path):
    process = agents_run(start, tmp_path)
    text = lines_until_it_stays(process)
    assert re.search(r"^s1  127\.\d+\.\d+\.1  server  alive$", text, re.MULTILINE)
    assert re.search(r"^c1  127\.\d+\.\d+\.11  client  alive$", text, re.MULTILINE)
    assert re.search(r"^leader: s1 \(127\.\d+\.\d+\.1:8300\)$", text, re.MULTILINE)
    address = re.search(r"export CTL_HTTP_ADDR=(\S+)", text)[1]
    asked = subprocess.run(
        [*CTL, "members", "-http-addr", address], cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True
    )
    assert asked.stdout.count(b"alive") == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert pids_below(tmp_path / "data") == []
    log = (tmp_path / "data" / "c1" / "agent.log").read_text()
    assert "left" in log.lower() or "leave" in log.lower()


def test_an_interrupt_ends_all(start, tmp_path):
    """Of servers only: for the leave of a client agent gossip takes seconds."""
    process = agents_run(start, tmp_path, servers=2, clients=0)
    lines_until_it_stays(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert pids_below(tmp_path / "data") == []


def test_a_killed_parent_takes_its_agents_along(start, tmp_path):
    process = agents_run(start, tmp_path)
    process.kill()
    until("the agents are gone", lambda: not pids_below(tmp_path / "data"))


def test_interrupted_at_once(start, tmp_path):
    process = agents_run(start, tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert pids_below(tmp_path / "data") == []


def test_data_and_addresses_stay(start, tmp_path):
    one = ["--servers", "1", "--clients", "0"]
    process = start(*one, "--exec", f"{ASK} kv put a 1; echo $CTL_HTTP_ADDR")
    before = process.communicate(timeout=PATIENCE)[0].splitlines()
    process = start(*one, "--exec", f"{ASK} kv get a; echo $CTL_HTTP_ADDR")
    after = process.communicate(timeout=PATIENCE)[0].splitlines()
    assert (before[0], after[0]) == ("Success! Data written to: a", "1")
    assert before[1] == after[1]


def test_an_agent_that_ends_is_told(start, tmp_path):
    (tmp_path / "bad.json").write_text('{"nonsense": 1}')
    process = start("--servers", "1", "--clients", "0", "--config-file", str(tmp_path / "bad.json"))
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert "Error: s1 ended with code 1; its last words:" in err
    assert "nonsense" in err


def test_time_is_limited(start, tmp_path):
    process = start("--servers", "1", "--clients", "1", "--timeout", "1ms")
    err = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 124
    assert "Error: the agents did not agree in time: " in err


def test_one_document(start):
    process = start("--servers", "1", "--clients", "0", "--once", "-o", "json")
    out = process.communicate(timeout=PATIENCE)[0]
    (agent,) = json.loads(out)["Agents"]
    assert agent["Name"] == "s1"
    assert agent["Server"]
    assert agent["HTTP"] == f"http://{agent['Address']}:8500"
    assert not os.path.exists(f"/proc/{agent['Pid']}")


def test_refusals(ctl, tmp_path):
    assert ctl("dev", "cluster", "--servers=0").err == "Error: a cluster has one server at least\n"
    assert ctl("dev", "cluster", "--clients=250").err.startswith("Error: so many agents do not fit")
    (tmp_path / "cluster.json").write_text("[]")
    result = ctl("dev", "cluster", "--data-dir", str(tmp_path))
    assert result.code == 1
    assert "cluster.json is damaged" in result.err


def test_a_terminal_gets_a_table(terminal):
    out = terminal("dev", "cluster", "--servers", "2", "--clients", "0", "--once", env={"NO_COLOR": "1"}).out
    assert "Starting ..." in out
    rows = [re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", line).split() for line in out.splitlines()]
    for name in ("s1", "s2"):
        assert any(row[:1] == [name] and "alive" in row for row in rows)
    assert any(row[-2:] == ["alive", "leader"] for row in rows)
    assert "export CTL_HTTP_ADDR=http://127." in out
