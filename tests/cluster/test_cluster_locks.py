"""`ctl lock` in a cluster whose leaders die: what is held stays held, and never two hold it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, Node
from tests.harness import CTL, ENVIRONMENT, ROOT, until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("locks"), servers=3, clients=1) as found:
        yield found


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def lock(asked: Node, *words: str) -> subprocess.Popen[bytes]:
    environment = ENVIRONMENT | {"CONSUL_HTTP_ADDR": asked.base, "SHELL": "/bin/sh"}
    return subprocess.Popen([*CTL, "lock", *words], cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def entry(asked: Node, key: str) -> dict[str, object]:
    found = asked.answer(f"/v1/kv/{key}?stale")
    return found.json()[0] if found is not None and found.status == 200 else {}


@pytest.mark.parametrize("who", ["c1", "follower"])
def test_the_leader_is_killed_while_a_lock_is_held(
    cluster: Cluster, processes: list[subprocess.Popen[bytes]], tmp_path: Path, who: str
) -> None:
    """Neither the child nor the session notices; whoever waits goes on waiting, and gets it in the end."""
    leader = cluster.wait_leader()
    asked, other = cluster["c1"], cluster.followers()[0]
    if who == "follower":
        asked, other = other, asked
    key = f"held-{who}"
    held = lock(asked, key, f"touch {tmp_path}/up; while [ ! -e {tmp_path}/done ]; do sleep 0.05; done")
    processes.append(held)
    until("it is held", (tmp_path / "up").exists)
    waiting = lock(other, key, f"touch {tmp_path}/second")
    processes.append(waiting)
    session = until("the key has its holder", lambda: entry(asked, f"{key}/.lock").get("Session"))
    until("two sessions", lambda: len(asked.get("/v1/session/list")) == 2)
    leader.kill9()
    cluster.wait_leader(other_than=leader)
    until("the cluster answers", lambda: entry(asked, f"{key}/.lock").get("Session") == session)
    assert held.poll() is None and waiting.poll() is None
    (tmp_path / "done").touch()
    assert held.communicate(timeout=20)[1] == b""
    assert held.returncode == 0
    assert waiting.wait(20) == 0
    assert (tmp_path / "second").exists()
    leader.start()
    cluster.settle()
    assert asked.get("/v1/session/list") == []


def test_two_contenders_while_leaders_are_killed(
    cluster: Cluster, processes: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Each run of a child makes a directory that must not be there and writes its token: no two at once,
    and the tokens grow from run to run. The follower that one contender asks may be elected and killed in its
    turn while that contender holds the lock: then its session ends when gossip has given the agent up (about
    5 s), and the lock-delay (15 s) passes before anybody gets the lock."""
    script = tmp_path / "child.sh"
    script.write_text(
        f"cd {tmp_path} && mkdir busy || exit 9\necho $CTL_LOCK_INDEX >> tokens; sleep 0.1; rmdir busy\n"
    )
    loop = tmp_path / "loop.sh"
    python = " ".join(CTL)
    loop.write_text(
        f"while [ ! -e {tmp_path}/stop ]; do {python} lock runs sh {script}; "
        f"code=$?; [ $code = 9 ] && touch {tmp_path}/overlap; done; exit 0\n"
    )
    tokens = tmp_path / "tokens"

    def runs() -> int:
        return len(tokens.read_text().split()) if tokens.exists() else 0

    for asked in (cluster["c1"], cluster.followers()[0], cluster["c1"]):
        environment = ENVIRONMENT | {"CONSUL_HTTP_ADDR": asked.base}
        processes.append(subprocess.Popen(["sh", str(loop)], cwd=ROOT, env=environment))
    for _ in range(2):
        before = runs()
        until("the lock changes hands", lambda before=before: runs() >= before + 5)
        leader = cluster.wait_leader()
        leader.kill9()
        cluster.wait_leader(other_than=leader)
        before = runs()
        until("the lock changes hands again", lambda before=before: runs() >= before + 5, deadline=60)
        leader.start()
        cluster.settle()
    (tmp_path / "stop").touch()
    for process in processes:
        process.wait(30)
    assert not os.path.exists(tmp_path / "overlap")
    numbers = [int(token) for token in tokens.read_text().split()]
    assert numbers == sorted(set(numbers))
