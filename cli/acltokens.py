"""`ctl acl token`: make, read, change, copy, delete and list tokens."""

from __future__ import annotations

from cli.aclcommon import (
    GRANTS,
    META,
    ROLES,
    Saying,
    acl_command,
    add_links,
    add_nodes,
    add_services,
    node_identities,
    policy_links,
    put,
    remove,
    role_links,
    service_identities,
    show_many,
    show_one,
    token_id,
)
from cli.acltemplates import TEMPLATE_CHANGES, TEMPLATES, change_templates, templated_policies
from cli.command import Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

    Json = dict[str, Any]

_NO_GRANTS = (
    "Cannot create a token without specifying -policy-name, -policy-id, -role-name, -role-id, "
    "-service-identity, or -node-identity at least once"
)


def create(call: Call) -> int:
    """`token create`."""
    from core.codec.duration import show

    templated = templated_policies(call, "templated-policy", "templated-policy-file")
    if not templated and not any(call.many(flag.name) for flag in GRANTS + ROLES):
        raise Usage(_NO_GRANTS, hint="A templated policy (-templated-policy) will do, too.")
    fields = {
        "AccessorID": call.text("accessor"),
        "SecretID": call.text("secret"),
        "Description": call.text("description"),
        "Local": call.yes("local"),
        "ExpirationTTL": show(call.number("expires-ttl")) if call.number("expires-ttl") else "",
        "ServiceIdentities": service_identities(call.many("service-identity")),
        "NodeIdentities": node_identities(call.many("node-identity")),
        "TemplatedPolicies": templated,
        "Policies": policy_links(call, call.many("policy-name"), call.many("policy-id")),
        "Roles": role_links(call, call.many("role-name"), call.many("role-id")),
    }
    with Saying("Failed to create new token"):
        token = put(call, "/v1/acl/token", {name: value for name, value in fields.items() if value})
    show_new(call, token)
    return 0


def show_new(call: Call, token: Json) -> None:
    """A token that was just made; `--quiet` gives its secret, which a script needs next."""
    from cli.aclview import token_text

    show_one(call, token, token_text(token, call.yes("meta")), token["SecretID"])


def read(call: Call) -> int:
    """`token read`: one by its accessor, or the one in use."""
    from cli.aclview import token_text

    expanded, given = call.yes("expanded"), _given_id(call)
    if call.yes("self"):
        if expanded:
            raise Usage(
                "Cannot use both -expanded and -self. Instead, use -expanded and -accessor-id=<accessor id>."
            )
        with Saying("Error reading token"):
            token = call.fetch("/v1/acl/token/self")
    elif not given:
        raise Usage("Must specify the -id parameter", hint="-self reads the token in use.")
    else:
        accessor = _accessor(call, given)
        query = [("expanded", "true")] if expanded else []
        with Saying(f'Error reading token "{accessor}"'):
            token = call.fetch(f"/v1/acl/token/{accessor}", *query)
    if expanded:
        from cli.aclexpanded import expanded_text

        text = expanded_text(token, call.yes("meta"))
    else:
        text = token_text(token, call.yes("meta"))
    show_one(call, token, text, token["AccessorID"])
    return 0


def _given_id(call: Call) -> str:
    return call.text("accessor-id") or call.text("id")


def _accessor(call: Call, given: str) -> str:
    with Saying("Error determining token ID"):
        return token_id(call, given)


def update(call: Call) -> int:
    """`token update`: what is not mentioned stays."""
    from cli.aclview import token_text

    given = _given_id(call)
    if not given:
        raise Usage("Cannot update a token without specifying the -id parameter")
    _refuse_both_ways(call)
    services = service_identities(call.many("service-identity"))
    nodes = node_identities(call.many("node-identity"))
    more_services = service_identities(call.many("append-service-identity"), "append-service-identity")
    more_nodes = node_identities(call.many("append-node-identity"), "append-node-identity")
    accessor = _accessor(call, given)
    with Saying("Error when retrieving current token"):
        token = call.fetch(f"/v1/acl/token/{accessor}")
    if "description" in call.values:
        token["Description"] = call.text("description")
    if call.yes("upgrade-legacy"):
        _upgrade(token)
    links = policy_links(call, call.many("policy-name"), call.many("policy-id"))
    more = policy_links(call, call.many("append-policy-name"), call.many("append-policy-id"))
    token["Policies"] = _changed(call, token, "Policies", links, more, add_links)
    links = role_links(call, call.many("role-name"), call.many("role-id"))
    more = role_links(call, call.many("append-role-name"), call.many("append-role-id"))
    token["Roles"] = _changed(call, token, "Roles", links, more, add_links)
    token["ServiceIdentities"] = _changed(
        call, token, "ServiceIdentities", services, more_services, add_services
    )
    token["NodeIdentities"] = _changed(call, token, "NodeIdentities", nodes, more_nodes, add_nodes)
    change_templates(call, token)
    with Saying(f"Failed to update token {accessor}"):
        token = put(call, f"/v1/acl/token/{accessor}", token)
    show_one(call, token, token_text(token, call.yes("meta")), token["AccessorID"])
    return 0


_MERGES = {
    "Policies": "merge-policies",
    "Roles": "merge-roles",
    "ServiceIdentities": "merge-service-identities",
    "NodeIdentities": "merge-node-identities",
}


def _changed(call: Call, token: Json, field: str, new: list[Json], more: list[Json], add: Any) -> list[Json]:
    """What becomes of one kind of grant: replaced by what is given, or added to, or left alone."""
    there: list[Json] = token.get(field) or []
    if new and not call.yes(_MERGES[field]):
        return new
    merged: list[Json] = add(there, new + more)
    return merged


def _refuse_both_ways(call: Call) -> None:
    """Refuse to replace and to add to the same kind of grant in one command."""
    for what, flags in (
        ("policy-id/policy-name", ("policy-id", "policy-name")),
        ("role-id/role-name", ("role-id", "role-name")),
        ("service-identity", ("service-identity",)),
        ("node-identity", ("node-identity",)),
    ):
        if any(call.many(flag) for flag in flags) and any(call.many("append-" + flag) for flag in flags):
            raise Usage(
                f"Cannot combine the use of {what} flags with their append- variants: "
                "the first replace what the token has, the others add to it."
            )


def _upgrade(token: Json) -> None:
    """Make a new token of a legacy one: its id stays, its rules go."""
    if not token.get("Rules"):
        raise Failure("Can't use -upgrade-legacy on a non-legacy token")
    token["Rules"] = ""


def clone(call: Call) -> int:
    """`token clone`."""
    given = _given_id(call)
    if not given:
        raise Usage("Cannot update a token without specifying the -id parameter")
    accessor = _accessor(call, given)
    with Saying("Error cloning token"):
        token = put(call, f"/v1/acl/token/{accessor}/clone", {"Description": call.text("description")})
    show_new(call, token)
    return 0


def delete(call: Call) -> int:
    """`token delete`."""
    given = _given_id(call)
    if not given:
        raise Usage("Must specify the -id parameter")
    accessor = _accessor(call, given)
    with Saying(f'Error deleting token "{accessor}"'):
        remove(call, f"/v1/acl/token/{accessor}")
    call.out.done(f'Token "{accessor}" deleted successfully', {"Deleted": accessor})
    return 0


def list_tokens(call: Call) -> int:
    """`token list`: without the secrets."""
    from cli.aclview import tokens_table, tokens_text

    tokens = call.fetch("/v1/acl/tokens")
    ids = [token["AccessorID"] for token in tokens]
    show_many(call, tokens, tokens_text(tokens, call.yes("meta")), tokens_table(tokens), ids)
    return 0


_ID = (
    Flag("accessor-id", "string", "Accessor id or its beginning.", complete="acl-token-ids"),
    Flag("id", "string", "The same (older name).", complete="acl-token-ids"),
)
_DESCRIPTION = Flag("description", "string", "Free text.")
_APPENDS = tuple(
    Flag(f"append-{flag.name}", "list", f"To add: {flag.help}", complete=flag.complete)
    for flag in GRANTS + ROLES
)

COMMANDS = (
    acl_command(
        "acl token create",
        "Make a token",
        create,
        flags=(
            Flag("accessor", "string", "Accessor to give it, a UUID; made up when left out."),
            Flag("secret", "string", "Secret to give it, a UUID; made up when left out."),
            META,
            Flag("local", "bool", "Valid in this datacenter only."),
            _DESCRIPTION,
            *GRANTS,
            *ROLES,
            Flag("expires-ttl", "duration", "How long it lives.", default="0s"),
            *TEMPLATES,
        ),
        example=(
            "ctl acl token create -description='web servers' -policy-name=web-read",
            "ctl acl token create -service-identity=web -node-identity=n1:dc1 -expires-ttl=24h",
            "ctl acl token create -templated-policy=builtin/service -var=name:api --quiet",
        ),
        text="At least one policy, role, identity or template is needed. `--quiet` prints the secret alone.",
    ),
    acl_command(
        "acl token read",
        "Show a token",
        read,
        flags=(
            META,
            Flag("self", "bool", "The token in use."),
            Flag("expanded", "bool", "With the policies and roles behind it."),
            *_ID,
        ),
        example=(
            "ctl acl token read -self",
            "ctl acl token read -accessor-id=983e71a1",
            "ctl acl token read -expanded -accessor-id=anonymous",
        ),
    ),
    acl_command(
        "acl token update",
        "Change a token",
        update,
        flags=(
            META,
            *_ID,
            _DESCRIPTION,
            *GRANTS,
            *ROLES,
            *_APPENDS,
            *TEMPLATE_CHANGES,
            *(
                Flag(flag, "bool", f"Add {field} instead of replacing them (older way).")
                for field, flag in _MERGES.items()
            ),
            Flag("upgrade-legacy", "bool", "Turn a legacy token into a new one; its rules go."),
        ),
        example=(
            "ctl acl token update -accessor-id=983e71a1 -description='web servers'",
            "ctl acl token update -accessor-id=983e71a1 -append-policy-name=db-read",
            "ctl acl token update -id=983e71a1 -policy-name=web-read -merge-policies",
        ),
        text="What is not mentioned stays as it is. -policy-name and its like replace what the token has,\n"
        "-append-policy-name and its like add to it.",
    ),
    acl_command(
        "acl token clone",
        "Make a token with the grants of another",
        clone,
        flags=(*_ID, _DESCRIPTION),
        example=("ctl acl token clone -accessor-id=983e71a1 -description='second web server'",),
    ),
    acl_command(
        "acl token delete",
        "Delete a token",
        delete,
        flags=_ID,
        example=("ctl acl token delete -accessor-id=983e71a1",),
    ),
    acl_command(
        "acl token list",
        "List tokens",
        list_tokens,
        flags=(META,),
        example=("ctl acl token list", "ctl acl token list -o json"),
        failure="Failed to retrieve the token list",
        extra=True,
    ),
)
