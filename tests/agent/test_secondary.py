"""Servers outside of the primary datacenter: whose word counts for a token, and what is sent elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from agent.acl import ServerPermissions
from agent.acl_client import ClientPermissions
from agent.acl_secondary import SecondaryPermissions
from agent.calls import Calls, CallSettings
from agent.world import World
from core.acl.access import Authorizer
from core.acl.resolve import Judges
from core.acl.settings import AclSettings
from core.api import acl_policies, kv
from core.api.acl_requests import ACLPolicySetRequest, ByIds
from core.api.endpoint import Answer, Command, Errand, QueryOptions, Question
from core.api.keyring import OPERATE, KeyringRequest
from core.api.kv import KeyRequest, KVChange
from core.api.primary import primary
from core.api.remote_kinds import unrendered
from core.errors import Denied, Unavailable
from core.gossip.member import ALIVE
from core.node.servers import ServerFacts
from core.node.wan import Router
from core.store.acl_structs import ACLLink, ACLToken, ACLTokenBatchSetRequest
from core.store.commands import ACL_TOKEN_SET, command
from tests.agent import acl_kit
from tests.agent.acl_kit import Clock, Servers, State
from tests.agent.test_calls import FarServers, Raft

SECONDS = 1_000_000_000
SETTINGS = AclSettings(
    enabled=True, default_policy="deny", datacenter="dc2", primary_datacenter="dc1", token_ttl=30 * SECONDS
)


class Secondary:
    """A leader of dc2 with pretended servers in dc1."""

    def __init__(self, settings: AclSettings = SETTINGS) -> None:
        self.clock = Clock()
        self.here, self.there = State(), State()
        self.there.policy("p", 'key_prefix "" { policy = "write" }')
        self.there.token("global", "p")
        self.here.policy("p", 'key_prefix "" { policy = "write" }')
        local = ACLToken(accessor_id="acc-local", secret_id="local", policies=[ACLLink("p")], local=True)
        self.here.apply(command(ACL_TOKEN_SET, ACLTokenBatchSetRequest([local])))
        self.servers = Servers(self.there)
        judges, tokens = Judges(settings, "s1"), acl_kit.tokens(self.clock, agent_recovery="recovery")
        own = ServerPermissions(self.here.store, judges, tokens, self.clock, lambda: None)
        client = ClientPermissions(judges, tokens, self.servers.ask, self.clock, acl_kit.log, "dc1")
        self.permissions = SecondaryPermissions(own, client, self.clock)
        raft = Raft()
        raft.leader_id = "me"
        self.calls = Calls(
            self.here.store,
            raft,  # type: ignore[arg-type]
            "dc2",
            World(seed=1),
            asyncio.get_running_loop(),
            CallSettings(hold=0.0),
        )
        self.far = Far()
        self.calls.relay = self.far  # type: ignore[assignment]
        self.calls.permissions = self.permissions
        self.calls.primary = primary(settings, self.here.store)
        self.calls.router = Router("dc2", self.clock.random, 0.0)
        self.calls.router.update([ServerFacts("far", "far", "dc1", "127.0.0.9", 8300, ALIVE)])

    async def may(self, token: str) -> bool:
        judge: Authorizer = await self.permissions.find(token)
        return judge.allows("key", "a", "write")

    async def read(self, token: str) -> Answer:
        return await self.calls.read(read(token))

    async def write(self, token: str) -> object:
        return await self.calls.apply(write(token))


class Far(FarServers):
    """Notes the whole work."""

    def __init__(self) -> None:
        super().__init__()
        self.work: list[Any] = []

    async def send(self, server: ServerFacts, rpc: str, work: Any) -> Any:
        self.work.append(work)
        return await super().send(server, rpc, work)

    def tell(self, server: ServerFacts, rpc: str, work: Any, done: Any) -> bool:
        self.work.append(work)
        return super().tell(server, rpc, work, done)

    async def ask(self, server: ServerFacts, question: Question, seconds: float) -> Answer:
        self.work.append(question)
        return await super().ask(server, question, seconds)


def read(token: str, datacenter: str = "") -> Question:
    return Question(kv.GET, KeyRequest(b"k"), QueryOptions(token=token, datacenter=datacenter), unrendered)


def write(token: str, datacenter: str = "") -> Command:
    return Command(kv.APPLY, KVChange("set", b"k", b"v", token=token), unrendered, datacenter)


def run(scene: Any) -> None:
    async def whole() -> None:
        await scene(Secondary())

    asyncio.run(asyncio.wait_for(whole(), 10))


def test_own_tokens_first_then_the_primary() -> None:
    async def scene(it: Secondary) -> None:
        assert it.permissions.known("local") is not None and await it.may("local")
        assert it.permissions.known("recovery") is not None
        assert it.servers.asked == []
        assert it.permissions.known("global") is None and await it.may("global")
        assert it.servers.asked == ["ACL.TokenRead", "ACL.PolicyResolve"]
        judge = it.permissions.known("global")
        assert judge is not None and judge.expires, "what it is given is not remembered"
        with pytest.raises(Denied, match="ACL not found"):
            await it.may("nobody")
        with pytest.raises(Denied, match="ACL not found"):
            it.permissions.known("nobody")

    run(scene)


def test_reads_and_writes_wait_until_the_token_is_known() -> None:
    async def scene(it: Secondary) -> None:
        assert not it.calls.here(read("global")) and it.calls.here(read("local"))
        assert (await it.read("global")).remember is False
        assert it.calls.here(read("global"))
        told: list[object] = []
        it.clock.time += 60
        it.calls.tell(write("global"), told.append)
        while not told:
            await asyncio.sleep(0)
        assert told == ["applied"]
        assert await it.write("global") == "applied"
        with pytest.raises(Denied, match="ACL not found"):
            await it.write("nobody")
        assert it.far.work == []

    run(scene)


def test_a_blocked_read_wakes_with_the_judge_that_it_began_with() -> None:
    """It cannot wait for another one; the next read does."""

    async def scene(it: Secondary) -> None:
        await it.read("global")
        it.clock.time += 60
        assert not it.calls.here(read("global"))
        question = read("global")
        it.calls._settled = lambda primary, work: True  # type: ignore[method-assign]
        assert isinstance(it.calls.outcome(question, None), Answer)
        assert isinstance(it.calls.outcome(read("nobody"), None), Denied)

    run(scene)


@pytest.mark.parametrize(
    ("policy", "known", "unknown"), [("extend-cache", True, False), ("deny", False, False)]
)
def test_the_primary_is_out_of_reach(policy: Any, known: bool, unknown: bool) -> None:
    async def scene() -> None:
        it = Secondary(replace(SETTINGS, down_policy=policy))
        assert await it.may("global")
        it.servers.down = Unavailable("No path to datacenter")
        it.clock.time += 60
        assert await it.may("global") is known
        assert await it.may("other") is unknown
        assert await it.may("local"), "our own is not touched"
        if known:
            assert await it.write("global") == "applied"
        else:
            with pytest.raises(Denied):
                await it.write("global")

    asyncio.run(scene())


def test_work_of_the_primary_is_sent_there() -> None:
    async def scene(it: Secondary) -> None:
        await it.calls.run(Errand(acl_policies.SET, ACLPolicySetRequest(token="global"), unrendered))
        question = Question(
            acl_policies.RESOLVE, ByIds(("p",), "global"), QueryOptions(token="global"), unrendered
        )
        assert not it.calls.here(question)
        await it.calls.read(question)
        sent, asked = it.far.work
        assert (sent.datacenter, asked.options.datacenter) == ("dc1", "dc1")
        assert asked.options.token == asked.args.token == "global"
        assert it.servers.asked == [], "nobody here judges that"

    run(scene)


def test_a_token_of_one_datacenter_is_not_told_to_another() -> None:
    async def scene(it: Secondary) -> None:
        keys = KeyringRequest("list", token="local")
        for token in ("local", "global"):
            shown = "" if token == "local" else token
            await it.calls.read(read(token, "dc1"))
            await it.calls.apply(write(token, "dc1"))
            told: list[object] = []
            it.calls.tell(write(token, "dc1"), told.append)
            errand = Errand(OPERATE, replace(keys, token=token), unrendered, "dc1", token)
            await it.calls.run(errand)
            question, command, again, sent = it.far.work
            assert question.options.token == command.token == again.token == sent.token == shown
            assert sent.args.token == shown
            it.far.work.clear()

    run(scene)
