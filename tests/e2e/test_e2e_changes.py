"""A thousand random changes: what follows them ends up with the truth, and shows nothing half-done.

CTL_TEST_SEED=N python -m pytest tests/e2e/test_e2e_changes.py      # the changes of a run that failed"""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.e2e import ctl, read
from tests.harness import Agent, until

CHANGES = 1000
KILLS = 4
SERVICES = ("web", "db", "cache")
KEYS = tuple(f"app/{folder}/{number}" for folder in "abc" for number in range(4))

# The number stands at both ends: what is torn, or of two states, shows.
TEMPLATE = """\
{{ key "number" }}
{{ range services }}{{ .Name }}{{ range .Tags }} {{ . }}{{ end }}
{{ range service .Name "any" }}  {{ .ID }} {{ .Address }}:{{ .Port }} {{ .Status }}
{{ end }}{{ end }}{{ range tree "app" }}{{ .Key }} = {{ .Value }}
{{ end }}{{ range ls "app/a" }}{{ .Key }} {{ end }}{{ keyOrDefault "app/b/0" "none" }}
{{ key "number" }}
"""


class Changer:
    """Changes keys and services at random, over one connection."""

    def __init__(self, agent: Agent, chance: random.Random) -> None:
        self._connection, self._chance = agent.connection(30), chance

    def change(self, number: int) -> None:
        if number % 5 == 4:
            return self._send("PUT", "/v1/kv/number", {200}, str(number))
        return self._change()

    def _change(self) -> None:
        chance = self._chance
        name = chance.choice(SERVICES)
        instance = f"{name}{chance.randrange(4)}"
        kind = chance.choice(["register", "register", "deregister", "check", "put", "put", "delete", "txn"])
        if kind == "register":
            self._register(name, instance)
        elif kind == "deregister":
            self._send("PUT", f"/v1/agent/service/deregister/{instance}", {200, 404, 500})
        elif kind == "check":
            status = chance.choice(["pass", "warn", "fail"])
            self._send("PUT", f"/v1/agent/check/{status}/{instance}", {200, 404, 500})
        elif kind == "put":
            self._send("PUT", f"/v1/kv/{chance.choice(KEYS)}", {200}, str(chance.random()))
        elif kind == "delete":
            self._send("DELETE", f"/v1/kv/{chance.choice([*KEYS, 'app/a?recurse'])}", {200})
        else:
            self._transaction(chance.sample(KEYS, 3))

    def close(self) -> None:
        self._connection.close()

    def _register(self, name: str, instance: str) -> None:
        chance = self._chance
        check = {"CheckID": instance, "TTL": "1h", "Status": chance.choice(["passing", "critical"])}
        place = {"Address": f"10.0.0.{chance.randint(1, 99)}", "Port": chance.randint(1, 9), "Check": check}
        body = {"ID": instance, "Name": name, "Tags": chance.sample(["a", "b", "c"], 2), **place}
        self._send("PUT", "/v1/agent/service/register", {200}, json.dumps(body))

    def _transaction(self, keys: list[str]) -> None:
        value = base64.b64encode(str(self._chance.random()).encode()).decode()
        verbs: list[dict[str, Any]] = [{"Verb": "set", "Key": key, "Value": value} for key in keys[:2]]
        verbs.append({"Verb": "delete", "Key": keys[2]})
        self._send("PUT", "/v1/txn", {200}, json.dumps([{"KV": verb} for verb in verbs]))

    def _send(self, method: str, path: str, expected: set[int], body: str = "") -> None:
        self._connection.request(method, path, body)
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status in expected, (method, path, answer.status, text)


class Reader:
    """Reads a file all the time, and keeps what should not have been there."""

    def __init__(self, path: Path, whole: Callable[[str], bool]) -> None:
        self.wrong: list[str] = []
        self.reads = 0
        self._path, self._whole = path, whole
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.002):
            try:
                text = self._path.read_text()
            except FileNotFoundError:
                text = ""
            self.reads += 1
            if not self._whole(text):
                self.wrong.append(text)


def whole(text: str) -> bool:
    lines = text.split("\n")
    return len(lines) > 4 and lines[-1] == "" and lines[0] == lines[-2] != ""


def payloads(path: Path) -> list[Any]:
    """What a handler was told; the line that is being written is none yet."""
    return [json.loads(line) for line in read(path).split("\n")[:-1]]


def test_a_thousand_changes(tmp_path: Path) -> None:
    seed = int(os.environ.get("CTL_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"CTL_TEST_SEED={seed}")  # pytest shows it when the test fails
    home = tmp_path / "agent"
    home.mkdir()
    (tmp_path / "t.ctmpl").write_text(TEMPLATE)
    watches = {
        "keys": ("keyprefix", "app/", {"prefix": "app/"}),
        "web": ("service", "web", {"service": "web"}),
        "services": ("services", "", {}),
        "number": ("key", "number", {"key": "number"}),
    }
    configured = [
        {"type": kind, **what, "args": ["/bin/sh", "-c", f"cat >> {tmp_path / name}.agent"]}
        for name, (kind, _, what) in watches.items()
    ]
    with Agent(home, config={"watches": configured}) as agent, ExitStack() as stack:
        agent.put("/v1/kv/number", "start")
        changer = Changer(agent, random.Random(seed))
        stack.callback(changer.close)

        def runner(turn: int) -> Any:
            words = ("template", "-template", "t.ctmpl:out")
            return stack.enter_context(ctl(agent, tmp_path, *words, log=f"template{turn}.log"))

        for name, (kind, argument, _) in list(watches.items())[:2]:
            words = ["watch", kind, *([argument] if argument else []), "--exec", f"cat >> {name}.cli"]
            stack.enter_context(ctl(agent, tmp_path, *words, log=f"{name}.log"))
        running = runner(0)
        until("the first file", (tmp_path / "out").exists)
        with Reader(tmp_path / "out", whole) as reader:
            for number in range(CHANGES):
                changer.change(number)
                if (number + KILLS) % (CHANGES // KILLS) == 0:
                    running.send(signal.SIGKILL)
                    running.wait()
                    running = runner(number)

            def fresh() -> str:
                """Rendered now; what was registered last may still be on its way to the catalog."""
                words = ("template", "-template", "t.ctmpl:fresh", "-once")
                with ctl(agent, tmp_path, *words, log="once.log") as process:
                    assert process.wait() == 0
                return read(tmp_path / "fresh")

            until("the file is as a fresh one", lambda: fresh() == read(tmp_path / "out"))
        assert reader.reads > 100
        assert not reader.wrong, f"{len(reader.wrong)} of {reader.reads}: {reader.wrong[0]!r}"
        assert f"\n{CHANGES - 1}\n" in read(tmp_path / "out")
        assert running.end() == 12
        assert not [path.name for path in tmp_path.iterdir() if ".ctl-" in path.name]

        for name, (kind, argument, _) in watches.items():
            shown = agent.ctl("watch", kind, *([argument] if argument else []), "--once", "-o", "json")
            truth = json.loads(shown.stdout)
            for told in tmp_path.glob(f"{name}.[ac]*"):
                until(f"{told.name} is true", lambda told=told, truth=truth: payloads(told)[-1] == truth)
                found = payloads(told)
                twice = [one for one, other in itertools.pairwise(found) if one == other]
                assert not twice, f"{told.name}: {len(twice)} of {len(found)} told twice: {twice[0]}"
