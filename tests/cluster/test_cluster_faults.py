"""Servers that die, stall, move and run out of disk under load: no acknowledged write is lost, and what
all clients saw is linearizable."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster import Cluster, Load
from tests.harness import until

CONSISTENT = ("?consistent",)  # where a leader may be asleep, a default read may be old


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("faults"), servers=3, clients=1) as found:
        yield found


def test_the_leader_is_killed_under_load(cluster: Cluster) -> None:
    with Load(cluster.agents) as load:
        load.until_acknowledged()
        killed = cluster.wait_leader()
        killed.kill9()
        assert load.until_acknowledged() < 5
        survivor = cluster.wait_leader()
        assert survivor is not killed
        killed.start()
        load.until_acknowledged()
    cluster.settle()
    load.check(cluster["c1"])


def test_servers_are_restarted_in_turn_under_load(cluster: Cluster) -> None:
    with Load(cluster.agents) as load:
        load.until_acknowledged()
        for server in cluster.servers:
            server.restart()
            cluster.settle()
            load.until_acknowledged(5)
    assert load.longest_pause() < 5
    load.check(cluster["s1"])


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_server_sleeps(cluster: Cluster, who: str) -> None:
    """Stopped for some seconds it may be taken for dead; nobody else may."""
    cluster.settle()
    leader = cluster.wait_leader()
    chosen = leader if who == "leader" else cluster.followers()[0]
    others = [agent for agent in cluster.agents if agent is not chosen]
    with Load(others, reads=CONSISTENT, timeout=1) as load:
        load.until_acknowledged()
        with cluster.asleep(chosen, 4):
            load.until_acknowledged()
            for agent in others:
                assert not {name for name, status in agent.members().items() if status == "failed"} - {
                    chosen.name
                }
        load.until_acknowledged()
    cluster.settle()
    load.check(chosen)


def test_who_stands_still_makes_no_other_look_failed(cluster: Cluster) -> None:
    cluster.settle()
    chosen, asked = cluster["c1"], cluster["s1"]
    for _ in range(2):
        chosen.sleep()
        try:
            until("it is missed", lambda: asked.members()[chosen.name] == "failed", 25)
        finally:
            chosen.wake()
        until("it is back", lambda: asked.members()[chosen.name] == "alive", 30)
    # Asleep it heard nobody; awake it must not hold that against them.
    wrong = [
        line
        for line in chosen.log_text().splitlines()
        if "serf.lan: marking" in line and "as failed" in line and f"marking {chosen.name} " not in line
    ]
    assert not wrong
    cluster.settle()


def test_without_a_majority_it_says_so_and_recovers(cluster: Cluster) -> None:
    cluster.settle()
    left, *gone = cluster.servers
    client = cluster["c1"]
    client.put("/v1/kv/before", "kept")
    with Load(cluster.agents, timeout=15) as load:
        load.until_acknowledged()
        cluster.kill9(gone)

        until("its leadership is over", lambda: left.get("/v1/status/leader") == "")
        questions = [(left, "PUT"), (client, "PUT"), (left, "GET"), (client, "GET")]
        with ThreadPoolExecutor(len(questions)) as pool:  # each may wait some seconds for a leader
            for answer in pool.map(lambda one: one[0].http(one[1], "/v1/kv/before", "x"), questions):
                assert answer.status == 500 and "No cluster leader" in answer.text
        stale = left.http("GET", "/v1/kv/before?stale&raw")
        assert stale.text == "kept" and stale.headers["x-consul-knownleader"] == "false"
        for server in gone:
            server.start(wait=False)
        load.until_acknowledged()
    cluster.settle()
    assert client.http("GET", "/v1/kv/before?raw&consistent").text == "kept"
    load.check(client)


def test_all_servers_come_back_with_new_addresses(cluster: Cluster) -> None:
    cluster.settle()
    client = cluster["c1"]
    client.put("/v1/kv/moved", "kept")
    old = [server.address for server in cluster.servers]
    cluster.kill9(cluster.servers)
    cluster.move(cluster.servers)
    assert not {server.address for server in cluster.servers} & set(old)
    for server in cluster.servers:
        server.start(wait=False)
    leader = cluster.settle()
    for agent in cluster.agents:
        assert agent.http("GET", "/v1/kv/moved?raw").text == "kept"
        agent.put(f"/v1/kv/moved/{agent.name}", "works")

    def peers() -> set[str]:
        return set(leader.get("/v1/status/peers"))

    until("peers are the new addresses", lambda: peers() == {f"{s.address}:8300" for s in cluster.servers})


def test_two_of_five_are_killed_under_load(tmp_path: Path) -> None:
    with Cluster(tmp_path, servers=5) as cluster, Load(cluster.agents) as load:
        load.until_acknowledged()
        killed = [cluster.wait_leader(), cluster.followers()[0]]
        cluster.kill9(killed)
        assert load.until_acknowledged() < 8
        for server in killed:
            server.start(wait=False)
        cluster.settle()
        load.until_acknowledged()
        load.stop()
        load.check(killed[0])


@pytest.fixture
def small_disks(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A file system of 64 MB for each server."""
    made: dict[str, Path] = {}
    try:
        for name in ("s1", "s2", "s3"):
            place = tmp_path / f"disk-{name}"
            place.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"small file systems cannot be mounted: {done.stderr.strip()}")
            made[name] = place
        yield {name: place / "data" for name, place in made.items()}
    finally:
        for place in made.values():
            subprocess.run(["umount", "-l", str(place)], check=False)


def test_the_disk_of_one_server_is_full(tmp_path: Path, small_disks: dict[str, Path]) -> None:
    with Cluster(tmp_path, servers=3, data_dirs=small_disks) as cluster:
        for chosen in (cluster.followers()[0], cluster.wait_leader()):
            filler = chosen.data_dir.parent / "filler"
            with Load(cluster.servers) as load:
                load.until_acknowledged()
                _fill(filler)
                began = time.monotonic()
                # The log's segment has room for a while: large values use it up.
                value = b"x" * 400_000
                number = 0
                while "writes are refused" not in chosen.log_text():
                    number += 1
                    cluster.servers[number % 3].http("PUT", f"/v1/kv/large/{number % 3}", value)
                    assert time.monotonic() < began + 20, "the disk never was full"
                load.until_acknowledged()
                filler.unlink()
                load.until_acknowledged()
            cluster.settle()
            load.check(chosen)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass
