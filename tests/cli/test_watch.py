"""`ctl watch`: when handlers run, what they get, how they end."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.watch.payload import shape, to_text
from core.watch.progress import KEPT, EventProgress, News, Progress, back_off
from tests.cli.conftest import DB, NODES, FakeAgent, check
from tests.harness import CTL, ENVIRONMENT, ROOT, Agent, lives, until

RECORDED_KEY = (
    '{"Key":"foo/bar","CreateIndex":172,"ModifyIndex":174,'
    '"LockIndex":0,"Flags":0,"Value":"Mg==","Session":""}'
)


def test_progress():
    progress = Progress()
    assert progress.take(5, None)[0]  # the first state, even "no such key"
    assert not progress.take(5, "x")[0]  # the index must move ...
    assert not progress.take(6, None)[0]  # ... and the value differ
    assert progress.take(7, "x")[0]
    assert progress.index == 7
    assert progress.take(3, "y")[0]  # a restored agent: what it has is new
    assert progress.index == 0
    assert not progress.take(3, "y")[0]
    assert progress.index == 3
    quiet = Progress(initial=False)
    assert not quiet.take(5, "a")[0]
    assert quiet.take(6, "b")[0]


def test_back_off():
    assert [back_off(n) for n in (1, 2, 3, 100)] == [0.5, 2.0, 4.5, 10.0]


def test_payloads_as_recorded():
    entry = {
        "LockIndex": 0,
        "Key": "foo/bar",
        "Flags": 0,
        "Value": "Mg==",
        "CreateIndex": 172,
        "ModifyIndex": 174,
    }
    assert to_text(shape("key", [entry])) == RECORDED_KEY
    assert to_text(shape("keyprefix", [entry])) == f"[{RECORDED_KEY}]"
    assert to_text(shape("keyprefix", [])) == to_text(shape("key", None)) == "null"
    assert to_text(shape("services", {"consul": [], "api": ["v1"]})) == '{"api":["v1"],"consul":[]}'
    assert to_text(shape("nodes", NODES[:1])) == (
        '[{"ID":"dab3cf9b-f050-279c-ae6c-f0d96bb72f1c","Node":"n1","Address":"127.0.0.1","Datacenter":"dc1",'
        '"TaggedAddresses":{"lan":"127.0.0.1","lan_ipv4":"127.0.0.1","wan":"127.0.0.1","wan_ipv4":"127.0.0.1"},'
        '"Meta":{"consul-network-segment":""},"CreateIndex":11,"ModifyIndex":13}]'
    )
    assert to_text(shape("checks", [check("n1", "c1", "passing", "api")])) == (
        '[{"Node":"n1","CheckID":"c1","Name":"c1","Status":"passing","Notes":"","Output":"","ServiceID":"api",'
        '"ServiceName":"api","ServiceTags":[],"Type":"","Definition":{"Interval":"0s","Timeout":"0s",'
        '"DeregisterCriticalServiceAfter":"0s","HTTP":"","Header":null,"Method":"","Body":"",'
        '"TLSSkipVerify":false,"TCP":""},"CreateIndex":11,"ModifyIndex":11}]'
    )
    text = to_text(shape("service", DB[:1]))
    assert (
        '"Service":{"ID":"db","Service":"db","Tags":["a","b"],"Meta":null,"Port":5432,"Address":"",'
        '"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,"CreateIndex":180,"ModifyIndex":182,'
        '"Proxy":{"MeshGateway":{},"Expose":{}},"Connect":{}}'
    ) in text
    assert to_text("<&>\u2028") == '"\\u003c\\u0026\\u003e\\u2028"'
    definition = {"Interval": "10s", "Timeout": 1_500_000_000}
    shaped = shape("checks", [check("n1", "c", "passing", definition=definition)])[0]["Definition"]
    assert (shaped["Interval"], shaped["Timeout"]) == ("10s", "1.5s")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "Watch type must be specified\n"),
        (["-type=zork"], "Unsupported watch type: zork\n"),
        (["zork"], "Unsupported watch type: zork\n"),
        (["-type=event", "-key=a"], "Invalid parameters: [key]\n"),
        (["-type=connect_roots"], "Type connect_roots is not supported in the CLI tool\n"),
        (["-type=key"], "Must specify a single key to watch\n"),
        (["key"], "Must specify a single key to watch\n"),
        (["-type=keyprefix"], "Must specify a single prefix to watch\n"),
        (["-type=service"], "Must specify a single service to watch\n"),
        (["-type=checks", "-service=a", "-state=any"], "Cannot specify service and state\n"),
        (["-type=key", "-key=a", "-prefix=b"], "Invalid parameters: [prefix]\n"),
        (["-type=service", "-service=a", "-passingonly=maybe"], "Failed to parse passingonly flag: strconv"),
        (["key", "a", "--exec=x", "y"], "Error: give the command with --exec"),
    ],
)
def test_bad_use(ctl, agent, words, error):
    result = ctl("watch", *words)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(error)
    assert agent.requests == []


def test_consul_form_prints_once(ctl, agent):
    assert ctl("watch", "-type=key", "-key=test").out == "null\n"
    agent.put("test", b"2")
    shown = ctl("watch", "-type=key", "-key=/test").out
    assert shown.startswith('{\n    "Key": "test",\n    "CreateIndex": 11,')
    assert json.loads(ctl("watch", "-type=nodes", "-datacenter=dc1", "-stale").out)[1]["Node"] == "n2"
    assert agent.requests[-1][1] == "/v1/catalog/nodes?dc=dc1&stale"
    ctl("watch", "-type=service", "-service=db", "-tag=a", "-passingonly=true")
    assert agent.requests[-1][1] == "/v1/health/service/db?tag=a&passing=1"
    ctl("watch", "-type=checks", "-state=critical")
    assert agent.requests[-1][1] == "/v1/health/state/critical"


def test_short_form_formats(ctl, agent):
    agent.put("a/b", b"1")
    agent.put("a/c", b"2")
    lines = ctl("watch", "keyprefix", "a/", "--once", "-o", "json").out.splitlines()
    assert len(lines) == 1
    assert [entry["Key"] for entry in json.loads(lines[0])] == ["a/b", "a/c"]
    assert ctl("watch", "key", "a/b", "--once", "-o", "yaml").out.startswith("---\nKey: a/b\n")
    assert json.loads(ctl("watch", "checks", "db", "--once").out)[0]["CheckID"] == "db-up"
    assert "n1" in ctl("watch", "nodes", "--once", "-o", "table").out


def test_timeout_is_124(ctl, agent):
    start = time.monotonic()
    assert ctl("watch", "key", "test", "--once", "--initial=false", "--timeout=150ms").code == 124
    result = ctl("watch", "key", "test", "--timeout", "100ms", "--exec", "sleep 30")
    assert result.code == 124
    assert time.monotonic() - start < 5


def test_unreachable_at_the_start(ctl, monkeypatch):
    monkeypatch.setenv("CTL_HTTP_ADDR", "127.0.0.1:1")
    result = ctl("watch", "key", "a", "--exec", "cat")
    assert result.code == 1
    assert result.err.startswith("Error querying Consul agent: Get ")


def read_documents(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_exec_runs_once_for_each_change(spawn, agent, tmp_path, eventually):
    seen = tmp_path / "seen.json"
    watching = spawn("watch", "key", "test", "--exec", f"cat >> {seen}")
    eventually(lambda: read_documents(seen) == [None])
    agent.put("test", b"one")
    eventually(lambda: len(read_documents(seen)) == 2)
    agent.put("other", b"x")  # the index moves, the value does not
    agent.put("test", b"two")
    eventually(lambda: len(read_documents(seen)) == 3)
    agent.delete("test")
    eventually(lambda: len(read_documents(seen)) == 4)
    values = [document and document["Value"] for document in read_documents(seen)]
    assert values == [None, "b25l", "dHdv", None]
    watching.send_signal(signal.SIGTERM)
    assert watching.wait(10) == 0
    assert watching.stderr.read() == b""


def test_trailing_command_and_environment(spawn, agent, eventually, tmp_path):
    seen = tmp_path / "seen"
    agent.put("test", b"1")
    script = f'echo "$CONSUL_INDEX $CTL_INDEX $0" >> {seen}'
    watching = spawn("watch", "-type=key", "-key=test", "-shell=false", "/bin/sh", "-c", script, "--name=x")
    eventually(seen.exists)
    eventually(lambda: seen.read_text() == f"{agent.index} {agent.index} --name=x\n")
    watching.send_signal(signal.SIGINT)
    assert watching.wait(10) == 0


def test_never_two_at_once_and_changes_merge(spawn, agent, tmp_path, eventually):
    log = tmp_path / "log"
    script = tmp_path / "slow.sh"
    script.write_text(f"echo begin >> {log}\ncat >> {log}.json\nsleep 0.3\necho end >> {log}\n")
    watching = spawn("watch", "key", "test", "--exec", f"sh {script}")
    eventually(log.exists)
    for number in range(5):
        agent.put("test", b"%d" % number)
    documents = tmp_path / "log.json"
    eventually(lambda: any(d and d["Value"] == "NA==" for d in read_documents(documents)))
    eventually(lambda: log.read_text().count("end") == log.read_text().count("begin"))
    lines = log.read_text().split()
    assert lines == ["begin", "end"] * (len(lines) // 2)
    assert len(lines) <= 6
    watching.terminate()
    assert watching.wait(10) == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["-type=key", "-key=a", "exit 3"], 1),
        (["key", "a", "--exec", "exit 3"], 3),
        (["key", "a", "--exec", "kill -9 $$"], 137),
    ],
)
def test_a_failing_handler_ends_the_watch(ctl, agent, words, code):
    result = ctl("watch", *words)
    assert result.code == code
    text = "signal: killed" if code == 137 else "exit status 3"
    assert result.err == f"Error executing handler: {text}\n"


def test_a_handler_that_cannot_start(ctl, agent):
    result = ctl("watch", "-type=key", "-key=a", "-shell=false", "/no/such")
    assert result.code == 1
    assert result.err == "Error executing handler: fork/exec /no/such: no such file or directory\n"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)],
)
def test_signals_end_the_whole_group(spawn, agent, tmp_path, eventually, number, code):
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"
    watching = spawn("watch", "key", "a", "--exec", script)
    eventually(pids.exists)
    children = [int(pid) for pid in pids.read_text().split()]
    assert all(os.getpgid(pid) != os.getpgid(watching.pid) for pid in children)
    watching.send_signal(number)
    assert watching.wait(10) == code
    eventually(lambda: not any(lives(pid) for pid in children))


def test_killed_with_kill_it_leaves_no_handler(spawn, agent, tmp_path, eventually):
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"
    watching = spawn("watch", "key", "a", "--exec", script)
    eventually(pids.exists)
    watching.kill()
    children = [int(pid) for pid in pids.read_text().split()]
    eventually(lambda: not any(lives(pid) for pid in children))


def test_a_handler_that_ignores_term_is_killed(spawn, agent, tmp_path, eventually, monkeypatch):
    pids = tmp_path / "pids"
    script = f"trap '' TERM; echo $$ > {pids}.new; mv {pids}.new {pids}; while :; do sleep 1; done"
    watching = spawn("watch", "key", "a", "--exec", script, env={"SHELL": "/bin/sh"})
    eventually(pids.exists)
    watching.terminate()
    assert watching.wait(15) == 0
    assert not lives(int(pids.read_text()))


def test_large_payloads_to_a_handler_that_does_not_read(ctl, agent):
    for number in range(40):
        agent.put(f"big/{number}", b"x" * 8000)
    assert ctl("watch", "keyprefix", "big/", "--once", "--exec", "true").code == 0


def test_survives_a_restart_of_the_agent(clean_environment, spawn, tmp_path, eventually):
    seen = tmp_path / "seen.json"
    first = FakeAgent()
    first.put("test", b"1")
    watching = spawn("watch", "key", "test", "--exec", f"cat >> {seen}", env={"CTL_HTTP_ADDR": first.address})
    eventually(lambda: len(read_documents(seen)) == 1)
    first.index += 1000
    first.put("test", b"2")
    eventually(lambda: len(read_documents(seen)) == 2)
    entry = first.kv["test"]
    first.close()
    second = FakeAgent(first.port, {"test": entry})
    eventually(lambda: len(second.requests) >= 2)
    assert len(read_documents(seen)) == 2  # nothing changed
    second.put("test", b"3")
    eventually(lambda: len(read_documents(seen)) == 3)
    watching.terminate()
    assert watching.wait(10) == 0
    second.close()
    assert [document["Value"] for document in read_documents(seen)] == ["MQ==", "Mg==", "Mw=="]


def test_errors_are_told_and_waited_out(spawn, agent, eventually):
    agent.failures["/v1/kv/a"] = (500, "No cluster leader")
    watching = spawn("watch", "key", "a", "--once", "-o", "json")
    eventually(lambda: len(agent.requests) >= 2)
    del agent.failures["/v1/kv/a"]
    out, err = watching.communicate(timeout=10)
    assert (watching.returncode, out) == (0, b"null\n")
    assert b"Unexpected response code: 500 (No cluster leader); next try in 0.5s\n" in err


def event(number, name="deploy"):
    return {
        "ID": f"cda8fb6d-5ef6-44d2-a5ea-d10efdcbd{number:03}",
        "Name": name,
        "Payload": "djI=",
        "NodeFilter": "",
        "ServiceFilter": "",
        "TagFilter": "",
        "Version": 1,
        "LTime": number,
    }


def test_events_are_handed_over_once():
    progress = EventProgress(initial=True, empty=False)
    assert progress.take(9, [event(1), event(2)]) == (True, [event(1), event(2)])
    assert progress.take(5, [event(1), event(2), event(3)]) == (True, [event(3)])
    assert progress.index == 5, "it is made of an id and may go down"
    assert progress.take(5, [event(2), event(3)])[0] is False
    assert progress.take(7, [])[0] is False, "the agent was started anew"
    assert progress.take(8, [event(3), event(4)]) == (True, [event(4)])
    quiet = EventProgress(initial=False, empty=True)
    assert quiet.take(9, [event(1)])[0] is False
    assert quiet.take(7, [event(1), event(2)]) == (True, [event(2)])
    assert EventProgress(initial=True, empty=False).take(1, [])[0] is False
    assert EventProgress(initial=True, empty=True).take(1, []) == (True, [])


def test_what_was_seen_is_forgotten_in_the_end():
    news = News()
    for number in range(3 * KEPT):
        assert len(news.of([{"ID": str(number)}])) == 1
    assert len(news.of([{"ID": "0"}, {"ID": str(3 * KEPT - 1)}])) == 1


def test_events_of_the_past_run_nothing_unless_asked_for(spawn, agent, tmp_path, eventually):
    agent.answers["/v1/event/list"] = [event(1)]
    path = tmp_path / "seen"
    spawn("watch", "event", "deploy", "--exec", f"cat >> {path}")
    replaying = tmp_path / "replayed"
    spawn("watch", "-type=event", "-name=deploy", f"cat >> {replaying}")
    eventually(lambda: len(agent.requests) == 4)  # both wait for what comes next
    agent.change("/v1/event/list", [event(1), event(2)])
    eventually(lambda: path.exists() and path.read_text().endswith("\n"))  # the shell makes it empty first
    eventually(lambda: len(replaying.read_text().splitlines()) == 2)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [[event(2)]]
    assert [json.loads(line) for line in replaying.read_text().splitlines()] == [[event(1)], [event(2)]]
    assert agent.requests[0][1] == "/v1/event/list?name=deploy"


def test_an_event_watch_prints(ctl, agent):
    agent.answers["/v1/event/list"] = []
    assert ctl("watch", "-type=event").out == "[]\n"
    agent.answers["/v1/event/list"] = [event(1)]
    assert json.loads(ctl("watch", "-type=event", "-name=deploy").out) == [event(1)]
    assert "deploy" in ctl("watch", "event", "--initial", "--once", "-o", "table").out


def told(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_restart_runs_the_command_only_for_a_change(
    real_watch: Callable[..., None], tmp_path: Path
) -> None:
    """What was handed over last is kept for each command."""
    seen = tmp_path / "seen"
    real_watch(["key", "a", "--exec", f"cat >> {seen}"], until_told=lambda: len(told(seen)) == 1)
    real_watch(["key", "a", "--exec", f"cat >> {seen}"], put="1", until_told=lambda: len(told(seen)) == 2)
    other = tmp_path / "other"
    real_watch(["key", "a", "--exec", f"cat >> {other}"], until_told=lambda: len(told(other)) == 1)
    real_watch(["key", "a", "--initial", "--exec", f"cat >> {seen}"], until_told=lambda: len(told(seen)) == 3)
    assert [one and one["Value"] for one in told(seen)] == [None, "MQ==", "MQ=="]


def test_a_command_can_ask_for_what_changed(real_watch: Callable[..., None], tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    words = ["key", "a", "--diff", "--exec", f"cat >> {seen}"]
    real_watch(words, until_told=lambda: len(told(seen)) == 1)
    real_watch(words, put="1", until_told=lambda: len(told(seen)) == 2)
    real_watch(words, put="2", until_told=lambda: len(told(seen)) == 3)
    assert [len(one["Added"]) for one in told(seen)] == [0, 1, 0]
    (change,) = told(seen)[2]["Changed"]
    assert (change["From"]["Value"], change["To"]["Value"]) == ("MQ==", "Mg==")


@pytest.fixture
def real_watch(
    make_agent: Callable[..., Agent], tmp_path: Path
) -> Callable[[list[str], Callable[[], bool], str], None]:
    """Runs `ctl watch` at a real agent until it has told something, after a change if one is given."""
    agent = make_agent().start()
    state = tmp_path / "state"
    environment = ENVIRONMENT | {"CONSUL_HTTP_ADDR": agent.base, "XDG_STATE_HOME": str(state)}

    def kept() -> dict[str, str]:
        return {path.name: path.read_text() for path in state.glob("ctl/watches/*") if not path.suffix}

    def run(words: list[str], until_told: Callable[[], bool], put: str = "") -> None:
        before = kept()
        process = subprocess.Popen([*CTL, "watch", *words], env=environment, cwd=ROOT)
        try:
            if put:
                agent.put("/v1/kv/a", put)
            until("it is told", until_told)
            until("that is kept", lambda: "--initial" in words or kept() != before)
        finally:
            process.terminate()
            process.wait()

    return run
