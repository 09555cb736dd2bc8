"""The HTTP API for the agent's own use: a GET without sockets, judged by its token like any other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from agent.target import Target
from core.api.endpoint import Question, Reply, Request
from core.errors import NotFound

if TYPE_CHECKING:
    from agent.front import Front


class Found(Struct):
    """A reply: its status, X-Consul-Index (0: none) and body."""

    status: int
    index: int
    body: bytes


async def get(front: Front, target: str, token: str) -> Found:
    """Ask for `target` (`/v1/kv/a?raw`), waiting as its parameters say. Raises CtlError."""
    meant = Target(target.encode("ascii"), front.router, ())
    if meant.route is None or meant.query is None:
        raise NotFound(f"no such endpoint: {target}")
    permissions = front.calls.permissions
    if permissions is not None:
        token = permissions.token(token)
    request = Request("GET", meant.path, meant.rest, meant.query, {}, b"", token)
    if permissions is not None and meant.route.guarded:
        request.authorizer = await permissions.find(token)
    reply = await front.carry_out(meant.route.handler(front.agent, request), partial(_read, front))
    return Found(reply.status, reply.index, reply.body or b"")


async def _read(front: Front, question: Question) -> Reply:
    answer = await front.calls.read(question)
    reply = question.render(answer)
    return Reply(reply.status, reply.body, index=max(answer.index, 1))
