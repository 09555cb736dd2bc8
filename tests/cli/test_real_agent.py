"""The command line against a real agent: the walk of the README, sockets, restarts, stop."""

import json
import os
import signal
import subprocess

import pytest

from tests.harness import CTL, ROOT, Agent, until


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with Agent(tmp_path_factory.mktemp("agent")) as agent:
        yield agent


def ok(agent, *words, **options):
    done = agent.ctl(*words, **options)
    assert (done.returncode, done.stderr) == (0, b""), words
    return done.stdout.decode()


def test_members_and_version(real):
    header, row = ok(real, "members").splitlines()
    assert header.split() == ["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment"]
    assert row.split()[1:6] == [f"{real.address}:8301", "alive", "server", "1.9.8", "2"]
    assert json.loads(ok(real, "members", "-o", "json"))[0]["Tags"]["dc"] == "dc1"
    assert real.ctl("members", "-status=left").returncode == 2


def test_kv(real):
    assert ok(real, "kv", "put", "test", "Hello World") == "Success! Data written to: test\n"
    assert ok(real, "kv", "get", "test") == "Hello World\n"
    blob = bytes(range(256)) * 10
    ok(real, "kv", "put", "dir/ü %?#", "-", stdin=blob)
    assert real.ctl("kv", "get", "--raw", "dir/ü %?#").stdout == blob
    assert ok(real, "kv", "list", "dir/") == "dir/ü %?#\n"
    failed = real.ctl("kv", "put", "-cas", "-modify-index=1", "test", "x")
    assert (failed.returncode, failed.stderr) == (1, b"Error! Did not write to test: CAS failed\n")
    missing = real.ctl("kv", "get", "nosuch")
    assert (missing.returncode, missing.stderr) == (1, b"Error! No key exists at: nosuch\n")
    assert ok(real, "kv", "delete", "-recurse", "dir/") == "Success! Deleted keys with prefix: dir/\n"


def test_export_and_import(real):
    for key, value in {"x/dir/": b"", "x/bin": bytes(range(256)), "x/flag": b"1"}.items():
        ok(real, "kv", "put", "-flags=7", key, "-", stdin=value)
    exported = real.ctl("kv", "export", "x/").stdout
    ok(real, "kv", "delete", "-recurse", "x/")
    ok(real, "kv", "import", "-", stdin=exported)
    assert real.ctl("kv", "export", "x/").stdout == exported
    assert [row["key"] for row in json.loads(exported)] == ["x/bin", "x/dir/", "x/flag"]


WEB = """{ "service": { "name": "web", "tags": ["web1"], "port": 80, "enableTagOverride": false,
  "checks": [ { "id": "api", "name": "HTTP API on port 80", "http": "http://127.0.0.1:1/index.html",
                "interval": "10s", "timeout": "1s" } ] } }"""


def test_services_and_checks(real, tmp_path):
    path = tmp_path / "web.json"
    path.write_text(WEB)
    done = real.ctl("services", "register", str(path))
    assert (done.returncode, done.stdout) == (0, b"Registered service: web\n")
    until("the service is in the catalog", lambda: "web" in ok(real, "catalog", "services"))
    assert "\nweb      1 " in ok(real, "services")
    until("the check is in the catalog", lambda: "api" in ok(real, "checks", "list", "--service=web"))
    assert "api" in ok(real, "checks", "--local")
    assert "web" in ok(real, "services", "show", "web")
    ok(real, "checks", "register", "-name=ttl", "-ttl=1m")
    assert ok(real, "checks", "pass", "-note=fine", "ttl") == "Check ttl is now passing\n"
    until("it passes", lambda: "fine" in ok(real, "checks", "--state=passing"))
    assert ok(real, "checks", "deregister", "ttl") == "Deregistered check: ttl\n"
    assert ok(real, "services", "deregister", "-id=web") == "Deregistered service: web\n"


def test_maintenance_nodes_and_the_rest(real):
    name = ok(real, "members", "--quiet").strip()
    assert ok(real, "maint") == ""
    assert ok(real, "maint", "-enable", "-reason=disk swap") == "Node maintenance is now enabled\n"
    assert ok(real, "maint") == f"Node:\n  Name:   {name}\n  Reason: disk swap\n\n"
    assert ok(real, "maint", "-disable") == "Node maintenance is now disabled\n"
    assert name in ok(real, "nodes")
    assert "serfHealth" in ok(real, "nodes", "show", name)
    assert ok(real, "catalog", "nodes").splitlines()[0].split() == ["Node", "ID", "Address", "DC"]
    assert ok(real, "dc", "list") == "dc1\n"
    assert ok(real, "info").startswith("agent:\n\t")
    assert ok(real, "reload") == "Configuration reload triggered\n"
    assert ok(real, "agent", "status").startswith("Node ")


@pytest.mark.parametrize("kind", ["key test", "keyprefix t", "services", "nodes", "service consul", "checks"])
def test_watch_types(real, ctl, kind):
    real.put("/v1/kv/test", "1")
    for format in ("plain", "json", "yaml", "table"):
        shown = ctl("watch", *kind.split(), "--once", "-o", format, "-http-addr", real.base)
        assert (shown.code, shown.err) == (0, "")
        assert shown.out


def environment(agent, **more):
    runtime = {"XDG_RUNTIME_DIR": str(agent.folder)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CTL_", "CONSUL_"))}
    return {**kept, **runtime, **more}


def test_the_socket_is_found_and_stop_uses_it(tmp_path):
    with Agent(tmp_path) as agent:
        words = [*CTL, "kv", "put", "by-socket", "1"]
        done = subprocess.run(words, cwd=ROOT, env=environment(agent), capture_output=True)
        assert done.returncode == 0, done.stderr
        assert agent.get("/v1/kv/by-socket?keys") == ["by-socket"]
        stopped = subprocess.Popen([*CTL, "agent", "stop"], cwd=ROOT, env=environment(agent))
        assert stopped.wait(30) == 0
        assert agent.process.wait(10) in (0, 1)


def test_a_watch_survives_a_restart(tmp_path):
    seen = tmp_path / "seen.json"

    def documents():
        return [json.loads(line) for line in seen.read_text().splitlines()] if seen.exists() else []

    with Agent(tmp_path, dev=False) as agent:
        agent.put("/v1/kv/test", "1")
        words = [*CTL, "watch", "key", "test", "--exec", f"cat >> {seen}"]
        watching = subprocess.Popen(
            words, cwd=ROOT, env=environment(agent, CTL_HTTP_ADDR=agent.base), stderr=subprocess.DEVNULL
        )
        try:
            until("the first run", lambda: len(documents()) == 1)
            agent.restart()
            agent.put("/v1/kv/test", "2")
            until("the second run", lambda: len(documents()) == 2)
            agent.kill9()
            agent.start()
            agent.put("/v1/kv/test", "2")
            agent.put("/v1/kv/test", "3")
            until("the third run", lambda: len(documents()) == 3)
        finally:
            watching.send_signal(signal.SIGTERM)
            code = watching.wait(20)
        assert code == 0
        assert [document["Value"] for document in documents()] == ["MQ==", "Mg==", "Mw=="]
