"""Live words for completion: quick, quiet, kept for two seconds."""

import os
import socket
import time

import pytest

from tests.cli import acl_rows


@pytest.fixture
def complete(spawn):
    """`__complete` as a process: it sets an alarm."""

    def call(*words):
        process = spawn("__complete", *words)
        out, err = process.communicate(timeout=20)
        assert err == b""
        return process.returncode, out.decode().splitlines()

    return call


def test_one_level_of_keys_at_a_time(complete, agent):
    for key in ("a/b/c", "a/d", "e"):
        agent.put(key, b"")
    assert complete("keys", "") == (0, ["a/", "e"])
    assert complete("keys", "a/") == (0, ["a/b/", "a/d"])
    assert complete("keys", "a/d") == (0, ["a/d"])
    assert len(agent.requests) == 2  # the third was answered from what the second had kept


def test_other_words(complete, agent):
    assert complete("services", "d") == (0, ["db"])
    assert complete("nodes", "") == (0, ["n1", "n2"])
    assert complete("datacenters", "") == (0, ["dc1"])
    agent.answers["/v1/session/list"] = [{"ID": "9b1a"}, {"ID": "7c"}]
    assert complete("sessions", "9") == (0, ["9b1a"])
    assert complete("zork", "") == (0, [])


def test_words_of_acls(complete, agent):
    acl_rows.fill(agent)
    assert complete("acl-policies", "k") == (0, ["kvr"])
    assert complete("acl-policy-ids", "ab") == (0, [acl_rows.KVR])
    assert complete("acl-token-ids", "9") == (0, [acl_rows.TOKEN])
    assert complete("acl-templates", "") == (0, ["builtin/dns", "builtin/service"])


def test_answers_are_kept_for_two_seconds(complete, agent, tmp_path):
    assert complete("services", "")[1] == ["consul", "db"]
    agent.answers["/v1/catalog/services"] = {"new": []}
    assert complete("services", "")[1] == ["consul", "db"]
    kept = tmp_path / "cache" / "ctl" / "services"
    assert kept.stat().st_mode & 0o077 == 0
    os.utime(kept, (time.time() - 2.1, time.time() - 2.1))
    assert complete("services", "")[1] == ["new"]


def test_failures_are_silent(complete, agent, monkeypatch):
    agent.failures["/v1/catalog/services"] = (403, "no")
    assert complete("services", "") == (0, [])
    agent.answers["/v1/catalog/nodes"] = b"not json"
    assert complete("nodes", "") == (0, [])
    monkeypatch.setenv("CTL_HTTP_ADDR", "127.0.0.1:1")
    assert complete("keys", "") == (0, [])
    monkeypatch.setenv("CTL_HTTP_ADDR", "no such address")
    assert complete("keys", "") == (0, [])


def test_the_limit(complete, monkeypatch, clean_environment):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("CTL_HTTP_ADDR", f"127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        process_code, words = complete("keys", "")
        assert words == []
        assert time.monotonic() - start < 2  # 150 ms, and what it takes to start
        assert process_code in (0, -14)
