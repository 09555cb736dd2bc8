"""`ctl acl policy` and `ctl acl role`: what tokens may be given."""

from __future__ import annotations

from cli.aclcommon import (
    GRANTS,
    META,
    Saying,
    acl_command,
    add_links,
    add_nodes,
    add_services,
    id_by_name,
    load_text,
    node_identities,
    policy_id,
    policy_links,
    put,
    read_or_none,
    remove,
    role_id,
    service_identities,
    show_many,
    show_one,
)
from cli.acltemplates import TEMPLATE_CHANGES, TEMPLATES, change_templates, templated_policies
from cli.command import Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

    Json = dict[str, Any]

_NEITHER = "Must specify either the -id or -name parameters"
_NO_GRANTS = (
    "Cannot create a role without specifying -policy-name, -policy-id, -service-identity, "
    "or -node-identity at least once"
)


def create_policy(call: Call) -> int:
    """`policy create`."""
    name = call.text("name")
    if not name:
        raise Usage("Missing require '-name' flag", show=True)
    with Saying("Error loading rules"):
        rules = _new_rules(call)
    document: Json = {"Name": name, "Description": call.text("description"), "Rules": rules}
    if call.many("valid-datacenter"):
        document["Datacenters"] = call.many("valid-datacenter")
    with Saying("Failed to create new policy"):
        policy = put(call, "/v1/acl/policy", document)
    _show_policy(call, policy)
    return 0


def _new_rules(call: Call) -> str:
    """The rules as given, or those of a legacy token in today's words."""
    source = call.text("from-token")
    if source and call.text("rules"):
        raise Failure("Cannot specify both -rules and -from-token")
    if not source:
        return load_text(call.text("rules"), "-rules")
    from cli.acllegacy import rules_of_token, translated

    token = load_text(source, "Invalid -from-token value").strip()
    return translated(rules_of_token(call, token, secret=call.yes("token-secret")))


def _show_policy(call: Call, policy: Json) -> None:
    from cli.aclview import policy_text

    show_one(call, policy, policy_text(policy, call.yes("meta")), policy["ID"])


def _chosen_policy(call: Call) -> str:
    """The id of the policy that -id or -name means."""
    if not call.text("id") and not call.text("name"):
        raise Usage(_NEITHER)
    with Saying("Error determining policy ID"):
        if call.text("id"):
            return policy_id(call, call.text("id"))
        return id_by_name(call, call.text("name"), "policy", "policies")


def _read_policy(call: Call, identity: str) -> Json:
    with Saying(f'Error reading policy "{identity}"'):
        policy: Json = call.fetch(f"/v1/acl/policy/{identity}")
    return policy


def read_policy(call: Call) -> int:
    """`policy read`."""
    _show_policy(call, _read_policy(call, _chosen_policy(call)))
    return 0


def update_policy(call: Call) -> int:
    """`policy update`: what is not given stays, unless -no-merge."""
    identity = _chosen_policy(call)
    rules = load_text(call.text("rules"), "Error loading rules: -rules")
    there = {} if call.yes("no-merge") else _read_policy(call, identity)
    document: Json = {"ID": identity, "Name": "", "Description": "", "Rules": "", "Datacenters": None}
    document.update({name: there[name] for name in document if name in there})
    for flag, field, value in (
        ("name", "Name", call.text("name")),
        ("description", "Description", call.text("description")),
        ("rules", "Rules", rules),
        ("valid-datacenter", "Datacenters", call.many("valid-datacenter")),
    ):
        if flag in call.values:
            document[field] = value
    with Saying(f'Error updating policy "{identity}"'):
        policy = put(call, f"/v1/acl/policy/{identity}", document)
    _show_policy(call, policy)
    return 0


def delete_policy(call: Call) -> int:
    """`policy delete`."""
    identity = _chosen_policy(call)
    with Saying(f'Error deleting policy "{identity}"'):
        remove(call, f"/v1/acl/policy/{identity}")
    call.out.done(f'Policy "{identity}" deleted successfully', {"Deleted": identity})
    return 0


def list_policies(call: Call) -> int:
    """`policy list`."""
    from cli.aclview import policies_table, policies_text

    policies = call.fetch("/v1/acl/policies")
    names = [policy["Name"] for policy in policies]
    show_many(call, policies, policies_text(policies, call.yes("meta")), policies_table(policies), names)
    return 0


# roles


def create_role(call: Call) -> int:
    """`role create`."""
    name = call.text("name")
    if not name:
        raise Usage("Missing require '-name' flag", show=True)
    grants = _role_grants(call)
    grants["TemplatedPolicies"] = templated_policies(call, "templated-policy", "templated-policy-file")
    if not any(grants.values()):
        raise Usage(_NO_GRANTS, hint="A templated policy (-templated-policy) will do, too.")
    document = {"Name": name, "Description": call.text("description")}
    document.update({field: value for field, value in grants.items() if value})
    with Saying("Failed to create new role"):
        role = put(call, "/v1/acl/role", document)
    _show_role(call, role)
    return 0


def _role_grants(call: Call) -> Json:
    services = service_identities(call.many("service-identity"))
    nodes = node_identities(call.many("node-identity"))
    links = policy_links(call, call.many("policy-name"), call.many("policy-id"))
    return {"Policies": links, "ServiceIdentities": services, "NodeIdentities": nodes}


def _show_role(call: Call, role: Json) -> None:
    from cli.aclview import role_text

    show_one(call, role, role_text(role, call.yes("meta")), role["ID"])


def read_role(call: Call) -> int:
    """`role read`."""
    given, name = call.text("id"), call.text("name")
    if not given and not name:
        raise Usage(_NEITHER)
    if given:
        with Saying("Error determining role ID"):
            given = role_id(call, given)
    what, path = (given, f"/v1/acl/role/{given}") if given else (name, f"/v1/acl/role/name/{name}")
    with Saying(f'Error reading role "{what}"'):
        role = read_or_none(call, path)
    if role is None:
        raise Failure(f'Role not found with {"ID" if given else "name"} "{what}"', kind="missing")
    _show_role(call, role)
    return 0


def update_role(call: Call) -> int:
    """`role update`: what is given is added to what is there, or replaces all of it with -no-merge."""
    if not call.text("id"):
        raise Usage("Cannot update a role without specifying the -id parameter")
    with Saying("Error determining role ID"):
        identity = role_id(call, call.text("id"))
    new = _role_grants(call)
    with Saying("Error when retrieving current role"):
        role = read_or_none(call, f"/v1/acl/role/{identity}")
    if role is None:
        raise Failure(f'Role not found with ID "{identity}"', kind="missing")
    if call.yes("no-merge"):
        role = {"ID": identity, "Name": call.text("name"), "Description": call.text("description"), **new}
    else:
        role["Name"] = call.text("name") or role["Name"]
        if "description" in call.values:
            role["Description"] = call.text("description")
        for field, add in (
            ("Policies", add_links),
            ("ServiceIdentities", add_services),
            ("NodeIdentities", add_nodes),
        ):
            role[field] = add(role.get(field) or [], new[field])
    change_templates(call, role)
    with Saying(f'Error updating role "{identity}"'):
        role = put(call, f"/v1/acl/role/{identity}", role)
    _show_role(call, role)
    return 0


def delete_role(call: Call) -> int:
    """`role delete`."""
    given = call.text("id")
    if not given and not call.text("name"):
        raise Usage(_NEITHER)
    with Saying("Error determining role ID"):
        identity = role_id(call, given) if given else id_by_name(call, call.text("name"), "role", "roles")
    with Saying(f'Error deleting role "{identity}"'):
        remove(call, f"/v1/acl/role/{identity}")
    call.out.done(f'Role "{identity}" deleted successfully', {"Deleted": identity})
    return 0


def list_roles(call: Call) -> int:
    """`role list`."""
    from cli.aclview import roles_table, roles_text

    roles = call.fetch("/v1/acl/roles")
    names = [role["Name"] for role in roles]
    show_many(call, roles, roles_text(roles, call.yes("meta")), roles_table(roles), names)
    return 0


_DESCRIPTION = Flag("description", "string", "Free text.")
_NO_MERGE = Flag("no-merge", "bool", "Replace the whole object; what is not given is emptied.")
_POLICY = (
    Flag("id", "string", "Id or its beginning.", complete="acl-policy-ids"),
    Flag("name", "string", "Name.", complete="acl-policies"),
)
_ROLE = (
    Flag("id", "string", "Id or its beginning.", complete="acl-role-ids"),
    Flag("name", "string", "Name.", complete="acl-roles"),
)
_RULES = (
    Flag("valid-datacenter", "list", "Datacenter that it is limited to (repeat).", complete="datacenters"),
    Flag("rules", "string", "Rules in HCL or JSON: text, @file, or - for standard input.", complete="files"),
)

COMMANDS = (
    acl_command(
        "acl policy create",
        "Make a policy",
        create_policy,
        flags=(
            META,
            Flag("name", "string", "Name; letters, digits, - and _."),
            _DESCRIPTION,
            *_RULES,
            Flag("from-token", "string", "Take the rules of this legacy token, translated."),
            Flag("token-secret", "bool", "-from-token is a secret, not an accessor."),
        ),
        example=(
            'ctl acl policy create -name=kv-read -rules=\'key_prefix "" { policy = "read" }\'',
            "ctl acl policy create -name=web -rules=@web.hcl -valid-datacenter=dc1",
        ),
    ),
    acl_command(
        "acl policy read",
        "Show a policy and its rules",
        read_policy,
        flags=(META, *_POLICY),
        example=("ctl acl policy read -name=kv-read", "ctl acl policy read -id=ab2128d9 -meta"),
    ),
    acl_command(
        "acl policy update",
        "Change a policy",
        update_policy,
        flags=(META, *_POLICY, _DESCRIPTION, *_RULES, _NO_MERGE),
        example=(
            "ctl acl policy update -name=web -rules=@web.hcl",
            "ctl acl policy update -id=ab2128d9 -name=kv-reader",
        ),
        text="With -id, -name is the new name.",
    ),
    acl_command(
        "acl policy delete",
        "Delete a policy",
        delete_policy,
        flags=_POLICY,
        example=("ctl acl policy delete -name=kv-read",),
    ),
    acl_command(
        "acl policy list",
        "List policies",
        list_policies,
        flags=(META,),
        example=("ctl acl policy list", "ctl acl policy list --quiet"),
        failure="Failed to retrieve the policy list",
        extra=True,
    ),
    acl_command(
        "acl role create",
        "Make a role",
        create_role,
        flags=(
            META,
            Flag("name", "string", "Name; letters, digits, - and _."),
            _DESCRIPTION,
            *GRANTS,
            *TEMPLATES,
        ),
        example=(
            "ctl acl role create -name=web -policy-name=kv-read -service-identity=web",
            "ctl acl role create -name=dns -templated-policy=builtin/dns",
        ),
        text="At least one policy, identity or template is needed.",
    ),
    acl_command(
        "acl role read",
        "Show a role",
        read_role,
        flags=(META, *_ROLE),
        example=("ctl acl role read -name=web",),
    ),
    acl_command(
        "acl role update",
        "Change a role",
        update_role,
        flags=(META, *_ROLE, _DESCRIPTION, *GRANTS, _NO_MERGE, *TEMPLATE_CHANGES),
        example=(
            "ctl acl role update -id=41c3301e -policy-name=db-read",
            "ctl acl role update -id=41c3301e -no-merge -name=web -service-identity=web",
        ),
        text="Policies and identities are added to those that are there. -name is the new name.",
    ),
    acl_command(
        "acl role delete",
        "Delete a role",
        delete_role,
        flags=_ROLE,
        example=("ctl acl role delete -name=web",),
    ),
    acl_command(
        "acl role list",
        "List roles",
        list_roles,
        flags=(META,),
        example=("ctl acl role list",),
        failure="Failed to retrieve the role list",
        extra=True,
    ),
)
