"""Judges at a client agent: asked of servers, remembered for a while, and what holds when none answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from agent import acl_client
from agent.acl_client import ClientPermissions
from core.acl.access import UNLIMITED, Authorizer
from core.acl.resolve import Judges
from core.acl.settings import AclSettings
from core.errors import CtlError, Denied, Unauthorized, Unavailable
from core.store.acl import ANONYMOUS
from core.store.acl_structs import ACLPolicy
from tests.agent import acl_kit
from tests.agent.acl_kit import SETTINGS, Clock, Servers, State

TOKEN, ROLES, POLICIES = "ACL.TokenRead", "ACL.RoleResolve", "ACL.PolicyResolve"
SECONDS = 1_000_000_000


class Client:
    """Permissions of a client agent with pretended servers."""

    def __init__(self, settings: AclSettings = SETTINGS, **tokens: str) -> None:
        self.state = State()
        self.servers = Servers(self.state)
        self.clock = Clock()
        self.permissions = ClientPermissions(
            Judges(settings, "c1"),
            acl_kit.tokens(self.clock, **tokens),
            self.servers.ask,
            self.clock,
            acl_kit.log,
        )
        self.state.policy("p", 'key_prefix "a" { policy = "read" }')
        self.state.token("t", "p")

    async def reads(self, token: str = "t") -> bool:
        judge = await self.permissions.find(token)
        return judge.allows("key", "a", "read")

    async def is_unknown(self, token: str = "t") -> bool:
        try:
            await self.permissions.find(token)
        except Denied as error:
            assert error.text == "ACL not found"
            return True
        return False

    def asked(self) -> list[str]:
        """What servers were asked since the last time."""
        asked, self.servers.asked = self.servers.asked, []
        return asked

    def is_down(self) -> None:
        self.servers.down = Unavailable("No known Consul servers")


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(_as_coroutine(test), 10))


async def _as_coroutine(test: Callable[[], Awaitable[None]]) -> None:
    await test()


def test_what_servers_told_is_remembered_for_a_while() -> None:
    async def test() -> None:
        client = Client()
        assert client.permissions.known("t") is None
        assert await client.reads()
        assert client.asked() == [TOKEN, POLICIES]
        client.clock.time += 29
        assert client.permissions.known("t") is not None and await client.reads()
        assert client.asked() == []
        client.clock.time += 2
        assert client.permissions.known("t") is None and await client.reads()
        assert client.asked() == [TOKEN, POLICIES]

    run(test)


def test_a_deleted_token_is_refused_when_its_time_is_up() -> None:
    async def test() -> None:
        client = Client()
        assert await client.reads()
        client.state.drop("t")
        assert await client.reads()
        client.clock.time += 31
        assert await client.is_unknown()
        client.asked()
        assert await client.is_unknown()
        assert client.asked() == [], "remembered too"
        client.state.token("t", "p")
        client.clock.time += 6
        assert await client.reads(), "but not for long"

    run(test)


def test_times_to_remember_are_told_apart() -> None:
    async def test() -> None:
        client = Client(
            replace(SETTINGS, token_ttl=10 * SECONDS, role_ttl=40 * SECONDS, policy_ttl=20 * SECONDS)
        )
        client.state.role("r", "p")
        client.state.token("u", role="r")
        assert await client.reads("u")
        assert client.asked() == [TOKEN, ROLES, POLICIES]
        client.clock.time += 11
        assert await client.reads("u")
        assert client.asked() == [TOKEN]
        client.clock.time += 10
        assert await client.reads("u")
        assert client.asked() == [TOKEN, POLICIES]
        client.clock.time += 20
        assert await client.reads("u")
        assert client.asked() == [TOKEN, ROLES, POLICIES]

    run(test)


def test_roles_are_asked_for_again_by_default() -> None:
    async def test() -> None:
        client = Client()
        client.state.role("r", "p")
        client.state.token("u", role="r")
        assert await client.reads("u")
        client.asked()
        client.state.role("r")
        assert not await client.reads("u")
        assert client.asked() == [TOKEN, ROLES]

    run(test)


def test_links_to_what_is_gone_are_remembered_as_gone() -> None:
    async def test() -> None:
        from core.store import commands
        from core.store.acl_structs import ACLPolicyBatchDeleteRequest

        client = Client()
        client.state.apply(commands.command(commands.ACL_POLICY_DELETE, ACLPolicyBatchDeleteRequest(["p"])))
        assert not await client.reads()
        assert not await client.reads()
        assert client.asked() == [TOKEN, POLICIES]

    run(test)


def test_rows_that_made_room_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acl_client, "_MAX_TOKENS", 2)
    rows: acl_client._Rows[ACLPolicy] = acl_client._Rows(30 * SECONDS)
    rows.take(["a", "b"], [ACLPolicy("a"), ACLPolicy("b")], 10.0)
    rows.take(["a"], [ACLPolicy("a")], 11.0)
    rows.take(["c"], [ACLPolicy("c")], 12.0)
    assert rows.missing("abc", 12.0) == ["b"], "the oldest"
    assert (rows.until("ac"), rows.until("abc")) == (41.0, 0.0)


def test_those_who_wait_for_the_same_token_share_a_call() -> None:
    async def test() -> None:
        client = Client()
        gate = asyncio.Event()
        ask = client.servers.ask

        async def slowly(method: str, body: dict[str, Any]) -> Any:
            await gate.wait()
            return await ask(method, body)

        client.permissions._ask = slowly
        waiting = [asyncio.ensure_future(client.reads()) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # one who gives up does not end the call of the others
        gate.set()
        assert await asyncio.gather(*waiting[1:]) == [True] * 4
        assert client.asked() == [TOKEN, POLICIES]

    run(test)


@pytest.mark.parametrize("down", ["allow", "deny", "extend-cache", "async-cache"])
def test_no_server_answers(down: Any) -> None:
    async def test() -> None:
        client = Client(replace(SETTINGS, down_policy=down))
        assert await client.reads()
        client.is_down()
        assert await client.reads(), "what is remembered is good, whatever the policy"
        client.clock.time += 31
        if down == "async-cache":
            assert await client.reads()
            while client.permissions._asking:
                await asyncio.sleep(0)
        else:
            assert await client.reads() is (down != "deny")
        assert await client.reads("never seen") is (down == "allow")
        client.clock.time += 1000
        assert await client.reads() is (down != "deny")
        client.servers.down = None
        client.state.drop("t")
        client.clock.time += 31
        if down == "async-cache":
            assert await client.reads(), "the old answer, while the new one is on its way"
            while client.permissions._asking:
                await asyncio.sleep(0)
        assert await client.is_unknown()

    run(test)


def test_servers_that_do_not_answer_are_not_asked_by_every_request() -> None:
    async def test() -> None:
        client = Client()
        assert await client.reads()
        client.is_down()
        client.clock.time += 31
        client.asked()
        for _ in range(10):
            assert await client.reads()
        assert client.asked() == [TOKEN]
        client.clock.time += 6
        assert await client.reads()
        assert client.asked() == [TOKEN]

    run(test)


def test_an_expired_token_is_refused_whatever_is_remembered() -> None:
    async def test() -> None:
        client = Client()
        client.state.token("u", "p", ends=1010)
        assert await client.reads("u")
        client.is_down()
        client.clock.time = 1010.0
        assert await client.is_unknown("u")
        client.clock.time = 1100.0
        assert await client.is_unknown("u")

    run(test)


def test_no_token_is_the_anonymous_one() -> None:
    async def test() -> None:
        client = Client()
        judge = await client.permissions.find("")
        assert judge.accessor == ANONYMOUS and not judge.allows("key", "a", "read")

    run(test)


def test_the_recovery_token_needs_no_server() -> None:
    async def test() -> None:
        client = Client(default="t", agent_recovery="rescue")
        client.is_down()
        judge = client.permissions.known("rescue")
        assert judge is not None and judge.allows("agent", "c1", "write")
        assert client.asked() == []
        assert client.permissions.token("") == "t"

    run(test)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unauthorized("rpc error making call: ACL support disabled"), UNLIMITED),
        (Denied("rpc error making call: ACL not found"), "ACL not found"),
        (Denied("rpc error making call: Permission denied"), "Permission denied"),
    ],
)
def test_what_servers_refuse(error: CtlError, outcome: Authorizer | str) -> None:
    async def test() -> None:
        client = Client()
        client.servers.down = error
        if isinstance(outcome, str):
            with pytest.raises(Denied, match=outcome):
                await client.permissions.find("t")
        else:
            assert await client.permissions.find("t") is outcome

    run(test)


@pytest.mark.parametrize("reply", [None, [], {b"Token": 7}, {b"Token": {b"AccessorID": {}}}])
def test_a_reply_without_sense_is_no_permission(reply: Any) -> None:
    async def test() -> None:
        client = Client()

        async def ask(method: str, body: dict[str, Any]) -> Any:
            return reply

        client.permissions._ask = ask
        assert not await client.reads()

    run(test)
