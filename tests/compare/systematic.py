"""Scenarios that leave nothing to chance: every wrong type in every field, every method on every path."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.compare.steps import Scenario, Step, delete, get, put

ASKED = json.loads(Path(__file__).with_name("asked.json").read_text())
WRONG: tuple[Any, ...] = ("text", 7, -1, 1.5, 1e300, True, None, [], ["x"], [1], {}, {"a": "b"}, {"a": 1})
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "FOO")


def all_of() -> Iterator[Scenario]:
    """Every scenario, in the order of what they ask."""
    yield from methods()
    yield from wrong_types()
    yield from malformed()
    yield from kv_bodies()
    yield from txns()
    yield from transports()
    yield from filters()
    yield from registrations()
    yield from events()


def methods() -> Iterator[Scenario]:
    for path in ASKED["paths"]:
        steps = []
        for method in METHODS:
            if path.startswith("/v1/agent/join/") and method == "PUT":
                continue
            steps.append(Step(method, path))
        yield Scenario(f"methods {path}", steps)


def wrong_types() -> Iterator[Scenario]:
    for path, fields in ASKED["bodies"].items():
        for trail in _trails(fields):
            steps = [put(path, _with(fields, trail, value)) for value in WRONG]
            yield Scenario(f"types {path} {'.'.join(map(str, trail))}", steps)
        yield Scenario(
            f"types {path} letter case",
            [put(path, _cased(fields, change)) for change in (str.lower, str.upper)],
        )
    for fields in ASKED["operations"]:
        for trail in _trails(fields):
            steps = [put("/v1/txn", [_with(fields, trail, value)]) for value in WRONG]
            yield Scenario(f"types /v1/txn {'.'.join(map(str, trail))}", steps)


def _trails(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*before, key)
        yield from _trails(item, (*before, key))


def _with(value: Any, trail: tuple[Any, ...], new: Any) -> Any:
    if not trail:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[trail[0]] = _with(value[trail[0]], trail[1:], new)
    return copy


def _cased(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {change(key): _cased(item, change) for key, item in value.items()}
    return [_cased(item, change) for item in value] if isinstance(value, list) else value


def malformed() -> Iterator[Scenario]:
    for path in (*ASKED["bodies"], "/v1/txn"):
        bodies = [text.encode() for text in (*ASKED["malformed"], "{" * 50, "[" * 12000)] + [
            b'{"Node": "\xff"}',
            b"\xff",
            b'{"Name": "\xc3"}',
        ]
        yield Scenario(f"malformed {path}", [put(path, body) for body in bodies])


def kv_bodies() -> Iterator[Scenario]:
    sizes = (0, 1, 511, 512, 1399, 1400, 1401, 4096, 524287, 524288, 524289, 600000, 2000000)
    for size in sizes:
        steps = [put("/v1/kv/big/x", b"x" * size), get("/v1/kv/big/x?raw"), get("/v1/kv/big/x")]
        steps += [put("/v1/kv/big/x?cas=0", b"y" * size), put("/v1/txn", _set_of(size))]
        yield Scenario(f"value of {size} bytes", steps)
    for path in ASKED["bodies"]:
        yield Scenario(
            f"long body {path}", [put(path, b" " * size + b"{}") for size in (524288, 1048577, 3000000)]
        )
    keys = ["k" * length for length in (255, 511, 512, 513, 4000)]
    yield Scenario(
        "long keys", [step for key in keys for step in (put(f"/v1/kv/{key}", b"x"), get(f"/v1/kv/{key}"))]
    )


def _set_of(size: int) -> list[dict[str, Any]]:
    return [{"KV": {"Verb": "set", "Key": "big/y", "Value": base64.b64encode(b"x" * size).decode()}}]


def txns() -> Iterator[Scenario]:
    for count in (0, 1, 63, 64, 65, 128):
        operations = [{"KV": {"Verb": "set", "Key": f"t/{number}", "Value": ""}} for number in range(count)]
        reads = [{"KV": {"Verb": "get", "Key": f"t/{number}"}} for number in range(count)]
        yield Scenario(
            f"txn of {count}", [put("/v1/txn", operations), put("/v1/txn", reads), get("/v1/kv/t/?recurse")]
        )
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
    for verb in (*verbs, "delete", "delete-tree", "delete-cas", "nope", "SET"):
        for existing in (True, False):
            steps = [put("/v1/session/create", {"Name": "s"}, saves="s1")]
            steps += [put("/v1/kv/t/k", b"old")] if existing else []
            for more in (
                {},
                {"Index": 1},
                {"Session": "${s1}"},
                {"Session": "x"},
                {"Value": "bmV3", "Flags": 3},
            ):
                steps.append(put("/v1/txn", [{"KV": {"Verb": verb, "Key": "t/k", **more}}]))
                steps.append(get("/v1/kv/t/?recurse"))
            yield Scenario(f"txn {verb} {existing}", steps)


def transports() -> Iterator[Scenario]:
    yield Scenario(
        "gzip",
        [put("/v1/kv/g/a", b"x" * 5000)]
        + [
            get(path, headers=(("Accept-Encoding", value),))
            for path in ("/v1/kv/g/a", "/v1/kv/g/a?raw", "/v1/kv/g/b", "/v1/agent/members")
            for value in (
                "gzip",
                "gzip, deflate",
                "deflate",
                "identity",
                "*",
                "gzip;q=0",
                "gzip;q=0.5",
                "GZIP",
                "br",
                "",
                "gzip;q=x",
            )
        ],
    )
    yield Scenario(
        "accept", [get("/v1/kv/", headers=(("Accept", "text/html"),)), get("/", headers=(("Accept", "*/*"),))]
    )
    yield Scenario(
        "tokens",
        [
            get("/v1/kv/a", headers=(("X-Consul-Token", "x"),)),
            get("/v1/kv/a?token=x"),
            get("/v1/kv/a?token="),
        ],
    )
    for name, raw in ASKED["raw"].items():
        yield Scenario(f"raw {name}", [Step("", "", raw=raw.encode("latin-1")), get("/v1/kv/raw?recurse")])


def filters() -> Iterator[Scenario]:
    node = {"Node": "alpha", "Address": "10.0.0.1", "NodeMeta": {"a": "1"}, "TaggedAddresses": {"lan": "a"}}
    check = {"Name": "a", "Status": "passing", "ServiceID": "web", "Definition": {"HTTP": "a"}}
    service = {"Service": "web", "Tags": ["a", "b"], "Port": 80, "Meta": {"a": "1"}}
    ready = [put("/v1/catalog/register", {**node, "Service": service, "Check": check})]
    ready.append(
        put("/v1/agent/service/register", {"Name": "web", "Port": 80, "Tags": ["a"], "Check": {"TTL": "1h"}})
    )
    for path, selectors in ASKED["selectors"].items():
        for selector in selectors:
            forms = [f"{selector} {test}" for test in ASKED["tests"]] + [
                f"a in {selector}",
                f"a not in {selector}",
            ]
            yield Scenario(
                f"filter {path} {selector}",
                [*ready, *(get(f"{path}?filter={_quoted(form)}") for form in forms)],
            )
        yield Scenario(
            f"filter {path}",
            [
                *ready,
                *(
                    get(f"{path}?filter={_quoted(form)}")
                    for form in (*ASKED["expressions"], "Node == " + "x" * 300)
                ),
            ],
        )


def _quoted(text: str) -> str:
    return "".join(
        c if c.isalnum() and c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in text
    )


def registrations() -> Iterator[Scenario]:
    for number, definition in enumerate((*ASKED["services"], *_beyond())):
        steps = [
            put("/v1/agent/service/register", definition),
            get("/v1/agent/services"),
            get("/v1/agent/checks"),
        ]
        steps += [
            get("/v1/agent/service/web"),
            get("/v1/agent/health/service/name/web"),
            get("/v1/agent/health/service/id/web"),
        ]
        steps += [get("/v1/catalog/node/n1"), get("/v1/health/node/n1"), get("/v1/catalog/service/web")]
        again = put("/v1/agent/service/register?replace-existing-checks=true", {"Name": "web", "Port": 81})
        yield Scenario(f"service {number}: {json.dumps(definition)[:80]}", [*steps, again, *steps[1:]])
    yield from _checks()


def _beyond() -> Iterator[dict[str, Any]]:
    """Services beyond what there may be."""
    yield {"Name": "w" * 300}
    yield {"Name": "web", "Meta": {"a": "y" * 513}}
    yield {"Name": "web", "Meta": {str(number): "" for number in range(65)}}


def _checks() -> Iterator[Scenario]:
    for kind in ASKED["checks"]:
        for more in ({"Name": "chk"}, {}, {"ID": "chk"}, {"Name": "chk", "Status": "passing", "Notes": "n"}):
            steps = [
                put("/v1/agent/check/register", {**kind, **more}),
                get("/v1/agent/checks"),
                get("/v1/health/node/n1"),
            ]
            steps += [put(f"/v1/agent/check/{verb}/chk?note=x") for verb in ("warn", "pass", "fail")]
            update = {"Status": "warning", "Output": "o" * 5000}
            steps += [
                put("/v1/agent/check/update/chk", update),
                get("/v1/agent/checks"),
                delete("/v1/agent/checks"),
            ]
            yield Scenario(f"check {json.dumps({**kind, **more})}", steps)


def events() -> Iterator[Scenario]:
    names = ("deploy", "a/b", "ü", "", "x" * 300, "_rexec")
    steps = [
        put(f"/v1/event/fire/{name}{more}")
        for name in names
        for more in ("", "?node=n1", "?node=(", "?tag=a", "?service=web&tag=a")
    ]
    steps += [put("/v1/event/fire/big", b"x" * size) for size in (100, 400, 512, 513, 600)]
    steps += [
        get(f"/v1/event/list{more}")
        for more in ("?name=deploy", "?name=nope", "?node=n1&name=nope", "?index=x", "?wait=x")
    ]
    yield Scenario("events", [get("/v1/event/list"), *steps])
