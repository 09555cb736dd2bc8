"""Rights where they pass from one part of the agent to another: calls, the cache, DNS, anti-entropy,
archives, and what travels between agents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent import snapshot_rpc
from agent.cache import Cache
from agent.calls import Calls, CallSettings
from agent.dns import DnsServer
from agent.world import World
from core.acl.access import Authorizer
from core.acl.authorizer import Judge
from core.acl.policy import parse
from core.acl.rights import Rights
from core.api import catalog, kv, session, txn
from core.api.endpoint import (
    OPEN,
    Action,
    Answer,
    Command,
    Errand,
    Permissions,
    QueryOptions,
    Question,
    Read,
    Reply,
    ServerDoor,
)
from core.api.remote import REMOTES
from core.codec import msgpack
from core.dns.settings import DnsSettings
from core.errors import Denied, from_remote
from core.node.definitions import CheckDefinition, ServiceDefinition
from core.store import commands
from core.store.apply import apply
from core.store.state import Store
from core.store.structs import (
    DeregisterRequest,
    DirEntry,
    NodeService,
    RegisterRequest,
    Session,
    SessionRequest,
    TxnKVOp,
    TxnOp,
    TxnRequest,
)
from tests.agent.local_fakes import FakeAgent, FakeCatalog, until
from tests.agent.raft_network import Network

READ_A = 'key "a" { policy = "read" }'
WRITE_A = 'key "a" { policy = "write" }'


def judge(rules: str, expires: float = 0.0) -> Judge:
    return Judge("acc", Rights([("p", parse(rules))]), "deny", "here", expires_at=expires)


class Known:
    """Permissions of a server that knows these tokens."""

    def __init__(self, **tokens: Judge) -> None:
        self.tokens = tokens

    def token(self, given: str) -> str:
        return given

    def known(self, token: str) -> Authorizer | None:
        if not token:
            return judge("")
        if token not in self.tokens:
            raise Denied("ACL not found")
        return self.tokens[token]

    def latest(self, token: str) -> Authorizer | None:
        return None

    async def find(self, token: str) -> Authorizer:
        found = self.known(token)
        assert found is not None
        return found


class Leader:
    """A Raft that leads, and applies at once."""

    node_id = leader_id = "me"
    is_leader = holds_lease = has_heard_of_leader = True

    def __init__(self, store: Store) -> None:
        self.store = store
        self.index = 0

    def propose(self, data: bytes, done: Any) -> None:
        self.index += 1
        done(apply(self.store, self.index, data))

    async def apply(self, data: bytes) -> object:
        self.index += 1
        return apply(self.store, self.index, data)


def no_reply(_: object) -> Reply:
    return Reply()


def leading(permissions: Permissions) -> Calls:
    store = Store()
    loop = asyncio.get_running_loop()
    made = Calls(store, cast(Any, Leader(store)), "dc1", World(1), loop, CallSettings(hold=0.0))
    made.permissions = permissions
    made.server = cast(ServerDoor, SimpleNamespace(store=store, permissions=permissions))
    return made


def get(key: bytes, token: str, read: Read = kv.GET) -> Question:
    return Question(read, kv.KeyRequest(key), QueryOptions(token=token), no_reply)


def put(key: bytes, token: str) -> Command:
    return Command(kv.APPLY, kv.KVChange("set", key, b"v", token=token), no_reply)


# --- calls --------------------------------------------------------------------------------------------


def test_calls_ask_for_rights_whichever_way_they_come() -> None:
    async def scene() -> None:
        calls = leading(Known(reads=judge(READ_A), writes=judge(WRITE_A)))
        told: list[object] = []
        for token in ("reads", "", "unknown"):
            with pytest.raises(Denied):
                await calls.apply(put(b"a", token))
            with pytest.raises(Denied):
                calls.tell(put(b"a", token), told.append)
        assert not told and not calls.store.kv.rows
        calls.tell(put(b"a", "writes"), told.append)
        assert told == [None] and await calls.apply(put(b"a", "writes")) is None
        assert calls.ask(get(b"a", "reads")).value.value == b"v"
        assert (await calls.read(get(b"a", "writes"))).value.value == b"v"
        for token in ("", "unknown"):
            with pytest.raises(Denied):
                calls.ask(get(b"a", token))
            with pytest.raises(Denied):
                await calls.read(get(b"a", token))

    asyncio.run(scene())


def test_an_open_action_needs_no_token_that_is_known_and_others_do() -> None:
    async def scene() -> None:
        async def act(server: ServerDoor, args: Any) -> str:
            return "done"

        def may(authorizer: Authorizer, args: Any) -> None:
            authorizer.require("operator", "", "write")

        calls = leading(Known(operates=judge('operator = "write"'), reads=judge(READ_A)))
        free, bound = Action("X.Free", act, OPEN), Action("X.Bound", act, may)
        assert await calls.run(Errand(free, None, no_reply, token="unknown")) == "done"
        assert await calls.run(Errand(bound, None, no_reply, token="operates")) == "done"
        for token in ("reads", "", "unknown"):
            with pytest.raises(Denied):
                await calls.run(Errand(bound, None, no_reply, token=token))

    asyncio.run(scene())


def test_a_renewal_needs_a_right_on_the_node_of_the_session() -> None:
    async def scene() -> None:
        permissions = Known(one=judge('session "n1" { policy = "write" }'), two=judge(READ_A))
        calls = leading(permissions)
        for node in ("n1", "n2"):
            await cast(Any, calls)._raft.apply(
                commands.register(RegisterRequest(datacenter="dc1", node=node, address="x"))
            )
        ids = {}
        for number, node in enumerate(("n1", "n2")):
            ids[node] = f"{number}" * 36
            request = SessionRequest("dc1", "create", Session(id=ids[node], node=node))
            await cast(Any, calls)._raft.apply(commands.session(request))
        renewed: list[str] = []
        server = cast(Any, calls.server)
        server.renew_session = lambda found: renewed.append(found.node)

        async def renew(node: str, token: str) -> Any:
            args = session.SessionSpecificRequest(ids[node], token)
            return await calls.run(Errand(session.RENEW, args, no_reply, token=token))

        assert len((await renew("n1", "one")).sessions) == 1
        for node, token in (("n2", "one"), ("n1", "two"), ("n1", "")):
            with pytest.raises(Denied):
                await renew(node, token)
        assert renewed == ["n1"]

    asyncio.run(scene())


def test_a_token_that_ends_gets_nothing_that_lasts_and_nobody_is_told_of_more() -> None:
    async def scene() -> None:
        calls = leading(Known(lasts=judge(READ_A), ends=judge(READ_A, expires=9e9), writes=judge(WRITE_A)))
        await calls.apply(put(b"a", "writes"))
        apply(calls.store, 2, commands.kvs("set", b"b", b"v"))
        assert calls.ask(get(b"a", "lasts")).remember and not calls.ask(get(b"a", "ends")).remember
        assert calls.ask(get(b"", "lasts", kv.LIST)).filtered
        assert not calls.ask(get(b"", "", kv.LIST)).filtered

    asyncio.run(scene())


def test_a_transaction_that_writes_gives_back_what_may_be_read() -> None:
    async def scene() -> None:
        calls = leading(Known(writes=judge(WRITE_A)))
        apply(calls.store, 1, commands.kvs("set", b"secret", b"v"))
        ops = [TxnOp(kv=TxnKVOp("set", DirEntry(b"a", b"v"))), TxnOp(kv=TxnKVOp("get-tree", DirEntry(b"s")))]
        command = Command(txn.APPLY, TxnRequest("dc1", ops, "writes"), no_reply)
        told: list[Any] = []
        calls.tell(command, told.append)
        for response in (told[0], cast(Any, await calls.apply(command))):
            assert [one.kv.key for one in response.results] == [b"a"]

    asyncio.run(scene())


# --- between agents -----------------------------------------------------------------------------------


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("method", ["KVS.List", "Catalog.ListNodes", "Session.List", "ConfigEntry.List"])
def test_a_reply_says_that_it_was_filtered(method: str, filtered: bool) -> None:
    """A server of Consul 1.9 does not, and reads replies that do."""
    remote: Any = REMOTES[method]
    value: Any = []
    if method.startswith("ConfigEntry"):
        from core.api.config_entry import KindEntries

        value = KindEntries("service-defaults", [])
    sent = remote.reply(Answer(7, value, filtered=filtered))
    came = remote.answer(msgpack.decode(msgpack.encode(sent)))
    assert came.filtered is filtered
    if isinstance(sent, dict):
        assert ("ResultsFilteredByACLs" in sent) is filtered and list(sent) == sorted(sent)
        long = b"".join(remote.pieces(Answer(7, value, filtered=filtered)))
        assert remote.answer(msgpack.decode(long)).filtered is filtered


@pytest.mark.parametrize("name", ["a", 'quo"te', "No cluster leader", "rate limit exceeded", "\udcff\n"])
def test_a_refusal_travels_as_it_is(name: str) -> None:
    with pytest.raises(Denied) as refused:
        judge(READ_A).require("key", name + "x", "write")
    text = refused.value.text
    came = from_remote(text)
    assert (type(came), came.text) == (Denied, text) and '"here"' in text


# --- answers kept -------------------------------------------------------------------------------------


def test_what_is_kept_current_is_dropped_when_the_token_may_not_any_more() -> None:
    async def scene() -> None:
        refuses = asyncio.Event()
        asked: list[str] = []

        async def read(question: Question) -> Answer:
            asked.append(question.options.token)
            if question.options.min_query_index:
                await refuses.wait()
                raise Denied("ACL not found")
            if refuses.is_set():
                raise Denied("ACL not found")
            return Answer(5, question.options.token)

        cache = Cache(read, World(1))
        for token in ("x", "y"):
            assert (await cache.get(get(b"a", token)))[0].value == token, "no token gets another one's answer"
        assert {"x", "y"} == set(asked)
        refuses.set()
        await until(lambda: not len(cache))
        with pytest.raises(Denied):
            await cache.get(get(b"a", "x"))
        cache.stop()

    asyncio.run(scene())


def test_names_for_a_token_that_ends_are_not_remembered() -> None:
    async def scene() -> None:
        store = Store()
        service = NodeService(id="web", service="web", address="127.0.0.9")
        request = RegisterRequest(datacenter="dc1", node="n", address="127.0.0.8", service=service)
        apply(store, 1, commands.register(request))
        rules = 'node "n" { policy = "read" } service "web" { policy = "read" }'
        now: dict[str, Judge | None] = {"judge": judge(rules, expires=9e9)}
        asked: list[bytes] = []
        query = b"\0\1\1\0\0\1\0\0\0\0\0\0\3web\7service\6consul\0\0\1\0\1"

        def names() -> Authorizer | None:
            found = now["judge"]
            if found is None:
                raise Denied("ACL not found")
            return found

        server = DnsServer(store, DnsSettings(), World(1), judge=names)
        steps = ((now["judge"], 0, 1), (judge("", expires=9e9), 3, 0), (None, 2, 0))
        for found, code, answers in steps:
            now["judge"] = found
            server.respond(query, True, asked.append, "127.0.0.1")
            assert (asked[-1][3] & 15, asked[-1][7]) == (code, answers)
        now["judge"] = judge(rules)
        for _ in range(2):
            server.respond(query, True, asked.append, "127.0.0.1")
            assert asked[-1][7] == 1
            now["judge"] = judge("")  # remembered, until it is told that rights have changed
        server.forget()
        server.respond(query, True, asked.append, "127.0.0.1")
        assert asked[-1][3] & 15 == 3

    asyncio.run(scene())


# --- anti-entropy -------------------------------------------------------------------------------------


class TokenCatalog(FakeCatalog):
    """Takes what comes with a token that it knows, and notes which that was."""

    def __init__(self, *known: str) -> None:
        super().__init__()
        self.known = set(known)
        self.came: list[tuple[str, str]] = []
        self.tries = 0

    def _check(self, what: str, token: str) -> None:
        self.tries += 1
        if token not in self.known:
            raise Denied("ACL not found")
        self.came.append((what, token))

    async def register(self, request: RegisterRequest) -> None:
        checks = request.checks or ([request.check] if request.check else [])
        what = request.service.id if request.service else "+".join(check.check_id for check in checks)
        self._check(what or "node", request.token)
        await super().register(request)

    async def deregister(self, request: DeregisterRequest) -> None:
        self._check(f"-{request.service_id or request.check_id}", request.token)
        await super().deregister(request)


def agent_with(catalog: FakeCatalog, agent_token: str = "agent", **kinds: str) -> FakeAgent:
    agent = FakeAgent(catalog=catalog)
    agent.tokens.for_agent = agent_token
    agent.tokens.kinds = kinds
    return agent


FILE = ServiceDefinition(name="file")
OWN = ServiceDefinition(name="own", token="own")
TTL = CheckDefinition(id="c", name="c", ttl=600_000_000_000)


@pytest.mark.parametrize(
    ("kinds", "file", "api"),
    [
        ({"config_file_service_registration": "files", "default": "default"}, "files", "default"),
        ({"default": "default"}, "default", "default"),
        ({}, "agent", "agent"),
    ],
)
def test_what_is_pushed_comes_with_the_token_for_it(kinds: dict[str, str], file: str, api: str) -> None:
    async def scene() -> None:
        catalog = TokenCatalog("agent", "own", "files", "default", "mine")
        agent = agent_with(catalog, **kinds)
        await agent.local.start([FILE, OWN], [TTL])
        await agent.local.add_service(ServiceDefinition(name="api"), False, "")
        await agent.local.add_service(ServiceDefinition(name="given"), False, "mine")
        await until(lambda: agent.local.state.in_sync() and "given" in catalog.services)
        assert dict(catalog.came) == {
            "node": "agent",
            "file": file,
            "own": "own",
            "c": file,
            "api": api,
            "given": "mine",
        }
        await agent.local.stop()

    asyncio.run(scene())


def test_a_token_that_is_gone_does_not_keep_what_came_with_it() -> None:
    async def scene() -> None:
        catalog = TokenCatalog("agent", "mine")
        agent = agent_with(catalog)
        await agent.local.start([], [])
        await agent.local.add_service(ServiceDefinition(name="web"), False, "mine")
        await agent.local.add_check(TTL, "mine")
        await until(lambda: "web" in catalog.services and "c" in catalog.checks)
        catalog.known.discard("mine")
        await agent.local.remove_service("web")
        await agent.local.remove_check("c")
        await until(lambda: not catalog.services and not catalog.checks)
        assert catalog.came[-2:] == [("-web", "agent"), ("-c", "agent")]
        await agent.local.stop()

    asyncio.run(scene())


def test_what_is_refused_is_tried_again_with_a_look_and_not_with_every_change() -> None:
    """Also what should go and may not, with no token of the agent's own either."""

    async def scene() -> None:
        catalog = TokenCatalog("agent", "mine", "other")
        agent = agent_with(catalog)
        await agent.local.start([], [])
        await agent.local.add_service(ServiceDefinition(name="web"), False, "mine")
        await until(lambda: "web" in catalog.services)
        catalog.known -= {"mine", "agent"}
        await agent.local.remove_service("web")
        await until(lambda: catalog.tries >= 4)
        before = catalog.tries
        await agent.local.add_service(ServiceDefinition(name="new"), False, "other")
        await until(lambda: "new" in catalog.services)
        assert catalog.tries == before + 1 and "web" in catalog.services
        catalog.known.add("agent")
        agent.local.server_up()
        await until(lambda: "web" not in catalog.services, 3.0)
        await agent.local.stop()

    asyncio.run(scene())


# --- archives -----------------------------------------------------------------------------------------


def test_an_archive_needs_the_right_to_manage_acls_also_over_the_wire(tmp_path: Path) -> None:
    async def scene() -> None:
        net = Network(None, "a")
        host = await net.start()
        manages, operates = judge('acl = "write"'), judge('acl = "read" operator = "write"')
        permissions = Known(manages=manages, operates=operates)
        host.archives._permissions = lambda: permissions
        saved = await host.archives.save("dc1", False, "manages")
        archive = b"".join([piece async for piece in saved.stream])
        server = net.address_of("a", "")
        assert server is not None
        dialer = host.archives._dialer
        for token, text in (("operates", "acl:write"), ("", "acl:write"), ("unknown", "ACL not found")):
            for stale in (False, True):
                with pytest.raises(Denied, match=text):
                    await host.archives.save("dc1", stale, token)
            with pytest.raises(Denied, match=text):
                await host.archives.restore(archive, "dc1", token)
            with pytest.raises(Denied, match=text):
                await snapshot_rpc.save(dialer, server, "dc1", False, token)
            with pytest.raises(Denied, match=text):
                await snapshot_rpc.restore(dialer, server, "dc1", token, archive)
        await host.archives.restore(archive, "dc1", "manages")
        await net.stop()

    asyncio.run(scene())


def test_reads_of_anti_entropy_come_with_the_agents_token() -> None:
    from agent.sync import CallsCatalog

    async def scene() -> None:
        calls = leading(
            Known(agent=judge('node "n" { policy = "read" } service_prefix "" { policy = "read" }'))
        )
        request = RegisterRequest(
            datacenter="dc1", node="n", address="x", service=NodeService(service="web", id="web")
        )
        apply(calls.store, 1, commands.register(request))
        for token, seen in (("agent", ["web"]), ("", [])):
            door = CallsCatalog(calls, lambda token=token: token)  # type: ignore[misc]
            assert [one.id for one in (await door.node_services("n"))[1]] == seen
            assert await door.node_checks("n") == []
        command = Command(catalog.REGISTER, request, no_reply)
        with pytest.raises(Denied):
            await calls.apply(command)

    asyncio.run(scene())
