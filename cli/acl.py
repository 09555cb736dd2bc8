"""`ctl acl`: the access control system, from its first token to why something was refused."""

from __future__ import annotations

from cli import aclmethods, aclpolicies, acltemplates, acltokens
from cli.aclcommon import Saying, acl_command, encoded, load_text, put, show_one, token_id
from cli.command import Argument, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

    Json = dict[str, Any]

_AGENT_TOKENS = {
    "default": "default",
    "agent": "agent",
    "recovery": "agent_recovery",
    "master": "agent_master",
    "replication": "replication",
    "config_file_service_registration": "config_file_service_registration",
    "dns": "dns",
}
_RESOURCES = (
    *("acl", "agent", "event", "intention", "key", "keyring", "mesh", "node", "operator", "peering"),
    *("query", "service", "session"),
)
RIGHTS = ("key:list", *(f"{resource}:{access}" for resource in _RESOURCES for access in ("read", "write")))
NOT_ALLOWED = 1


def bootstrap(call: Call) -> int:
    """`acl bootstrap`: the first token; the secret may be wished for."""
    from cli.aclview import token_text

    if len(call.arguments) > 1:
        raise Usage("This command takes up to one argument")
    body: Json = {}
    if call.arguments:
        body = {"BootstrapSecret": _secret_of(call.argument(0))}
    with Saying("Failed ACL bootstrapping"):
        token = put(call, "/v1/acl/bootstrap", body) if body else call.send("/v1/acl/bootstrap").json()
    show_one(call, token, token_text(token, meta=False), token["SecretID"])
    return 0


def _secret_of(given: str) -> str:
    """The secret in a file or on standard input; never on the command line, where others could see it."""
    what = "Error reading provided token"
    source = given if given == "-" or given.startswith("@") else "@" + given
    return load_text(source, what).strip()


def set_agent_token(call: Call) -> int:
    """`acl set-agent-token TYPE TOKEN`: what the agent itself shows to servers."""
    kinds, given = " ".join(_AGENT_TOKENS), call.arguments
    if not given:
        raise Usage("Error! Missing TYPE and TOKEN arguments", hint=f"TYPE is one of: {kinds}")
    kind = given[0]
    if len(given) == 1:
        raise Usage(f"Error! {'Missing TOKEN' if kind in _AGENT_TOKENS else 'MISSING TYPE'} argument")
    if len(given) > 2:
        raise Usage(f"Error! Too many arguments: expected 2 got {len(given)}")
    token = load_text(given[1], "Error!")
    if kind not in _AGENT_TOKENS:
        raise Usage("Unknown token type", hint=f"TYPE is one of: {kinds}")
    with Saying(f'Failed to set ACL token "{kind}"'):
        call.send(f"/v1/agent/token/{_AGENT_TOKENS[kind]}", body=encoded({"Token": token}))
    call.out.done(f'ACL token "{kind}" set successfully', {"Set": kind})
    return 0


def translate_rules(call: Call) -> int:
    """`acl translate-rules`: needs an agent only for the rules of a token."""
    from cli.acllegacy import rules_of_token, translated

    if not call.arguments:
        raise Usage("Error! Missing TRANSLATE argument")
    if len(call.arguments) > 1:
        raise Usage(f"Error! Too many arguments: expected 1 got {len(call.arguments)}")
    if call.yes("token-accessor") and call.yes("token-secret"):
        raise Usage("Error! Cannot combine -token-accessor and -token-secret")
    rules = load_text(call.argument(0), "Error!")
    if call.yes("token-accessor") or call.yes("token-secret"):
        rules = rules_of_token(call, rules.strip(), secret=call.yes("token-secret"))
    rules = translated(rules)
    show_one(call, {"Rules": rules}, rules, rules)
    return 0


def why(call: Call) -> int:
    """`acl why RESOURCE:ACCESS [NAME]`: what decided. Exit code 1 when it is not allowed."""
    right, name = call.argument(0), call.argument(1)
    resource, _, access = right.partition(":")
    if right not in RIGHTS:
        raise Usage(
            f'Error: "{right}" is no right; it is RESOURCE:ACCESS, as service:read',
            hint=f"RESOURCE is one of: {', '.join(_RESOURCES)}; ACCESS is read or write, for keys also list.",
        )
    query = [("resource", resource), ("name", name), ("access", access)]
    if call.text("accessor"):
        with Saying("Error determining token ID"):
            query.append(("accessor", token_id(call, call.text("accessor"))))
    found = call.fetch("/v1/internal/acl/why", *query)
    answer = "allowed" if found["Allowed"] else "denied"
    lines = [
        f"Token:    {found['AccessorID'] or 'none'}",
        f"Asked:    {right} {name}".rstrip(),
        f"Answer:   {answer}",
    ]
    if found["Policy"]:
        lines += [f"Policy:   {found['Policy']}", f"Rule:     {found['Rule']}"]
    else:
        lines.append(f"Default:  {found['Default']} (no rule of the token speaks of it)")
    show_one(call, found, "\n".join(lines), answer)
    return 0 if found["Allowed"] else NOT_ALLOWED


COMMANDS = (
    acl_command(
        "acl bootstrap",
        "Make the first token, which may do everything",
        bootstrap,
        arguments=(
            Argument("FILE", "File with the secret to give it, or `-`.", required=False, complete="files"),
        ),
        example=(
            "ctl acl bootstrap",
            "ctl acl bootstrap --quiet > root.token",
            "ctl acl bootstrap root.token",
        ),
        text="Works once. After that the leader wants the reset index, which the refusal names, in the file\n"
        "acl-bootstrap-reset in its data directory. `--quiet` prints the secret alone.",
        extra=True,
    ),
    *acltokens.COMMANDS,
    *aclpolicies.COMMANDS,
    *aclmethods.COMMANDS,
    acl_command(
        "acl set-agent-token",
        "Give the agent a token for its own work",
        set_agent_token,
        arguments=(
            Argument("TYPE", "Which of its tokens.", required=False, choices=tuple(_AGENT_TOKENS)),
            Argument("TOKEN", "Secret: text, @file, or `-` for standard input.", required=False),
        ),
        example=(
            "ctl acl set-agent-token agent 2c0d6e80-25ca-4c2e-aef2-0e1a90b1de15",
            "ctl acl set-agent-token default @web.token",
        ),
        extra=True,
    ),
    *acltemplates.COMMANDS,
    acl_command(
        "acl translate-rules",
        "Put rules of before Consul 1.4 into today's words",
        translate_rules,
        arguments=(
            Argument(
                "RULES",
                "Rules: text, @file, or `-`; with a flag, a token of the old system.",
                required=False,
                complete="files",
            ),
        ),
        flags=(
            Flag("token-accessor", "bool", "The argument is the accessor of a legacy token."),
            Flag("token-secret", "bool", "The argument is the secret of a legacy token."),
        ),
        example=(
            "ctl acl translate-rules @old.hcl",
            'ctl acl translate-rules \'key "" { policy = "write" }\'',
        ),
        extra=True,
    ),
    acl_command(
        "acl why",
        "Tell which rule allows or denies something",
        why,
        arguments=(
            Argument(
                "RIGHT",
                "RESOURCE:ACCESS, as service:read.",
                complete="words:" + " ".join(RIGHTS),
            ),
            Argument("NAME", "Name of the service, key, node ...", required=False),
        ),
        flags=(
            Flag("accessor", "string", "Ask about this token, not the one in use.", complete="acl-token-ids"),
        ),
        example=(
            "ctl acl why service:read web",
            "ctl acl why -token-file=web.token key:write config/web",
            "ctl acl why -accessor=983e71a1 -o json node:read n1",
        ),
        text="About the token in use (-token) or, with acl:read, about any other (-accessor).\n"
        "Exit code 0 when it is allowed, 1 when it is not.",
        failure="Error asking for the reason",
    ),
)
