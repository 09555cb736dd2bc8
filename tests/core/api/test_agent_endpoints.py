"""The agent's endpoints on an agent that has nothing but local services and checks.

The conformance scenarios hold the exact bodies; here are the rules behind them, and what they leave out."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from core.api.endpoint import Reply
from tests.agent.local_fakes import FakeAgent

SCRIPTS = (
    "Scripts are disabled on this agent from remote calls; "
    "to enable, configure 'enable_script_checks' to true"
)


def text(reply: Reply) -> str:
    return (reply.body or b"").decode()


def value(reply: Reply) -> Any:
    assert reply.content_type == "application/json"
    return json.loads(reply.body or b"")


@pytest.mark.parametrize(
    ("what", "body", "status", "expected"),
    [
        ("PUT /v1/agent/service/register", b"", 400, "Request decode failed: EOF"),
        ("PUT /v1/agent/service/register", b"null", 400, "Missing service name"),
        ("PUT /v1/agent/service/register", {"ID": "x"}, 400, "Missing service name"),
        (
            "PUT /v1/agent/service/register",
            {"Name": "x", "Address": "0.0.0.0"},
            400,
            "Invalid service address",
        ),
        ("PUT /v1/agent/service/register", {"Name": "x", "Address": "::"}, 400, "Invalid service address"),
        (
            "PUT /v1/agent/service/register",
            {"Name": "x", "Weights": {"Passing": 0}},
            400,
            "Invalid Weights: Passing must be greater than 0",
        ),
        (
            "PUT /v1/agent/service/register",
            {"Name": "x", "Weights": {"Passing": 1, "Warning": -1}},
            400,
            "Invalid Weights: Warning must be greater or equal than 0",
        ),
        (
            "PUT /v1/agent/service/register",
            {"Name": "x", "Weights": {"Passing": 70000}},
            400,
            "Invalid Weights: DNS Weight must be between 0 and 65535",
        ),
        (
            "PUT /v1/agent/service/register",
            {"Name": "x", "Meta": {"bad key!": "x"}},
            400,
            "Invalid Service Meta: Couldn't load metadata pair ('bad key!', 'x'): "
            "Key contains invalid characters",
        ),
        (
            "PUT /v1/agent/service/register",
            {"Name": "x", "Meta": {f"k{i}": "" for i in range(65)}},
            400,
            "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs",
        ),
        (
            "PUT /v1/agent/service/register",
            {"Name": "x", "Check": {"TTL": "10s", "Interval": "10s"}},
            400,
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        (
            "PUT /v1/agent/service/register",
            {"Name": "x", "Check": {"TTL": "10s", "Status": "purple"}},
            400,
            "Status for checks must 'passing', 'warning', 'critical'",
        ),
        (
            "PUT /v1/agent/service/register",
            {"Name": "x", "Check": {"Args": ["a"], "Interval": "5s"}},
            500,
            SCRIPTS,
        ),
        ("PUT /v1/agent/service/deregister/", b"", 500, "ServiceID missing"),
        ("PUT /v1/agent/service/deregister/none", b"", 200, ""),
        ("GET /v1/agent/service/none", b"", 404, "unknown service ID: none"),
        ("GET /v1/agent/service/", b"", 404, "unknown service ID: "),
        ("GET /v1/agent/service/x?wait=banana", b"", 400, "Invalid wait time"),
        ("PUT /v1/agent/service/maintenance/?enable=true", b"", 400, "Missing service ID"),
        ("PUT /v1/agent/service/maintenance/x", b"", 400, "Missing value for enable"),
        ("PUT /v1/agent/service/maintenance/x?enable=", b"", 400, 'Invalid value for enable: ""'),
        ("PUT /v1/agent/service/maintenance/x?enable=1", b"", 404, 'No service registered with ID "x"'),
        ("PUT /v1/agent/maintenance", b"", 400, "Missing value for enable"),
        ("PUT /v1/agent/check/register", {}, 400, "Missing check name"),
        (
            "PUT /v1/agent/check/register",
            {"Name": "x", "TTL": "5s", "Status": "purple"},
            400,
            "Bad check status",
        ),
        (
            "PUT /v1/agent/check/register",
            {"Name": "x"},
            400,
            "Invalid check: TTL must be > 0 for TTL checks",
        ),
        (
            "PUT /v1/agent/check/register",
            {"Name": "x", "TTL": "5s", "ServiceID": "none"},
            500,
            'ServiceID "none" does not exist',
        ),
        (
            "PUT /v1/agent/check/register",
            {"Name": "x", "HTTP": "http://x", "Interval": "5s", "OutputMaxSize": -1},
            400,
            "Invalid check: MaxOutputMaxSize must be positive",
        ),
        ("PUT /v1/agent/check/register", {"Name": "x", "Args": ["a"], "Interval": "5s"}, 500, SCRIPTS),
        ("PUT /v1/agent/check/deregister/", b"", 500, "CheckID missing"),
        ("PUT /v1/agent/check/deregister/none", b"", 200, ""),
        ("PUT /v1/agent/check/pass/none", b"", 500, 'CheckID "none" does not have associated TTL'),
        (
            "PUT /v1/agent/check/update/x",
            {"Status": "maintenance"},
            400,
            "Invalid check status: 'maintenance'",
        ),
        ("PUT /v1/agent/check/update/x", {}, 400, "Invalid check status: ''"),
        (
            "PUT /v1/agent/check/update/x",
            {"Status": "passing"},
            500,
            'CheckID "x" does not have associated TTL',
        ),
        ("GET /v1/agent/health/service/id/", b"", 500, "Bad request: Missing serviceID"),
        ("GET /v1/agent/health/service/name/", b"", 500, "Bad request: Missing service Name"),
        (
            "GET /v1/agent/members?segment=x",
            b"",
            500,
            "Network segments are not supported in this version of Consul",
        ),
        ("GET /v1/agent/members?segment=x&wan=1", b"", 400, "Cannot provide a segment with wan=true"),
        (
            "GET /v1/agent/metrics?format=prometheus",
            b"",
            415,
            "Prometheus is not enabled since its retention time is not positive",
        ),
        ("GET /v1/agent/monitor?loglevel=zork", b"", 400, "Bad request: Unknown log level: zork"),
    ],
)
def test_refusals(what: str, body: Any, status: int, expected: str) -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        reply = await agent.ask(what, body)
        assert (reply.status, text(reply)) == (status, expected)
        assert agent.local.state.services == {} and agent.local.state.checks == {}
        await agent.local.stop()

    asyncio.run(scenario())


def test_services_come_back_as_they_were_registered() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        body = {"Name": "web", "Tags": ["b", "a"], "Port": 80, "Meta": {"k": "<v>"}}
        assert (await agent.ask("PUT /v1/agent/service/register", body)).body is None
        await agent.ask("PUT /v1/agent/service/register", {"Name": "six", "Address": "::1", "Port": 6})
        listed = value(await agent.ask("GET /v1/agent/services"))
        plain = {
            "ID": "web",
            "Service": "web",
            "Tags": ["b", "a"],
            "Meta": {"k": "<v>"},
            "Port": 80,
            "Address": "",
            "Weights": {"Passing": 1, "Warning": 1},
            "EnableTagOverride": False,
            "Datacenter": "dc1",
        }
        assert list(listed) == ["six", "web"] and listed["web"] == plain
        assert set(listed["six"]["TaggedAddresses"]) == {"lan_ipv6", "wan_ipv6"}
        only = value(await agent.ask("GET /v1/agent/services?filter=Port%20==%2080"))
        assert list(only) == ["web"]
        reply = await agent.ask("GET /v1/agent/service/web")
        found = value(reply)
        assert reply.headers["X-Consul-ContentHash"] == found.pop("ContentHash")
        assert found == plain
        await agent.local.stop()

    asyncio.run(scenario())


def test_filters_that_cannot_be() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        reply = await agent.ask("GET /v1/agent/services?filter=Bogus%20==%201")
        assert (reply.status, text(reply)) == (
            500,
            'Failed to create boolean expression evaluator: Selector "Bogus" is not valid',
        )
        reply = await agent.ask("GET /v1/agent/checks?filter=Bogus%20==%201")
        assert (reply.status, text(reply)) == (200, "{}")  # Consul notices with the first check

    asyncio.run(scenario())


def test_blocking_on_the_hash_of_a_service() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        await agent.ask("PUT /v1/agent/service/register", {"Name": "web", "Port": 80})
        known = value(await agent.ask("GET /v1/agent/service/web"))["ContentHash"]
        waiting = asyncio.ensure_future(agent.ask(f"GET /v1/agent/service/web?hash={known}&wait=60s"))
        await asyncio.sleep(0)
        await agent.ask("PUT /v1/agent/service/register", {"Name": "web", "Port": 80})  # no change
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await agent.ask("PUT /v1/agent/service/register", {"Name": "web", "Port": 81})
        assert value(await asyncio.wait_for(waiting, 2))["Port"] == 81
        other = await agent.ask("GET /v1/agent/service/web?hash=deadbeef&wait=60s")
        known = value(other)["ContentHash"]
        same = await agent.ask(f"GET /v1/agent/service/web?hash={known}&wait=10ms")
        assert value(same)["ContentHash"] == known
        waiting = asyncio.ensure_future(agent.ask(f"GET /v1/agent/service/web?hash={known}&wait=60s"))
        await asyncio.sleep(0.01)
        await agent.ask("PUT /v1/agent/service/deregister/web")
        assert (await asyncio.wait_for(waiting, 2)).status == 404
        waiting = asyncio.ensure_future(agent.ask(f"GET /v1/agent/service/x?hash={known}"))
        await asyncio.sleep(0)
        assert (await asyncio.wait_for(waiting, 2)).status == 404
        assert agent.local.state._watches == {}
        await agent.local.stop()

    asyncio.run(scenario())


def test_a_waiting_client_that_hangs_up_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        await agent.ask("PUT /v1/agent/service/register", {"Name": "web"})
        known = value(await agent.ask("GET /v1/agent/service/web"))["ContentHash"]
        waiting = asyncio.ensure_future(agent.ask(f"GET /v1/agent/service/web?hash={known}"))
        await asyncio.sleep(0.01)
        assert agent.local.state._watches
        waiting.cancel()
        await asyncio.wait([waiting])
        assert agent.local.state._watches == {}
        await agent.local.stop()

    asyncio.run(scenario())


def test_checks_of_a_service_have_ids_and_names() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        await agent.ask(
            "PUT /v1/agent/service/register", {"Name": "w", "Check": {"TTL": "30s", "Notes": "n"}}
        )
        several = {
            "Name": "w",
            "Checks": [
                {"TTL": "30s", "Name": "first", "Status": "passing"},
                {"TTL": "1s", "CheckID": "own"},
                {"TTL": "30s"},
            ],
        }
        await agent.ask("PUT /v1/agent/service/register", several)
        checks = value(await agent.ask("GET /v1/agent/checks?filter=ServiceName%20==%20w"))
        assert {key: (check["Name"], check["Status"]) for key, check in checks.items()} == {
            "own": ("Service 'w' check", "critical"),
            "service:w": ("Service 'w' check", "critical"),
            "service:w:1": ("first", "passing"),
            "service:w:3": ("Service 'w' check", "critical"),
        }
        only = {"Name": "w", "Check": {"TTL": "30s", "CheckID": "only"}}
        await agent.ask("PUT /v1/agent/service/register?replace-existing-checks=true", only)
        assert list(value(await agent.ask("GET /v1/agent/checks"))) == ["only"]
        await agent.ask("PUT /v1/agent/service/register?replace-existing-checks=false", {"Name": "w"})
        assert list(value(await agent.ask("GET /v1/agent/checks"))) == ["only"]
        await agent.ask("PUT /v1/agent/service/register?replace-existing-checks", {"Name": "w"})
        assert value(await agent.ask("GET /v1/agent/checks")) == {}
        await agent.local.stop()

    asyncio.run(scenario())


def test_speaking_for_a_check() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        await agent.ask("PUT /v1/agent/check/register", {"Name": "a/b c", "TTL": 6e11})
        for verb, status in (("pass", "passing"), ("warn", "warning"), ("fail", "critical")):
            await agent.ask(f"PUT /v1/agent/check/{verb}/a/b%20c?note=so+{verb}")
            check = value(await agent.ask("GET /v1/agent/checks"))["a/b c"]
            assert (check["Status"], check["Output"]) == (status, f"so {verb}")
        await agent.ask("PUT /v1/agent/check/update/a/b%20c", {"Status": "passing", "Output": "x" * 5000})
        output = value(await agent.ask("GET /v1/agent/checks"))["a/b c"]["Output"]
        assert output == "x" * 4096 + " ... (captured 4096 of 5000 bytes)"
        await agent.local.stop()

    asyncio.run(scenario())


def test_maintenance() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        await agent.ask("PUT /v1/agent/service/register", {"Name": "w"})
        await agent.ask("PUT /v1/agent/service/maintenance/w?enable=true&reason=busy%20now")
        await agent.ask("PUT /v1/agent/service/maintenance/w?enable=true&reason=other")
        check = value(await agent.ask("GET /v1/agent/checks"))["_service_maintenance:w"]
        assert (check["Notes"], check["Type"], check["Name"]) == (
            "busy now",
            "maintenance",
            "Service Maintenance Mode",
        )
        reply = await agent.ask("GET /v1/agent/health/service/id/w?format=text")
        assert (reply.status, text(reply)) == (503, "maintenance")
        await agent.ask("PUT /v1/agent/service/maintenance/w?enable=false")
        await agent.ask("PUT /v1/agent/maintenance?enable=true")
        check = value(await agent.ask("GET /v1/agent/checks"))["_node_maintenance"]
        assert check["Notes"].startswith("Maintenance mode is enabled for this node, but no reason")
        assert (await agent.ask("GET /v1/agent/health/service/name/w")).status == 503
        await agent.ask("PUT /v1/agent/maintenance?enable=false")
        await agent.ask("PUT /v1/agent/maintenance?enable=false")
        assert value(await agent.ask("GET /v1/agent/checks")) == {}
        await agent.local.stop()

    asyncio.run(scenario())


def test_health_by_id_and_by_name() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        for number, status in ((1, "passing"), (2, "warning")):
            body = {
                "ID": f"w{number}",
                "Name": "w",
                "Check": {"TTL": "9m", "CheckID": f"c{number}", "Status": status},
            }
            await agent.ask("PUT /v1/agent/service/register", body)
        reply = await agent.ask("GET /v1/agent/health/service/id/w1")
        assert (reply.status, reply.headers["X-Consul-Reason"]) == (200, "passing")
        info = value(reply)
        assert list(info) == ["AggregatedStatus", "Service", "Checks"]
        assert info["Checks"][0]["ServiceTags"] is None and info["Checks"][0]["Type"] == ""
        assert info["Checks"][0]["Definition"]["Interval"] == "0s"
        reply = await agent.ask("GET /v1/agent/health/service/name/w?format=text")
        assert (reply.status, text(reply), reply.content_type) == (429, "warning", "text/plain")
        reply = await agent.ask("GET /v1/agent/health/service/id/w1", accept="text/plain")
        assert (text(reply), reply.content_type) == ("passing", "text/plain")
        await agent.ask("PUT /v1/agent/check/fail/c2")
        assert (await agent.ask("GET /v1/agent/health/service/id/w2")).status == 503
        reply = await agent.ask("GET /v1/agent/health/service/name/w")
        assert reply.status == 503 and len(value(reply)) == 2
        reply = await agent.ask("GET /v1/agent/health/service/id/none")
        assert reply.headers["X-Consul-Reason"] == "ServiceId none not found"
        assert value(reply) == {"AggregatedStatus": "critical", "Service": None, "Checks": None}
        reply = await agent.ask("GET /v1/agent/health/service/id/none?format=text")
        assert (reply.status, value(reply)) == (404, "ServiceId none not found")
        reply = await agent.ask("GET /v1/agent/health/service/name/none")
        assert (reply.status, value(reply)) == (404, [])
        reply = await agent.ask("GET /v1/agent/health/service/name/none?format=text")
        assert (reply.status, text(reply), reply.content_type) == (
            404,
            "ServiceName none Not Found",
            "text/plain",
        )
        reply = await agent.ask("GET /v1/agent/health/service/id/a%0d%0aX-Evil:%201")
        assert "\n" not in reply.headers["X-Consul-Reason"]
        await agent.local.stop()

    asyncio.run(scenario())


def test_the_life_of_the_agent() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        for what in ("join/10.0.0.1?wan=1", "force-leave/n2?prune", "reload", "leave"):
            reply = await agent.ask(f"PUT /v1/agent/{what}")
            assert (reply.status, reply.body) == (200, None)
        assert agent.calls == [
            ("join", "10.0.0.1", True),
            ("force_leave", "n2", True),
            ("reload",),
            ("leave",),
        ]
        assert value(await agent.ask("GET /v1/agent/members?wan=x")) == [{"Name": "n1.dc1"}]
        assert value(await agent.ask("GET /v1/agent/members?segment=_all")) == [{"Name": "n1"}]
        assert value(await agent.ask("GET /v1/agent/self"))["Config"] == {"NodeName": "n1"}
        assert value(await agent.ask("GET /v1/agent/host")) == {"Errors": None}
        assert value(await agent.ask("GET /v1/agent/version"))["HumanVersion"] == "1.9.8"

    asyncio.run(scenario())


def test_metrics_and_monitor() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        agent.metrics.incr("raft.apply")
        found = value(await agent.ask("GET /v1/agent/metrics?format=banana"))
        assert found["Points"] == [] and found["Counters"][0]["Name"] == "consul.raft.apply"
        agent.prometheus_enabled = True
        reply = await agent.ask("GET /v1/agent/metrics?format=prometheus")
        assert reply.content_type.startswith("text/plain; version=0.0.4")
        assert "consul_raft_apply 1" in text(reply)
        reply = await agent.ask("GET /v1/agent/monitor?logjson")
        assert reply.stream is not None
        assert [chunk async for chunk in reply.stream] == [b"one\n", b"two\n"]
        assert agent.log.closed

    asyncio.run(scenario())
