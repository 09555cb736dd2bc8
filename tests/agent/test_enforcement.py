"""A real server with ACLs that denies by default: what every route says to nobody, what the agent itself
judges, DNS, the agent's own registrations, and what the log shows."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from core.api.table import ROUTES
from tests.harness import Agent, Response, until

MASTER = "11111111-2222-3333-4444-555555555555"
NOBODY = "99999999-9999-9999-9999-999999999999"
NODE = "guarded"
CONFIG = {
    "node_name": NODE,
    "log_level": "DEBUG",
    "acl": {
        "enabled": True,
        "default_policy": "deny",
        "tokens": {"initial_management": MASTER, "agent": MASTER},
    },
}
_numbers = count(1)


class Guarded:
    """The agent, and tokens made for it."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._tokens: dict[str, str] = {}

    def send(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> Response:
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body)
        return self.agent.http(method, path, raw, {"X-Consul-Token": token} | headers, timeout=5.0)

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.send(method, path, body, MASTER)
        assert answer.status == 200, f"{method} {path}: {answer.status} {answer.text}"
        return answer.json() if answer.body else None

    def make(self, rules: str) -> dict[str, Any]:
        """A new token with these rules."""
        name = f"p{next(_numbers)}"
        policy = self.ok("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        token: dict[str, Any] = self.ok("PUT", "/v1/acl/token", {"Policies": [{"ID": policy["ID"]}]})
        return token

    def token(self, rules: str) -> str:
        """The secret of a token with these rules; "" for no rules at all."""
        if rules and rules not in self._tokens:
            self._tokens[rules] = self.make(rules)["SecretID"]
        return self._tokens.get(rules, "")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with Agent(tmp_path_factory.mktemp("guarded"), config=CONFIG, token=MASTER) as agent:
        made = Guarded(agent)
        fill(made)
        yield made


SESSION = ""


def fill(guarded: Guarded) -> None:
    """Something of everything, so that there is something to be hidden."""
    put = guarded.ok
    put("PUT", "/v1/kv/k", b"v")
    put("PUT", "/v1/agent/service/register", {"Name": "web", "Port": 80, "Check": {"TTL": "1h"}})
    put("PUT", "/v1/agent/check/register", {"Name": "own", "TTL": "1h"})
    put("PUT", "/v1/catalog/register", {"Node": "far", "Address": "10.0.0.9", "Service": {"Service": "db"}})
    put("PUT", "/v1/session/create", {"Node": "far", "Name": "s", "NodeChecks": []})
    put("PUT", "/v1/event/fire/e", b"x")
    put("POST", "/v1/query", {"Name": "q", "Service": {"Service": "web"}})
    put("PUT", "/v1/config", {"Kind": "service-defaults", "Name": "web", "Protocol": "http"})
    until("all is synced", lambda: len(guarded.ok("GET", "/v1/health/service/web?passing=0")) == 1)
    until("the event is here", lambda: guarded.ok("GET", "/v1/event/list"))


# --- every route --------------------------------------------------------------------------------------

# What goes behind routes that end in `/`, and bodies and queries with which they come as far as to ask.
REST: dict[str, str] = {
    "/v1/kv/": "k",
    "/v1/session/info/": "{session}",
    "/v1/session/renew/": "{session}",
    "/v1/session/destroy/": "{session}",
    "/v1/session/node/": "far",
    "/v1/catalog/node/": "far",
    "/v1/catalog/node-services/": "far",
    "/v1/health/node/": "far",
    "/v1/health/state/": "any",
    "/v1/coordinate/node/": NODE,
    "/v1/query/": "{query}",
    "/v1/agent/check/deregister/": "own",
    "/v1/agent/check/pass/": "own",
    "/v1/agent/check/warn/": "own",
    "/v1/agent/check/fail/": "own",
    "/v1/agent/check/update/": "own",
    "/v1/agent/token/": "default",
    "/v1/agent/join/": "127.0.0.1",
    "/v1/agent/service/maintenance/": "web?enable=true",
    "/v1/acl/token/": "{accessor}",
    "/v1/acl/policy/": "00000000-0000-0000-0000-000000000001",
    "/v1/acl/policy/name/": "global-management",
    "/v1/acl/info/": NOBODY,
    "/v1/acl/rules/translate/": "{accessor}",
    "/v1/config/": "service-defaults/web",
    "/v1/acl/templated-policy/name/": "builtin/service",
    "/v1/acl/templated-policy/preview/": "builtin/service",
    "/debug/pprof/": "heap",
    "/v1/acl/role/": NOBODY,
    "/v1/acl/binding-rule/": NOBODY,
    "/v1/acl/auth-method/": "x",
    "/v1/acl/clone/": NOBODY,
    "/v1/acl/destroy/": NOBODY,
    "/v1/ctl/changes": "?since=0&once",
    "/v1/operator/raft/peer": "?id=x",
    "/v1/agent/maintenance": "?enable=true",
    "/v1/connect/intentions/exact": "?source=a&destination=b",
    "/v1/connect/intentions/match": "?by=source&name=a",
    "/v1/connect/intentions/check": "?source=a&destination=b",
    "/v1/connect/intentions/": NOBODY,
    "/v1/internal/acl/why": "?resource=key&name=k&access=read",
}
BODIES: dict[str, Any] = {
    "PUT /v1/txn": [{"KV": {"Verb": "set", "Key": "k", "Value": "eA=="}}],
    "PUT /v1/session/create": {"Node": "far"},
    "PUT /v1/catalog/register": {"Node": "far", "Address": "10.0.0.1"},
    "PUT /v1/catalog/deregister": {"Node": "far"},
    "PUT /v1/agent/service/register": {"Name": "web"},
    "PUT /v1/agent/check/register": {"Name": "own", "TTL": "1m"},
    "PUT /v1/agent/check/update/": {"Status": "passing"},
    "PUT /v1/agent/token/": {"Token": "x"},
    "PUT /v1/coordinate/update": {"Node": NODE, "Coord": {"Vec": [0.0] * 8}},
    "POST /v1/query": {"Name": "new", "Service": {"Service": "web"}},
    "PUT /v1/query/": {"Name": "q", "Service": {"Service": "web"}},
    "PUT /v1/config": {"Kind": "service-defaults", "Name": "web"},
    "POST /v1/operator/keyring": {"Key": "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="},
    "PUT /v1/operator/keyring": {"Key": "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="},
    "DELETE /v1/operator/keyring": {"Key": "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="},
    "PUT /v1/operator/autopilot/configuration": {"CleanupDeadServers": True},
    "PUT /v1/acl/token": {},
    "PUT /v1/acl/token/": {"Description": "x"},
    "PUT /v1/acl/policy": {"Name": "x"},
    "PUT /v1/acl/policy/": {"Name": "x"},
    "PUT /v1/acl/role": {"Name": "x", "ServiceIdentities": [{"ServiceName": "a"}]},
    "PUT /v1/acl/role/": {"Name": "x"},
    "PUT /v1/acl/auth-method": {"Name": "x", "Type": "jwt"},
    "PUT /v1/acl/auth-method/": {"Name": "x", "Type": "jwt"},
    "PUT /v1/acl/binding-rule": {"AuthMethod": "x", "BindType": "service", "BindName": "a"},
    "PUT /v1/acl/binding-rule/": {"BindType": "service", "BindName": "a"},
    "PUT /v1/acl/create": {"Name": "x", "Type": "client"},
    "PUT /v1/acl/update": {"ID": NOBODY, "Name": "x", "Type": "client"},
    "PUT /v1/ctl/exec/": {"Nodes": ["far"]},
    "POST /v1/acl/rules/translate": b'key "" { policy = "read" }',
    "POST /v1/acl/templated-policy/preview/": {"Name": "a"},
    "POST /v1/connect/intentions": {"SourceName": "a", "DestinationName": "b", "Action": "allow"},
    "PUT /v1/connect/intentions/exact": {"Action": "allow"},
}
# What anybody may ask, and gets more than nothing.
OPEN = {
    *(f"{method} /" for method in ("GET", "PUT", "POST", "DELETE")),  # two words about the agent
    "GET /ui/",
    "GET /v1/agent/version",
    "GET /v1/status/leader",
    "GET /v1/status/peers",
    "GET /v1/catalog/datacenters",
    "GET /v1/coordinate/datacenters",
    "GET /v1/acl/replication",
    "PUT /v1/acl/bootstrap",  # refused once it was done, for other reasons than rights
    "POST /v1/acl/login",
    "POST /v1/acl/logout",
    "GET /v1/acl/info/",  # of a token whose secret one has
    "POST /v1/internal/acl/authorize",  # about the token that asks
    "GET /v1/internal/acl/why",
    "GET /v1/query/",  # its id is the secret of a query without a name
}
# These are not there while the mesh is off, whoever asks, or say so.
MESH = ("/v1/connect/", "/v1/agent/connect/", "/v1/discovery-chain/", "/v1/internal/ui/", "/v1/internal/fed")
PAIRS = [
    (method, route.path)
    for route in ROUTES
    for method in route.methods
    if method not in ("HEAD", "OPTIONS", "PATCH") and (method, route.path) != ("POST", "/v1/query/")
]


def filled(guarded: Guarded, path: str) -> str:
    ready = {
        "session": guarded.ok("GET", "/v1/session/list")[0]["ID"],
        "query": guarded.ok("GET", "/v1/query")[0]["ID"],
        "accessor": guarded.ok("GET", "/v1/acl/token/self")["AccessorID"],
    }
    rest = REST.get(path, "web" if path.endswith("/") and path != "/" else "")
    return path + rest.format(**ready)


def says_nothing(answer: Response) -> bool:
    """Whether the body is empty, whatever its shape."""
    found = answer.json() if answer.status == 200 and answer.body else None
    return answer.status in (200, 404) and not (any(found.values()) if isinstance(found, dict) else found)


@pytest.mark.parametrize(("method", "path"), PAIRS)
def test_nobody_learns_or_changes_anything(guarded: Guarded, method: str, path: str) -> None:
    if f"{method} {path}" in OPEN:
        return
    target, body = filled(guarded, path), BODIES.get(f"{method} {path}")
    answer = guarded.send(method, target, body)
    said = f"{method} {target}: {answer.status} {answer.text[:200]}"
    if answer.status == 403:
        assert answer.text.startswith("Permission denied") or answer.text == "ACL not found", said
    elif path == "/v1/txn":
        assert (answer.status, answer.json()["Errors"]) == (
            409,
            [{"OpIndex": 0, "What": "Permission denied"}],
        )
    elif path == "/v1/operator/keyring":
        words = "Reading keyring denied by ACLs", "Modifying keyring denied due to ACLs"
        assert answer.status == 500 and answer.text == words[method != "GET"], said
    elif path == "/v1/event/list":
        assert answer.status == 200 and answer.json() == [], said
    elif path == "/v1/ctl/changes":
        assert answer.status == 200 and "data: [" not in answer.text, said
    elif path.startswith(MESH):
        assert answer.status in (400, 404, 500) or says_nothing(answer), said
    else:
        assert says_nothing(answer), said
    assert "x-consul-results-filtered-by-acls" not in answer.headers, "nobody is told that there is more"


@pytest.mark.parametrize(("method", "path"), PAIRS)
def test_a_token_that_is_not_there_is_refused(guarded: Guarded, method: str, path: str) -> None:
    """Nowhere does it count for the anonymous one."""
    target, body = filled(guarded, path), BODIES.get(f"{method} {path}")
    answer = guarded.send(method, target, body, NOBODY)
    said = f"{method} {target}: {answer.status} {answer.text[:200]}"
    if path == "/v1/acl/clone/":  # it says the same of the token that is to be cloned
        assert (answer.status, answer.text) == (403, "Permission denied"), said
    elif f"{method} {path}" not in OPEN and not path.startswith(MESH):
        assert (answer.status, answer.text) == (403, "ACL not found"), said
    assert "internal error" not in answer.text


def test_every_name_of_the_sweep_is_a_route() -> None:
    pairs = {f"{method} {path}" for method, path in PAIRS}
    assert pairs >= OPEN and BODIES.keys() <= pairs
    assert REST.keys() <= {path for _, path in PAIRS}


# --- what the agent itself judges ---------------------------------------------------------------------

AGENT_READ, AGENT_WRITE = (f'agent "{NODE}" {{ policy = "{level}" }}' for level in ("read", "write"))
NODE_WRITE = f'node "{NODE}" {{ policy = "write" }}'
WEB_READ, WEB_WRITE = (f'service "web" {{ policy = "{level}" }}' for level in ("read", "write"))
API_WRITE = 'service "api" { policy = "write" }'
OPERATOR_READ, OPERATOR_WRITE = 'operator = "read"', 'operator = "write"'
MISSING_WEB, MISSING_NODE = "Missing service:write on web", f"Missing node:write on {NODE}"

# request, body, rules that are enough, rules that are not, and what the refusal says
JUDGED: list[tuple[str, Any, str, str, str]] = [
    ("GET /v1/agent/self", None, AGENT_READ, OPERATOR_READ, "agent:read"),
    ("GET /v1/agent/host", None, OPERATOR_READ, AGENT_WRITE, "operator:read"),
    ("GET /v1/agent/metrics", None, AGENT_READ, NODE_WRITE, "agent:read"),
    ("PUT /v1/agent/reload", None, AGENT_WRITE, AGENT_READ, "agent:write"),
    (
        "PUT /v1/agent/token/config_file_service_registration",
        {"Token": ""},
        AGENT_WRITE,
        AGENT_READ,
        "agent:write",
    ),
    ("PUT /v1/agent/maintenance?enable=false", None, NODE_WRITE, AGENT_WRITE, "node:write"),
    ("GET /v1/agent/service/web", None, WEB_READ, NODE_WRITE, "service:read"),
    ("GET /v1/agent/health/service/id/web?format=text", None, WEB_READ, NODE_WRITE, "service:read"),
    ("GET /v1/agent/health/service/name/web?format=text", None, WEB_READ, NODE_WRITE, "service:read"),
    ("PUT /v1/agent/service/maintenance/web?enable=false", None, WEB_WRITE, WEB_READ, MISSING_WEB),
    ("PUT /v1/agent/check/warn/service:web", None, WEB_WRITE, NODE_WRITE, MISSING_WEB),
    ("PUT /v1/agent/check/update/service:web", {"Status": "warning"}, WEB_WRITE, WEB_READ, MISSING_WEB),
    ("PUT /v1/agent/check/pass/own", None, NODE_WRITE, WEB_WRITE, MISSING_NODE),
    ("PUT /v1/agent/check/register", {"Name": "own", "TTL": "1h"}, NODE_WRITE, WEB_WRITE, MISSING_NODE),
    (
        "PUT /v1/agent/check/register",
        {"ID": "service:web", "Name": "x", "TTL": "1h", "ServiceID": "web"},
        WEB_WRITE,
        NODE_WRITE,
        MISSING_WEB,
    ),
    # what is replaced counts, too
    (
        "PUT /v1/agent/check/register",
        {"ID": "service:web", "Name": "x", "TTL": "1h"},
        "",
        NODE_WRITE,
        MISSING_WEB,
    ),
    ("PUT /v1/agent/service/register", {"ID": "web", "Name": "api"}, "", API_WRITE, MISSING_WEB),
    (
        "PUT /v1/agent/service/register",
        {"Name": "api", "Kind": "connect-proxy", "Port": 1, "Proxy": {"DestinationServiceName": "web"}},
        "",
        API_WRITE,
        MISSING_WEB,
    ),
    ("PUT /v1/agent/service/deregister/web", None, "", NODE_WRITE, MISSING_WEB),
    ("PUT /v1/agent/check/deregister/service:web", None, "", NODE_WRITE, MISSING_WEB),
    ("PUT /v1/agent/join/127.0.0.1", None, "", AGENT_READ, "agent:write"),
    ("PUT /v1/agent/leave", None, "", AGENT_READ, "agent:write"),
    ("PUT /v1/agent/force-leave/x", None, "", OPERATOR_READ, "operator:write"),
    ("GET /v1/operator/raft/configuration", None, OPERATOR_READ, AGENT_WRITE, "operator:read"),
    (
        "GET /v1/operator/autopilot/health",
        None,
        OPERATOR_READ,
        AGENT_WRITE,
        "Missing operator:read permissions",
    ),
    ("GET /v1/snapshot", None, 'acl = "write"', OPERATOR_WRITE + ' acl = "read"', "acl:write"),
]


@pytest.mark.parametrize(("asked", "body", "enough", "other", "text"), JUDGED)
def test_the_agent_asks_for_rights(
    guarded: Guarded, asked: str, body: Any, enough: str, other: str, text: str
) -> None:
    method, target = asked.split(" ")
    refused = guarded.send(method, target, body, guarded.token(other))
    assert refused.status == 403 and refused.text.startswith("Permission denied: "), refused.text
    assert text in refused.text
    if enough:
        done = guarded.send(method, target, body, guarded.token(enough))
        assert done.status in (200, 429, 503), f"{done.status} {done.text}"


def test_a_log_is_followed_with_the_right_to_read_the_agent(guarded: Guarded) -> None:
    assert guarded.send("GET", "/v1/agent/monitor", token=guarded.token(NODE_WRITE)).status == 403
    with guarded.agent.connect() as connection:
        token = guarded.token(AGENT_READ)
        connection.sendall(
            f"GET /v1/agent/monitor HTTP/1.1\r\nHost: x\r\nX-Consul-Token: {token}\r\n\r\n".encode()
        )
        assert b" 200 OK" in connection.recv(4096).partition(b"\r\n")[0]


LISTINGS: list[tuple[str, str, list[str]]] = [
    ("/v1/agent/services", WEB_READ, ["web"]),
    ("/v1/agent/services", NODE_WRITE, []),
    ("/v1/agent/checks", NODE_WRITE, ["own"]),
    ("/v1/agent/checks", WEB_READ, ["service:web"]),
    ("/v1/agent/members", NODE_WRITE, [NODE]),
    ("/v1/agent/members", WEB_READ, []),
    ("/v1/agent/members?wan=1", 'node_prefix "" { policy = "read" }', [f"{NODE}.dc1"]),
    ("/v1/event/list", 'event "e" { policy = "read" }', ["e"]),
    ("/v1/event/list", WEB_READ, []),
    ("/v1/catalog/nodes", 'node "far" { policy = "read" }', ["far"]),
    ("/v1/session/list", 'session "far" { policy = "read" }', ["s"]),
    ("/v1/kv/?keys", 'key "k" { policy = "read" }', ["k"]),
]


def named(answer: Response) -> list[str]:
    found = answer.json()
    return sorted(one if isinstance(one, str) else one.get("Name") or one["Node"] for one in found)


@pytest.mark.parametrize(("path", "rules", "seen"), LISTINGS)
def test_a_list_shows_what_may_be_read_and_that_there_is_more(
    guarded: Guarded, path: str, rules: str, seen: list[str]
) -> None:
    everything = guarded.send("GET", path, token=MASTER)
    answer = guarded.send("GET", path, token=guarded.token(rules))
    assert named(answer) == seen
    told = "x-consul-results-filtered-by-acls"
    assert (answer.headers.get(told) == "true") == (len(seen) < len(everything.json()))
    assert told not in everything.headers
    again = guarded.send("GET", path, token=guarded.token(rules))  # from memory
    assert named(again) == seen and again.headers.get(told) == answer.headers.get(told)


def test_nobody_gets_the_answer_that_another_token_was_given(guarded: Guarded) -> None:
    """One answer is remembered for each token, however it came, until its rights change."""
    token = guarded.make('key "k" { policy = "read" }')
    secret = token["SecretID"]
    for _ in range(3):
        for path, headers, status in (
            ("/v1/kv/k?raw", {"X-Consul-Token": secret}, 200),
            (f"/v1/kv/k?raw&token={secret}", {}, 200),
            ("/v1/kv/k?raw", {"Authorization": f"Bearer {secret}"}, 200),
            ("/v1/kv/k?raw", {}, 403),
            (f"/v1/kv/k?raw&token={NOBODY}", {"X-Consul-Token": secret}, 403),
        ):
            given = {"X-Consul-Token": ""} | headers  # the harness would send its own
            assert guarded.agent.http("GET", path, headers=given).status == status, (path, headers)
    policy = token["Policies"][0]
    guarded.ok("PUT", f"/v1/acl/policy/{policy['ID']}", {"Name": policy["Name"], "Rules": ""})
    assert guarded.send("GET", "/v1/kv/k?raw", token=secret).status == 403
    guarded.ok("DELETE", f"/v1/acl/token/{token['AccessorID']}")
    gone = guarded.send("GET", "/v1/kv/k?raw", token=secret)
    assert (gone.status, gone.text) == (403, "ACL not found")


def test_tokens_are_not_in_the_log(guarded: Guarded) -> None:
    secret = guarded.token(WEB_READ)
    guarded.agent.http("GET", f"/v1/kv/k?token={secret}&raw", headers={"X-Consul-Token": ""})
    guarded.agent.http("GET", f"/v1/acl/info/{secret}")
    guarded.agent.http("GET", f"/v1/agent/service/%zz?token={secret}")
    until("the request is in the log", lambda: "/v1/kv/k?token=<hidden>&raw" in guarded.agent.log_text())
    until("and the other", lambda: "/v1/acl/info/<hidden>" in guarded.agent.log_text())
    lines = guarded.agent.log_text().splitlines()
    assert not [line for line in lines if secret in line or MASTER in line]


# --- names --------------------------------------------------------------------------------------------


def ask_name(guarded: Guarded, name: str) -> tuple[int, int]:
    """The code of a reply over UDP, and how many answers it has."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    message = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\xff\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.sendto(message, (guarded.agent.address, guarded.agent.dns_port))
        data = asking.recv(4096)
    return data[3] & 15, int.from_bytes(data[6:8], "big")


def test_names_are_those_that_the_token_of_dns_may_see(guarded: Guarded) -> None:
    """NXDOMAIN else; it holds at once for what was asked and remembered before."""
    web, node = "web.service.consul", f"{NODE}.node.consul"
    token = "/v1/agent/token/dns"
    seen, unseen = (0, 1), (3, 0)
    guarded.ok("PUT", "/v1/agent/check/pass/service:web")
    guarded.ok("PUT", "/v1/agent/check/pass/own")
    until("it passes", lambda: guarded.ok("GET", "/v1/health/service/web?passing"))
    for _ in range(2):
        assert (ask_name(guarded, web), ask_name(guarded, node)) == (unseen, unseen)
        assert ask_name(guarded, "7f000001.addr.consul")[0] == 0
    steps = (
        (NODE_WRITE, unseen, True),
        (WEB_READ, unseen, False),
        (NODE_WRITE + WEB_READ, seen, True),
    )
    for rules, service, sees_node in steps:
        guarded.ok("PUT", token, {"Token": guarded.token(rules)})
        for _ in range(2):
            assert ask_name(guarded, web) == service
            assert (ask_name(guarded, node)[0] == 0) == sees_node
    made = guarded.make(NODE_WRITE + WEB_READ)
    guarded.ok("PUT", token, {"Token": made["SecretID"]})
    assert ask_name(guarded, web) == seen
    guarded.ok("DELETE", f"/v1/acl/token/{made['AccessorID']}")
    assert ask_name(guarded, web) == (2, 0), "SERVFAIL: what the agent looks up names with is gone"
    guarded.ok("PUT", token, {"Token": ""})
    assert ask_name(guarded, web) == unseen


# --- the agent's own registrations --------------------------------------------------------------------


def instances(guarded: Guarded, name: str) -> int:
    return len(guarded.ok("GET", f"/v1/catalog/service/{name}"))


def register(guarded: Guarded, name: str, token: str, expect: int = 200) -> None:
    answer = guarded.send("PUT", "/v1/agent/service/register", {"Name": name}, token)
    assert answer.status == expect, answer.text


def test_a_service_goes_though_the_token_that_it_came_with_is_gone(guarded: Guarded) -> None:
    token = guarded.make('service "kept" { policy = "write" }')
    register(guarded, "kept", token["SecretID"])
    until("it is in the catalog", lambda: instances(guarded, "kept"))
    guarded.ok("DELETE", f"/v1/acl/token/{token['AccessorID']}")
    gone = guarded.send("PUT", "/v1/agent/service/deregister/kept", token=token["SecretID"])
    assert gone.text == "ACL not found"
    guarded.ok("PUT", "/v1/agent/service/deregister/kept")
    until("it is gone", lambda: not instances(guarded, "kept"))


def test_what_the_servers_refuse_is_said_once_and_tried_again(guarded: Guarded) -> None:
    """A check whose token may not any more; another push of the same is no news."""
    token = guarded.make('service "late" { policy = "write" }')
    policy = token["Policies"][0]
    path = f"/v1/acl/policy/{policy['ID']}"
    body = {"Name": "late", "Check": {"TTL": "1h"}}
    assert guarded.send("PUT", "/v1/agent/service/register", body, token["SecretID"]).status == 200
    until("it is in the catalog", lambda: instances(guarded, "late"))
    guarded.ok("PUT", path, {"Name": policy["Name"], "Rules": ""})
    refused = 'sync blocked by ACLs: what="check service:late"'
    for number, status in enumerate(("pass", "warn", "fail"), 1):
        guarded.ok("PUT", f"/v1/agent/check/{status}/service:late")
        until("it is refused", lambda n=number: guarded.agent.log_text().count(refused) >= n)
    refusals = [line for line in guarded.agent.log_text().splitlines() if refused in line]
    assert sum("[WARN]" in line for line in refusals) == 1 and "service:write" in refusals[0]
    guarded.ok("PUT", path, {"Name": policy["Name"], "Rules": 'service "late" { policy = "write" }'})
    guarded.ok("PUT", "/v1/agent/check/warn/service:late")
    until("it is in sync", lambda: guarded.ok("GET", "/v1/health/checks/late")[0]["Status"] == "warning")
    guarded.ok("PUT", "/v1/agent/service/deregister/late")
