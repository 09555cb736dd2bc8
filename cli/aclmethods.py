"""`ctl acl auth-method` and `ctl acl binding-rule`: who may log in, and what a login gives."""

from __future__ import annotations

from cli.aclcommon import (
    META,
    Saying,
    acl_command,
    load_text,
    put,
    read_or_none,
    remove,
    rule_id,
    show_many,
    show_one,
)
from cli.command import Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

    Json = dict[str, Any]


def create_method(call: Call) -> int:
    """`auth-method create`."""
    for flag in ("type", "name"):
        if not call.text(flag):
            raise Usage(f"Missing required '-{flag}' flag", show=True)
    document = {"Type": call.text("type"), "Name": call.text("name"), **_method_fields(call)}
    if call.text("config"):
        document["Config"] = _config(call, "Error parsing JSON configuration file")
    with Saying("Failed to create new auth method"):
        method = put(call, "/v1/acl/auth-method", document)
    _show_method(call, method)
    return 0


def _method_fields(call: Call) -> Json:
    """What the flags say of a method, without its configuration."""
    from core.codec.duration import show

    fields: Json = {
        field: call.text(flag)
        for flag, field in (
            ("display-name", "DisplayName"),
            ("description", "Description"),
            ("token-locality", "TokenLocality"),
        )
        if flag in call.values
    }
    if "max-token-ttl" in call.values:
        fields["MaxTokenTTL"] = show(call.number("max-token-ttl"))
    return fields


def _config(call: Call, what: str) -> Json:
    import json

    text = load_text(call.text("config"), "Error loading configuration file")
    try:
        config = json.loads(text)
    except ValueError as error:
        from cli.transfer import json_problem

        raise Failure(f"{what}: {json_problem(text.encode(), error)}") from None
    if not isinstance(config, dict):
        raise Failure(f"{what}: it is no JSON object")
    return config


def _show_method(call: Call, method: Json) -> None:
    from cli.aclview import method_text

    show_one(call, method, method_text(method, call.yes("meta")), method["Name"])


def read_method(call: Call) -> int:
    """`auth-method read`."""
    name = _method_name(call, "Must specify the -name parameter")
    with Saying(f'Error reading auth method "{name}"'):
        method = read_or_none(call, f"/v1/acl/auth-method/{name}")
    _show_method(call, _existing(method, name))
    return 0


def _method_name(call: Call, missing: str) -> str:
    name = call.text("name")
    if not name:
        raise Usage(missing)
    return name


def _existing(method: Json | None, name: str) -> Json:
    if method is None:
        raise Failure(f'Auth method not found with name "{name}"', kind="missing")
    return method


def update_method(call: Call) -> int:
    """`auth-method update`: what is not given stays, unless -no-merge."""
    name = _method_name(call, "Cannot update an auth method without specifying the -name parameter")
    with Saying("Error when retrieving current auth method"):
        found = read_or_none(call, f"/v1/acl/auth-method/{name}")
    there = _existing(found, name)
    document = {"Name": name, "Type": there["Type"]} if call.yes("no-merge") else there
    document.update(_method_fields(call))
    if call.text("config"):
        config = _config(call, "Error parsing JSON for auth method config")
        document["Config"] = {**(document.get("Config") or {}), **config}
    with Saying(f'Error updating auth method "{name}"'):
        method = put(call, f"/v1/acl/auth-method/{name}", document)
    _show_method(call, method)
    return 0


def delete_method(call: Call) -> int:
    """`auth-method delete`."""
    name = _method_name(call, "Must specify the -name parameter")
    with Saying(f'Error deleting auth method "{name}"'):
        remove(call, f"/v1/acl/auth-method/{name}")
    call.out.done(f'Auth method "{name}" deleted successfully', {"Deleted": name})
    return 0


def list_methods(call: Call) -> int:
    """`auth-method list`."""
    from cli.aclview import methods_table, methods_text

    methods = call.fetch("/v1/acl/auth-methods")
    names = [method["Name"] for method in methods]
    show_many(call, methods, methods_text(methods, call.yes("meta")), methods_table(methods), names)
    return 0


# binding rules

_BIND_TYPES = "words:service node role policy templated-policy"


def create_rule(call: Call) -> int:
    """`binding-rule create`."""
    bind_type = call.text("bind-type", "service")
    for flag, value in (("method", call.text("method")), ("bind-type", bind_type)):
        if not value:
            raise Usage(f"Missing required '-{flag}' flag", show=True)
    document: Json = {
        "AuthMethod": call.text("method"),
        "Description": call.text("description"),
        "Selector": call.text("selector"),
        **_binding(call, bind_type),
    }
    with Saying("Failed to create new binding rule"):
        rule = put(call, "/v1/acl/binding-rule", document)
    _show_rule(call, rule)
    return 0


def _binding(call: Call, bind_type: str) -> Json:
    """What a whole new rule binds to. Usage without a name."""
    if not call.text("bind-name"):
        raise Usage("Missing required '-bind-name' flag", show=True)
    return {"BindType": bind_type, "BindName": call.text("bind-name"), **_variables(call)}


def _variables(call: Call) -> Json:
    pairs = {key.lower(): value for key, value in call.pairs("bind-vars").items()}
    if any(key != "name" for key in pairs):
        raise Usage("Templates have the variable `name` only", hint="It is -bind-vars name=VALUE.")
    return {"BindVars": {"Name": pairs["name"]}} if pairs else {}


def _show_rule(call: Call, rule: Json) -> None:
    from cli.aclview import rule_text

    show_one(call, rule, rule_text(rule, call.yes("meta")), rule["ID"])


def _chosen_rule(call: Call, missing: str) -> str:
    if not call.text("id"):
        raise Usage(missing)
    with Saying("Error determining binding rule ID"):
        return rule_id(call, call.text("id"))


def _read_rule(call: Call, identity: str, words: str) -> Json:
    with Saying(words):
        rule = read_or_none(call, f"/v1/acl/binding-rule/{identity}")
    if rule is None:
        raise Failure(f'Binding rule not found with ID "{identity}"', kind="missing")
    return rule


def read_rule(call: Call) -> int:
    """`binding-rule read`."""
    identity = _chosen_rule(call, "Must specify the -id parameter.")
    _show_rule(call, _read_rule(call, identity, f'Error reading binding rule "{identity}"'))
    return 0


def update_rule(call: Call) -> int:
    """`binding-rule update`: what is not given stays, unless -no-merge; the method stays anyway."""
    identity = _chosen_rule(call, "Cannot update a binding rule without specifying the -id parameter")
    rule = _read_rule(call, identity, "Error when retrieving current binding rule")
    if call.yes("no-merge"):
        binding = _binding(call, call.text("bind-type", "service"))
        rule = {"ID": identity, "AuthMethod": rule["AuthMethod"], **binding}
    else:
        rule.update(_variables(call))
    for flag, field in (
        ("description", "Description"),
        ("bind-type", "BindType"),
        ("bind-name", "BindName"),
        ("selector", "Selector"),
    ):
        if flag in call.values:
            rule[field] = call.text(flag)
    with Saying(f'Error updating binding rule "{identity}"'):
        rule = put(call, f"/v1/acl/binding-rule/{identity}", rule)
    _show_rule(call, rule)
    return 0


def delete_rule(call: Call) -> int:
    """`binding-rule delete`."""
    identity = _chosen_rule(call, "Must specify the -id parameter")
    with Saying(f'Error deleting binding rule "{identity}"'):
        remove(call, f"/v1/acl/binding-rule/{identity}")
    call.out.done(f'Binding rule "{identity}" deleted successfully', {"Deleted": identity})
    return 0


def list_rules(call: Call) -> int:
    """`binding-rule list`."""
    from cli.aclview import rules_table, rules_text

    method = call.text("method")
    rules = call.fetch("/v1/acl/binding-rules", *([("authmethod", method)] if method else []))
    ids = [rule["ID"] for rule in rules]
    show_many(call, rules, rules_text(rules, call.yes("meta")), rules_table(rules), ids)
    return 0


_METHOD = Flag("name", "string", "Name of the method.", complete="acl-methods")
_METHOD_FIELDS = (
    Flag("display-name", "string", "Label for people."),
    Flag("description", "string", "Free text."),
    Flag("max-token-ttl", "duration", "How long tokens of logins live.", default="0s"),
    Flag("token-locality", "string", "Where those tokens are valid.", complete="words:local global"),
    Flag(
        "config", "string", "Configuration in JSON: text, @file, or - for standard input.", complete="files"
    ),
)
_NO_MERGE = Flag("no-merge", "bool", "Replace the whole object; what is not given is emptied.")
_RULE = Flag("id", "string", "Id or its beginning.", complete="acl-rule-ids")
_RULE_METHOD = Flag("method", "string", "Name of the auth method.", complete="acl-methods")
_RULE_FIELDS = (
    Flag("description", "string", "Free text."),
    Flag("selector", "string", "Which logins it is for; an expression on their identity."),
    Flag("bind-type", "string", "What a login gets.", default="service", complete=_BIND_TYPES),
    Flag("bind-vars", "map", "Variable of a templated policy, name=VALUE."),
    Flag("bind-name", "string", "Its name; ${var} stands for a part of the identity."),
)

COMMANDS = (
    acl_command(
        "acl auth-method create",
        "Make an auth method",
        create_method,
        flags=(
            META,
            Flag("type", "string", "Kind of credential.", complete="words:jwt"),
            Flag("name", "string", "Name of the method."),
            *_METHOD_FIELDS,
        ),
        example=("ctl acl auth-method create -type=jwt -name=ci -max-token-ttl=1h -config=@ci.json",),
    ),
    acl_command(
        "acl auth-method read",
        "Show an auth method and its configuration",
        read_method,
        flags=(META, _METHOD),
        example=("ctl acl auth-method read -name=ci",),
    ),
    acl_command(
        "acl auth-method update",
        "Change an auth method",
        update_method,
        flags=(META, _METHOD, *_METHOD_FIELDS, _NO_MERGE),
        example=("ctl acl auth-method update -name=ci -max-token-ttl=30m",),
        text="Fields of -config are laid over those that are there. The type cannot be changed.",
    ),
    acl_command(
        "acl auth-method delete",
        "Delete an auth method and the tokens of its logins",
        delete_method,
        flags=(_METHOD,),
        example=("ctl acl auth-method delete -name=ci",),
    ),
    acl_command(
        "acl auth-method list",
        "List auth methods",
        list_methods,
        flags=(META,),
        example=("ctl acl auth-method list",),
        failure="Failed to retrieve the auth method list",
        extra=True,
    ),
    acl_command(
        "acl binding-rule create",
        "Make a rule: what a login gets",
        create_rule,
        flags=(META, _RULE_METHOD, *_RULE_FIELDS),
        example=(
            "ctl acl binding-rule create -method=ci -bind-type=role -bind-name=deploy"
            " -selector='value.project == web'",
            "ctl acl binding-rule create -method=ci -bind-name='ci-${value.project}'",
        ),
    ),
    acl_command(
        "acl binding-rule read",
        "Show a binding rule",
        read_rule,
        flags=(META, _RULE),
        example=("ctl acl binding-rule read -id=43cb72df",),
    ),
    acl_command(
        "acl binding-rule update",
        "Change a binding rule",
        update_rule,
        flags=(META, _RULE, *_RULE_FIELDS, _NO_MERGE),
        example=("ctl acl binding-rule update -id=43cb72df -selector='value.project == api'",),
        text="The auth method of a rule cannot be changed.",
    ),
    acl_command(
        "acl binding-rule delete",
        "Delete a binding rule",
        delete_rule,
        flags=(_RULE,),
        example=("ctl acl binding-rule delete -id=43cb72df",),
    ),
    acl_command(
        "acl binding-rule list",
        "List binding rules",
        list_rules,
        flags=(META, _RULE_METHOD),
        example=("ctl acl binding-rule list", "ctl acl binding-rule list -method=ci"),
        failure="Failed to retrieve the binding rule list",
        extra=True,
    ),
)
