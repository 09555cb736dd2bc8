"""Binding rules at work: what a login through an auth method is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct

from core.acl.identities import TEMPLATES
from core.acl.jwt import Identity
from core.api import filter
from core.api.acl_common import check_templated, good_identity_name, good_name
from core.codec.duration import quote
from core.errors import Invalid
from core.store.acl_structs import (
    ACLAuthMethod,
    ACLBindingRule,
    ACLLink,
    ACLNodeIdentity,
    ACLServiceIdentity,
    ACLTemplatedPolicy,
    ACLTemplateVariables,
)
from core.store.state import Store

KINDS = ("service", "node", "role", "policy", "templated-policy")
_PIECE = re.compile(r"\$\$\{|\$\{\s*([A-Za-z_][A-Za-z0-9_.]*)\s*\}|\$\{")


class _BadName(Invalid):
    """What comes out of a rule cannot be a name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"invalid bind name: {quote(name)}")
        self.name = name


class Bindings(Struct):
    """What the rules that matched give."""

    services: list[ACLServiceIdentity] = []
    nodes: list[ACLNodeIdentity] = []
    roles: list[ACLLink] = []
    policies: list[ACLLink] = []
    templated: list[ACLTemplatedPolicy] = []

    def __bool__(self) -> bool:
        return bool(self.services or self.nodes or self.roles or self.policies or self.templated)


def check(rule: ACLBindingRule, blank: Identity) -> None:
    """Invalid when a rule cannot work with what its auth method knows of whoever logs in."""
    if rule.selector:
        try:
            filter.compile(rule.selector, "identity")
        except Invalid as error:
            reason = str(error).removeprefix("Failed to create boolean expression evaluator: ")
            raise Invalid(f"invalid Binding Rule: Selector is invalid: {reason}") from None
    if not rule.bind_type:
        raise Invalid("Invalid Binding Rule: no BindType is set")
    if not rule.bind_name:
        raise Invalid("Invalid Binding Rule: no BindName is set")
    if rule.bind_type not in KINDS:
        raise Invalid(f"Invalid Binding Rule: unknown BindType {quote(rule.bind_type)}")
    if rule.bind_vars is not None and rule.bind_type != "templated-policy":
        raise Invalid("Invalid Binding Rule: BindVars are for BindType templated-policy only")
    try:
        _name(rule, dict.fromkeys(blank.variables, "fake"))
    except Invalid as error:
        raise Invalid(f"Invalid Binding Rule: invalid BindName: {error}") from None


def bind(view: Store, method: ACLAuthMethod, identity: Identity, datacenter: str) -> Bindings:
    """What the rules of a method give to an identity. Roles and policies that do not exist (yet) give
    nothing. Invalid when a name comes out that cannot be."""
    bindings = Bindings()
    keys = view.acl_binding_rules.group("auth_method", method.name.lower())
    for key in sorted(keys):
        rule = view.acl_binding_rules.rows[key]
        if _matches(rule, identity):
            _give(view, bindings, rule, identity.variables, datacenter)
    return bindings


def _matches(rule: ACLBindingRule, identity: Identity) -> bool:
    """Whether the rule's selector fits; one that cannot be read fits nobody."""
    if not rule.selector:
        return True
    try:
        return filter.compile(rule.selector, "identity")(identity)
    except Invalid:
        return False


def _give(
    view: Store, bindings: Bindings, rule: ACLBindingRule, variables: Mapping[str, str], datacenter: str
) -> None:
    try:
        name = _name(rule, variables)
    except _BadName as error:
        which = f"computed {quote(rule.bind_type)} bind name for bind target is invalid: {quote(error.name)}"
        raise Invalid(which) from None
    if rule.bind_type == "service":
        bindings.services.append(ACLServiceIdentity(name))
    elif rule.bind_type == "node":
        bindings.nodes.append(ACLNodeIdentity(name, datacenter))
    elif rule.bind_type == "templated-policy":
        bindings.templated.append(_templated(rule, variables))
    else:
        table, links = (
            ("acl-roles", bindings.roles) if rule.bind_type == "role" else ("acl-policies", bindings.policies)
        )
        row = view.acl_named(table, name)[1]
        if row is not None:
            links.append(ACLLink(row.id))


def _name(rule: ACLBindingRule, variables: Mapping[str, str]) -> str:
    """The name that a rule binds. Invalid."""
    if rule.bind_type == "templated-policy":
        return _templated(rule, variables).template_name
    name = interpolate(rule.bind_name, variables)
    if not _GOOD[rule.bind_type](name):
        raise _BadName(name)
    return name


_GOOD: dict[str, Callable[[str], bool]] = {
    "service": good_identity_name,
    "node": good_identity_name,
    "role": partial(good_name, longest=256),
    "policy": partial(good_name, longest=128),
}


def _templated(rule: ACLBindingRule, variables: Mapping[str, str]) -> ACLTemplatedPolicy:
    template = TEMPLATES.get(rule.bind_name)
    if template is None:
        raise Invalid(
            "Bind name for templated-policy bind type does not match existing template name: "
            f"{rule.bind_name}"
        )
    filled = None
    if rule.bind_vars is not None:
        filled = ACLTemplateVariables(interpolate(rule.bind_vars.name, variables))
    made = ACLTemplatedPolicy(template.id, template.name, filled)
    check_templated(made, "binding rule")
    return made


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """`text` with `${value.NAME}` replaced by what that is, in small letters: names of services are. `$${`
    stands for `${` itself. Invalid."""

    def piece(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if match[1] is None:
            raise Invalid("error interpreting template: a variable is written ${NAME}")
        if match[1] not in variables:
            raise Invalid(f"error interpreting template: unknown variable accessed: {match[1]}")
        return variables[match[1]].lower()

    return _PIECE.sub(piece, text)
