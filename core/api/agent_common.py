"""What the agent's endpoints share: short replies, and the forms of local services and checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from core.acl.access import UNLIMITED, Authorizer
from core.api import filter, permits, render
from core.api.endpoint import TEXT, AgentDoor, Reply, Request
from core.api.filter_fields import NoSuchField
from core.codec import gojson
from core.codec.duration import quote
from core.errors import BadRequest, Invalid
from core.store.structs import NodeService

_Item = TypeVar("_Item")

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


def done() -> Reply:
    """A write that succeeded: 200 and nothing else."""
    return Reply()


def refuse(status: int, text: str) -> Reply:
    """An error that is no question's: without the headers of one."""
    return Reply(status, text.encode("utf-8", "replace"), TEXT)


def flag(request: Request, name: str) -> bool:
    """A boolean parameter that must be there. BadRequest has Consul's text."""
    if not request.query.has(name):
        raise BadRequest(f"Missing value for {name}")
    value = request.query.get(name)
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise BadRequest(f"Invalid value for {name}: {quote(value)}")


def filtered(request: Request, hidden: bool) -> dict[str, str]:
    """The header that says that the token may not see all, where something was `hidden` from it. Who has
    no token is not told (as for what servers answer, agent/calls.py)."""
    return {"X-Consul-Results-Filtered-By-ACLs": "true"} if hidden and request.token else {}


def own_token(agent: AgentDoor, request: Request) -> str:
    """The token that a registration keeps: that of the request (one in its body is for definitions in
    files). The agent's default token is not kept, so that the registration lives on when the agent has
    another one."""
    if request.authorizer is not UNLIMITED and request.token == agent.tokens.secret("default"):
        return ""
    return request.token


async def judge_anew(agent: AgentDoor, request: Request) -> None:
    """After a wait: the token may be another one by now. Denied when there is none of it any more."""
    if agent.permissions is not None:
        request.authorizer = await agent.permissions.find(request.token)


def may_write_check(request: Request, agent: AgentDoor, service: str) -> None:
    """Denied unless the checks of a service, or with "" those of the node, may be written."""
    if service:
        permits.require_write(request.authorizer, "service", service)
    else:
        permits.require_write(request.authorizer, "node", agent.node_name)


def listing(
    request: Request,
    all_found: dict[str, _Item],
    sees: Callable[[Authorizer, _Item], bool],
    kind: str,
    show: Callable[[_Item], render.Json],
) -> Reply:
    """Things of this agent by id: those that the token may see and that pass the request's filter for
    objects of `kind`."""
    found = {name: item for name, item in all_found.items() if sees(request.authorizer, item)}
    headers = filtered(request, len(found) < len(all_found))
    expression = request.query.get("filter")
    if expression:
        try:
            keep = filter.compile(expression, kind)
        except NoSuchField as error:
            if kind != "health_check":
                return refuse(500, error.text)
            if found:  # for an agent's checks Consul notices when it looks at the first
                return refuse(500, error.bare)
            return Reply(body=b"{}", headers=headers)
        except Invalid as error:
            return refuse(500, error.text)
        found = {name: item for name, item in found.items() if keep(item)}
    return Reply(body=gojson.encode({name: show(item) for name, item in found.items()}), headers=headers)


def agent_service(service: NodeService, datacenter: str, content_hash: str = "") -> render.Json:
    """api.AgentService."""
    out: render.Json = {"Kind": service.kind} if service.kind else {}
    out["ID"] = service.id
    out["Service"] = service.service
    out["Tags"] = service.tags or []
    out["Meta"] = dict(sorted((service.meta or {}).items()))
    out["Port"] = service.port
    out["Address"] = service.address
    if service.tagged_addresses:
        out["TaggedAddresses"] = render.addresses(service.tagged_addresses)
    out["Weights"] = render.weights(service.weights)
    out["EnableTagOverride"] = service.enable_tag_override
    if content_hash:
        out["ContentHash"] = content_hash
    if service.proxy and (service.kind == "connect-proxy" or service.kind.endswith("-gateway")):
        out["Proxy"] = service.proxy
    if service.connect and service.connect.get("Native"):
        out["Connect"] = {"Native": True}
    out["Datacenter"] = datacenter
    return out
