"""`ctl services --watch`: the list after every change, through outages, and on a terminal."""

import io
import json
import signal

from rich.console import Console

from cli.serviceswatch import _rows
from tests.cli.conftest import DB, FakeAgent, canned
from tests.cli.test_top import Screen


def with_services(agent):
    agent.answers["/v1/internal/ui/services"] = []
    return agent


def lose_the_critical_one(agent):
    with agent.changed:
        agent.answers["/v1/health/service/db"] = DB[:1]
    agent.change("/v1/internal/ui/services", [])


def test_the_list_after_every_change(spawn, agent):
    process = spawn("services", "--watch", "-o", "json", "-http-addr", with_services(agent).address)
    first = json.loads(process.stdout.readline())
    assert {one["Name"]: one["Critical"] for one in first} == {"consul": 0, "db": 1}
    agent.put("unrelated", b"1")  # another index, the same services
    lose_the_critical_one(agent)
    assert {one["Name"]: one["Critical"] for one in json.loads(process.stdout.readline())} == {
        "consul": 0,
        "db": 0,
    }
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert process.stdout.read() == b""


def test_a_restart_is_waited_out(spawn, agent):
    process = spawn("services", "list", "--watch", "-o", "plain", "-http-addr", with_services(agent).address)
    assert process.stdout.readline().startswith(b"Service")
    agent.close()
    assert b"trying again" in process.stderr.readline()
    again = FakeAgent(port=agent.port)
    again.answers = {**canned(), "/v1/internal/ui/services": []}
    try:
        while not process.stdout.readline().startswith(b"Service"):
            assert process.poll() is None
    finally:
        again.close()


def test_who_may_not_ask_is_told_at_once(ctl, agent):
    agent.failures["/v1/internal/ui/services"] = (403, "Permission denied")
    result = ctl("services", "--watch")
    assert result.code == 1 and "Permission denied" in result.err


def test_on_a_terminal(agent):
    screen = Screen(with_services(agent).address, 80, 24, command=("services", "--watch"))
    try:
        shown = screen.until("2 services, the last change", "1 critical", "consul ", "q: quit")
        assert shown.index("db ") < shown.index("consul ")  # the worst first
        lose_the_critical_one(agent)
        screen.until("1 passing")
        screen.type(b"q")
        assert screen.process.wait(10) == 0
    finally:
        screen.close()


def test_many_services_fit():
    document = [
        {
            "Name": f"s{n}",
            "InstanceCount": 1,
            "Passing": 1,
            "Warning": 0,
            "Critical": 0,
            "Maintenance": 0,
            "Tags": ["a"],
        }
        for n in range(50)
    ]
    console = Console(width=80, file=io.StringIO())
    console.print(_rows(document).table(10))
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 11 and lines[-1].startswith("and 41 more")
