"""Shorthands for policies: service identities, node identities and templated policies become policies of
their own, with the names and ids that Consul gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from msgspec import Struct

from core.codec.duration import quote
from core.errors import Invalid
from core.store.acl_structs import (
    ACLNodeIdentity,
    ACLPolicy,
    ACLRole,
    ACLServiceIdentity,
    ACLTemplatedPolicy,
    ACLToken,
)

_SERVICE = """
service {name} {{
	policy = "write"
}}
service {sidecar} {{
	policy = "write"
}}
service_prefix "" {{
	policy = "read"
}}
node_prefix "" {{
	policy = "read"
}}"""
_NODE = """
node {name} {{
	policy = "write"
}}
service_prefix "" {{
	policy = "read"
}}"""
_DNS = """
node_prefix "" {{
	policy = "read"
}}
service_prefix "" {{
	policy = "read"
}}
query_prefix "" {{
	policy = "read"
}}"""
_NOMAD_SERVER = """
acl = "write"
agent_prefix "" {{
	policy = "read"
}}
node_prefix "" {{
	policy = "read"
}}
service_prefix "" {{
	policy = "write"
}}"""
_NOMAD_CLIENT = """
agent_prefix "" {{
	policy = "read"
}}
node_prefix "" {{
	policy = "read"
}}
service_prefix "" {{
	policy = "write"
}}
key_prefix "" {{
	policy = "read"
}}"""
_API_GATEWAY = """
mesh = "read"
node_prefix "" {{
	policy = "read"
}}
service_prefix "" {{
	policy = "read"
}}
service {name} {{
	policy = "write"
}}"""


class Template(Struct, frozen=True):
    """A built-in template of policies."""

    id: str
    name: str
    text: str
    needs_name: bool
    description: str

    def rules(self, name: str) -> str:
        """The rules for `name`. Invalid when the name is missing, or there should be none."""
        if self.needs_name and not name:
            raise Invalid(f"templated policy {self.name} needs the variable Name")
        if name and not self.needs_name:
            raise Invalid(f"templated policy {self.name} has no variables")
        return self.text.format(name=quote(name), sidecar=quote(f"{name}-sidecar-proxy"))


_ID = "00000000-0000-0000-0000-00000000000"
TEMPLATES = {
    template.name: template
    for template in (
        Template(_ID + "3", "builtin/service", _SERVICE, True, "Gives a service what it needs to register."),
        Template(_ID + "4", "builtin/node", _NODE, True, "Gives a node what its agent needs."),
        Template(_ID + "5", "builtin/dns", _DNS, False, "Gives what DNS needs to answer."),
        Template(_ID + "6", "builtin/nomad-server", _NOMAD_SERVER, False, "Gives a Nomad server its rights."),
        Template(_ID + "8", "builtin/api-gateway", _API_GATEWAY, True, "Gives an API gateway its rights."),
        Template(_ID + "9", "builtin/nomad-client", _NOMAD_CLIENT, False, "Gives a Nomad client its rights."),
    )
}


def service_policy(identity: ACLServiceIdentity) -> ACLPolicy:
    """What a service needs to register and to find others."""
    return _synthetic(TEMPLATES["builtin/service"].rules(identity.service_name), identity.datacenters)


def node_policy(identity: ACLNodeIdentity) -> ACLPolicy:
    """What the agent of a node needs, in its datacenter."""
    return _synthetic(TEMPLATES["builtin/node"].rules(identity.node_name), [identity.datacenter])


def templated_policy(templated: ACLTemplatedPolicy) -> ACLPolicy:
    """What a template gives. Invalid where there is none of that name, or its variables are wrong."""
    template = TEMPLATES.get(templated.template_name)
    if template is None:
        raise Invalid(f"no such ACL templated policy with Name {quote(templated.template_name)}")
    name = templated.template_variables.name if templated.template_variables else ""
    return _synthetic(template.rules(name), templated.datacenters, template.name)


def synthetic_policies(owner: ACLToken | ACLRole) -> Iterator[ACLPolicy]:
    """The policies that the identities and templates of a token or role stand for."""
    for service in owner.service_identities or ():
        if service.service_name:
            yield service_policy(service)
    for node in owner.node_identities or ():
        if node.node_name:
            yield node_policy(node)
    for templated in owner.templated_policies or ():
        if templated.template_name in TEMPLATES:  # others are of a newer version
            yield templated_policy(templated)


def in_datacenter(datacenters: Sequence[str] | None, datacenter: str) -> bool:
    """Whether a policy that is scoped so holds there; one without scope holds everywhere."""
    return not datacenters or datacenter in datacenters


def _synthetic(rules: str, datacenters: list[str] | None, template: str = "") -> ACLPolicy:
    digest = _fnv128a(rules)
    what = f" generated from templated policy: {template}" if template else ""
    return ACLPolicy(
        id=digest,
        name=f"synthetic-policy-{digest}",
        description=f"synthetic policy{what}",
        rules=rules,
        datacenters=datacenters,
    )


@lru_cache(maxsize=4096)
def _fnv128a(text: str) -> str:
    """FNV-1a of 128 bits, as hex."""
    value = 0x6C62272E07BB014262B821756295C58D
    for byte in text.encode("utf-8", "surrogateescape"):
        value = (value ^ byte) * 0x0000000001000000000000000000013B & (1 << 128) - 1
    return f"{value:032x}"
