"""Judges at a server: found in its state, kept until something of ACLs changes; and a leader's duties."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from msgspec.structs import replace

from agent.acl import ServerPermissions
from agent.acl_leader import AclDuties
from core.acl.access import Authorizer
from core.acl.resolve import Judges
from core.acl.settings import AclSettings
from core.codec import msgpack
from core.errors import CtlError, Denied, NoLeader
from core.store import commands
from core.store.acl import ANONYMOUS, GLOBAL_MANAGEMENT
from core.store.acl_structs import ACLTokenBatchDeleteRequest
from tests.agent import acl_kit
from tests.agent.acl_kit import SETTINGS, Clock, State

READ_A = 'key_prefix "a" { policy = "read" }'


class Server:
    """Permissions of a server, and what was told of changes."""

    def __init__(self, settings: AclSettings = SETTINGS, **tokens: str) -> None:
        self.state = State()
        self.clock = Clock()
        self.changes = 0
        self.tokens = acl_kit.tokens(self.clock, **tokens)
        self.permissions = ServerPermissions(
            self.state.store, Judges(settings, "s1"), self.tokens, self.clock, self._changed
        )

    def _changed(self) -> None:
        self.changes += 1

    def reads(self, token: str, key: str = "a") -> bool:
        return self.permissions.known(token).allows("key", key, "read")

    def is_unknown(self, token: str) -> bool:
        try:
            self.permissions.known(token)
        except Denied as error:
            assert error.text == "ACL not found"
            return True
        return False


def test_a_change_counts_at_once() -> None:
    server = Server()
    state = server.state
    assert server.is_unknown("t")
    state.policy("p", READ_A)
    state.token("t", "p")
    assert server.reads("t") and not server.reads("t", "b")
    judge = server.permissions.known("t")
    assert server.permissions.known("t") is judge, "kept"
    state.policy("p", 'key_prefix "b" { policy = "read" }')
    assert not server.reads("t") and server.reads("t", "b")
    before = server.changes
    state.drop("t")
    assert server.changes == before + 1
    assert server.is_unknown("t")


def test_a_new_token_leaves_what_is_known() -> None:
    server = Server()
    server.state.policy("p", READ_A)
    server.state.token("t", "p")
    judge = server.permissions.known("t")
    before = server.changes
    server.state.token("u", "p")
    server.state.drop("u")
    assert server.changes == before and server.permissions.known("t") is judge
    server.state.token("t")
    assert server.changes == before + 1 and not server.reads("t")


def test_more_tokens_than_are_kept() -> None:
    server = Server()
    server.state.policy("p", READ_A)
    for number in range(50):
        server.state.token(f"t{number}", "p")
    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr("agent.acl._MAX_JUDGES", 10)
        before = server.changes
        assert all(server.reads(f"t{number}") for number in range(50))
        assert server.changes == before + 4, "answers to tokens that are no longer watched are given up"


def test_roles_count() -> None:
    server = Server()
    server.state.policy("p", READ_A)
    server.state.role("r", "p")
    server.state.token("t", role="r")
    assert server.reads("t")
    server.state.role("r")
    assert not server.reads("t")


def test_other_commands_change_nothing() -> None:
    from core.store import commands

    server = Server()
    server.state.apply(commands.kvs("set", b"a", b"1"))
    assert server.changes == 0


def test_a_restored_state_counts() -> None:
    server = Server()
    server.state.token("t")
    assert not server.is_unknown("t")
    server.state.fsm.restore(b"".join(State().fsm.snapshot()))
    assert server.is_unknown("t")
    server.state.token("t")
    assert not server.is_unknown("t"), "still heard of"


def test_a_token_ends_to_the_second() -> None:
    server = Server()
    server.state.token("t", ends=1060)
    assert server.permissions.known("t").expires
    server.clock.time = 1059.9
    assert not server.is_unknown("t")
    server.clock.time = 1060.0
    assert server.is_unknown("t")


def test_no_token_is_the_anonymous_one_even_before_there_is_one() -> None:
    server = Server()
    assert server.permissions.known("").accessor == ANONYMOUS
    asyncio.run(_take_office(server, SETTINGS))
    server.state.policy("p", READ_A)
    assert not server.reads("")
    from core.acl.builtin import anonymous_token
    from core.store.acl_structs import ACLLink, ACLTokenBatchSetRequest

    token = replace(anonymous_token(msgpack.ZERO_TIME), policies=[ACLLink("p")])
    server.state.apply(commands.command(commands.ACL_TOKEN_SET, ACLTokenBatchSetRequest([token])))
    assert server.reads("") and server.reads("anonymous")


def test_the_default_token_stands_in_for_none() -> None:
    server = Server(default="t", agent_recovery="rescue")
    assert server.permissions.token("") == "t" and server.permissions.token("x") == "x"
    rescue = asyncio.run(server.permissions.find("rescue"))
    assert rescue.accessor == "agent-recovery:s1" and rescue.allows("agent", "s1", "write")
    server.tokens.on_change = server.permissions.forget
    asyncio.run(server.tokens.set("agent_recovery", "other"))
    assert server.is_unknown("rescue") and not server.is_unknown("other")
    assert server.changes == 1


# A leader's duties


class Failing:
    """Refuses the first commands."""

    def __init__(self, state: State, *errors: CtlError) -> None:
        self.state = state
        self.errors = list(errors)
        self.kinds: list[int] = []

    async def apply(self, data: bytes) -> object:
        if self.errors:
            raise self.errors.pop(0)
        self.kinds.append(data[0])
        return self.state.apply(data)


async def _take_office(server: Server, settings: AclSettings, *errors: CtlError) -> list[int]:
    door = Failing(server.state, *errors)
    duties = AclDuties(settings, server.state.store, door.apply, server.clock, acl_kit.log)
    await duties.take_office()
    await duties.take_office()  # what is there is left alone
    return door.kinds


def test_a_new_leader_makes_what_is_missing() -> None:
    server = Server()
    settings = replace(SETTINGS, initial_management="root")
    assert asyncio.run(_take_office(server, settings)) == [19, 11, 17]
    store = server.state.store
    assert store.acl_policies.get(GLOBAL_MANAGEMENT) is not None
    assert not store.bootstrap_allowed()
    root = server.permissions.known("root")
    assert root.allows("acl", "", "write") and root.allows_below("key", "", "write")
    assert server.permissions.known("").accessor == ANONYMOUS


def test_the_initial_token_is_awaited_until_the_first_leader_has_made_it() -> None:
    settings = replace(SETTINGS, initial_management="root")
    server = Server(settings)
    with pytest.raises(NoLeader):  # not "ACL not found", at which clients give up
        server.permissions.known("root")
    assert server.is_unknown("other") and server.is_unknown("ro\udce9t")
    asyncio.run(_take_office(server, settings))
    assert server.permissions.known("root").allows("acl", "", "write")
    accessor = server.permissions.known("root").accessor
    request = ACLTokenBatchDeleteRequest([accessor])
    server.state.apply(commands.command(commands.ACL_TOKEN_DELETE, request))
    assert server.is_unknown("root"), "somebody has deleted it"


def test_the_initial_token_comes_also_after_a_bootstrap() -> None:
    server = Server()
    asyncio.run(_take_office(server, replace(SETTINGS, initial_management="one")))
    assert asyncio.run(_take_office(server, replace(SETTINGS, initial_management="two"))) == [17]
    assert server.permissions.known("two").allows("acl", "", "write")


@pytest.mark.parametrize(
    "settings", [AclSettings(), replace(SETTINGS, primary_datacenter="other")], ids=["off", "not primary"]
)
def test_there_is_nothing_to_make_elsewhere(settings: AclSettings) -> None:
    assert asyncio.run(_take_office(Server(), settings)) == []


def test_expired_tokens_are_deleted_also_after_a_failure() -> None:
    server = Server()
    for number in range(3):
        server.state.token(f"t{number}", ends=1001 + number)
    server.state.token("stays")
    door = Failing(server.state, NoLeader())
    duties = AclDuties(SETTINGS, server.state.store, door.apply, server.clock, acl_kit.log)
    rounds: list[float] = []

    async def sleep(seconds: float) -> None:
        rounds.append(seconds)
        server.clock.time += seconds
        if len(rounds) == 6:
            raise asyncio.CancelledError

    async def test(monkey: Any) -> None:
        monkey.setattr("agent.acl_leader.asyncio.sleep", sleep)
        with contextlib.suppress(asyncio.CancelledError):
            await duties.reap_expired()

    with pytest.MonkeyPatch.context() as monkey:
        asyncio.run(test(monkey))
    assert [token.secret_id for token in server.state.store.acl_tokens.values()] == ["stays"]
    assert rounds[0] == pytest.approx(1.0) and rounds[-1] == 30.0
    assert set(door.kinds) == {18}


def test_judges_fulfil_the_door() -> None:
    judge: Authorizer = Server().permissions.known("")
    assert not judge.expires
