"""The command as a process: pipes that close, interrupts, what is imported, how long it takes."""

import signal
import subprocess
import sys
import time

from tests.cli.conftest import ROOT

HEAVY = (
    "typer",
    "rich",
    "httpx",
    "json",
    "re",
    "socket",
    "ssl",
    "asyncio",
    "typing",
    "msgspec",
    "subprocess",
)


def test_a_reader_that_has_enough(spawn, agent):
    for number in range(300):
        agent.put(f"k/{number:04}" + "x" * 200, b"")
    process = spawn("kv", "list", "--recurse")
    assert process.stdout.readline().startswith(b"k/0000")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(10) in (0, 141)


def test_a_reader_that_never_was(agent, spawn):
    import os

    reading, writing = os.pipe()
    os.close(reading)
    process = spawn("members", stdout=writing)
    os.close(writing)
    assert process.stderr.read() == b""
    assert process.wait(10) == 141


def test_a_full_disk_is_said(agent, spawn):
    with open("/dev/full", "wb") as full:
        process = spawn("members", stdout=full)
        assert process.stderr.read() == b"Error: write stdout: no space left on device\n"
        assert process.wait(10) == 1


def test_interrupt(agent, spawn, eventually):
    agent.wait = lambda query: time.sleep(5)
    process = spawn("members")
    eventually(lambda: agent.requests)
    time.sleep(0.05)  # until it waits
    process.send_signal(signal.SIGINT)
    assert process.wait(4) == 130
    assert process.stderr.read() == b""


def test_monitor_ends_well_on_interrupt(spawn, agent, eventually):
    answer = agent.respond

    def respond(method, path, query, body):
        if path == "/v1/agent/monitor":
            time.sleep(5)
        return answer(method, path, query, body)

    agent.respond = respond
    process = spawn("monitor")
    eventually(lambda: agent.requests)
    time.sleep(0.05)  # until it waits: a signal just before that is kept until data comes
    process.send_signal(signal.SIGINT)
    assert process.wait(4) == 0


def test_small_commands_import_little(agent):
    code = (
        "import sys; from cli.main import run\n"
        f"code = run(sys.argv[1:]); print(sorted(set(sys.modules) & set({HEAVY!r})), code)"
    )
    agent.put("a", b"1")
    agent.answers["/v1/operator/raft/configuration"] = {"Servers": [], "Index": 1}
    agent.answers["/v1/operator/keyring"] = agent.answers["/v1/event/list"] = []
    point = {"Vec": [0.0], "Height": 0.0, "Adjustment": 0.0}
    agent.answers["/v1/coordinate/nodes"] = [{"Node": "n1", "Segment": "", "Coord": point}]
    for words in (
        ["kv", "get", "a"],
        ["kv", "put", "a", "2"],
        ["kv", "list"],
        ["kv", "delete", "b"],
        ["members"],
        ["services"],
        ["catalog", "services"],
        ["version"],
        ["rtt", "n1", "n1"],
        ["raft", "peers"],
        ["keyring", "list"],
        ["event", "list"],
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.stderr == ""
        assert done.stdout.splitlines()[-1] == "[] 0", words


def test_kv_get_costs_little_more_than_python_itself(agent):
    """As a ratio in one run, since machines differ: the target is twice the bare interpreter."""
    agent.put("a", b"1")

    def best(*words):
        times = []
        for _ in range(8):
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        return min(times)

    command = "import sys; sys.argv = ['ctl', 'kv', 'get', 'a']; from cli.main import main; main()"
    assert best("-c", command) < 3 * best("-c", "pass")
