"""Against a real agent: config entries, usage, the mesh that is not there, looking into the agent, debug."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from cli import debug
from cli.main import run
from core.codec.duration import SECOND
from tests.harness import Agent, until

TOKEN = "5a3cf7b1-0f0e-4c4b-9d9a-2b1f0a6f3c11"
DISABLED = "Unexpected response code: 500 (Connect must be enabled in order to use this endpoint)"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    config = {"encrypt": "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="}
    with Agent(tmp_path_factory.mktemp("agent"), config=config) as agent:
        yield agent


class Done:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def ctl(real, monkeypatch):
    """Commands in this process: quicker than a process each."""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", real.base)
    monkeypatch.delenv("CTL_FORMAT", raising=False)

    def call(*words, stdin=b""):
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        err = io.StringIO()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with redirect_stdout(out), redirect_stderr(err):
            code = run(list(words))
        return Done(code, out.buffer.getvalue().decode(), err.getvalue())

    return call


# --- config entries --------------------------------------------------------------------------------

HCL = b"""
Kind = "service-defaults"
name = "web"
protocol = "http"
mesh_gateway { mode = "local" }
"""


def test_config_entries(ctl, tmp_path):
    file = tmp_path / "web.hcl"
    file.write_bytes(HCL)
    done = ctl("config", "write", str(file))
    assert (done.code, done.out) == (0, "Config entry written: service-defaults/web\n")
    read = ctl("config", "read", "-kind=service-defaults", "-name=web")
    entry = json.loads(read.out)
    assert read.out == json.dumps(entry, indent=4) + "\n"
    assert list(entry) == ["Kind", "Name", "Protocol", "MeshGateway", "Expose", "CreateIndex", "ModifyIndex"]
    assert entry["MeshGateway"] == {"Mode": "local"}
    assert ctl("config", "list", "-kind=service-defaults").out == "web\n"
    assert ctl("config", "list", "-kind=service-resolver").out == ""
    stale = ctl("config", "write", "-cas", "-modify-index=1", "-", stdin=read.out.encode())
    assert (stale.code, stale.err) == (1, "Config entry not updated: service-defaults/web\n")
    index = f"-modify-index={entry['ModifyIndex']}"
    assert ctl("config", "write", "-cas", index, "-", stdin=read.out.encode()).code == 0
    kept = ctl("config", "delete", "-kind=service-defaults", "-name=web", "-cas", index)
    assert (kept.code, kept.err) == (1, "Config entry not deleted: service-defaults/web\n")
    gone = ctl("config", "delete", "-filename", str(file))
    assert gone.out == "Config entry deleted: service-defaults/web\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("config", "list"), "Must specify the -kind parameter"),
        (("config", "read", "-kind=x"), "Must specify the -name parameter"),
        (
            ("config", "write"),
            "Must provide exactly one positional argument to specify the config entry to write",
        ),
        (
            ("config", "read", "-kind=service-defaults", "-name=zz"),
            "Error reading config entry service-defaults/zz: Unexpected response code: 404 "
            '(Config entry not found for "service-defaults" / "zz")',
        ),
        (
            ("config", "write", "/nosuch"),
            "Failed to load data: Failed to read file: open /nosuch: no such file or directory",
        ),
        (("connect", "ca", "get-config"), f"Error querying CA configuration: {DISABLED}"),
        (("intention", "list"), f"Failed to retrieve the intentions list: {DISABLED}"),
        (("intention", "create", "a", "b"), f"Error creating intention: {DISABLED}"),
        (
            ("operator", "usage", "instances", "-billable", "-connect"),
            "Cannot specify both -billable and -connect flags",
        ),
    ],
)
def test_failures_have_consuls_words(ctl, words, text):
    done = ctl(*words)
    assert (done.code, done.out, done.err.strip()) == (1, "", text)


def test_an_unknown_kind_is_refused_before_it_is_sent(ctl):
    done = ctl("config", "write", "-", stdin=b'{"Kind": "zork"}')
    assert done.err == "Failed to decode config entry input: invalid config entry kind: zork\n"


def test_settings_of_the_agent(ctl):
    shown = ctl("config", "show", "encrypt").out
    assert "EncryptKey" in shown
    assert "pUqJrVyVRj5jsiYEkM" not in ctl("config", "show").out
    assert json.loads(ctl("config", "show", "-o", "json", "datacenter").out)["Datacenter"] == "dc1"


# --- usage, user interfaces, the mesh --------------------------------------------------------------


def test_usage(real, ctl):
    for node in ("n1", "n2"):
        body = {"Node": node, "Address": "127.0.0.1", "Service": {"Service": "db", "Tags": ["x"]}}
        assert real.http("PUT", "/v1/catalog/register", json.dumps(body).encode()).status == 200
    usage = real.http("GET", "/v1/operator/usage").json()["Usage"]["dc1"]
    assert (usage["Services"], usage["ServiceInstances"], usage["BillableServiceInstances"]) == (2, 3, 2)
    assert usage["Nodes"] == 3
    assert set(usage["ConnectServiceInstances"].values()) == {0}
    text = ctl("operator", "usage", "instances").out
    assert text.startswith("Billable Service Instances Total: 2\ndc1 Billable Service Instances: 2\n")
    rows = real.http("GET", "/v1/internal/ui/services").json()
    (db,) = [row for row in rows if row["Name"] == "db"]
    assert (db["InstanceCount"], db["Nodes"], db["Tags"]) == (2, ["n1", "n2"], ["x"])
    names = [row["Node"] for row in real.http("GET", "/v1/internal/ui/nodes?filter=Node==n1").json()]
    assert names == ["n1"]
    assert real.http("GET", "/v1/internal/ui/node/n2").json()["Services"][0]["Service"] == "db"
    assert real.http("GET", "/v1/internal/ui/node/n9").status == 404


def test_what_needs_a_mesh_says_so(real):
    for method, path in (
        ("GET", "/v1/connect/ca/roots"),
        ("PUT", "/v1/connect/ca/configuration"),
        ("GET", "/v1/agent/connect/ca/leaf/web"),
        ("POST", "/v1/agent/connect/authorize"),
        ("GET", "/v1/connect/intentions/match?by=source&name=a"),
        ("DELETE", "/v1/connect/intentions/exact?source=a&destination=b"),
        ("GET", "/v1/discovery-chain/web"),
    ):
        answer = real.http(method, path, b"{}" if method in ("PUT", "POST") else b"")
        assert (answer.status, answer.text) == (500, "Connect must be enabled in order to use this endpoint")
    for path in ("federation-states", "ui/gateway-intentions/x"):
        assert real.http("GET", f"/v1/internal/{path}").json() == []
    assert real.http("GET", "/v1/internal/ui/gateway-services-nodes/x").json() is None
    found = real.http("GET", "/v1/internal/ui/service-topology/db?kind=").json()
    assert found == {"Protocol": "tcp", "Upstreams": [], "Downstreams": [], "FilteredByACLs": False}
    assert real.http("GET", "/v1/operator/license").status == 404
    ui = real.http("GET", "/ui/")
    assert ui.status == 404
    assert "no web UI" in ui.text


# --- metrics ---------------------------------------------------------------------------------------


def test_metrics_that_dashboards_ask_for(real):
    real.http("PUT", "/v1/kv/m", b"1")
    real.http("PUT", "/v1/session/create")
    real.http("PUT", "/v1/txn", b'[{"KV": {"Verb": "set", "Key": "m", "Value": "MQ=="}}]')

    def names():
        found = real.http("GET", "/v1/agent/metrics").json()
        return {
            (row["Name"], *sorted(row["Labels"].items()))
            for kind in ("Gauges", "Counters", "Samples")
            for row in found[kind]
        }

    def bare(found):  # without other sinks than this one the host is not in the names
        return {name.removeprefix("consul.") for name, *_ in found}

    wanted = {"raft.peers", "members.servers", "state.nodes", "state.kv_entries", "session_ttl.active"}
    until("gauges are there", lambda: wanted <= bare(names()), pause=0.2)
    samples = {
        ("consul.kvs.apply",),
        ("consul.txn.apply",),
        ("consul.session.apply",),
        ("consul.fsm.kvs", ("op", "set")),
        ("consul.fsm.session", ("op", "create")),
        ("consul.raft.fsm.apply",),
    }
    until("writes are counted", lambda: samples <= names(), pause=0.2)


# --- looking into the agent ------------------------------------------------------------------------


def test_stacks_and_profiles(real):
    stacks = real.http("GET", "/v1/agent/debug/stacks").text
    assert "thread MainThread" in stacks
    assert "task " in stacks
    assert "agent/main.py" in stacks
    runtime = real.http("GET", "/v1/agent/debug/runtime").json()
    assert runtime["PID"] == real.pid
    assert runtime["Tables"]["nodes"] >= 1
    assert runtime["Descriptors"] > 5
    profile = real.http("GET", "/v1/agent/debug/profile?seconds=1").text
    stack, _, count = profile.splitlines()[0].rpartition(" ")
    assert int(count) > 10
    assert ";" in stack
    for seconds in ("0", "x", "9999"):
        assert real.http("GET", f"/v1/agent/debug/profile?seconds={seconds}").status == 400
    assert real.http("GET", "/debug/pprof/goroutine").status == 200
    assert "no such profile" in real.http("GET", "/debug/pprof/trace").text


def test_profiles_are_off_without_debug(tmp_path):
    with Agent(tmp_path, config={"enable_debug": False}) as agent:
        assert agent.http("GET", "/debug/pprof/goroutine").status == 401


# --- debug -----------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(debug, "LEAST_DURATION", SECOND)
    monkeypatch.setattr(debug, "LEAST_INTERVAL", SECOND)


def _contents(path):
    with tarfile.open(path) as archive:
        return {
            member.name.partition("/")[2]: archive.extractfile(member).read().decode()
            for member in archive.getmembers()
            if member.isfile()
        }


def test_one_archive_with_everything(real, ctl, short, tmp_path):
    output = tmp_path / "dbg"
    noise = threading.Timer(0.7, lambda: real.http("PUT", f"/v1/kv/noise?token={TOKEN}", b"1"))
    noise.start()
    done = ctl("debug", "-duration=3s", "-interval=1s", f"-output={output}", f"-token={TOKEN}")
    noise.join()
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "==> Starting debugger and capturing static information..."
    assert lines[1:6] == [
        "     Agent Version: '1.9.8'",
        "          Interval: '1s'",
        "          Duration: '3s'",
        f"            Output: '{output}.tar.gz'",
        "           Capture: 'metrics, logs, pprof, host, agent, members'",
    ]
    assert lines[-1] == f"    Saved debug archive: {output}.tar.gz"
    assert not output.exists()
    assert Path(f"{output}.tar.gz").stat().st_mode & 0o777 == 0o600
    found = _contents(f"{output}.tar.gz")
    for name in ("agent", "host", "members", "raft", "autopilot", "usage", "index"):
        assert json.loads(found[f"{name}.json"])
    assert "agent" in found["consul.log"]
    assert "MainThread" in found["profile.prof"]
    assert len([name for name in found if name.endswith("/goroutine.prof")]) >= 3
    assert len(found["metrics.json"].splitlines()) >= 3
    everything = "".join(found.values())
    assert TOKEN not in everything
    assert "pUqJrVyVRj5jsiYEkM" not in everything


def test_what_cannot_be_had_is_left_out(ctl, short, tmp_path, monkeypatch):
    broken = (("host", "host.json", "/v1/nosuch", ()), *debug._STATIC)
    monkeypatch.setattr(debug, "_STATIC", broken)
    output = tmp_path / "dbg"
    done = ctl("debug", "-capture=host", "-capture=cluster", "-archive=false", f"-output={output}")
    assert done.code == 0
    assert "==> Not captured: host.json: Unexpected response code: 404" in done.err
    index = json.loads((output / "index.json").read_text())
    assert index["Targets"] == ["host", "members"]
    assert len(index["Errors"]) == 1
    assert "members.json" in index["Files"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-duration=1s",), "duration must be longer than 10s"),
        (("-interval=1s",), "interval must be longer than 5s"),
        (("-interval=30s", "-duration=20s"), "duration (20s) must be longer than interval (30s)"),
        (("-capture=colour",), "target not found: colour"),
    ],
)
def test_debug_refuses(ctl, words, text):
    done = ctl("debug", *words)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"==> Capture validation failed: {text}")


def test_nothing_is_overwritten_and_no_agent_is_told(ctl, short, tmp_path, monkeypatch):
    done = ctl("debug", f"-output={tmp_path}")
    assert done.err == f"==> Capture validation failed: output directory already exists: {tmp_path}\n"
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
    done = ctl("debug", f"-output={tmp_path}/x")
    assert "error querying target agent" in done.err
    assert not (tmp_path / "x").exists()


def test_secrets_by_name():
    document = {
        "Token": "a",
        "x": [{"SecretID": "b", "TokenTTL": 5}],
        "EncryptKey": "c",
        "Name": "d",
        "Secret": "",
    }
    hidden = debug.HIDDEN
    assert debug.without_secrets(document) == {
        "Token": hidden,
        "x": [{"SecretID": hidden, "TokenTTL": 5}],
        "EncryptKey": hidden,
        "Name": "d",
        "Secret": "",
    }
