"""Which writes wake which blocked queries, and what index they then have."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Any

from tests.compare.normal import relative
from tests.compare.pair import Pair, Side
from tests.compare.steps import Step, delete, put

WAIT = 2.0  # seconds: that nobody woke is only known after
SETTLE = 0.5

_ALPHA = {"Node": "alpha", "Address": "10.0.0.1"}
_WEB = {"Service": "web", "Port": 80, "Tags": ["a"]}
SETUP = (
    put(
        "/v1/catalog/register",
        {**_ALPHA, "Service": _WEB, "Check": {"Name": "c1", "Status": "passing", "ServiceID": "web"}},
    ),
    put(
        "/v1/catalog/register",
        {**_ALPHA, "Service": {"Service": "db"}, "Check": {"Name": "n1c", "Status": "passing"}},
    ),
    put(
        "/v1/catalog/register",
        {"Node": "beta", "Address": "10.0.0.2", "Service": {"ID": "web-2", "Service": "web"}},
    ),
    put("/v1/session/create", {"Name": "kept", "LockDelay": "0s"}, saves="s1"),
    put("/v1/session/create", {"Node": "alpha", "NodeChecks": ["n1c"], "LockDelay": "0s"}, saves="s2"),
    put("/v1/kv/w/a", b"1"),
    put("/v1/kv/w/dir/b", b"1"),
    put("/v1/kv/other", b"1"),
    put("/v1/kv/w/held?acquire=${s2}", b"1"),
    put("/v1/query", b""),
)
WATCHED = (
    *(
        "/v1/kv/w/a",
        "/v1/kv/w/missing",
        "/v1/kv/w/?recurse",
        "/v1/kv/w/?keys",
        "/v1/kv/w/?keys&separator=/",
        "/v1/kv/nothing/?recurse",
    ),
    *(
        "/v1/kv/?recurse",
        "/v1/kv/w/held",
        "/v1/session/list",
        "/v1/session/info/${s1}",
        "/v1/session/info/${s2}",
    ),
    *(
        "/v1/session/node/alpha",
        "/v1/session/node/n1",
        "/v1/session/info/11111111-1111-4111-8111-111111111111",
    ),
    *(
        "/v1/catalog/nodes",
        "/v1/catalog/nodes?node-meta=a:1",
        "/v1/catalog/services",
        "/v1/catalog/services?node-meta=a:1",
    ),
    *(
        "/v1/catalog/service/web",
        "/v1/catalog/service/db",
        "/v1/catalog/service/none",
        "/v1/catalog/service/web?tag=a",
    ),
    *(
        "/v1/catalog/service/web?tag=zz",
        "/v1/catalog/connect/web",
        "/v1/catalog/node/alpha",
        "/v1/catalog/node/none",
    ),
    *(
        "/v1/catalog/node-services/beta",
        "/v1/health/node/alpha",
        "/v1/health/node/none",
        "/v1/health/checks/web",
    ),
    *(
        "/v1/health/checks/none",
        "/v1/health/service/web",
        "/v1/health/service/web?passing",
        "/v1/health/service/none",
    ),
    *(
        "/v1/health/service/web?tag=a",
        "/v1/health/connect/web",
        "/v1/health/state/passing",
        "/v1/health/state/any",
    ),
    *(
        "/v1/health/state/critical",
        "/v1/health/service/db",
        "/v1/query",
        "/v1/coordinate/nodes",
        "/v1/coordinate/node/alpha",
    ),
    *(
        "/v1/internal/ui/nodes",
        "/v1/internal/ui/services",
        "/v1/internal/ui/node/alpha",
        "/v1/catalog/services?filter=",
        "/v1/config/proxy-defaults",
    ),
)


def _register(**more: Any) -> Step:
    return put("/v1/catalog/register", {**_ALPHA, **more})


def _check(status: str, **more: Any) -> Step:
    return _register(Check={"Name": "c1", "ServiceID": "web", "Status": status, **more})


WRITES = (
    put("/v1/kv/w/a", b"1"),
    put("/v1/kv/w/a", b"2"),
    put("/v1/kv/w/missing", b"1"),
    put("/v1/kv/w/dir/new", b"1"),
    put("/v1/kv/zzz", b"1"),
    delete("/v1/kv/w/a"),
    delete("/v1/kv/w/nothere"),
    delete("/v1/kv/w/?recurse"),
    delete("/v1/kv/zz/?recurse"),
    delete("/v1/kv/w/a?cas=1"),
    put("/v1/kv/w/a?cas=1", b"1"),
    put("/v1/kv/w/a?acquire=${s1}", b"1"),
    put("/v1/kv/w/a?acquire=nope", b"1"),
    put("/v1/kv/w/held?release=${s2}", b"1"),
    put("/v1/kv/w/held?acquire=${s1}", b"2"),
    put("/v1/kv/w/a?flags=9", b"1"),
    put("/v1/session/create", b""),
    put("/v1/session/destroy/${s1}"),
    put("/v1/session/destroy/${s2}"),
    put("/v1/session/destroy/11111111-1111-4111-8111-111111111111"),
    put("/v1/session/renew/${s1}"),
    _register(),
    _register(Address="10.0.0.9"),
    _register(NodeMeta={"a": "1"}),
    _register(SkipNodeUpdate=True),
    put("/v1/catalog/register", {"Node": "gamma", "Address": "1"}),
    put("/v1/catalog/register", {"Node": "gamma", "Address": "1", "NodeMeta": {"a": "1"}}),
    put("/v1/catalog/register", {"Node": "none", "Address": "1"}),
    _register(Service=_WEB),
    _register(Service={**_WEB, "Port": 81}),
    _register(Service={**_WEB, "Tags": ["zz"]}),
    _register(Service={**_WEB, "Service": "renamed", "ID": "web"}),
    _register(Service={"Service": "none"}),
    _register(Service={"Service": "db"}),
    _register(Service={"Service": "web", "Connect": {"Native": True}}),
    put("/v1/catalog/register", {"Node": "gamma", "Address": "1", "Service": {"Service": "web"}}),
    _check("passing"),
    _check("critical"),
    _check("passing", Output="new"),
    _register(Check={"Name": "new", "Status": "passing"}),
    _register(Check={"Name": "n1c", "Status": "critical"}),
    _register(Check={"Name": "n1c", "Status": "warning"}),
    _register(Check={"Name": "x", "Status": "passing", "ServiceID": "nope"}),
    put("/v1/catalog/deregister", {"Node": "alpha", "ServiceID": "web"}),
    put("/v1/catalog/deregister", {"Node": "alpha", "ServiceID": "db"}),
    put("/v1/catalog/deregister", {"Node": "alpha", "CheckID": "c1"}),
    put("/v1/catalog/deregister", {"Node": "alpha", "CheckID": "n1c"}),
    put("/v1/catalog/deregister", {"Node": "alpha"}),
    put("/v1/catalog/deregister", {"Node": "beta"}),
    put("/v1/catalog/deregister", {"Node": "nobody"}),
    put("/v1/catalog/deregister", {"Node": "alpha", "ServiceID": "nope"}),
    put("/v1/catalog/deregister", {"Node": "alpha", "CheckID": "nope"}),
    put("/v1/txn", [{"KV": {"Verb": "set", "Key": "w/a", "Value": "eA=="}}]),
    put("/v1/txn", [{"KV": {"Verb": "delete", "Key": "w/a"}}]),
    put(
        "/v1/txn",
        [{"KV": {"Verb": "set", "Key": "w/a"}}, {"KV": {"Verb": "check-index", "Key": "w/a", "Index": 1}}],
    ),
    put("/v1/txn", [{"Node": {"Verb": "set", "Node": {"Node": "gamma", "Address": "1"}}}]),
    put("/v1/txn", [{"Service": {"Verb": "delete", "Node": "alpha", "Service": {"ID": "web"}}}]),
    put("/v1/txn", [{"Session": {"Verb": "delete", "Session": {"ID": "${s1}"}}}]),
    put("/v1/txn", [{"Check": {"Verb": "delete", "Check": {"Node": "alpha", "CheckID": "c1"}}}]),
    put("/v1/agent/service/register", {"Name": "web", "ID": "mine"}),
    put("/v1/agent/maintenance?enable=true"),
    put("/v1/query", {"Service": {"Service": "web"}}),
    put("/v1/event/fire/x"),
)


def compare(pair: Pair) -> Iterator[str]:
    """A line for each query that only one side woke, or that came back with another index."""
    for write in WRITES:
        theirs, ours = pair.both(lambda side, write=write: _watched(side, write))  # type: ignore[misc]
        for target, left in theirs.items():
            right = ours[target]
            if left != right:
                yield f"wakes: {write}\n  {target}\n    theirs: {left}\n    ours:   {right}"


def _watched(side: Side, write: Step) -> dict[str, str]:
    """What came of every query while `write` was done."""
    side.begin()
    for query in side.json("/v1/query") or ():
        side.ask(delete(f"/v1/query/{query['ID']}"))
    for step in SETUP:
        side.ask(step)
    with ThreadPoolExecutor(len(WATCHED)) as pool:
        begun = Semaphore(0)
        waiting = {target: pool.submit(_wait, side, target, begun) for target in WATCHED}
        for _ in WATCHED:
            begun.acquire()
        time.sleep(SETTLE)
        side.ask(write)
        return {target: future.result() for target, future in waiting.items()}


def _wait(side: Side, target: str, begun: Semaphore) -> str:
    """Whether a query was woken. What one that slept comes back with is the agent's own business."""
    own = Side(side.name, side.address)
    own.known = dict(side.known)
    before = own.ask(Step("GET", target)).header("X-Consul-Index")
    begun.release()
    asked = time.monotonic()
    joint = "&" if "?" in target else "?"
    answer = own.ask(Step("GET", f"{target}{joint}index={before}&wait={WAIT}s"))
    slept = time.monotonic() - asked >= WAIT
    after = before if slept else answer.header("X-Consul-Index")
    shown = [relative(int(value or 0), side.base) for value in (before, after)]
    return json.dumps(["slept" if slept else f"woke {answer.status}", *shown])
