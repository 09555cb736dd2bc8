"""Scenarios by chance: the same seed gives the same ones. Small pools of names, so that operations meet."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.compare.steps import Scenario, Step, delete, get, put

KEYS = (
    *(
        "a",
        "a/b",
        "a/b/c",
        "a/",
        "b",
        "dir/x",
        "dir/y",
        "dir/sub/z",
        "",
        "k%20ey",
        "sl%2Fash",
        "%C3%A9",
        "%FF",
    ),
    *(
        "p+lus",
        "q%3Fq",
        "a%00b",
        "a%0Ab",
        "x//y",
        "x/./y",
        "x/../y",
        "se;mi",
        "k=v",
        "k&v",
        "%22q%22",
        "<b>",
        "%zz",
    ),
)
NAMES = ("web", "db", "Web", "web-1", "no_dns")
NODES = ("n1", "alpha", "Alpha", "beta", "")
UUIDS = ("", "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", "short")
CHECK_IDS = ("c1", "c2", "service:web", "serfHealth", "")
STATES = ("passing", "warning", "critical", "", "odd", "maintenance")
NUMBERS = ("0", "1", "2", "", "x", "-1", "18446744073709551615", "18446744073709551616", "${mark}")
READS = (
    *("", "", "", "?pretty", "?stale", "?consistent", "?stale&consistent", "?cached", "?cached&consistent"),
    *(
        "?index=1&wait=5ms",
        "?index=999999&wait=5ms",
        "?index=x",
        "?index=-1",
        "?wait=5",
        "?wait=x",
        "?wait=-5s&index=1",
    ),
    *(
        "?dc=dc1",
        "?dc=nowhere",
        "?dc=",
        "?max_stale=10s",
        "?max_stale=x",
        "?near=n1",
        "?near=_agent",
        "?near=nope",
    ),
    *(
        "?node-meta=a:1",
        "?node-meta=a",
        "?node-meta=a:1&node-meta=b:2",
        "?filter=%zz",
        "?a;b",
        "?ns=x",
        "?index=0&wait=1s",
    ),
)
SWITCHES = (
    "",
    "?enable=true&reason=r",
    "?enable=true",
    "?enable=false",
    "?enable=0",
    "?enable=",
    "?enable=x",
)
FILTERS = (
    "Node==alpha",
    "Service==web",
    "a in Tags",
    "Meta.a is empty",
    "Port==80",
    "Status==passing",
    "x==",
)


def scenarios(seed: int, count: int) -> Iterator[Scenario]:
    """As many scenarios as asked for, each by a seed of its own: `number` alone makes it again."""
    areas = (kv_step, session_step, txn_step, catalog_step, agent_step)
    for number in range(seed, seed + count):
        chance = random.Random(number)
        chosen = chance.sample(areas, chance.choice((1, 1, 2, 5)))
        steps: list[Step] = []
        for _ in range(chance.randint(8, 25)):
            steps.append(chance.choice(chosen)(chance, f"r{number}/"))
        yield Scenario(f"chance {number}", [*steps, *observed(f"r{number}/")], chained=True)


def observed(prefix: str) -> list[Step]:
    """All that the steps before can have left."""
    paths = [f"/v1/kv/{prefix}?recurse", "/v1/session/list", "/v1/catalog/nodes", "/v1/catalog/services"]
    paths += ["/v1/health/state/any", "/v1/agent/services", "/v1/agent/checks"]
    paths += [f"/v1/catalog/node/{node}" for node in NODES if node]
    paths += [f"/v1/health/service/{name}" for name in NAMES]
    return [get(path) for path in paths]


def _maybe(
    chance: random.Random, fields: dict[str, Callable[[], Any]], often: float = 0.35
) -> dict[str, Any]:
    return {name: make() for name, make in fields.items() if chance.random() < often}


def kv_step(chance: random.Random, prefix: str) -> Step:
    pick, key = chance.choice, f"/v1/kv/{prefix}{chance.choice(KEYS)}"
    verb = pick(("GET", "GET", "PUT", "PUT", "PUT", "DELETE"))
    if verb == "GET":
        words = ["raw", "recurse", "keys", "separator=/", "separator=", "separator=b", "stale", "consistent"]
        words += [
            "pretty",
            "index=1&wait=5ms",
            "keys&separator=/",
            "recurse&keys",
            "recurse&raw",
            "cached",
            "dc=dc1",
        ]
        params = chance.sample(words, pick((0, 1, 1, 2)))
        return get(key + "?" * bool(params) + "&".join(params), saves=pick(("", "index:mark")))
    if verb == "DELETE":
        return delete(
            key + pick(("", "", "?recurse", f"?cas={pick(NUMBERS)}", "?recurse&cas=1", "?recurse=false"))
        )
    words = [
        f"flags={pick(NUMBERS)}",
        f"cas={pick(NUMBERS)}",
        "acquire=${s1}",
        "release=${s1}",
        "acquire=${s2}",
    ]
    words += ["acquire=" + pick(UUIDS), "release=" + pick(UUIDS), "dc=nowhere", "other", "flags=7"]
    params = chance.sample(words, pick((0, 0, 1, 1, 2)))
    body = pick((b"", b"one", b"two", b"\x00\xff", "ü".encode(), b"x" * 600, b'{"a": 1}'))
    return put(key + "?" * bool(params) + "&".join(params), body)


def session_step(chance: random.Random, prefix: str) -> Step:
    pick = chance.choice
    if chance.random() < 0.5:
        body = _maybe(
            chance,
            {
                "Node": lambda: pick(NODES),
                "Name": lambda: pick(("lock", "", "ü")),
                "LockDelay": lambda: pick(
                    ("0s", "15s", 5, 0, 999, 1000, "1ms", "x", 2000000000, "-5s", 1.5, None, "70s")
                ),
                "Behavior": lambda: pick(("release", "delete", "", "odd")),
                "TTL": lambda: pick(("10s", "24h", "9s", "25h", "x", "0", "0s", "", "1m30s", "-10s", "20")),
                "Checks": lambda: pick(([], ["serfHealth"], ["c1"], ["nope"], None, ["serfHealth", "c1"])),
                "NodeChecks": lambda: pick(([], ["serfHealth"], ["c1"], ["nope"], None)),
                "ServiceChecks": lambda: pick(
                    ([], [{"ID": "c1"}], [{"ID": "service:web"}], None, [{"ID": "nope"}])
                ),
                "Extra": lambda: 1,
            },
            0.25,
        )
        return put("/v1/session/create", body if chance.random() < 0.8 else b"", saves=pick(("s1", "s2")))
    session = pick(("${s1}", "${s2}", *UUIDS))
    return pick(
        (
            put(f"/v1/session/destroy/{session}"),
            put(f"/v1/session/renew/{session}"),
            get(f"/v1/session/info/{session}{pick(READS)}"),
            get(f"/v1/session/node/{pick(NODES)}{pick(READS)}"),
            get(f"/v1/session/list{pick(READS)}"),
        )
    )


def _kv_op(chance: random.Random, prefix: str) -> dict[str, Any]:
    pick = chance.choice
    verbs = (
        "set",
        "cas",
        "lock",
        "unlock",
        "get",
        "get-tree",
        "check-index",
        "check-session",
        "check-not-exists",
    )
    return {
        "Verb": pick((*verbs, "delete", "delete-tree", "delete-cas", "odd", "")),
        "Key": pick(("", prefix + "a", prefix + "a/b", prefix + "new", prefix)),
        **_maybe(
            chance,
            {
                "Value": lambda: pick(("", "b25l", "dHdv", None)),
                "Flags": lambda: pick((0, 7, 18446744073709551615)),
                "Index": lambda: pick((0, 1, 999999)),
                "Session": lambda: pick(("${s1}", *UUIDS)),
            },
        ),
    }


def txn_step(chance: random.Random, prefix: str) -> Step:
    pick = chance.choice
    verbs = ("set", "cas", "get", "delete", "delete-cas", "odd", "")

    def operation() -> dict[str, Any]:
        kind = pick(("KV", "KV", "KV", "Node", "Service", "Check", "Session", "Odd"))
        if kind == "KV":
            return {"KV": _kv_op(chance, prefix)}
        if kind == "Node":
            return {"Node": {"Verb": pick(verbs), "Node": _node(chance)}}
        if kind == "Service":
            return {"Service": {"Verb": pick(verbs), "Node": pick(NODES), "Service": _service(chance)}}
        if kind == "Check":
            return {"Check": {"Verb": pick(verbs), "Check": _check(chance)}}
        if kind == "Session":
            return {
                "Session": {"Verb": pick(("delete", "odd", "")), "Session": {"ID": pick(("${s1}", *UUIDS))}}
            }
        return pick(
            ({}, {"KV": None}, {"KV": _kv_op(chance, prefix), "Node": {"Verb": "get", "Node": _node(chance)}})
        )

    body = [operation() for _ in range(pick((0, 1, 1, 1, 2, 3)))]
    return put("/v1/txn" + pick(("", "", "", "?stale", "?consistent", "?pretty", "?dc=nowhere")), body)


def _node(chance: random.Random) -> dict[str, Any]:
    pick = chance.choice
    fields: dict[str, Callable[[], Any]] = {
        "ID": lambda: pick(UUIDS),
        "Meta": lambda: pick(({}, {"a": "1"}, None)),
        "TaggedAddresses": lambda: {"lan": "10.0.0.9"},
        "Datacenter": lambda: pick(("dc1", "nowhere")),
        "ModifyIndex": lambda: pick((0, 1)),
    }
    return {"Node": pick(NODES), "Address": pick(("10.0.0.1", "", "host.name")), **_maybe(chance, fields)}


def _service(chance: random.Random) -> dict[str, Any]:
    pick = chance.choice
    fields: dict[str, Callable[[], Any]] = {
        "ID": lambda: pick(("web", "web-1", "db", "")),
        "Tags": lambda: pick((["a"], ["a", "b"], [], None)),
        "Port": lambda: pick((0, 80, 8080, -1, 70000)),
        "Address": lambda: pick(("10.1.1.1", "", "host")),
        "Meta": lambda: pick(({"a": "1"}, {}, None)),
        "Weights": lambda: pick(
            ({"Passing": 1, "Warning": 1}, {"Passing": 0}, {}, None, {"Passing": 5, "Warning": 0})
        ),
        "TaggedAddresses": lambda: {"wan": {"Address": "1.2.3.4", "Port": 9}},
        "EnableTagOverride": lambda: pick((True, False)),
        "Kind": lambda: pick(("", "odd")),
        "Proxy": lambda: pick(({}, {"DestinationServiceName": "db"})),
        "Connect": lambda: pick(({}, {"Native": True})),
    }
    return {"Service": pick((*NAMES, "")), **_maybe(chance, fields, 0.25)}


def _check(chance: random.Random) -> dict[str, Any]:
    pick = chance.choice
    fields: dict[str, Callable[[], Any]] = {
        "Node": lambda: pick(NODES),
        "CheckID": lambda: pick(CHECK_IDS),
        "Status": lambda: pick(STATES),
        "ServiceID": lambda: pick(("web", "db", "nope", "")),
        "ServiceName": lambda: pick(NAMES),
        "Notes": lambda: "n",
        "Output": lambda: pick(("o", "")),
        "Definition": lambda: pick(
            ({}, {"HTTP": "http://x", "Interval": "10s"}, {"TCP": "x:1", "Timeout": 5}, {"Interval": "x"})
        ),
        "ServiceTags": lambda: ["t"],
        "Type": lambda: "ttl",
    }
    return {"Name": pick(("c1", "", "c2")), **_maybe(chance, fields)}


def catalog_step(chance: random.Random, prefix: str) -> Step:
    pick, roll = chance.choice, chance.random()
    if roll < 0.4:
        node = _node(chance)
        body: dict[str, Any] = {
            "NodeMeta" if name == "Meta" else name: node[name] for name in node if name != "ModifyIndex"
        }
        fields: dict[str, Callable[[], Any]] = {
            "Service": lambda: pick((_service(chance), _service(chance), None)),
            "Check": lambda: pick((_check(chance), None)),
            "Checks": lambda: [_check(chance) for _ in range(pick((0, 1, 2)))],
            "SkipNodeUpdate": lambda: pick((True, False)),
        }
        return put("/v1/catalog/register", {**body, **_maybe(chance, fields)})
    if roll < 0.55:
        fields = {
            "ServiceID": lambda: pick(NAMES),
            "CheckID": lambda: pick(CHECK_IDS),
            "Datacenter": lambda: pick(("dc1", "x")),
        }
        node_name = pick([name for name in NODES if name != "n1"])
        return put("/v1/catalog/deregister", {"Node": node_name, **_maybe(chance, fields)})
    name = pick(NAMES)
    paths = ("catalog/nodes", "catalog/services", f"catalog/service/{name}", f"catalog/node/{pick(NODES)}")
    paths += (f"catalog/node-services/{pick(NODES)}", f"catalog/connect/{name}", f"health/service/{name}")
    paths += (f"health/checks/{name}", f"health/node/{pick(NODES)}", f"health/state/{pick((*STATES, 'any'))}")
    paths += (f"health/connect/{name}", "catalog/datacenters", "coordinate/nodes")
    extras = (
        *READS,
        "?tag=a",
        "?tag=a&tag=b",
        "?tag=",
        "?passing",
        "?passing=false",
        "?passing=x",
        "?passing=1",
    )
    extras += tuple(f"?filter={expression.replace(' ', '+')}" for expression in FILTERS)
    return get(f"/v1/{pick(paths)}{pick(extras)}")


def _definition(chance: random.Random) -> dict[str, Any]:
    pick = chance.choice
    kind = pick(
        (
            {"TTL": "1h"},
            {"ttl": "30m"},
            {"TTL": "1h", "Interval": "5s"},
            {"AliasService": "web"},
            {},
            {"HTTP": "http://x"},
        )
    )
    fields: dict[str, Callable[[], Any]] = {
        "Name": lambda: pick(("c1", "chk", "")),
        "ID": lambda: pick(("c1", "c2")),
        "CheckID": lambda: pick(("c1", "c3")),
        "Notes": lambda: "note",
        "Status": lambda: pick(STATES),
        "ServiceID": lambda: pick(("web", "nope", "")),
        "service_id": lambda: "web",
        "DeregisterCriticalServiceAfter": lambda: pick(("1h", "10s", "x", 5)),
        "deregister_critical_service_after": lambda: "2h",
        "SuccessBeforePassing": lambda: pick((0, 3)),
        "OutputMaxSize": lambda: pick((-1, 0, 100)),
    }
    return {**kind, **_maybe(chance, fields, 0.3)}


def agent_step(chance: random.Random, prefix: str) -> Step:
    pick, roll = chance.choice, chance.random()
    name = pick(NAMES)
    if roll < 0.25:
        service = _service(chance)
        service["Name"] = service.pop("Service")
        fields: dict[str, Callable[[], Any]] = {
            "Check": lambda: _definition(chance),
            "Checks": lambda: [_definition(chance) for _ in range(pick((0, 1, 2)))],
            "tagged_addresses": lambda: {"lan": {"address": "1.1.1.1", "port": 7}},
            "enable_tag_override": lambda: True,
        }
        extra = pick(
            ("", "", "?replace-existing-checks", "?replace-existing-checks=false", "?ns=x", "?token=t")
        )
        return put(f"/v1/agent/service/register{extra}", {**service, **_maybe(chance, fields, 0.3)})
    if roll < 0.4:
        return put("/v1/agent/check/register", _definition(chance))
    check = pick(CHECK_IDS).replace("serfHealth", "c3")
    status = {"Status": pick(STATES), "Output": pick(("", "out"))}
    return pick(
        (
            put(f"/v1/agent/check/{pick(('pass', 'warn', 'fail'))}/{check}{pick(('', '?note=n', '?note='))}"),
            put(f"/v1/agent/check/update/{check}", status),
            put(f"/v1/agent/check/deregister/{check}"),
            put(f"/v1/agent/service/deregister/{name}"),
            put(f"/v1/agent/service/maintenance/{name}{pick(SWITCHES)}"),
            put(f"/v1/agent/maintenance{pick(SWITCHES)}"),
            get(f"/v1/agent/service/{name}"),
            get(f"/v1/agent/services{pick(('', '?filter=Port==80', '?filter=x', '?pretty'))}"),
            get(f"/v1/agent/checks{pick(('', '?filter=Status==passing', '?filter=Odd==1'))}"),
            get(f"/v1/agent/health/service/name/{name}{pick(('', '?format=text', '?format=x'))}"),
            get(f"/v1/agent/health/service/id/{name}{pick(('', '?format=text'))}", headers=_accept(chance)),
        )
    )


def _accept(chance: random.Random) -> tuple[tuple[str, str], ...]:
    return chance.choice(((), (("Accept", "text/plain"),), (("Accept", "application/json"),)))


def described(step: Step) -> str:
    """A step as one line of JSON, to tell scenarios apart."""
    return json.dumps([step.method, step.target, step.body.decode("latin-1"), step.headers])
