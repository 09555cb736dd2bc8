"""A Consul and an agent of ours side by side, asked the same."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from tests.compare.differ import STATUS, Difference, differences
from tests.compare.normal import Answer, Frame, plain
from tests.compare.steps import Scenario, Step
from tests.compare.wire import exchange
from tests.harness import Agent, own_address, until

NODE, NODE_ID = "n1", "0c0ffee0-0000-4000-8000-000000000001"
_CONFIG = {
    "disable_update_check": True,
    "disable_coordinates": True,
    "connect": {"enabled": False},
    "ui_config": {"enabled": False},
    "limits": {"http_max_conns_per_client": 1000},
    "primary_datacenter": "dc1",
}
_T = TypeVar("_T")


class Side:
    """One of the two agents."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.known: dict[str, str] = {}
        self.base = 0

    def ask(self, step: Step) -> Answer:
        """Send a step and keep what it saves."""
        answer = exchange(self.address, step.packed(self.address, self.known), step.method)
        if step.saves.startswith("index:"):
            self.known[step.saves[6:]] = answer.header("X-Consul-Index") or "0"
        elif step.saves:
            self.known[step.saves] = _saved_id(answer)
        return answer

    def json(self, target: str) -> Any:
        answer = self.ask(Step("GET", target))
        return json.loads(answer.body) if answer.status == 200 else None

    def put(self, target: str, value: Any = None) -> None:
        self.ask(Step("PUT", target, b"" if value is None else json.dumps(value).encode()))

    def begin(self) -> None:
        """A clean slate, and where the log stands."""
        for service in self.json("/v1/agent/services") or {}:
            self.put(f"/v1/agent/service/deregister/{quote(service)}")
        for check in self.json("/v1/agent/checks") or {}:
            self.put(f"/v1/agent/check/deregister/{quote(check)}")
        self.put("/v1/agent/maintenance?enable=false")
        for session in self.json("/v1/session/list") or ():
            self.put(f"/v1/session/destroy/{session['ID']}")
        self._empty_catalog()
        self.ask(Step("DELETE", "/v1/kv/?recurse"))
        self.known = {}
        self.base = self._mark()

    def _empty_catalog(self) -> None:
        for node in self.json("/v1/catalog/nodes") or ():
            if node["Node"] != NODE:
                self.put("/v1/catalog/deregister", {"Node": node["Node"]})
        for service in (self.json(f"/v1/catalog/node-services/{NODE}") or {}).get("Services") or ():
            if service["ID"] != "consul":
                self.put("/v1/catalog/deregister", {"Node": NODE, "ServiceID": service["ID"]})
        for check in self.json(f"/v1/health/node/{NODE}") or ():
            if check["CheckID"] != "serfHealth":
                self.put("/v1/catalog/deregister", {"Node": NODE, "CheckID": check["CheckID"]})

    def _mark(self) -> int:
        self.put("/v1/kv/mark")
        found = self.json("/v1/kv/mark")
        self.ask(Step("DELETE", "/v1/kv/mark"))
        return int(found[0]["ModifyIndex"]) + 1 if found else 0

    @property
    def frame(self) -> Frame:
        return Frame(self.address, self.base, dict(self.known))

    def ready(self) -> bool:
        """Whether it is in its own catalog, alive."""
        return any(check["CheckID"] == "serfHealth" for check in self.json(f"/v1/health/node/{NODE}") or ())


def _saved_id(answer: Answer) -> str:
    with contextlib.suppress(ValueError):
        value = json.loads(answer.body)
        if isinstance(value, dict) and isinstance(value.get("ID"), str):
            return str(value["ID"])
    return "none"


class Pair:
    """Both sides, asked at the same time."""

    def __init__(self, theirs: Side, ours: Side) -> None:
        self.theirs, self.ours = theirs, ours
        self._pool = ThreadPoolExecutor(2)

    def both(self, work: Callable[[Side], _T]) -> tuple[_T, _T]:
        one, two = self._pool.submit(work, self.theirs), self._pool.submit(work, self.ours)
        return one.result(), two.result()

    def compare(self, scenario: Scenario) -> Iterator[tuple[Step, list[Difference]]]:
        """The differences after every step that has some."""
        self.both(Side.begin)
        for step in scenario.steps:
            pair = self.both(lambda side, step=step: plain(side.ask(step), side.frame))  # type: ignore[misc]
            found = differences(*pair)
            if found:
                yield step, found
            if scenario.chained and step.method != "GET" and any(one.kind == STATUS for one in found):
                return


@contextlib.contextmanager
def started(consul: Path, folder: Path) -> Iterator[Pair]:
    """Both agents in dev mode, ready to be asked; ended at the end."""
    config = folder / "peer.json"
    config.write_text(json.dumps(_CONFIG | {"disable_remote_exec": True}))
    address = own_address()
    command = [
        str(consul),
        "agent",
        "-dev",
        "-bind",
        address,
        "-client",
        address,
        "-node",
        NODE,
        "-node-id",
        NODE_ID,
    ]
    with (folder / "peer.log").open("wb") as log:
        peer = subprocess.Popen([*command, "-config-file", str(config)], stdout=log, stderr=log)
    try:
        flags = ["--node", NODE, "--node-id", NODE_ID]
        with Agent(folder, config=_CONFIG, flags=flags) as agent:
            pair = Pair(Side("theirs", address), Side("ours", agent.address))
            for side in (pair.theirs, pair.ours):
                until(f"{side.name} is ready", side.ready)
            yield pair
    finally:
        peer.terminate()
        peer.wait(10)
