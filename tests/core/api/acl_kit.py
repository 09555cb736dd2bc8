"""A server with ACLs that is only pretended, and requests to it: over HTTP, and the same by way of RPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, cast

from core.acl.access import Authorizer
from core.acl.builtin import anonymous_token, management_policy, management_token
from core.acl.resolve import Judges, expiry, not_found
from core.acl.settings import AclSettings
from core.api import acl
from core.api.acl_common import go_time
from core.api.endpoint import (
    AgentDoor,
    Answer,
    Errand,
    Outcome,
    Query,
    Question,
    Reply,
    Request,
    ServerDoor,
)
from core.api.remote import REMOTES
from core.api.router import Router
from core.codec import msgpack
from core.errors import CtlError, Unavailable, from_remote
from core.store import commands
from core.store.acl_structs import (
    ACLPolicy,
    ACLPolicyBatchSetRequest,
    ACLRole,
    ACLToken,
    ACLTokenBatchSetRequest,
)
from core.store.fsm import FSM
from core.store.view import Hooks

ROUTES = Router(acl.ROUTES)
ROOT = "11111111-2222-3333-4444-555555555555"
SETTINGS = AclSettings(enabled=True, default_policy="deny")


class Ids(Hooks):
    """Ids in order."""

    def __init__(self) -> None:
        self.last = 0

    def new_id(self) -> str:
        self.last += 1
        return f"aaaaaaaa-0000-0000-0000-{self.last:012x}"


class Raft:
    """A RaftDoor that applies at once."""

    def __init__(self, fsm: FSM) -> None:
        self._fsm = fsm
        self.index = 10
        self.entries: list[bytes] = []

    async def apply(self, data: bytes) -> object:
        self.index += 1
        self.entries.append(data)
        return self._fsm.apply(self.index, data)


class PretendedServer:
    """A ServerDoor, with its own permissions, on a clock that stands still."""

    datacenter = "dc1"

    def __init__(self, settings: AclSettings = SETTINGS) -> None:
        self.fsm = FSM()
        self.store = self.fsm.store
        self.store.hooks = Ids()
        self.raft = Raft(self.fsm)
        self.acl = settings
        self.now = 1_700_000_000.25
        self.reset = 0
        self.documents: dict[str, bytes] = {}
        self.fetched: list[tuple[str, bool]] = []
        self._judges = Judges(settings, "n1")
        created = go_time(self.now)
        self.put(commands.ACL_POLICY_SET, ACLPolicyBatchSetRequest([management_policy()]))
        tokens = [
            anonymous_token(created),
            management_token("11111111-0000-0000-0000-000000000000", ROOT, "Root", created),
        ]
        self.put(commands.ACL_TOKEN_SET, ACLTokenBatchSetRequest(tokens))

    def put(self, kind: int, request: Any) -> None:
        asyncio.run(self.raft.apply(commands.command(kind, request)))

    def wall(self) -> float:
        return self.now

    def bootstrap_reset_index(self) -> int:
        given, self.reset = self.reset, 0
        return given

    async def fetch(self, url: str, ca: str, fresh: bool = False) -> bytes:
        self.fetched.append((url, fresh))
        if url not in self.documents:
            raise Unavailable(f"{url}: HTTP Error 404: Not Found")
        return self.documents[url]

    # Permissions

    @property
    def permissions(self) -> PretendedServer:
        return self

    def known(self, token: str) -> Authorizer:
        row = self.store.token_by_secret(token or "anonymous")
        if row is None or 0 < expiry(row) <= self.now:
            raise not_found()
        return self._judges.of(row, self)

    async def find(self, token: str) -> Authorizer:
        return self.known(token)

    def role(self, role_id: str) -> ACLRole | None:
        return self.store.acl_roles.rows.get(role_id.lower())

    def policy(self, policy_id: str) -> ACLPolicy | None:
        return self.store.acl_policies.rows.get(policy_id.lower())

    # what agent/calls.py does

    async def carry_out(self, work: Any) -> Any:
        if isinstance(work, Question):
            return self.answer(work)
        action = work.action
        if action.permit is not None:
            action.permit(self.known(work.token), work.args)
        return await action.run(cast(ServerDoor, self), work.args)

    def answer(self, question: Question) -> Answer:
        read = question.read
        if read.permit is None:
            return read.run(self.store, question.args, None)
        authorizer = self.known(question.options.token)
        return read.permit(authorizer, question.args, read.run(self.store, question.args, None))


class Tokens:
    def __init__(self) -> None:
        self.given: dict[str, str] = {}

    async def set(self, kind: str, secret: str) -> None:
        self.given[kind] = secret


class Client:
    """An AgentDoor before the server; `remote`: everything goes as RPC, byte by byte."""

    node_name = "n1"
    datacenter = "dc1"

    def __init__(self, server: PretendedServer, remote: bool = False) -> None:
        self.server = server
        self.remote = remote
        self.acl = server.acl
        self.tokens = Tokens()

    def wall(self) -> float:
        return self.server.now

    async def ask(self, question: Question) -> Answer:
        answer: Answer = await self._done(question)
        return answer

    async def run(self, errand: Errand) -> Any:
        return await self._done(errand)

    async def _done(self, work: Any) -> Any:
        if not self.remote:
            return await self.server.carry_out(work)
        remote = REMOTES[work.read.rpc if isinstance(work, Question) else work.action.rpc]
        body = msgpack.decode(msgpack.encode(remote.request(work, "dc1")))
        try:
            outcome = await self.server.carry_out(remote.accept(body))
        except CtlError as error:
            raise from_remote(f"rpc error making call: {error}") from None
        return remote.answer(msgpack.decode(msgpack.encode(remote.reply(outcome))))

    def call(
        self,
        method: str,
        url: str,
        body: Any = None,
        token: str = ROOT,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """The reply to a request, errors too."""
        path, _, query = url.partition("?")
        found = ROUTES.find(path)
        assert found is not None, url
        route, rest = found
        assert method in route.methods, (method, url)
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        request = Request(method, path, rest, Query(query.encode()), headers or {}, raw, token)
        try:
            if route.guarded:
                request.authorizer = self.server.known(token)
            return asyncio.run(self._reply(route.handler(cast(AgentDoor, self), request)))
        except CtlError as error:
            return Reply(error.status, error.text.encode("utf-8", "replace"))

    async def _reply(self, outcome: Outcome) -> Reply:
        if isinstance(outcome, Reply):
            return outcome
        if isinstance(outcome, Question | Errand):
            return outcome.render(await self._done(outcome))
        assert isinstance(outcome, Awaitable)
        return await outcome

    def ok(self, method: str, url: str, body: Any = None, token: str = ROOT) -> Any:
        """The JSON of a reply that must be a good one."""
        reply = self.call(method, url, body, token)
        assert reply.status == 200, (reply.status, reply.body)
        return json.loads(reply.body) if reply.body else None

    def refused(self, method: str, url: str, body: Any = None, token: str = ROOT) -> str:
        """Status and text of a reply that must be a refusal."""
        reply = self.call(method, url, body, token)
        assert reply.status >= 400, (reply.status, reply.body)
        return f"{reply.status} {(reply.body or b'').decode()}".replace("rpc error making call: ", "")

    def policy(self, name: str, rules: str = "") -> str:
        """A policy; its id."""
        made: str = self.ok("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})["ID"]
        return made

    def token(self, *policies: str, **fields: Any) -> dict[str, Any]:
        """A token with policies by name."""
        links = [{"Name": name} for name in policies]
        made: dict[str, Any] = self.ok("PUT", "/v1/acl/token", {"Policies": links, **fields})
        return made

    def stored(self, accessor: str) -> ACLToken:
        row = self.server.store.token_by_accessor(accessor)
        assert row is not None
        return row
