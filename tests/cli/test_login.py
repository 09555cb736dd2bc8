"""`ctl login` and `ctl logout`, and how a token reaches the agent."""

import json
import stat

import pytest

from tests.cli.acl_rows import SECRET, token


@pytest.fixture
def files(agent, tmp_path):
    """A credential, a sink, and an agent that lets it in."""
    agent.replies["POST /v1/acl/login"] = token()
    (tmp_path / "job.jwt").write_text("a.b.c\n")
    return tmp_path


def words(folder, *more):
    files = [f"-bearer-token-file={folder}/job.jwt", f"-token-sink-file={folder}/sub/sink"]
    return ["login", "-method=ci", *files, *more]


def test_login_writes_the_secret(ctl, agent, files, monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "expired")
    result = ctl(*words(files, "-token=expired", "-meta", "job=7", "-meta=team=web"))
    assert (result.code, result.out, result.err) == (0, "", "")
    sink = files / "sub" / "sink"
    assert sink.read_text() == SECRET
    assert stat.S_IMODE(sink.stat().st_mode) == 0o600
    assert [path.name for path in sink.parent.iterdir()] == ["sink"]
    method, path, body, headers = agent.requests[-1]
    assert (method, path) == ("POST", "/v1/acl/login")
    assert json.loads(body) == {
        "AuthMethod": "ci",
        "BearerToken": "a.b.c",
        "Meta": {"job": "7", "team": "web"},
    }
    assert "X-Consul-Token" not in headers
    ctl(*words(files))
    assert "Meta" not in json.loads(agent.requests[-1][2])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("login", "Missing required '-method' flag"),
        ("login -method=ci", "Missing required '-token-sink-file' flag"),
        ("login -method=ci -token-sink-file=x", "Missing required '-bearer-token-file' flag"),
        (
            "login -method=ci -token-sink-file=x -bearer-token-file=/no/such",
            "open /no/such: no such file or directory",
        ),
        (
            "login -method=ci -token-sink-file=x -bearer-token-file=/dev/null",
            "No bearer token found in /dev/null",
        ),
        ("login now", "Should have no non-flag arguments."),
        ("logout now", "Should have no non-flag arguments."),
    ],
)
def test_bad_use(ctl, agent, given, text):
    result = ctl(*given.split())
    assert (result.code, result.out, result.err) == (1, "", text + "\n")
    assert agent.requests == []


def test_login_fails(ctl, agent, files):
    blocked = ctl(*words(files, f"-token-sink-file={files}/job.jwt/sink"))
    assert blocked.err.startswith(f"Error writing token to file sink: {files}/job.jwt/sink: ")
    agent.failures["/v1/acl/login"] = (403, "Permission denied")
    refused = ctl(*words(files))
    assert refused.err == "Error logging in: Unexpected response code: 403 (Permission denied)\n"
    assert not (files / "sub").exists()


def test_logout(ctl, agent, tmp_path):
    sink = tmp_path / "sink"
    sink.write_text(SECRET)
    result = ctl("logout", f"-token-file={sink}")
    assert (result.code, result.out) == (0, "")
    assert agent.requests[-1][0:2] == ("POST", "/v1/acl/logout")
    assert agent.requests[-1][3]["X-Consul-Token"] == SECRET
    agent.failures["/v1/acl/logout"] = (403, "Permission denied")
    refused = ctl("logout")
    assert refused.code == 1
    assert refused.err == "Error destroying token: Unexpected response code: 403 (Permission denied)\n"


def test_where_a_token_comes_from(ctl, agent, tmp_path, monkeypatch):
    """Flag, then CTL_, then CONSUL_; in each a file goes before the text."""

    def shown(*flags):
        assert ctl("dc", "list", *flags).code == 0
        return agent.requests[-1][3].get("X-Consul-Token")

    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(name + "\n")
    assert shown() is None
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "consul")
    assert shown() == "consul"
    monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(tmp_path / "one"))
    assert shown() == "one"
    monkeypatch.setenv("CTL_HTTP_TOKEN_FILE", str(tmp_path / "two"))
    assert shown() == "two"
    assert shown("-token-file", str(tmp_path / "three")) == "three"
    assert shown("-token=flag") == "flag"
    assert shown("-token=flag", "-token-file", str(tmp_path / "three")) == "three"
    monkeypatch.delenv("CTL_HTTP_TOKEN_FILE")
    monkeypatch.setenv("CTL_HTTP_TOKEN", "ctl")
    assert shown() == "ctl"
    (tmp_path / "bad").write_bytes(b"\xff")
    assert "it is not UTF-8 text" in ctl("dc", "list", f"-token-file={tmp_path}/bad").err
    assert "Error loading token file: open /no/such: no such" in ctl("dc", "list", "-token-file=/no/such").err
