"""`ctl snapshot`: a file that appears only when it is whole; Consul's page; what a restore says first."""

import json
import os
import pty

import pytest

from cli.snapshotrecords import Snapshot
from cli.snapshotview import byte_size
from core.codec import msgpack
from core.store import archive, commands
from core.store.archive import SnapshotMeta
from core.store.persist import SnapshotError
from tests.cli.conftest import ROOT

RECORDS = json.loads((ROOT / "tests/vectors/snapshot/records.json").read_text())["vectors"]
RECORDS = [one for one in RECORDS if "hex" in one]  # without those that hold private keys
META = SnapshotMeta(id="2-79-1795409101055", index=79, term=2)
TOKEN = "8f246b77-f3e1-ff88-5b48-8ec93abf3e05"


def packed(records, meta=META):
    state = msgpack.encode({"LastIndex": meta.index}) + b"".join(records)
    return b"".join(archive.write(meta, state)), len(state)


def record(kind, value):
    return bytes([kind]) + msgpack.encode(value)


@pytest.fixture
def real(tmp_path):
    """An archive with the records that Consul 1.9.8 wrote."""
    path = tmp_path / "s.snap"
    path.write_bytes(packed([bytes.fromhex(one["hex"]) for one in RECORDS])[0])
    return path


def serve(agent, data, wanted="/v1/snapshot"):
    respond = agent.respond
    agent.respond = lambda *q: (200, data, 0) if q[:2] == ("GET", wanted) else respond(*q)


def test_save(ctl, agent, tmp_path):
    data, size = packed([record(commands.KVS, {"Key": "a"})])
    serve(agent, data)
    path = tmp_path / "s.snap"
    path.write_bytes(b"the one of yesterday")
    result = ctl("snapshot", "save", "-stale", str(path))
    assert (result.code, result.out, result.err) == (0, "Saved and verified snapshot to index 79\n", "")
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["s.snap"]
    assert agent.paths() == ["GET /v1/snapshot?stale"]
    document = json.loads(ctl("snapshot", "save", "-o", "json", str(path)).out)
    assert document == {"File": str(path), "Index": 79, "Size": size, "ID": META.id}


def test_save_with_facts_in_the_name(ctl, agent, tmp_path):
    serve(agent, packed([])[0])
    words = ["snapshot", "save", "-append-filename=version,dc,node,status", str(tmp_path / "s.snap")]
    assert ctl(*words).code == 0
    assert os.listdir(tmp_path) == ["s-1.9.8-dc1-n1-follower.snap"]
    assert ctl("snapshot", "save", "-append-filename=moon", str(tmp_path / "a")).code == 1


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: b"hello", lambda data: b""])
def test_a_damaged_snapshot_is_not_kept(ctl, agent, tmp_path, damage):
    data = packed([record(commands.KVS, {"Key": "a", "Value": os.urandom(5000)})])[0]
    serve(agent, damage(data))
    path = tmp_path / "s.snap"
    path.write_bytes(b"the one of yesterday")
    result = ctl("snapshot", "save", str(path))
    assert result.code == 1
    assert result.err.startswith("Error verifying snapshot file: ")
    assert path.read_bytes() == b"the one of yesterday"
    assert os.listdir(tmp_path) == ["s.snap"]


def test_records_are_read_before_it_counts_as_verified(ctl, agent, tmp_path):
    serve(agent, packed([record(commands.KVS, {"Key": "a"})[:-1]])[0])
    result = ctl("snapshot", "save", str(tmp_path / "s.snap"))
    assert (result.code, os.listdir(tmp_path)) == (1, [])
    assert result.err.startswith("Error verifying snapshot file: the snapshot is damaged")


def test_save_refuses(ctl, agent, tmp_path):
    assert ctl("snapshot", "save").err == "Missing FILE argument\n"
    result = ctl("snapshot", "save", str(tmp_path / "no" / "s.snap"))
    assert result.code == 1
    temporary = f"{tmp_path}/no/s.snap.unverified.tmp{os.getpid()}"
    text = f"Error writing unverified snapshot file: open {temporary}: no such file or directory\n"
    assert result.err == text
    agent.failures["/v1/snapshot"] = (500, "No cluster leader")
    result = ctl("snapshot", "save", str(tmp_path / "s.snap"))
    assert result.err == "Error saving snapshot: Unexpected response code: 500 (No cluster leader)\n"
    assert os.listdir(tmp_path) == []


def test_inspect_counts_what_consul_wrote(ctl, real):
    result = ctl("snapshot", "inspect", str(real))
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    state_size = 9 + 2 + sum(len(one["hex"]) // 2 for one in RECORDS)
    assert lines[0] == "ID           2-79-1795409101055"
    assert lines[2:7] == ["Index        79", "Term         2", "Version      1", "", ""]
    assert lines[7].split() == ["Type", "Count", "Size"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[9:-2]}
    for name in {one["name"] for one in RECORDS}:
        sizes = [len(one["hex"]) // 2 for one in RECORDS if one["name"] == name]
        assert rows[name] == [str(len(sizes)), byte_size(sum(sizes))]
    total = sum(len(one["hex"]) // 2 for one in RECORDS)
    assert lines[-1].split() == ["Total", byte_size(total)]
    document = json.loads(ctl("snapshot", "inspect", "-format=json", str(real)).out)
    assert document["Meta"]["Index"] == 79
    assert document["TotalSize"] == total < state_size
    assert sum(count["Count"] for count in document["Stats"]) == len(RECORDS)
    sizes = [count["Sum"] for count in document["Stats"]]
    assert sizes == sorted(sizes, reverse=True)


PAGE = """\
ID           2-79-1795409101055
Size         {size}
Index        79
Term         2
Version      1


 Type         Count      Size
 ----         ----       ----
 KVS          3          {kvs}
 Type 99      1          {other}
 ----         ----       ----
 Total                   {total}


 Key Name      Count      Size
 ----          ----       ----
 app/one       2          {one}
 app/two       1          {two}
 ----          ----       ----
 Total                    {kvs}
"""


def test_inspect_by_prefix_and_of_newer_records(ctl, tmp_path):
    keys = [
        record(commands.KVS, {"Key": key, "Value": b"x" * 600})
        for key in ("app/one/a", "app/one/b", "app/two")
    ]
    newer = record(99, {"New": 1})
    data, size = packed([*keys, newer])
    (tmp_path / "s.snap").write_bytes(data)
    sizes = [len(key) for key in keys]
    expected = PAGE.format(
        size=size,
        kvs=byte_size(sum(sizes)),
        other=byte_size(len(newer)),
        total=byte_size(sum(sizes) + len(newer)),
        one=byte_size(sizes[0] + sizes[1]),
        two=byte_size(sizes[2]),
    )
    shown = ctl("snapshot", "inspect", "-kvdetails", str(tmp_path / "s.snap")).out
    assert "\n".join([line.rstrip() for line in shown.split("\n")]) == expected
    assert " Type         Count      Size        \n" in shown  # the last column is padded, as Consul's
    assert not shown.endswith(" \n")
    words = ["-kvdetails", "-kvdepth=3", "-kvfilter=app/one", "-o", "json", str(tmp_path / "s.snap")]
    found = json.loads(ctl("snapshot", "inspect", *words).out)
    assert [count["Name"] for count in found["StatsKV"]] == ["app/one/a", "app/one/b"]


def test_inspect_refuses(ctl, tmp_path):
    assert ctl("snapshot", "inspect").err == "Missing FILE argument\n"
    text = "Error opening snapshot file: open nosuch.snap: no such file or directory\n"
    assert ctl("snapshot", "inspect", "nosuch.snap").err == text
    (tmp_path / "text").write_text("hello")
    result = ctl("snapshot", "inspect", str(tmp_path / "text"))
    assert result.code == 1
    assert result.err.startswith("Error reading snapshot: failed to decompress snapshot: ")


def test_decode(ctl, tmp_path):
    records = [
        record(commands.KVS, {"Key": "a", "Value": b"\xff\x00"}),
        record(commands.INDEX, {"Key": "kvs", "Value": 7}),
    ]
    (tmp_path / "s.snap").write_bytes(packed(records)[0])
    lines = [
        json.loads(line) for line in ctl("snapshot", "decode", str(tmp_path / "s.snap")).out.splitlines()
    ]
    assert lines == [
        {"Type": "KVS", "Data": {"Key": "a", "Value": "base64:/wA="}},
        {"Type": "Index", "Data": {"Key": "kvs", "Value": 7}},
    ]


def test_decode_what_consul_wrote(ctl, real):
    lines = [json.loads(line) for line in ctl("snapshot", "decode", str(real)).out.splitlines()]
    assert [line["Type"] for line in lines] == [one["name"] for one in RECORDS]


def test_restore_says_what_it_replaces(ctl, agent, tmp_path):
    node = {"Node": "n1", "Service": None}
    records = [
        record(commands.REGISTER, node),
        record(commands.REGISTER, {**node, "Service": {"ID": "web"}}),
        record(commands.KVS, {"Key": "a"}),
        record(commands.ACL_TOKEN_SET, {"SecretID": TOKEN}),
    ]
    path = tmp_path / "s.snap"
    data = packed(records)[0]
    path.write_bytes(data)
    agent.answers["/v1/session/list"] = [{}]
    result = ctl("snapshot", "restore", "-token", TOKEN, str(path))
    assert (result.code, result.out) == (0, "Restored snapshot\n")
    assert result.err == (
        "Snapshot 2-79-1795409101055, index 79: 1 node, 1 service instance, 1 key, 1 ACL token.\n"
        "It replaces all of this in the cluster, which now has 2 nodes, 2 services and 1 session; "
        "what is only there is lost.\n"
    )
    method, target, body, _ = agent.requests[-1]
    assert (method, target, body) == ("PUT", "/v1/snapshot", data)
    warned = ctl("snapshot", "restore", "-token", "another", str(path))
    assert "WARNING: the token in use is not in the snapshot" in warned.err
    assert json.loads(ctl("snapshot", "restore", "-o", "json", str(path)).out)["Index"] == 79
    agent.failures["/v1/snapshot"] = (403, "Permission denied")
    result = ctl("snapshot", "restore", "--quiet", str(path))
    assert result.err == "Error restoring snapshot: Unexpected response code: 403 (Permission denied)\n"


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"\n", 1), (b"y\n", 0)])
def test_a_person_is_asked(agent, real, spawn, answer, code):
    leader, follower = pty.openpty()
    process = spawn("snapshot", "restore", str(real), stdin=follower, stderr=follower)
    os.close(follower)
    os.write(leader, answer)
    assert process.wait(20) == code
    shown = os.read(leader, 65536)
    os.close(leader)
    assert b"Replace the state of the cluster? [y/N]" in shown
    assert (b"Nothing was changed." in shown) == (code == 1)
    assert ("PUT /v1/snapshot" in agent.paths()) == (code == 0)


def test_restore_sends_nothing_that_is_damaged(ctl, agent, real):
    real.write_bytes(real.read_bytes()[:-100])
    result = ctl("snapshot", "restore", str(real))
    assert result.err.startswith("Error reading snapshot: ")
    assert agent.requests == []


def test_garbage_is_a_snapshot_error():
    for data in (b"", b"\x1f\x8b", packed([b"\x02\x81"])[0]):
        with pytest.raises(SnapshotError):
            Snapshot(data)


def test_sizes():
    wanted = {0: "0", 1: "1B", 1023: "1023B", 1024: "1KB", 2662: "2.6KB", 5 << 20: "5MB", 3 << 40: "3TB"}
    assert {count: byte_size(count) for count in wanted} == wanted
