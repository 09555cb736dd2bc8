"""`ctl acl token read -expanded`: a token with all the rules that decide for it."""

from __future__ import annotations

from msgspec import Struct, convert

from cli.aclview import datacenters, template_variable, token_head
from core.acl.identities import node_policy, service_policy, templated_policy
from core.errors import CtlError
from core.store.acl_structs import ACLNodeIdentity, ACLServiceIdentity, ACLTemplatedPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Json = dict[str, Any]


def expanded_text(token: Json, meta: bool) -> str:
    """The token, the rules of its policies and roles, and what holds where no rule speaks."""
    policies = {policy["ID"]: policy for policy in token.get("ExpandedPolicies") or ()}
    lines = [*token_head(token, meta), *_grants(token, policies)]
    roles = token.get("ExpandedRoles") or ()
    if roles:
        lines.append("Roles:")
    for role in roles:
        head = [f"\tID: {role['ID']}", f"\tDescription: {role['Description']}"]
        grants = _tabbed(_grants(role, policies))
        lines += _tabbed([f"Role Name: {role['Name']}", *head, *grants])
    if token.get("Rules"):
        lines += ["Rules:", token["Rules"]]
    for title, field in (
        ("Default Policy:", "AgentACLDefaultPolicy"),
        ("Down Policy:", "AgentACLDownPolicy"),
        ("Resolved By Agent:", "ResolvedByAgent"),
    ):
        lines.append(f"{title:<19}{token.get(field, '')}")
    return "\n".join(lines) + "\n"


def _grants(owner: Json, policies: dict[str, Json]) -> list[str]:
    """Policies, identities and templates of a token or a role, each with its rules."""
    lines = ["Policies:"] if owner.get("Policies") else []
    for link in owner.get("Policies") or ():
        policy = policies.get(link["ID"], {})
        head = [f"Policy Name: {link['Name']}", f"\tID: {link['ID']}"]
        lines += _entry([*head, f"\tDescription: {policy.get('Description', '')}"], policy.get("Rules", ""))
    lines += _identities(owner, "ServiceIdentities", ACLServiceIdentity, service_policy)
    lines += _identities(owner, "NodeIdentities", ACLNodeIdentity, node_policy)
    lines += _identities(owner, "TemplatedPolicies", ACLTemplatedPolicy, templated_policy)
    return lines


def _identities(owner: Json, field: str, kind: type[Struct], policy: Callable[[Any], Any]) -> list[str]:
    found = owner.get(field) or ()
    lines = [_TITLES[field]] if found else []
    for one in found:
        try:
            rules = policy(convert(one, kind)).rules
        except CtlError as error:  # a template of a newer version
            rules = f"# {error}"
        lines += _entry(_HEADS[field](one), rules)
    return lines


_TITLES = {
    "ServiceIdentities": "Service Identities:",
    "NodeIdentities": "Node Identities:",
    "TemplatedPolicies": "Templated Policies:",
}


def _templated_head(one: Json) -> list[str]:
    name = template_variable(one)
    variable = [f"\tName: {name}"] if name else []
    return [one["TemplateName"], *variable, f"\tDatacenters: {datacenters(one)}"]


_HEADS: dict[str, Callable[[Json], list[str]]] = {
    "ServiceIdentities": lambda one: [f"Name: {one['ServiceName']} (Datacenters: {datacenters(one)})"],
    "NodeIdentities": lambda one: [f"Name: {one['NodeName']} (Datacenter: {one['Datacenter']})"],
    "TemplatedPolicies": _templated_head,
}


def _entry(head: list[str], rules: str) -> list[str]:
    """One grant, with an empty line after its rules."""
    body = [f"\t\t{line}" for line in rules.strip().splitlines()]
    return [*_tabbed([*head, "\tRules:", *body]), ""]


def _tabbed(lines: list[str]) -> list[str]:
    return ["\t" + line if line else "" for line in lines]
