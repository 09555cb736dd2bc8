from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent.persist import file_name
from core.errors import ConfigError, Denied, Invalid
from core.node.definitions import CheckDefinition, ServiceDefinition
from tests.agent.local_fakes import FakeAgent, FakeCatalog, no_leader, until

S = 1_000_000_000
TTL = CheckDefinition(id="c", name="c", ttl=600 * S)


def ttl(check_id: str, service_id: str = "", **more: Any) -> CheckDefinition:
    return CheckDefinition(id=check_id, name=check_id, ttl=600 * S, service_id=service_id, **more)


def run(scenario: Any) -> None:
    asyncio.run(scenario)


def status(agent: FakeAgent, check_id: str) -> str:
    check = agent.local.state.check(check_id)
    return check.status if check is not None else "none"


def test_what_is_registered_reaches_the_catalog_and_leaves_it() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        await agent.local.start([], [])
        await agent.local.add_service(ServiceDefinition(name="web", port=80, checks=[TTL]), False, "")
        await until(lambda: "web" in agent.catalog.services and "c" in agent.catalog.checks)
        agent.local.update_ttl_check("c", "passing", "fine")
        await until(lambda: agent.catalog.checks["c"].status == "passing")
        await agent.local.remove_service("web")
        await until(lambda: not agent.catalog.services and not agent.catalog.checks)
        await agent.local.remove_service("web")
        await agent.local.stop()

    run(scenario())


def test_an_output_alone_reaches_the_catalog_within_its_interval() -> None:
    """And not with the next look at the catalog, which may be minutes away."""

    async def scenario() -> None:
        agent = FakeAgent(check_update_interval=S // 10)
        await agent.local.start([], [])
        await agent.local.add_service(ServiceDefinition(name="web", port=80, checks=[TTL]), False, "")
        agent.local.update_ttl_check("c", "passing", "fine")
        await until(lambda: "c" in agent.catalog.checks and agent.catalog.checks["c"].output == "fine")
        await asyncio.sleep(0.05)  # until the loop has gone to sleep
        agent.local.update_ttl_check("c", "passing", "still fine")
        await until(lambda: agent.catalog.checks["c"].output == "still fine", 2.0)
        await agent.local.stop()

    run(scenario())


def test_it_catches_up_when_a_leader_is_there() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        agent.catalog.error = no_leader()
        await agent.local.start([ServiceDefinition(name="web")], [])
        await asyncio.sleep(0.05)
        assert not agent.catalog.services
        agent.catalog.error = None
        agent.local.server_up()
        await until(lambda: "web" in agent.catalog.services, 1.0)
        await agent.local.stop()

    run(scenario())


def test_a_refused_registration_does_not_keep_others_from_the_catalog() -> None:
    async def scenario() -> None:
        catalog = FakeCatalog()
        register = catalog.register

        async def picky(request: Any) -> None:
            if request.service is not None and request.service.id == "bad":
                raise Invalid("no")
            if request.service is not None and request.service.id == "denied":
                raise Denied("Permission denied")
            await register(request)

        catalog.register = picky  # type: ignore[method-assign]
        agent = FakeAgent(catalog=catalog)
        await agent.local.start([ServiceDefinition(name=name) for name in ("bad", "denied", "web")], [])
        await until(lambda: "web" in catalog.services)
        await agent.local.stop()

    run(scenario())


def test_a_defect_does_not_end_anti_entropy() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        agent.catalog.error = KeyError("defect")  # type: ignore[assignment]
        await agent.local.start([ServiceDefinition(name="web")], [])
        await asyncio.sleep(0.02)
        agent.catalog.error = None
        await until(lambda: "web" in agent.catalog.services)
        await agent.local.stop()

    run(scenario())


def test_registering_again_keeps_the_status() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        service = ServiceDefinition(name="web", checks=[TTL])
        await agent.local.add_service(service, False, "")
        await agent.local.add_check(ttl("n"), "")
        agent.local.update_ttl_check("c", "passing", "x")
        agent.local.update_ttl_check("n", "warning", "y")
        await agent.local.add_service(service, False, "")
        await agent.local.add_check(ttl("n"), "")
        assert (status(agent, "c"), status(agent, "n")) == ("passing", "warning")
        await agent.local.stop()

    run(scenario())


def test_scripts_need_permission_and_a_refusal_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        script = CheckDefinition(name="s", args=["true"], interval=10 * S)
        agent = FakeAgent(scripts_from_files=True)
        with pytest.raises(Invalid, match="Scripts are disabled on this agent from remote calls"):
            await agent.local.add_service(ServiceDefinition(name="web", checks=[script]), False, "")
        assert agent.local.state.services == {}
        await agent.local.reload([], [script])
        assert status(agent, "s") == "critical"
        other = FakeAgent()
        with pytest.raises(ConfigError, match="or 'enable_local_script_checks' to true"):
            await other.local.start([], [script])
        await agent.local.stop()
        await other.local.stop()

    run(scenario())


@pytest.mark.parametrize(
    ("services", "checks", "text"),
    [
        ([ServiceDefinition()], [], 'Failed to register service "": Service name missing'),
        ([], [CheckDefinition(ttl=S)], "Failed to register check '': CheckID missing"),
        (
            [],
            [CheckDefinition(name="x")],
            "Failed to register check 'x': Check is not valid: TTL must be > 0 for TTL checks",
        ),
        ([], [ttl("x", "nosuch")], "Failed to register check 'x': ServiceID \"nosuch\" does not exist"),
        (
            [ServiceDefinition(name="w", checks=[CheckDefinition(http="x")])],
            [],
            'Failed to register service "w": Check is not valid: '
            "Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
    ],
)
def test_definitions_that_cannot_be(
    services: list[ServiceDefinition], checks: list[CheckDefinition], text: str
) -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        with pytest.raises(ConfigError) as caught:
            await agent.local.start(services, checks)
        assert str(caught.value) == text
        assert agent.local.state.services == {} and agent.local.state.checks == {}

    run(scenario())


def test_a_reload_replaces_what_files_define_and_nothing_else() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        old = ServiceDefinition(name="old")
        web = ServiceDefinition(name="web", checks=[ttl("a"), ttl("b")])
        await agent.local.start([web, old], [ttl("n")])
        await agent.local.add_service(ServiceDefinition(name="api"), False, "")
        await agent.local.add_check(ttl("extra", "web"), "")
        agent.local.update_ttl_check("a", "passing", "")
        changed = ServiceDefinition(name="web", port=81, checks=[ttl("a")])
        await agent.local.reload([changed], [])
        assert set(agent.local.state.services) == {"web", "api"}
        assert set(agent.local.state.checks) == {"a", "extra"}
        assert status(agent, "a") == "passing"
        with pytest.raises(ConfigError):
            await agent.local.reload([ServiceDefinition(name="new"), ServiceDefinition()], [])
        assert set(agent.local.state.services) == {"web", "api"}
        await agent.local.reload([], [])
        assert set(agent.local.state.services) == {"api"}
        assert agent.local.state.checks == {}
        await agent.local.stop()

    run(scenario())


def test_registrations_survive_a_restart(tmp_path: Path) -> None:
    async def first() -> None:
        agent = FakeAgent(tmp_path)
        await agent.local.start([], [])
        full = ServiceDefinition(
            id="w1", name="web", tags=["a"], port=80, meta={"k": "v"}, address="10.0.0.1", checks=[ttl("c")]
        )
        await agent.local.add_service(full, False, "secret")
        await agent.local.add_service(ServiceDefinition(name="gone", checks=[ttl("gone-check")]), False, "")
        await agent.local.add_check(
            CheckDefinition(
                id="h", name="h", http="http://127.0.0.1:1/", header={"A": ["b"]}, interval=3600 * S
            ),
            "",
        )
        await agent.local.maintain_service("w1", True, "busy", "")
        agent.local.update_ttl_check("c", "passing", "fine")
        await agent.local.remove_service("gone")
        await agent.local.stop()

    async def second() -> None:
        agent = FakeAgent(tmp_path)
        await agent.local.start([], [])
        state = agent.local.state
        service = state.service("w1")
        assert service is not None and state.service_token("w1") == "secret"
        assert (service.tags, service.port, service.meta, service.address) == (
            ["a"],
            80,
            {"k": "v"},
            "10.0.0.1",
        )
        assert service.tagged_addresses is not None and service.tagged_addresses["lan_ipv4"].port == 80
        assert set(state.services) == {"w1"}
        assert set(state.checks) == {"c", "h", "_service_maintenance:w1"}
        check = state.check("c")
        assert check is not None and (check.status, check.output) == ("passing", "fine")
        maintenance = state.check("_service_maintenance:w1")
        assert maintenance is not None and (maintenance.status, maintenance.notes) == ("critical", "busy")
        agent.local.update_ttl_check("c", "warning", "")
        assert agent.local.runner.monitors == 1
        await agent.local.stop()

    run(first())
    run(second())


def test_an_old_status_is_not_believed_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = FakeAgent(tmp_path)
        await agent.local.add_check(ttl("c"), "")
        agent.local.update_ttl_check("c", "passing", "fine")
        await agent.local.stop()
        path = tmp_path / "checks" / "state" / file_name("c")
        state = json.loads(path.read_bytes())
        path.write_text(json.dumps({**state, "Expires": state["Expires"] - 10_000}))
        again = FakeAgent(tmp_path)
        await again.local.start([], [])
        assert status(again, "c") == "critical"
        assert not path.exists()
        await again.local.stop()

    run(scenario())


def test_a_kill_loses_at_most_a_second_of_ttl_updates(tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = FakeAgent(tmp_path)
        await agent.local.add_check(ttl("c"), "")
        agent.local.update_ttl_check("c", "passing", "fine")
        path = tmp_path / "checks" / "state" / file_name("c")
        await until(path.exists, 3.0)  # not stopped: as if killed
        again = FakeAgent(tmp_path)
        await again.local.start([], [])
        assert status(again, "c") == "passing"
        await again.local.stop()
        await agent.local.stop()

    run(scenario())


def test_files_win_over_what_was_registered(tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = FakeAgent(tmp_path)
        await agent.local.add_service(ServiceDefinition(name="web", port=1, checks=[ttl("c")]), False, "")
        await agent.local.stop()
        again = FakeAgent(tmp_path)
        await again.local.start([ServiceDefinition(name="web", port=2)], [ttl("c", "web", notes="file")])
        service, check = again.local.state.service("web"), again.local.state.check("c")
        assert service is not None and service.port == 2
        assert check is not None and check.notes == "file"
        assert not (tmp_path / "services" / file_name("web")).exists()
        await again.local.stop()

    run(scenario())


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\x00" * 64, b"[1]", b'{"Service": {"Port": "x"}}', b'{"Check": 5}', b"{}"]
)
def test_damaged_files_are_set_aside(tmp_path: Path, damage: bytes) -> None:
    async def scenario() -> None:
        agent = FakeAgent(tmp_path)
        await agent.local.add_service(ServiceDefinition(name="good"), False, "")
        await agent.local.add_service(ServiceDefinition(name="bad"), False, "")
        await agent.local.add_check(ttl("bad-check"), "")
        await agent.local.stop()
        for folder, name in (("services", "bad"), ("checks", "bad-check"), ("checks/state", "bad-check")):
            (tmp_path / folder / file_name(name)).write_bytes(damage)
        (tmp_path / "services" / "half.tmp").write_bytes(b"{")
        again = FakeAgent(tmp_path)
        await again.local.start([], [])
        assert set(again.local.state.services) == {"good"} and again.local.state.checks == {}
        assert (tmp_path / "services" / (file_name("bad") + ".damaged")).read_bytes() == damage
        assert not (tmp_path / "services" / "half.tmp").exists()
        await again.local.stop()

    run(scenario())


def test_files_of_consul_are_read(tmp_path: Path) -> None:
    """Recorded field names of 1.9.8; the file is named by MD5 there."""

    async def scenario() -> None:
        service = {
            "Token": "t",
            "Service": {
                "ID": "web",
                "Service": "web",
                "Tags": None,
                "Address": "",
                "Meta": None,
                "Port": 80,
                "Weights": {"Passing": 1, "Warning": 1},
                "EnableTagOverride": False,
                "Proxy": {"MeshGateway": {}, "Expose": {}},
                "Connect": {},
                "CreateIndex": 0,
                "ModifyIndex": 0,
            },
            "Source": "remote",
        }
        check = {
            "Check": {
                "Node": "old-name",
                "CheckID": "c",
                "Name": "c",
                "Status": "passing",
                "Definition": {},
                "New": 1,
            },
            "ChkType": {"CheckID": "c", "Interval": 0, "TTL": 30 * S, "Header": None, "ScriptArgs": None},
            "Token": "",
            "Source": "remote",
        }
        for folder, name, body in (
            ("services", "2567a5ec9705eb7ac2c984033e06189d", service),
            ("checks", "4a8a", check),
        ):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / name).write_text(json.dumps(body))
        agent = FakeAgent(tmp_path)
        await agent.local.start([], [])
        assert agent.local.state.service_token("web") == "t"
        assert status(agent, "c") == "critical" and agent.local.runner.ttls == 1
        assert agent.local.state.checks["c"].node == "n1"
        assert (tmp_path / "services" / file_name("web")).exists()
        await agent.local.remove_service("web")
        assert list((tmp_path / "services").iterdir()) == []
        await agent.local.stop()

    run(scenario())


def test_consul_can_read_our_files(tmp_path: Path) -> None:
    """Consul 1.9.8 refuses a file of a check with a field that it does not know, such as ID or Token."""

    async def scenario() -> None:
        agent = FakeAgent(tmp_path)
        body = {"ID": "c", "Name": "n", "TTL": "10m", "Notes": "x", "Token": "secret"}
        reply = await agent.ask("PUT /v1/agent/check/register", body)
        assert reply.status == 200
        [path] = [path for path in (tmp_path / "checks").iterdir() if path.is_file()]
        assert json.loads(path.read_text())["ChkType"] == {
            "CheckID": "c",
            "Name": "n",
            "Notes": "x",
            "TTL": 600 * S,
        }
        assert json.loads(path.read_text())["Token"] == ""  # the body's does not count
        await agent.local.stop()
        again = FakeAgent(tmp_path)
        await again.local.start([], [])
        assert again.local.runner.ttls == 1
        await again.local.stop()

    run(scenario())


def test_a_full_disk_refuses_a_registration(tmp_path: Path) -> None:
    async def scenario() -> None:
        agent = FakeAgent(tmp_path)

        def full(path: Path, data: bytes, mode: int = 0o600) -> None:
            raise OSError(28, "No space left on device")

        agent.world.write_file = full  # type: ignore[method-assign]
        reply = await agent.ask("PUT /v1/agent/service/register", {"Name": "web"})
        assert reply.status == 500 and reply.body is not None and b"No space left" in reply.body
        assert agent.local.state.services == {}
        await agent.local.stop()

    run(scenario())


def test_alias_checks_follow_services_here_and_elsewhere() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        await agent.local.add_service(ServiceDefinition(name="db", checks=[ttl("c")]), False, "")
        alias = CheckDefinition(id="a", name="a", alias_service="db")
        await agent.local.add_check(alias, "")
        agent.local.update_ttl_check("c", "passing", "")
        await until(lambda: status(agent, "a") == "passing")
        agent.local.update_ttl_check("c", "critical", "down")
        await until(lambda: status(agent, "a") == "critical")
        await agent.local.add_check(CheckDefinition(id="r", name="r", alias_node="n1", alias_service="x"), "")
        await agent.local.start([], [])
        await until(lambda: "could not be found" in agent.local.state.checks["r"].output)
        await agent.local.remove_check("r")
        await agent.local.stop()

    run(scenario())


def test_a_service_that_is_critical_for_too_long_goes() -> None:
    async def scenario() -> None:
        agent = FakeAgent()
        await agent.local.add_service(ServiceDefinition(name="web", checks=[ttl("c")]), False, "")
        await agent.local.add_check(ttl("node"), "")
        assert agent.local.runner.settings.on_overdue is not None
        agent.local.runner.settings.on_overdue("node")
        agent.local.runner.settings.on_overdue("c")
        await until(lambda: agent.local.state.services == {})
        assert set(agent.local.state.checks) == {"node"}
        await agent.local.stop()

    run(scenario())
