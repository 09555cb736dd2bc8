"""Who follows a key goes on over restarts and elections: every change is told, none is told twice."""

from __future__ import annotations

import base64
import itertools
import json
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster import Cluster, Node
from tests.e2e import Program, ctl, read
from tests.harness import until

KEY = "n"


class Follower(NamedTuple):
    """Somebody who follows the key: where what it was told stands, and how to read a line of it."""

    name: str
    path: Path
    number: Callable[[str], int | None]

    @property
    def told(self) -> list[int]:
        """The numbers so far; an unfinished line is none yet."""
        lines = read(self.path).split("\n")[:-1]
        return [number for number in map(self.number, lines) if number is not None]


def of_payload(line: str) -> int | None:
    """The number in a watch's payload."""
    payload = json.loads(line)
    return payload and int(base64.b64decode(payload["Value"]))


def of_change(line: str) -> int | None:
    """The number in a change; what the program itself has to say is none."""
    return of_payload(line) if line.startswith("{") else None


class Stage:
    """A cluster, those who follow a key in it, and the writer of that key."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.followers: list[Follower] = []
        self.numbers: list[int] = []
        self._next = itertools.count(1)

    def by_configuration(self, agent: Node) -> None:
        """A watch of the agent itself; before it starts."""
        path = self.folder / f"{agent.name}.agent"
        agent.config = {"watches": [{"type": "key", "key": KEY, "args": ["/bin/sh", "-c", f"cat >> {path}"]}]}
        self.followers.append(Follower(f"watch of {agent.name}", path, of_payload))

    def by_commands(self, agent: Node, stack: ExitStack) -> None:
        """`ctl watch`, `ctl template` and `ctl changes` that talk to this agent."""
        folder = self.folder / f"{agent.name}.commands"
        folder.mkdir()
        (folder / "t").write_text(f'{{{{ key "{KEY}" }}}}\n')

        def start(name: str, *words: str) -> Program:
            return stack.enter_context(ctl(agent, folder, *words, log=f"{name}.log"))

        start("watch", "watch", "key", KEY, "--exec", "cat >> watch")
        start("template", "template", "-template", "t:out:cat out >> template")
        start("changes", "changes", "-f", "--kind", "kv", "--prefix", KEY, "-o", "json")
        for name, path, number in (
            ("ctl watch", "watch", of_payload),
            ("ctl template", "template", int),
            ("ctl changes", "changes.log", of_change),
        ):
            self.followers.append(Follower(f"{name} at {agent.name}", folder / path, number))

    def write(self) -> int:
        """The next number, at whoever takes it; a second attempt of the same is no change."""
        number = next(self._next)

        def taken() -> bool:
            for agent in self.cluster.running:
                try:
                    if agent.http("PUT", f"/v1/kv/{KEY}", str(number), timeout=5).status == 200:
                        return True
                except OSError:
                    continue
            return False

        until(f"{number} is taken", taken, 30)
        self.numbers.append(number)
        return number

    def burst(self, count: int = 5) -> None:
        """Numbers that nobody waits for: they may be merged."""
        for _ in range(count):
            self.write()

    def told_each(self, count: int = 3) -> list[int]:
        """Numbers that are written when all followers have been told the one before."""
        numbers = []
        for _ in range(count):
            number = self.write()
            numbers.append(number)
            until(f"all are told {number}", lambda number=number: not self.behind(number), 40)
        return numbers

    def wait_kept(self, agent: Node) -> None:
        """Until the agent has noted that its handler was told: whom KILL ends before, tells it again."""
        told = self.folder / f"{agent.name}.agent"

        def kept() -> bool:
            notes = list((agent.data_dir / "watches").glob("*"))
            return bool(notes) and notes[0].stat().st_mtime_ns >= told.stat().st_mtime_ns

        until("it is noted what was told", kept)

    def behind(self, number: int) -> list[str]:
        return [one.name for one in self.followers if one.told[-1:] != [number]]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Three servers and a client, each with a watch of its own."""
    folder = tmp_path_factory.mktemp("survival")
    cluster = Cluster(folder, servers=3, clients=1)
    found = Stage(cluster, folder)
    for agent in cluster.agents:
        found.by_configuration(agent)
    with cluster:
        yield found


def test_a_service_registered_anywhere_is_in_the_file_at_once(stage: Stage, tmp_path: Path) -> None:
    took = []
    (tmp_path / "t").write_text('{{ range service "web" }}{{ .Node }} {{ end }}')
    with ExitStack() as stack:
        files = []
        for reader in stage.cluster.agents:
            out = tmp_path / f"{reader.name}.out"
            words = ("template", "-template", f"t:{out.name}")
            stack.enter_context(ctl(reader, tmp_path, *words, log=f"{reader.name}.log"))
            files.append(out)
        until("all are there", lambda: all(file.exists() for file in files))
        for number, writer in enumerate(stage.cluster.agents * 2):
            before = [read(file) for file in files]
            start = time.monotonic()
            if number < len(stage.cluster.agents):
                writer.put("/v1/agent/service/register", {"Name": "web", "Port": 80})
            else:
                writer.put("/v1/agent/service/deregister/web")
            until(
                f"all know of {writer.name}",
                lambda before=before: all(read(file) != old for file, old in zip(files, before, strict=True)),
            )
            took.append(time.monotonic() - start)
    assert statistics.median(took) < 1.0, took


def test_over_restarts_and_elections(stage: Stage) -> None:
    cluster = stage.cluster
    client = cluster["c1"]
    with ExitStack() as stack:
        stage.write()
        leader = cluster.wait_leader()
        stage.by_commands(client, stack)
        stage.by_commands(leader, stack)
        waiting = stack.enter_context(
            ctl(client, stage.folder, "wait", "kv", KEY, "--value", "the end", log="wait.log")
        )
        # what `ctl changes` tells begins with what comes after its start
        until("all are there", lambda: stage.write() and all(one.told for one in stage.followers), pause=0.2)
        each = stage.told_each()

        client.stop()  # the agent that they ask
        stage.burst()
        client.start()
        each += stage.told_each()

        stage.wait_kept(leader)
        leader.kill9()  # an election, and the agent that they ask
        stage.burst()
        leader.start()
        each += stage.told_each()

        for agent in cluster.agents:  # all of it
            agent.send_signal(signal.SIGTERM)
        for agent in cluster.agents:
            agent.wait_end()
        cluster.start()
        each += stage.told_each()

        for agent in cluster.agents:
            stage.wait_kept(agent)
        cluster.kill9(cluster.agents)
        cluster.start()
        stage.burst()
        each += stage.told_each()

        for follower in stage.followers:
            told = follower.told
            assert all(before < after for before, after in itertools.pairwise(told)), (follower.name, told)
            assert set(each) <= set(told), (follower.name, told)
            if follower.name.startswith("ctl changes"):
                assert told == stage.numbers[-len(told) :], (follower.name, told)
        assert waiting.process.poll() is None
        cluster["s2"].put(f"/v1/kv/{KEY}", "the end")
        assert waiting.wait() == 0
