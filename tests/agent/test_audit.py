"""The audit log: what a line says and hides, rotation, full disks, and that it costs nothing when off."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audit import QUEUE, Audit, Event
from agent.logsinks import FileSink
from agent.masking import HIDDEN, mask
from core.config.audit import AuditSink, audit_sinks
from core.config.flags import Flags
from core.config.formats import Source
from core.config.load import load
from core.errors import ConfigError
from tests.harness import Agent, until

SECRET = "5a3cf7b1-0f0e-4c4b-9d9a-2b1f0a6f3c11"


def event(url: str = "/v1/kv/a", **fields: Any) -> Event:
    known = {"time": 1790000000.5, "method": "GET", "url": url, "remote": "127.0.0.1", "agent": "curl"}
    return Event(**{**known, "accessor": "acc", "status": 200, "seconds": 0.0015, **fields})


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted(folder.glob("audit-*.json"))
        for line in path.read_bytes().splitlines()
        if line
    ]


@contextlib.contextmanager
def audit(folder: Path, **settings: Any) -> Iterator[Audit]:
    made = Audit([AuditSink("x", str(folder / "audit.json"), **settings)], "n1", "dc1")
    try:
        yield made
    finally:
        made.close()


# --- lines -----------------------------------------------------------------------------------------


def test_a_line_has_the_form_of_consul_enterprise(tmp_path: Path) -> None:
    with audit(tmp_path) as log:
        log.note(event("/v1/kv/a?raw&token=" + SECRET))
    (line,) = lines(tmp_path)
    payload = line["payload"]
    assert line["event_type"] == "audit"
    assert line["created_at"] == payload["timestamp"] == "2026-09-21T14:13:20.500000Z"
    assert payload["auth"] == {"accessor_id": "acc"}
    assert payload["request"] == {
        "operation": "GET",
        "endpoint": f"/v1/kv/a?raw&token={HIDDEN}",
        "remote_addr": "127.0.0.1",
        "user_agent": "curl",
    }
    assert payload["response"] == {"status": "200"}
    assert (payload["node"], payload["datacenter"], payload["duration_ms"]) == ("n1", "dc1", 1.5)
    assert len(payload["id"]) == 36


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/v1/kv/a", "/v1/kv/a"),
        ("/v1/kv/a?token=s", f"/v1/kv/a?token={HIDDEN}"),
        ("/v1/kv/a?%74oken=s&x=1", f"/v1/kv/a?%74oken={HIDDEN}&x=1"),
        ("/v1/kv/a?TOKEN=s", f"/v1/kv/a?TOKEN={HIDDEN}"),
        ("/v1/acl/info/s", f"/v1/acl/info/{HIDDEN}"),
        ("/v1/acl/%69nfo/s?pretty", f"/v1/acl/info/{HIDDEN}?pretty"),
        ("/v1/acl/info/", "/v1/acl/info/"),
        ("//v1//acl/info/s", f"/v1/acl/info/{HIDDEN}"),
        ("/v1/acl/./info/s", f"/v1/acl/info/{HIDDEN}"),
        ("/v1/kv/%2e%2e/acl/info/s", f"/v1/acl/info/{HIDDEN}"),
        ("/v1/kv/a?x=1;token=s", f"/v1/kv/a?x=1;token={HIDDEN}"),
        ("/v1/kv/a?tokens=1&token", "/v1/kv/a?tokens=1&token"),
    ],
)
def test_secrets_are_hidden(url: str, shown: str) -> None:
    assert mask(url) == shown


@given(st.text(), st.text(max_size=20))
def test_whatever_is_asked_is_one_line(url: str, agent: str) -> None:
    made = Audit.__new__(Audit)
    made._node, made._datacenter = "n", "d"
    raw = url.encode("utf-8", "surrogatepass").decode("latin-1")
    line = made.line(event(raw, agent=agent.encode("utf-8", "replace").decode()))
    assert line.count(b"\n") == 1
    json.loads(line)


# --- files -----------------------------------------------------------------------------------------


def test_files_rotate_by_size_and_the_oldest_go(tmp_path: Path) -> None:
    with audit(tmp_path, rotate_bytes=1000, rotate_max_files=2, mode=0o600) as log:
        for number in range(40):
            log.note(event(f"/v1/kv/{number}"))
    files = sorted(tmp_path.glob("audit-*.json"))
    assert len(files) == 3  # the one that is written, and two older ones
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert lines(tmp_path)[-1]["payload"]["request"]["endpoint"] == "/v1/kv/39"


def test_files_rotate_by_time(tmp_path: Path) -> None:
    with audit(tmp_path, rotate_duration=1_000_000) as log:  # a millisecond
        for _ in range(3):
            log.note(event())
            time.sleep(0.01)
    assert len(list(tmp_path.glob("audit-*.json"))) >= 2


class _Disk(FileSink):
    """A file on a disk that is full at times."""

    full = False

    def _written(self, line: bytes) -> bool:
        if self.full:
            raise OSError(28, "No space left on device")
        return super()._written(line)


def test_a_full_disk_costs_lines_and_tells_how_many(tmp_path: Path) -> None:
    with audit(tmp_path) as log:
        disk = _Disk(str(tmp_path / "audit.json"), 0, 0, 0)
        log._sinks = [disk]
        disk.full = True
        for _ in range(5):
            log.note(event())
        until("the lines are lost", lambda: disk.lost == 5)
        disk.full = False
        log.note(event("/v1/kv/after"))
        until("a gap is told", lambda: len(lines(tmp_path)) == 2)
    first, gap = lines(tmp_path)
    assert first["payload"]["request"]["endpoint"] == "/v1/kv/after"
    assert gap["payload"]["lines"] == 5


def test_a_stuck_disk_blocks_nobody(tmp_path: Path) -> None:
    with audit(tmp_path) as log:
        log._events.extend([event()] * QUEUE)  # as if the thread did not get on
        begun = time.perf_counter()
        for _ in range(1000):
            log.note(event())
        assert time.perf_counter() - begun < 1.0
        assert log._dropped >= 999  # at most one had a place


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_real_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        with audit(disk) as log:
            for number in range(1000):
                log.note(event(f"/v1/kv/{number}"))
            until("it is full", lambda: log._sinks[0].lost > 0)
            until("all are tried", lambda: not log._events)
            for path in disk.glob("audit-*.json"):
                os.truncate(path, 0)
            log.note(event("/v1/kv/after"))
            until("it goes on", lambda: b"/v1/kv/after" in b"".join(p.read_bytes() for p in disk.iterdir()))
            until("a gap is told", lambda: any(one["payload"]["type"] == "Lost" for one in lines(disk)))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- the configuration -----------------------------------------------------------------------------


def test_the_block_as_consul_enterprise_spells_it() -> None:
    given = {
        "My sink": {
            "type": "file",
            "format": "json",
            "path": "data/audit/audit.json",
            "delivery_guarantee": "best-effort",
            "rotate_duration": "24h",
            "rotate_max_files": 15,
            "rotate_bytes": 25165824,
            "mode": "0640",
        }
    }
    (sink,) = audit_sinks(True, given)
    assert sink == AuditSink("My sink", "data/audit/audit.json", 0o640, 25165824, 24 * 3600 * 10**9, 15)
    assert audit_sinks(False, given) == []


def test_the_block_in_hcl() -> None:
    text = """
        data_dir = "/x"
        audit {
          enabled = true
          sink "a" { type = "file" path = "/a/audit.json" rotate_bytes = 100 }
          sink "b" { path = "/b/audit.json" mode = "0640" rotate_duration = "1h" }
        }"""
    config = load([Source("audit.hcl", "hcl", text)], Flags(), hostname="h")
    sinks = audit_sinks(config["audit.enabled"], config["audit.sink"])
    assert sinks == [
        AuditSink("a", "/a/audit.json", rotate_bytes=100),
        AuditSink("b", "/b/audit.json", 0o640, rotate_duration=3600 * 10**9),
    ]
    with pytest.raises(ConfigError, match="needs a sink"):
        load([Source("x", "hcl", 'data_dir = "/x" audit { enabled = true }')], Flags(), hostname="h")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "path is required"),
        ({"path": "x", "type": "socket"}, 'type must be "file"'),
        ({"path": "x", "format": "xml"}, 'format must be "json"'),
        ({"path": "x", "delivery_guarantee": "always"}, "delivery_guarantee must be"),
        ({"path": "x", "mode": "rw"}, "mode must be octal"),
        ({"path": "x", "mode": "7777"}, "mode must be octal"),
        ({"path": "x", "rotate_bytes": "many"}, "rotate_bytes must be a whole number"),
        ({"path": "x", "rotate_duration": "soon"}, "rotate_duration"),
        ({"path": "x", "colour": 1}, "invalid config key colour"),
        ("x", "a block with type and path"),
    ],
)
def test_a_wrong_block_is_refused(fields: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        audit_sinks(True, {"s": fields})
    assert 'audit.sink "s"' in str(caught.value)


def test_enabled_without_a_sink_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a sink"):
        audit_sinks(True, {})


# --- an agent --------------------------------------------------------------------------------------


def test_an_agent_writes_every_request(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    config = {"audit": {"enabled": True, "sink": {"x": {"type": "file", "path": str(folder / "audit.json")}}}}
    with Agent(tmp_path, config=config) as agent:
        agent.http("PUT", "/v1/kv/a?token=" + SECRET, b"1")
        for _ in range(3):  # the same bytes: they would be answered from memory
            agent.http("GET", "/v1/kv/a")
        agent.http("GET", "/v1/kv/missing")
        agent.http("GET", "/v1/nowhere")
        agent.http("POST", "/v1/kv/a")

        def seen() -> list[tuple[str, str, str]]:
            return [
                (one["request"]["operation"], one["request"]["endpoint"], one["response"]["status"])
                for one in (line["payload"] for line in lines(folder))
            ]

        until("all are written", lambda: ("POST", "/v1/kv/a", "405") in seen())
        found = seen()
        assert found.count(("GET", "/v1/kv/a", "200")) == 3
        assert ("PUT", f"/v1/kv/a?token={HIDDEN}", "200") in found
        assert ("GET", "/v1/kv/missing", "404") in found
        assert ("GET", "/v1/nowhere", "404") in found
    assert SECRET not in "".join(path.read_text() for path in folder.iterdir())


def test_the_accessor_stands_for_the_token(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    config = {
        "audit": {"enabled": True, "sink": {"x": {"type": "file", "path": str(folder / "audit.json")}}},
        "acl": {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": SECRET}},
    }
    with Agent(tmp_path, config=config, token=SECRET) as agent:
        assert agent.http("PUT", "/v1/kv/a", b"1").status == 200
        own = agent.http("GET", "/v1/acl/token/self").json()["AccessorID"]
        assert agent.http("GET", "/v1/agent/debug/stacks").status == 200
        policy = json.dumps({"Policies": [{"Name": "global-management"}]}).encode()
        made = agent.http("PUT", "/v1/acl/token", policy).json()
        itself = f"/v1/acl/destroy/{made['SecretID']}"
        assert agent.http("PUT", itself, headers={"X-Consul-Token": made["SecretID"]}).status == 200
        agent.token = ""
        assert agent.http("GET", "/v1/agent/debug/stacks").status == 403
        assert agent.http("GET", "/v1/kv/a", headers={"X-Consul-Token": "wrong"}).status == 403

        def who(operation: str, endpoint: str, status: str) -> list[str]:
            return [
                one["auth"]["accessor_id"]
                for one in (line["payload"] for line in lines(folder))
                if one["request"]["operation"] == operation
                and one["request"]["endpoint"] == endpoint
                and one["response"]["status"] == status
            ]

        until("the last one is written", lambda: who("GET", "/v1/kv/a", "403") == [""])
        assert who("PUT", "/v1/kv/a", "200") == who("GET", "/v1/agent/debug/stacks", "200") == [own]
        assert who("PUT", f"/v1/acl/destroy/{HIDDEN}", "200") == [made["AccessorID"]], "it is gone by then"
        (anonymous,) = who("GET", "/v1/agent/debug/stacks", "403")
        assert anonymous.endswith("0002")
    assert SECRET not in "".join(path.read_text() for path in folder.iterdir())
