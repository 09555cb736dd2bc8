"""`ctl kv` in a pipe: Consul's texts and exit codes, exact bytes."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REDIS = {
    "redis/config/maxconns": b"25",
    "redis/config/minconns": b"1",
    "redis/config/users/admin": b"abcd1234",
}


@pytest.fixture
def redis(agent):
    agent.index = 21
    for key, value in REDIS.items():
        agent.put(key, value, flags=42 if key.endswith("admin") else 0)
    return agent


def test_get_prints_the_value_and_a_newline(ctl, redis):
    result = ctl("kv", "get", "redis/config/minconns")
    assert (result.code, result.raw, result.err) == (0, b"1\n", "")
    assert ctl("kv", "get", "--raw", "/redis/config/minconns").raw == b"1"


def test_get_writes_bytes_as_they_are(ctl, agent):
    agent.put("bin", bytes(range(256)))
    assert ctl("kv", "get", "bin").raw == bytes(range(256)) + b"\n"


def test_get_detailed(ctl, redis):
    assert ctl("kv", "get", "-detailed", "redis/config/users/admin").out == (
        "CreateIndex      24\n"
        "Flags            42\n"
        "Key              redis/config/users/admin\n"
        "LockIndex        0\n"
        "ModifyIndex      24\n"
        "Session          -\n"
        "Value            abcd1234\n"
    )


def test_get_recurse_keys_base64(ctl, redis):
    assert ctl("kv", "get", "-recurse", "redis").out == (
        "redis/config/maxconns:25\nredis/config/minconns:1\nredis/config/users/admin:abcd1234\n"
    )
    assert ctl("kv", "get", "-recurse", "-detailed", "redis").out.count("\n\nCreateIndex") == 2
    assert ctl("kv", "get", "-keys", "redis/config/").out == (
        "redis/config/maxconns\nredis/config/minconns\nredis/config/users/\n"
    )
    assert ctl("kv", "get", "-keys", "-separator=", "redis/").out.count("\n") == 3
    assert ctl("kv", "get", "-base64", "redis/config/minconns").out == "MQ==\n"


def test_list_is_get_keys(ctl, redis):
    assert ctl("kv", "list").out == "redis/\n"
    assert ctl("kv", "list", "--recurse").out == "".join(f"{key}\n" for key in REDIS)
    assert json.loads(ctl("kv", "list", "redis/config/", "-o", "json").out)[2] == "redis/config/users/"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["get"], "Error! Missing KEY argument\n"),
        (["get", "a", "b"], "Too many arguments (expected 1, got 2)\n"),
        (["get", "nosuch"], "Error! No key exists at: nosuch\n"),
        (["put"], "Error! Missing KEY argument\n"),
        (["put", "ff", "@nofile"], "Error! Failed to read file: open nofile: no such file or directory\n"),
        (
            ["put", "-cas", "redis/config/minconns", "2"],
            "Error! Did not write to redis/config/minconns: "
            "CAS performed with index=0 and key already exists.\n",
        ),
        (
            ["put", "-cas", "-modify-index=1", "redis/config/minconns", "2"],
            "Error! Did not write to redis/config/minconns: CAS failed\n",
        ),
        (["put", "-acquire", "k"], "Error! Missing -session (required with -acquire and -release)\n"),
        (
            ["put", "-base64", "k", "***"],
            "Error! Cannot base 64 decode data: illegal base64 data at input byte 0\n",
        ),
        (["delete"], "Error! Missing KEY argument\n"),
        (
            ["delete", "-cas", "-modify-index=1", "redis/config/minconns"],
            "Error! Did not delete key redis/config/minconns: CAS failed\n",
        ),
        (
            ["delete", "-cas", "k"],
            "Cannot delete a key that does not exist. Provide a -modify-index greater than than 0.\n",
        ),
        (["delete", "-recurse", "-cas", "k"], "Cannot specify both -cas and -recurse!\n"),
        (["import"], "Error! Missing DATA argument\n"),
    ],
)
def test_errors(ctl, redis, words, error):
    result = ctl("kv", *words)
    assert (result.code, result.out, result.err) == (1, "", error)


def test_nothing_below_a_prefix_is_no_error(ctl, agent):
    for words in (["get", "-recurse", "zz"], ["get", "-keys", "zz"], ["list", "zz"]):
        result = ctl("kv", *words)
        assert (result.code, result.out, result.err) == (0, "", "")


def test_denied_by_acl(ctl, agent):
    agent.failures["/v1/kv/k"] = (403, "Permission denied")
    result = ctl("kv", "get", "k")
    assert (result.code, result.err) == (1, "Error querying Consul agent: Unexpected response code: 403\n")
    result = ctl("kv", "put", "k", "v")
    text = "Error! Failed writing data: Unexpected response code: 403 (Permission denied)\n"
    assert (result.code, result.err) == (1, text)


def test_put_takes_text_files_and_stdin(ctl, agent, tmp_path):
    done = ctl("kv", "put", "redis/config/minconns", "1")
    assert (done.code, done.out) == (0, "Success! Data written to: redis/config/minconns\n")
    blob = tmp_path / "blob"
    blob.write_bytes(bytes(range(256)))
    ctl("kv", "put", "file", f"@{blob}")
    ctl("kv", "put", "stdin", "-", stdin=b"\x00\xff\n")
    ctl("kv", "put", "empty")
    ctl("kv", "put", "dash", "-5")
    ctl("kv", "put", "flag", "-cas")
    ctl("kv", "put", "backslash", "\\@x")
    ctl("kv", "put", "-flags=18446744073709551615", "-base64", "b64", "AP8=")
    sent = {path.partition("?")[0].removeprefix("/v1/kv/"): body for method, path, body, _ in agent.requests}
    assert sent["file"] == bytes(range(256))
    assert sent["stdin"] == b"\x00\xff\n"
    assert sent["empty"] == b""
    assert sent["dash"] == b"-5"
    assert sent["flag"] == b"-cas"
    assert sent["backslash"] == b"\\@x"
    assert sent["b64"] == b"\x00\xff"
    assert agent.kv["b64"]["Flags"] == (1 << 64) - 1


def test_keys_are_escaped(ctl, agent):
    key = "a b/ü?&#%+/\udcff"
    ctl("kv", "put", key, "v")
    assert key in agent.kv
    assert agent.requests[0][1] == "/v1/kv/a%20b/%C3%BC%3F&%23%25+/%FF"
    assert ctl("kv", "get", key).raw == b"v\n"
    assert ctl("kv", "list").raw == b"a b/\n"


def test_delete(ctl, redis):
    assert ctl("kv", "delete", "nosuch").out == "Success! Deleted key: nosuch\n"
    done = ctl("kv", "delete", "-recurse", "redis/config/users")
    assert done.out == "Success! Deleted keys with prefix: redis/config/users\n"
    assert sorted(redis.kv) == sorted(REDIS)[:2]


def test_export_layout(ctl, agent):
    agent.put("redis/config/maxconns", b"25")
    agent.put("redis/dir/", b"")
    assert ctl("kv", "export", "redis/").out == (
        '[\n\t{\n\t\t"key": "redis/config/maxconns",\n\t\t"flags": 0,\n\t\t"value": "MjU="\n\t},\n'
        '\t{\n\t\t"key": "redis/dir/",\n\t\t"flags": 0,\n\t\t"value": ""\n\t}\n]\n'
    )
    assert ctl("kv", "export", "none/").out == "[]\n"


KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=12)
PLAIN = KEYS.map(lambda key: key.lstrip("/") or "k").filter(lambda key: key not in (".", ".."))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.dictionaries(PLAIN, st.tuples(st.binary(max_size=40), st.integers(0, 2**64 - 1)), max_size=6)
)
def test_import_restores_an_export_exactly(ctl, agent, entries):
    agent.kv.clear()
    for key, (value, flags) in entries.items():
        agent.put(key, value, flags)
        agent.put(key.rstrip("/") + "/", b"", flags)
    before = {key: (entry["Value"], entry["Flags"]) for key, entry in agent.kv.items()}
    exported = ctl("kv", "export").raw
    agent.kv.clear()
    result = ctl("kv", "import", "-", stdin=exported)
    assert result.code == 0
    assert result.out.count("Imported: ") == len(before)
    assert {key: (entry["Value"], entry["Flags"]) for key, entry in agent.kv.items()} == before


def test_import_under_a_prefix_and_bad_data(ctl, agent):
    data = '[{"key": "dir/", "flags": 7, "value": ""}, {"Key": "a", "Value": "MQ=="}]'
    assert ctl("kv", "import", "-prefix=copy", data).out == "Imported: copy/dir/\nImported: copy/a\n"
    assert agent.kv["copy/dir/"]["Flags"] == 7
    before = dict(agent.kv)
    for bad in (
        "{",
        "{}",
        "[1]",
        '[{"key": "a", "value": "*"}]',
        '[{"flags": 1}]',
        '[{"key":"a","flags":-1}]',
    ):
        result = ctl("kv", "import", bad)
        assert (result.code, result.out) == (1, "")
        assert result.err
    assert agent.kv == before
