"""ACL objects as Consul's JSON: key order and what is left out while empty as its structs have them."""

from __future__ import annotations

from typing import Any

from core.api.acl_requests import ACLAuthMethodListStub, ACLPolicyListStub, ACLTokenListStub
from core.api.acl_shapes import show_time
from core.codec import duration
from core.store.acl_structs import (
    ACLAuthMethod,
    ACLBindingRule,
    ACLPolicy,
    ACLRole,
    ACLTemplatedPolicy,
    ACLToken,
    LegacyACL,
)

Json = dict[str, Any]


def _indexes(row: Any) -> Json:
    return {"CreateIndex": row.create_index, "ModifyIndex": row.modify_index}


def _present(**fields: Any) -> Json:
    """Those that are not empty."""
    return {name: value for name, value in fields.items() if value}


def _templated(one: ACLTemplatedPolicy) -> Json:
    variables = one.template_variables
    return _present(
        TemplateName=one.template_name,
        TemplateVariables={"Name": variables.name} if variables is not None else None,
        Datacenters=one.datacenters,
    )


def _gives(row: ACLToken | ACLTokenListStub | ACLRole) -> Json:
    """What tokens and roles have in common."""
    links = [{"ID": link.id, "Name": link.name} for link in row.policies or ()]
    services = [
        {"ServiceName": one.service_name, **_present(Datacenters=one.datacenters)}
        for one in row.service_identities or ()
    ]
    nodes = [{"NodeName": one.node_name, "Datacenter": one.datacenter} for one in row.node_identities or ()]
    return {
        "Policies": links,
        "ServiceIdentities": services,
        "NodeIdentities": nodes,
        "TemplatedPolicies": [_templated(one) for one in row.templated_policies or ()],
    }


def _token_parts(row: ACLToken | ACLTokenListStub) -> tuple[Json, Json]:
    """What comes before and after the rules."""
    gives = _gives(row)
    roles = [{"ID": link.id, "Name": link.name} for link in row.roles or ()]
    before = {
        "Description": row.description,
        **_present(Policies=gives.pop("Policies"), Roles=roles),
        **_present(**gives),
    }
    expires = show_time(row.expiration_time) if row.expiration_time else None
    after = {
        "Local": row.local,
        **_present(AuthMethod=row.auth_method, ExpirationTime=expires),
        "CreateTime": show_time(row.create_time),
        "Hash": row.hash,
        **_indexes(row),
    }
    return before, after


def token(row: ACLToken) -> Json:
    """structs.ACLToken."""
    before, after = _token_parts(row)
    ids = {"AccessorID": row.accessor_id, "SecretID": row.secret_id}
    return {**ids, **before, **_present(Rules=row.rules), **after}


def token_stub(row: ACLTokenListStub) -> Json:
    """structs.ACLTokenListStub: without secret and rules."""
    before, after = _token_parts(row)
    return {"AccessorID": row.accessor_id, **before, **after, **_present(Legacy=row.legacy)}


def policy(row: ACLPolicy) -> Json:
    """structs.ACLPolicy."""
    return {
        "ID": row.id,
        "Name": row.name,
        "Description": row.description,
        "Rules": row.rules,
        **_present(Datacenters=row.datacenters),
        "Hash": row.hash,
        **_indexes(row),
    }


def policy_stub(row: ACLPolicyListStub) -> Json:
    """structs.ACLPolicyListStub: without rules."""
    return {
        "ID": row.id,
        "Name": row.name,
        "Description": row.description,
        "Datacenters": row.datacenters,
        "Hash": row.hash,
        **_indexes(row),
    }


def role(row: ACLRole) -> Json:
    """structs.ACLRole."""
    return {
        "ID": row.id,
        "Name": row.name,
        "Description": row.description,
        **_present(**_gives(row)),
        "Hash": row.hash,
        **_indexes(row),
    }


def _method_head(row: ACLAuthMethod | ACLAuthMethodListStub) -> Json:
    return {
        **_present(MaxTokenTTL=duration.show(row.max_token_ttl) if row.max_token_ttl else ""),
        "Name": row.name,
        "Type": row.type,
        **_present(DisplayName=row.display_name, Description=row.description),
        **_present(TokenLocality=row.token_locality),
    }


def auth_method(row: ACLAuthMethod) -> Json:
    """structs.ACLAuthMethod."""
    head = {**_method_head(row), **_present(TokenNameFormat=row.token_name_format)}
    return {**head, "Config": _sorted(row.config), **_indexes(row)}


def _sorted(value: Any) -> Any:
    """Maps by key, as Go writes them."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value


def auth_method_stub(row: ACLAuthMethodListStub) -> Json:
    """structs.ACLAuthMethodListStub: without the configuration, which may hold secrets."""
    return {**_method_head(row), **_indexes(row)}


def binding_rule(row: ACLBindingRule) -> Json:
    """structs.ACLBindingRule."""
    variables = row.bind_vars
    return {
        "ID": row.id,
        "Description": row.description,
        "AuthMethod": row.auth_method,
        "Selector": row.selector,
        "BindType": row.bind_type,
        "BindName": row.bind_name,
        **_present(BindVars={"Name": variables.name} if variables is not None else None),
        **_indexes(row),
    }


def legacy(row: LegacyACL) -> Json:
    """structs.ACL."""
    return {"ID": row.id, "Name": row.name, "Type": row.type, "Rules": row.rules, **_indexes(row)}
