"""`ctl exec` in a cluster: what is configured runs, nothing else does, and who may not is refused."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from typing import Any

import pytest

from cli.exec import OLD_FORM
from tests.cli.test_top import Screen
from tests.harness import CTL, ENVIRONMENT, ROOT, Agent, lives, until

HURRIED = "import cli.exec; cli.exec.LOST_AFTER = 4.0; from cli.main import main; main()"
MANAGER = "11110000-0000-0000-0000-000000000001"
AS_CONSUL = "import sys; sys.argv[0] = 'consul'; from cli.main import main; main()"


def action(script: str, **more: Any) -> dict[str, Any]:
    return {"args": ["/bin/sh", "-c", script, "action"], **more}


class Fleet:
    """A server, s1, and two client agents, c1 and c2."""

    def __init__(self, folder, acl=None, **configs):
        self.folder, self.agents = folder, {}
        for name in ("s1", "c1", "c2"):
            (folder / name).mkdir()
            config = {"node_name": name, **({"acl": acl} if acl else {}), **configs[name]}
            if name != "s1":
                config["retry_join"] = [self.agents["s1"].address]
            token = MANAGER if acl else ""
            agent = Agent(folder / name, dev=name == "s1", config=config, token=token)
            if name != "s1":
                agent._flags = [flag for flag in agent._flags if flag not in ("--server", "--bootstrap")]
            self.agents[name] = agent

    def __enter__(self):
        try:
            for agent in self.agents.values():
                agent.start()
            until("all are alive", lambda: len(self.alive()) == 3)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for agent in self.agents.values():
            agent.end()

    def alive(self):
        return [one for one in self.s1.get("/v1/health/state/passing") if one["CheckID"] == "serfHealth"]

    @property
    def s1(self):
        return self.agents["s1"]

    def spawn(self, *words, at="c2", program=(), token=""):
        head = [sys.executable, "-c", *program] if program else list(CTL)
        environment = ENVIRONMENT | {"CONSUL_HTTP_ADDR": self.agents[at].base, "CONSUL_HTTP_TOKEN": token}
        return subprocess.Popen(
            [*head, "exec", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *words, **options):
        """Exit code, documents by node, stderr."""
        process = self.spawn(*words, **options)
        out, err = process.communicate(timeout=40)
        documents = [json.loads(line) for line in out.splitlines()]
        return process.returncode, {one["Node"]: one for one in documents}, err.decode()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    log, pids = folder / "log", folder / "pids"
    everywhere = {
        "hello": action("echo hello from $CTL_NODE"),
        "words": action('for word; do echo "<$word>"; done', parameters=True),
        "log": action(f"echo $CTL_NODE >> {log}; [ $CTL_NODE != c2 ]"),
        "slow": action(f"echo begun; sleep 60 & echo $$ $! > {pids}-$CTL_NODE; wait", timeout="500ms"),
        "long": action(f"echo $$ $$ > {pids}-long-$CTL_NODE; exec sleep 60"),
        "much": action("head -c 300000 /dev/zero | tr '\\0' x; echo end"),
        "broken": {"args": ["/no/such/program"]},
        "stranger": {"args": ["/bin/true"], "user": "no-such-user"},
        "nobody": {"args": ["/usr/bin/id", "-un"], "user": "nobody"},
    }
    clients = {"actions": everywhere, "actions_without_acl": True}
    c1 = {
        **clients,
        "actions": {**everywhere, "only": action("exit 0"), "fails": action("echo no >&2; exit 3")},
    }
    c2 = {**c1, "actions": {**c1["actions"]}}
    del c2["actions"]["only"]
    with Fleet(folder, s1={"actions": everywhere}, c1=c1, c2=c2) as fleet:
        web = {"Name": "web", "Tags": ["blue"]}
        for name in ("c1", "c2"):
            fleet.agents[name].put("/v1/agent/service/register", {**web, "Tags": ["blue", name]})
        until("web is in the catalog", lambda: len(fleet.s1.get("/v1/catalog/service/web")) == 2)
        yield fleet


CLIENTS = ("--node", "c1", "--node", "c2")


@pytest.mark.parametrize("at", ["s1", "c1"])
def test_it_runs_where_it_is_configured(fleet, at):
    code, nodes, err = fleet.run("hello", *CLIENTS, at=at)
    assert (code, err) == (0, "")
    assert {name: (one["State"], one["Code"], one["Output"]) for name, one in nodes.items()} == {
        name: ("passed", 0, f"hello from {name}\n") for name in ("c1", "c2")
    }


def test_without_acls_an_agent_refuses_unless_told_otherwise(fleet):
    code, nodes, _ = fleet.run("hello")
    assert code == 2
    assert nodes["s1"]["State"] == "refused" and "actions_without_acl" in nodes["s1"]["Error"]
    assert (nodes["c1"]["State"], nodes["c2"]["State"]) == ("passed", "passed")


def test_parameters_are_words_and_never_a_shell_s(fleet):
    words = ["a b", "$(touch /tmp/owned)", "; id", "--flag", "é"]
    code, nodes, _ = fleet.run("--node", "c1", "words", "--", *words)
    assert (code, nodes["c1"]["Output"]) == (0, "".join(f"<{word}>\n" for word in words))
    code, nodes, _ = fleet.run("--node", "c1", "hello", "extra")
    assert code == 2
    assert (nodes["c1"]["State"], nodes["c1"]["Output"]) == ("refused", "")
    assert nodes["c1"]["Error"] == "the action hello takes no parameters"


@pytest.mark.parametrize(
    ("words", "nodes"),
    [
        (["--service", "web"], {"c1", "c2"}),
        (["--service", "web", "--tag", "c2"], {"c2"}),
        (["--service", "web", "--tag", "blue", "--tag", "c1"], {"c1"}),
        (["--service", "web", "--node", "c1"], {"c1"}),
    ],
)
def test_filters(fleet, words, nodes):
    code, found, _ = fleet.run("hello", *words)
    assert (code, set(found)) == (0, nodes)


@pytest.mark.parametrize(
    "words",
    [["--node", "nosuch"], ["--service", "nosuch"], ["--tag", "blue"], ["--node", "s1", "--service", "web"]],
)
def test_nobody_is_meant(fleet, words):
    code, found, err = fleet.run("hello", *words)
    assert (code, found) == (1, {}) and err.startswith("Error: exec: ")


def test_failures(fleet):
    code, nodes, _ = fleet.run("fails", *CLIENTS)
    assert code == 2
    assert [(one["State"], one["Code"], one["Output"]) for one in nodes.values()] == [
        ("failed", 3, "no\n")
    ] * 2
    code, nodes, _ = fleet.run("broken", "--node", "c1")
    assert (code, nodes["c1"]["State"], nodes["c1"]["Code"]) == (2, "failed", 127)
    assert "no such file" in nodes["c1"]["Error"]
    code, nodes, _ = fleet.run("stranger", "--node", "c1")
    assert (code, nodes["c1"]["Error"]) == (2, "there is no user no-such-user")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run things as others")
def test_as_another_user(fleet):
    assert fleet.run("nobody", "--node", "c1")[1]["c1"]["Output"] == "nobody\n"


def test_where_there_is_no_such_action(fleet):
    code, nodes, _ = fleet.run("only", *CLIENTS)  # c2 was named, and has none
    assert (code, nodes["c1"]["State"], nodes["c2"]["State"]) == (2, "passed", "absent")
    fleet_wide = fleet.run("nosuch")
    assert fleet_wide[0] == 1
    assert "no agent that is meant has an action nosuch" in fleet_wide[2]
    assert "actions { nosuch {" in fleet_wide[2]


def test_a_timeout_ends_all_that_it_started(fleet):
    code, nodes, _ = fleet.run("slow", "--node", "c1")
    assert (code, nodes["c1"]["State"], nodes["c1"]["Output"]) == (2, "timeout", "begun\n")
    assert nodes["c1"]["Error"] == "ended after 500ms"
    pids = (fleet.folder / "pids-c1").read_text().split()
    assert not any(lives(int(pid)) for pid in pids)


def test_the_end_of_a_long_output_is_kept(fleet):
    output = fleet.run("much", "--node", "c1")[1]["c1"]["Output"]
    assert output.endswith("xend\n") and len(output) <= 65536


def test_batches_stop_at_the_first_failure(fleet):
    log = fleet.folder / "log"
    code, nodes, _ = fleet.run("log", "--service", "web", "--batch", "1")
    assert (code, log.read_text().split()) == (2, ["c1", "c2"])
    log.unlink()
    code, nodes, _ = fleet.run("fails", *CLIENTS, "--batch=1", "--pause=50ms")
    assert (code, nodes["c1"]["State"], nodes["c2"]["State"]) == (2, "failed", "not run")


def test_one_at_a_time_and_an_interrupt_leaves_it_running(fleet):
    pids = fleet.folder / "pids-long-c1"
    running = fleet.spawn("long", "--node", "c1")
    until("it runs", pids.exists)
    running.send_signal(signal.SIGINT)
    assert running.wait(10) == 130
    running.communicate()
    pid = int(pids.read_text().split()[0])
    assert lives(pid)
    code, nodes, _ = fleet.run("long", "--node", "c1")
    assert (code, nodes["c1"]["Error"]) == (2, "the action long is running already")
    os.kill(pid, signal.SIGTERM)
    until("it has ended", lambda: not lives(pid))


def test_an_event_alone_runs_nothing(fleet):
    """Whoever can gossip can say that there is an order; the order itself is the leader's."""
    log = fleet.folder / "log"
    before = log.read_text() if log.exists() else ""
    for payload in (str(uuid.uuid4()), "x" * 36, "log"):
        fleet.s1.put("/v1/event/fire/ctl:exec", payload)
    assert fleet.run("hello", "--node", "c1")[0] == 0  # heard after those
    assert (log.read_text() if log.exists() else "") == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("uptime -p", {"Nodes": ["c1"]}),
        ("hello", {}),
        ("hello", {"Nodes": []}),
        ("hello", {"Nodes": ["c1", "c1"]}),
        ("hello", {"Nodes": [1]}),
        ("hello", {"Nodes": ["c1"], "Args": ["a\0b"]}),
        ("hello", {"Nodes": ["c1"], "Command": "id"}),
        ("hello", {"Nodes": ["c1"], "Args": ["x" * 70000]}),
        ("", {"Nodes": ["c1"]}),
    ],
)
def test_bad_bodies(fleet, path, body):
    path = "/v1/ctl/exec/" + path.replace(" ", "%20")
    answer = fleet.s1.http("PUT", path, json.dumps(body))
    assert answer.status == 400, answer.text


def test_unknown_runs(fleet):
    assert fleet.s1.http("GET", f"/v1/ctl/exec/{uuid.uuid4()}").status == 404


def test_a_node_that_dies_is_lost_and_ends_the_batches(fleet):
    pids = fleet.folder / "pids-long-c2"
    process = fleet.spawn("long", *CLIENTS, "--batch", "1", at="s1", program=(HURRIED,))
    first = fleet.folder / "pids-long-c1"
    until("it runs on c1", lambda: first.exists() and lives(int(first.read_text().split()[0])))
    c1 = fleet.agents["c1"]
    c1.kill9()
    try:
        out, _ = process.communicate(timeout=40)
        states = {one["Node"]: one["State"] for one in map(json.loads, out.splitlines())}
        assert (process.returncode, states) == (2, {"c1": "lost", "c2": "not run"})
        assert not pids.exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(first.read_text().split()[0]), signal.SIGKILL)
        c1.start()
        until("c1 is back", lambda: len(fleet.alive()) == 3)


# On a terminal


@pytest.mark.parametrize("columns", [80, 140])
def test_a_table_that_follows(fleet, columns):
    screen = Screen(fleet.agents["c2"].base, columns, 24, command=("exec", "slow", *CLIENTS))
    try:
        shown = screen.until("running", "slow: 2 timeout", "c2: ended after 500ms", "    begun")
        assert max(len(line) for line in re.split("[\r\n]", shown)) <= columns
        assert screen.process.wait(10) == 2
    finally:
        screen.close()


# When the servers do not answer as they should


def pretended(agent, parts):
    """A pretended agent that begins a run and tells these parts of it."""
    agent.answers["/v1/health/state/passing"] = [{"Node": "n1", "CheckID": "serfHealth"}]
    agent.replies["PUT /v1/ctl/exec/deploy"] = {"ID": "run"}
    if parts is not None:
        agent.answers["/v1/ctl/exec/run"] = parts
    return agent


def part(state, silent):
    return {"Node": "n1", "State": state, "Code": 0, "Output": "", "Error": "", "Took": 0.0, "Silent": silent}


@pytest.mark.parametrize(
    ("parts", "state"),
    [
        (None, "lost"),  # another server leads, which knows nothing of it
        ([part("waiting", 11.0)], "no answer"),
        ([part("running", 16.0)], "lost"),
    ],
)
def test_what_is_not_known_has_failed(ctl, agent, parts, state):
    pretended(agent, parts)
    result = ctl("exec", "deploy")
    assert (result.code, json.loads(result.out)["State"]) == (2, state)
    assert "\x1b" not in result.out


def test_rights_that_end_meanwhile(ctl, agent):
    pretended(agent, None)
    agent.failures["/v1/ctl/exec/run"] = (403, "Permission denied")
    result = ctl("exec", "deploy")
    assert result.code == 1 and "Permission denied" in result.err


# The form of before


@pytest.mark.parametrize(
    ("words", "program", "name"),
    [
        (["uptime -p"], (), "uptime"),
        (["-shell=false", "uptime"], (), "uptime"),
        (["-wait=5s", "hello"], (), "hello"),
        (["/bin/date"], (), "date"),
        (["-"], (), "NAME"),
        (["hello"], (AS_CONSUL,), "hello"),
    ],
)
def test_the_remote_shell_is_answered_with_what_to_do(fleet, words, program, name):
    code, nodes, err = fleet.run(*words, program=program)
    assert (code, nodes, err) == (1, {}, OLD_FORM.format(name=name) + "\n")


# Who may


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """ACLs that allow what they do not speak of: the most open API there can be with ACLs."""
    acl = {
        "enabled": True,
        "default_policy": "allow",
        "token_ttl": "1s",
        "tokens": {"initial_management": MANAGER, "agent": MANAGER, "default": MANAGER},
    }
    configs = {name: {"actions": {"hello": action("echo hello")}} for name in ("s1", "c1", "c2")}
    with Fleet(tmp_path_factory.mktemp("guarded"), acl, **configs) as fleet:
        yield fleet


def token(fleet, rules):
    name = f"p{uuid.uuid4()}"
    fleet.s1.put("/v1/acl/policy", {"Name": name, "Rules": rules})
    return fleet.s1.put("/v1/acl/token", {"Policies": [{"Name": name}]}).json()["SecretID"]


MAY = 'event "ctl:exec" { policy = "write" } agent "c1" { policy = "write" } agent "c2" { policy = "deny" }'


def test_a_token_of_one_s_own_is_needed(guarded):
    """Neither nobody nor the agent's default token may, though both may do anything else."""
    for secret in ("", "anonymous"):
        code, nodes, err = guarded.run("hello", "--node", "c1", token=secret)
        assert (code, nodes) == (1, {}) and "Permission denied" in err
    assert guarded.run("hello", "--node", "c1", token=str(uuid.uuid4()))[0] == 1


def test_the_rights_of_the_token_count_on_every_node(guarded):
    secret = token(guarded, MAY)
    for at in ("s1", "c1", "c2"):
        code, nodes, _ = guarded.run("hello", "--node", "c1", token=secret, at=at)
        assert (code, nodes["c1"]["Output"]) == (0, "hello\n")
    code, nodes, err = guarded.run("hello", *CLIENTS, token=secret)
    assert (code, nodes) == (1, {}) and "agent:write" in err and '"c2"' in err
    assert guarded.run("hello", token=MANAGER)[0] == 0


def test_the_right_to_the_event_is_needed(guarded):
    secret = token(guarded, 'event "ctl:exec" { policy = "deny" }')
    code, _, err = guarded.run("hello", "--node", "c1", token=secret)
    assert code == 1 and "event:write" in err


def test_the_results_are_for_those_who_may_run_it(guarded):
    headers = {"X-Consul-Token": token(guarded, MAY)}
    body = json.dumps({"Nodes": ["c1"]})
    run = guarded.s1.http("PUT", "/v1/ctl/exec/hello", body, headers).json()["ID"]
    assert guarded.s1.http("GET", f"/v1/ctl/exec/{run}", headers=headers).status == 200
    other = {"X-Consul-Token": token(guarded, 'agent "c1" { policy = "read" }')}
    assert guarded.s1.http("GET", f"/v1/ctl/exec/{run}", headers=other).status == 403
    for secret in ("", "anonymous"):
        assert guarded.s1.http("GET", f"/v1/ctl/exec/{run}", headers={"X-Consul-Token": secret}).status == 403
    assert guarded.s1.http("GET", f"/v1/ctl/exec/{run}?token={MANAGER}").status == 200
    bearer = {"Authorization": f"Bearer {MANAGER}", "X-Consul-Token": ""}
    assert guarded.s1.http("GET", f"/v1/ctl/exec/{run}", headers=bearer).status == 200
