"""Serf queries: `POST /v1/internal/query/NAME`, an endpoint of our own. The agent asks the members of its
gossip pool, and each ack and answer is told as it comes, a JSON document on a line:

    {"Type":"ack","From":"n1"}
    {"Type":"response","From":"n1","Payload":"bG9hZCAwLjQy"}      (base64)
    {"Type":"done","Acks":2,"Responses":1}

Like a user event, a query makes others act on a name, so it takes `event:write` on its name. Names that
begin with `_serf_` are Serf's own: but for the ping, which only wants acks, they are refused, as operations
on keys have an endpoint and a right of their own."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol, cast

from core.api.blocking import parse_uint
from core.api.endpoint import AgentDoor, Outcome, Reply, Request, Route
from core.codec import duration, gojson, regex
from core.codec.regex import RegexError
from core.errors import BadRequest, Invalid
from core.gossip.asking import INTERNAL, PING
from core.gossip.member import QueryResponse

LINES = "application/x-ndjson"
LONGEST = 10 * duration.MINUTE
_MOST_RELAYS = 255


class _Pool(Protocol):
    def query(
        self,
        name: str,
        payload: bytes = b"",
        *,
        nodes: Sequence[str] = (),
        tags: Mapping[str, str] = {},
        ack: bool = False,
        relay_factor: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[QueryResponse]: ...


class _Agent(Protocol):
    @property
    def pool(self) -> _Pool: ...


def ask(agent: AgentDoor, request: Request) -> Outcome:
    """`POST /v1/internal/query/NAME`: the body is the payload. `node` (repeated) and `tag=KEY=REGEXP`
    (repeated) say who is asked, `timeout` how long answers are waited for, `relay-factor` by how many
    others answers come, too; `no-ack` leaves out the acks."""
    name, query = request.rest, request.query
    if not name:
        raise BadRequest("Missing query name")
    if name.startswith(INTERNAL) and name != PING:
        raise BadRequest(f"{name} is a query of Serf's own; keys are changed by /v1/operator/keyring")
    request.authorizer.require("event", name, "write")
    answers = cast(_Agent, agent).pool.query(
        name,
        request.body,
        nodes=query.all("node"),
        tags=dict(map(_tag, query.all("tag"))),
        ack=not query.has("no-ack"),
        relay_factor=_relays(query.get("relay-factor")),
        timeout=_timeout(query.get("timeout")),
    )
    return _begun(answers)


def _tag(text: str) -> tuple[str, str]:
    tag, equals, expression = text.partition("=")
    if not tag or not equals:
        raise BadRequest(f"Invalid tag filter {duration.quote(text)}: must be KEY=REGEXP")
    try:
        regex.compile(expression)
    except RegexError as error:
        raise BadRequest(f"Invalid filter of the tag {tag}: {error}") from None
    return tag, expression


def _relays(text: str) -> int:
    try:
        count = parse_uint(text) if text else 0
    except ValueError as error:
        raise BadRequest(f"Invalid relay-factor: {error}") from None
    if count > _MOST_RELAYS:
        raise BadRequest(f"Invalid relay-factor: {count} is more than {_MOST_RELAYS}")
    return count


def _timeout(text: str) -> float | None:
    if not text:
        return None
    try:
        timeout = duration.parse(text)
    except ValueError as error:
        raise BadRequest(f"Invalid timeout: {error}") from None
    if not 0 < timeout <= LONGEST:
        raise BadRequest(f"Invalid timeout: {text} is not between 0s and {duration.show(LONGEST)}")
    return timeout / duration.SECOND


async def _begun(answers: AsyncIterator[QueryResponse]) -> Reply:
    """The query is sent when the first answer is here, or nobody has answered in time; what is refused is
    refused before anything was said."""
    try:
        first = await anext(answers, None)
    except Invalid as error:
        raise BadRequest(str(error)) from None
    return Reply(content_type=LINES, stream=_lines(first, answers))


async def _lines(first: QueryResponse | None, answers: AsyncIterator[QueryResponse]) -> AsyncIterator[bytes]:
    acks = responses = 0
    answer = first
    while answer is not None:
        if answer.payload is None:
            acks += 1
            yield _line({"Type": "ack", "From": answer.source})
        else:
            responses += 1
            payload = base64.b64encode(answer.payload).decode("ascii")
            yield _line({"Type": "response", "From": answer.source, "Payload": payload})
        answer = await anext(answers, None)
    yield _line({"Type": "done", "Acks": acks, "Responses": responses})


def _line(document: dict[str, Any]) -> bytes:
    return gojson.encode(document) + b"\n"


ROUTES = (Route("/v1/internal/query/", ("POST", "PUT"), ask, guarded=True),)
