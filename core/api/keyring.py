"""The gossip keys: `/v1/operator/keyring`, and the errand Internal.KeyringOperation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol, cast

from msgspec import Struct, field
from msgspec.structs import replace

from core.acl.access import Authorizer
from core.api.endpoint import (
    Action,
    AgentDoor,
    Errand,
    GossipDoor,
    Outcome,
    Reply,
    Request,
    Route,
    ServerDoor,
)
from core.codec import gojson
from core.codec.duration import quote
from core.codec.gojson import JsonError
from core.codec.shapes import ANY, STRING, Object, fit
from core.errors import BadRequest, CtlError, Invalid, Unavailable
from core.store.structs import go_name

LIST, INSTALL, USE, REMOVE = "list", "install", "use", "remove"
MAX_RELAY_FACTOR = 5

_OPERATIONS = {"GET": LIST, "POST": INSTALL, "PUT": USE, "DELETE": REMOVE}
_BODY = Object("agent.keyringArgs", {"Key": STRING, "Token": STRING, "RelayFactor": ANY, "LocalOnly": ANY})
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_INTEGER = re.compile(r"[+-]?[0-9]+")


class KeyringRequest(Struct, frozen=True, rename=go_name):
    """structs.KeyringRequest. `operation`: list, install, use or remove; `key` in base64.
    `forwarded`: another datacenter asked, so only the LAN pool is meant."""

    operation: str
    key: str = ""
    datacenter: str = ""
    forwarded: bool = False
    relay_factor: int = 0
    local_only: bool = False
    token: str = ""


class _Server(Protocol):
    """What is asked of a server beside the ServerDoor. agent/server.py fulfils it."""

    def other_datacenters(self) -> Sequence[str]:
        """Those that gossip knows, nearest first."""

    async def run_all(self, errands: Sequence[Errand]) -> Sequence[Any]:
        """Have actions done where their datacenters are, all at once: their results, or CtlErrors."""


class KeyringResponse(Struct, frozen=True, rename=go_name):
    """structs.KeyringResponse: what the members of one pool answered."""

    wan: bool = field(default=False, name="WAN")
    datacenter: str = ""
    segment: str = ""
    messages: dict[str, str] = {}
    keys: dict[str, int] = {}
    primary_keys: dict[str, int] = {}
    num_nodes: int = 0
    error: str = ""


async def _operate(server: ServerDoor, args: KeyringRequest) -> list[KeyringResponse]:
    """The operation in the WAN pool, in the LAN pool, and in those of all other datacenters
    (protocols/gossip.md 9.6)."""
    if args.operation not in _OPERATIONS.values():
        raise Invalid(f"Unrecognized keyring operation: {args.operation}")
    if args.local_only and args.operation != LIST:
        raise Invalid("argument error: LocalOnly can only be used for List operations")
    if args.forwarded or args.local_only or server.wan is None:
        return [await _in_pool(server, server.lan, args, wan=False)]
    first = await _in_pool(server, server.wan, args, wan=True)
    own = await _in_pool(server, server.lan, args, wan=False)
    return [first, own, *await _elsewhere(cast(_Server, server), args)]


async def _elsewhere(server: _Server, args: KeyringRequest) -> list[KeyringResponse]:
    """What one server of each other datacenter reports of its LAN pool. That it cannot be asked is its
    answer: the others' are not lost for it."""
    names = server.other_datacenters()
    errands = [
        Errand(OPERATE, replace(args, datacenter=name, forwarded=True), _done, name, args.token)
        for name in names
    ]
    found: list[KeyringResponse] = []
    for name, result in zip(names, await server.run_all(errands), strict=True):
        if isinstance(result, CtlError):
            found.append(KeyringResponse(datacenter=name, error=result.text))
        else:
            found += result
    return found


async def _in_pool(
    server: ServerDoor, pool: GossipDoor, args: KeyringRequest, *, wan: bool
) -> KeyringResponse:
    answer = await pool.keyring(args.operation, args.key, args.relay_factor)
    return KeyringResponse(
        wan=wan,
        datacenter=server.datacenter,
        messages=answer.messages,
        keys=answer.keys,
        primary_keys=answer.primary_keys,
        num_nodes=answer.nodes,
        error=answer.error,
    )


def _may_operate(authorizer: Authorizer, args: KeyringRequest) -> None:
    """Refused as something invalid, since that is what Consul's answer is to clients: 500."""
    if args.operation == LIST:
        if not authorizer.allows("keyring", "", "read"):
            raise Invalid("Reading keyring denied by ACLs")
    elif not authorizer.allows("keyring", "", "write"):
        raise Invalid("Modifying keyring denied due to ACLs")


OPERATE = Action("Internal.KeyringOperation", _operate, leader=False, permit=_may_operate)


def keyring(agent: AgentDoor, request: Request) -> Outcome:
    """`/v1/operator/keyring`: GET lists, POST installs, PUT uses, DELETE removes a key."""
    operation = _OPERATIONS[request.method]
    key = "" if operation == LIST else _key(request.body)
    relay_factor = _relay_factor(request)
    local_only = _local_only(request)
    if local_only and operation != LIST:
        raise BadRequest(
            "Bad request: Invalid use of local-only: local-only can only be set for list requests"
        )
    if not agent.self_description()["Config"]["Server"]:
        # A client agent is only asked for its own keys, by gossip (protocols/rpc.md section 6).
        raise Unavailable("keyring operations must run against a server node")
    token = request.token
    args = KeyringRequest(operation, key, agent.datacenter, False, relay_factor, local_only, token)
    return Errand(OPERATE, args, _listed if operation == LIST else _done, token=token)


def _key(body: bytes) -> str:
    try:
        fields = fit(gojson.decode(body), _BODY) or {}
    except JsonError as error:
        raise BadRequest(f"Bad request: Request decode failed: {error}") from None
    key: str = fields.get("Key", "")
    return key


def _relay_factor(request: Request) -> int:
    given = request.query.get("relay-factor")
    if not given:
        return 0
    if not _INTEGER.fullmatch(given):
        raise BadRequest(
            f"Bad request: Error parsing relay factor: strconv.Atoi: parsing {quote(given)}: invalid syntax"
        )
    if not 0 <= int(given) <= MAX_RELAY_FACTOR:
        raise BadRequest(
            f"Bad request: Invalid relay-factor: Relay factor must be in range: [0, {MAX_RELAY_FACTOR}]"
        )
    return int(given)


def _local_only(request: Request) -> bool:
    given = request.query.get("local-only")
    if given and given not in _TRUE + _FALSE:
        raise BadRequest(
            f"Bad request: Error parsing local-only: strconv.ParseBool: parsing {quote(given)}: "
            "invalid syntax"
        )
    return given in _TRUE


def _check(responses: Sequence[KeyringResponse]) -> None:
    """Invalid, with a line for every pool and every node that failed."""
    lines = []
    for response in responses:
        if response.error:
            pool = "WAN" if response.wan else f"{response.datacenter} (LAN)"
            lines.append(f"{pool} error: {response.error}")
            lines += [f"{node}: {text}" for node, text in sorted(response.messages.items())]
    if lines:
        count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
        raise Invalid(f"{count} occurred:\n\t* " + "\n\t* ".join(lines) + "\n\n")


def _done(responses: Sequence[KeyringResponse]) -> Reply:
    _check(responses)
    return Reply()


def _listed(responses: Sequence[KeyringResponse]) -> Reply:
    _check(responses)
    return Reply(body=gojson.encode([_show(response) for response in responses]))


def _show(response: KeyringResponse) -> dict[str, Any]:
    out: dict[str, Any] = {
        "WAN": response.wan,
        "Datacenter": response.datacenter,
        "Segment": response.segment,
    }
    if response.messages:
        out["Messages"] = dict(sorted(response.messages.items()))
    out["Keys"] = dict(sorted(response.keys.items()))
    out["PrimaryKeys"] = dict(sorted(response.primary_keys.items()))
    out["NumNodes"] = response.num_nodes
    return out


ROUTES = (Route("/v1/operator/keyring", tuple(_OPERATIONS), keyring),)
ACTIONS = (OPERATE,)
