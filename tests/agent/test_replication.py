"""Copies of ACLs and config entries of the primary datacenter, between two states in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from agent import replication
from agent.logs import get_logger
from agent.replication import Replication
from agent.world import World
from core.acl.authorizer import Judge
from core.acl.hashes import hashed_policy, hashed_role, hashed_token
from core.acl.policy import parse
from core.acl.rights import Rights
from core.acl.settings import AclSettings
from core.api.endpoint import Answer, Question
from core.codec import msgpack
from core.codec.msgpack import ZERO_TIME
from core.errors import CtlError, Unavailable
from core.store import commands, mesh
from core.store.acl_structs import (
    ACLLink,
    ACLPolicy,
    ACLPolicyBatchDeleteRequest,
    ACLPolicyBatchSetRequest,
    ACLRole,
    ACLRoleBatchSetRequest,
    ACLToken,
    ACLTokenBatchDeleteRequest,
    ACLTokenBatchSetRequest,
)
from core.store.watch import Watch
from tests.core.store.maker import Bench

SETTINGS = AclSettings(enabled=True, datacenter="dc2", primary_datacenter="dc1", token_replication=True)
ALL = 'acl = "write" operator = "write" service_prefix "" { policy = "read" intentions = "read" }'


class Pair:
    """The primary state, its copy, and what copies."""

    def __init__(self, settings: AclSettings = SETTINGS, token: str = "secret") -> None:
        self.there, self.here = Bench(), Bench()
        self.here.index = 1000  # indexes of two datacenters have nothing to do with each other
        self.token = token
        self.rules = ALL
        self.down: CtlError | None = None
        self.written = 0
        self.asked: list[Question] = []
        self.replication = Replication(
            settings,
            self.here.store,
            self._ask,
            self._apply,
            lambda: self.token,
            World(1),
            get_logger("test"),
        )

    async def _ask(self, question: Question) -> Answer:
        """What the primary's servers do with a question."""
        options = question.options
        assert (options.datacenter, options.token) == ("dc1", self.token)
        self.asked.append(question)
        while True:
            if self.down is not None:
                raise self.down
            watch = Watch()
            answer = question.read.run(self.there.store, question.args, watch)
            if not options.min_query_index or answer.index != options.min_query_index:
                watch.close()
                break
            fired = asyncio.Event()
            watch.on_fire(fired.set)
            await fired.wait()
        judge = Judge("x", Rights([("p", parse(self.rules, 0))]), "deny", "s1")
        assert question.read.permit is not None
        return question.read.permit(judge, question.args, answer)

    async def _apply(self, data: bytes) -> object:
        self.written += 1
        return self.here.apply(data)

    # what happens in the primary datacenter

    def policy(self, identity: str, name: str = "", rules: str = "") -> None:
        row = hashed_policy(ACLPolicy(id=identity, name=name or identity, rules=rules))
        self.there.ok(commands.command(commands.ACL_POLICY_SET, ACLPolicyBatchSetRequest([row])))

    def drop_policy(self, identity: str) -> None:
        self.there.ok(commands.command(commands.ACL_POLICY_DELETE, ACLPolicyBatchDeleteRequest([identity])))

    def role(self, identity: str, *policies: str) -> None:
        row = hashed_role(ACLRole(id=identity, name=identity, policies=[ACLLink(one) for one in policies]))
        self.there.ok(commands.command(commands.ACL_ROLE_SET, ACLRoleBatchSetRequest([row])))

    def tokens(self, *rows: ACLToken) -> None:
        request = ACLTokenBatchSetRequest([hashed_token(row) for row in rows])
        self.there.ok(commands.command(commands.ACL_TOKEN_SET, request))

    def entry(self, name: str, protocol: str, op: str = "upsert") -> None:
        row = {"Kind": "service-defaults", "Name": name, "Protocol": protocol}
        request = mesh.write_entry_request("service-defaults", row, op)
        self.there.apply(bytes([commands.CONFIG_ENTRY]) + msgpack.encode(request))

    # what is seen

    def shown(self, bench: Bench) -> list[Any]:
        """All that is to be the same."""
        store = bench.store
        rows: list[Any] = []
        for table in (store.acl_policies, store.acl_roles, store.acl_tokens):
            rows += [replace(row, create_index=0, modify_index=0) for row in table.values()]
        rows = [row for row in rows if not getattr(row, "local", False)]
        rows += [
            {key: value for key, value in row.items() if key not in ("CreateIndex", "ModifyIndex")}
            for row in store.config_entry_list()[1]
        ]
        return rows

    async def same(self) -> None:
        async with asyncio.timeout(5):
            while self.shown(self.here) != self.shown(self.there):
                await asyncio.sleep(0.005)

    async def failed(self) -> None:
        async with asyncio.timeout(5):
            while self.replication.status().last_error == ZERO_TIME:
                await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROUND", "BATCH_PAUSE", "_FIRST_PAUSE"):
        monkeypatch.setattr(replication, name, 0.005)


def run(pair: Pair, test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        pair.replication.start()
        try:
            await test()
        finally:
            pair.replication.stop()

    asyncio.run(whole())


def test_everything_follows() -> None:
    pair = Pair()
    for number in range(200):
        pair.policy(f"p{number}")
    pair.role("r", "p1", "p2")
    pair.tokens(*(ACLToken(accessor_id=f"a{n}", secret_id=f"s{n}", roles=[ACLLink("r")]) for n in range(150)))
    pair.entry("web", "http")

    async def test() -> None:
        await pair.same()
        before = pair.written
        assert before < 20, "in batches"
        pair.policy("p7", rules='key "a" { policy = "read" }')
        pair.drop_policy("p9")
        request = ACLTokenBatchDeleteRequest(["a3", "a4"])
        pair.there.ok(commands.command(commands.ACL_TOKEN_DELETE, request))
        pair.entry("web", "grpc")
        pair.entry("db", "tcp")
        await pair.same()
        pair.entry("web", "", "delete")
        await pair.same()
        assert pair.written - before <= 7, "only what changed"

    run(pair, test)
    status = pair.replication.status()
    assert status.enabled and not status.running and status.replication_type == "tokens"
    assert status.replicated_index == pair.there.store.index("acl-policies")
    assert status.replicated_role_index == pair.there.store.index("acl-roles")
    assert status.replicated_token_index == pair.there.store.index("acl-tokens")
    assert status.last_success != ZERO_TIME and status.last_error == ZERO_TIME


def test_names_may_be_swapped() -> None:
    pair = Pair()
    pair.policy("1", "one")
    pair.policy("2", "two")

    async def test() -> None:
        await pair.same()
        pair.policy("2", "other")
        pair.policy("1", "two")
        pair.policy("2", "one")
        await pair.same()

    run(pair, test)
    assert pair.replication.status().last_error == ZERO_TIME


def test_tokens_of_the_datacenter_itself_stay() -> None:
    pair = Pair()
    local = ACLToken(accessor_id="mine", secret_id="mine", local=True)
    pair.here.ok(commands.command(commands.ACL_TOKEN_SET, ACLTokenBatchSetRequest([local])))
    pair.tokens(
        ACLToken(accessor_id="theirs", secret_id="theirs", local=True),
        ACLToken(accessor_id="all", secret_id="all", auth_method=""),
    )

    async def test() -> None:
        await pair.same()

    run(pair, test)
    assert set(pair.here.store.acl_tokens.rows) == {"mine", "all"}


def test_a_token_of_an_auth_method_that_is_elsewhere() -> None:
    """It is global, its method is not."""
    pair = Pair()
    pair.tokens(ACLToken(accessor_id="all", secret_id="all"))
    row = pair.there.store.acl_tokens.rows["all"]
    pair.there.store.acl_tokens.put("all", replace(row, auth_method="jwt"))

    async def test() -> None:
        await pair.same()

    run(pair, test)
    assert pair.here.store.acl_tokens.rows["all"].auth_method == "jwt"


@pytest.mark.parametrize("rules", ["", 'acl = "read"', 'acl = "write"'])
def test_a_token_that_sees_less_copies_nothing_wrong(rules: str) -> None:
    """What it may not see is not taken for deleted, secrets are not taken for `<hidden>`."""
    pair = Pair()
    pair.policy("p")
    pair.tokens(ACLToken(accessor_id="a", secret_id="s"))
    pair.entry("web", "http")

    async def test() -> None:
        await pair.same()
        pair.rules = rules
        pair.policy("q")
        pair.tokens(ACLToken(accessor_id="b", secret_id="t"))
        pair.entry("db", "http")
        if rules != 'acl = "write"':
            await pair.failed()
        await asyncio.sleep(0.1)

    run(pair, test)
    store = pair.here.store
    assert store.config_entry("service-defaults", "web")[1] is not None
    assert store.config_entry("service-defaults", "db")[1] is None
    assert "p" in store.acl_policies.rows and "s" in store.acl_tokens.rows
    assert "<hidden>" not in store.acl_tokens.rows


def test_without_a_token_nothing_is_asked() -> None:
    pair = Pair(token="")

    async def test() -> None:
        await pair.failed()

    run(pair, test)
    assert pair.asked == [] and pair.written == 0


def test_the_primary_is_lost_and_comes_back_with_an_older_state() -> None:
    pair = Pair()
    pair.policy("p")
    pair.policy("late")

    async def test() -> None:
        await pair.same()
        pair.down = Unavailable("No path to datacenter")
        pair.policy("wake")  # those who wait are told
        await pair.failed()
        assert "p" in pair.here.store.acl_policies.rows, "the copies stay"
        old = Bench()
        old.index = 3
        pair.there.fsm, pair.there.store, pair.there.index = old.fsm, old.store, old.index
        pair.policy("p", rules='key "old" { policy = "read" }')
        pair.down = None
        await pair.same()

    run(pair, test)
    assert list(pair.here.store.acl_policies.rows) == ["p"]


def test_nothing_is_copied_in_the_primary_and_no_tokens_unless_wanted() -> None:
    pair = Pair(replace(SETTINGS, datacenter="dc1"))
    run(pair, lambda: asyncio.sleep(0.02))
    assert pair.asked == [] and not pair.replication.status().enabled

    pair = Pair(replace(SETTINGS, token_replication=False))
    pair.tokens(ACLToken(accessor_id="a", secret_id="s"))
    run(pair, lambda: asyncio.sleep(0.05))
    assert {question.read.rpc for question in pair.asked} == {
        "ACL.PolicyList",
        "ACL.RoleList",
        "ConfigEntry.ListAll",
    }
    assert pair.replication.status().replication_type == "policies"


def test_config_entries_are_copied_without_acls() -> None:
    pair = Pair(replace(SETTINGS, enabled=False), token="")
    pair.entry("web", "http")

    async def test() -> None:
        await pair.same()

    run(pair, test)
    assert not pair.replication.status().enabled
