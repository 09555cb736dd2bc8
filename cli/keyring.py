"""`ctl keyring`: keys of gossip encryption, on every agent at once. Also in Consul's form with flags."""

from __future__ import annotations

from cli.command import Argument, Command, Failure, Flag, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cli.call import Call

_ANNOUNCED = {
    "list": "Gathering installed encryption keys...",
    "list-primary": "Gathering installed primary encryption keys...",
    "install": "Installing new gossip encryption key...",
    "use": "Changing primary gossip encryption key...",
    "remove": "Removing gossip encryption key...",
}
_METHODS = {"list": "GET", "list-primary": "GET", "install": "POST", "use": "PUT", "remove": "DELETE"}


def keyring(call: Call) -> int:
    """`keyring -list`, `-install=KEY`, ...: exactly one action."""
    actions = [name for name in ("list", "list-primary") if call.yes(name)]
    actions += [name for name in ("install", "use", "remove") if call.text(name)]
    if not actions:
        raise Usage("", show=True)
    if len(actions) > 1:
        raise Usage("Only a single action is allowed")
    return _do(call, actions[0], call.text(actions[0]))


def list_(call: Call) -> int:
    return _do(call, "list-primary" if call.yes("primary") else "list", "")


def install(call: Call) -> int:
    return _do(call, "install", call.argument(0))


def use(call: Call) -> int:
    return _do(call, "use", call.argument(0))


def remove(call: Call) -> int:
    return _do(call, "remove", call.argument(0))


def _do(call: Call, action: str, key: str) -> int:
    """Ask every agent, through any server. Fails unless all answered without error."""
    relay = call.number("relay-factor")
    if not 0 <= relay <= 5:
        raise Usage("Error parsing relay factor: Relay factor must be in range: [0, 5]")
    query = [("relay-factor", str(relay))] if relay else []
    if call.yes("local-only"):
        if _METHODS[action] != "GET":
            raise Usage("Error: -local-only is for listing only")
        query.append(("local-only", "true"))
    announce = not (call.out.structured or call.out.quiet)
    if announce:
        call.out.line(f"==> {_ANNOUNCED[action]}")
    from cli.client import TransportError

    try:
        if _METHODS[action] == "GET":
            return _show(call, call.fetch("/v1/operator/keyring", *query), action == "list-primary")
        from cli.output import to_json_line

        body = to_json_line({"Key": key}).encode()
        call.client.request(_METHODS[action], "/v1/operator/keyring", query, body).checked()
    except TransportError as error:
        raise Failure(f"error: {error}", kind=error.kind, hint=error.hint) from None
    if call.out.structured:
        call.out.document({"Done": action})
    return 0


def _show(call: Call, answers: list[dict[str, Any]], primary: bool) -> int:
    """Each pool with its keys and how many of its members have them."""
    field = "PrimaryKeys" if primary else "Keys"
    if call.out.structured:
        call.out.document(answers)
        return 0
    if call.out.quiet:
        keys = dict.fromkeys(key for answer in answers for key in sorted(answer.get(field) or ()))
        call.out.write("".join([key + "\n" for key in keys]))
        return 0
    for answer in answers:
        pool = "WAN" if answer["WAN"] else f"{answer['Datacenter']} (LAN)"
        if answer.get("Segment"):
            pool += f" [{answer['Segment']}]"
        lines = ["", f"{pool}:"]
        messages = answer.get("Messages") or {}
        lines += [f"  ===> {node}: {messages[node]}" for node in sorted(messages)]
        keys_of_pool = answer.get(field) or {}
        lines += [f"  {key} [{keys_of_pool[key]}/{answer['NumNodes']}]" for key in sorted(keys_of_pool)]
        call.out.write("\n".join(lines) + "\n")
    return 0


_RELAY = Flag("relay-factor", "int", "How many members relay each answer too, 0 to 5.", default="0")
_LOCAL = Flag("local-only", "bool", "Ask this datacenter only, not the WAN.")
_KEY = (Argument("KEY", "The key, in base64."),)

COMMANDS = (
    Command(
        "keyring",
        "Look after gossip keys, in Consul's form",
        keyring,
        flags=(
            Flag("list", "bool", "List the keys."),
            Flag("list-primary", "bool", "List the primary keys."),
            Flag("install", "string", "Add this key."),
            Flag("use", "string", "Make this key the primary one."),
            Flag("remove", "string", "Drop this key."),
            _RELAY,
            _LOCAL,
        ),
        example=("ctl keyring -list",),
        hidden=True,
    ),
    Command(
        "keyring list",
        "List gossip keys and how many agents have them",
        list_,
        flags=(Flag("primary", "bool", "The keys that agents encrypt with only."), _RELAY, _LOCAL),
        text="Consul's form works too: `ctl keyring -list`, -install=KEY, -use=KEY, -remove=KEY.",
        example=("ctl keyring list", "ctl keyring list --primary -o json"),
    ),
    Command(
        "keyring install",
        "Add a gossip key to every agent",
        install,
        arguments=_KEY,
        flags=(_RELAY,),
        text="To change the key of a cluster: install the new one, use it, remove the old one; look at\n"
        "`ctl keyring list` after each step.",
        example=('ctl keyring install "$(ctl keygen)"',),
    ),
    Command(
        "keyring use",
        "Encrypt with this gossip key from now on, everywhere",
        use,
        arguments=_KEY,
        flags=(_RELAY,),
        example=("ctl keyring use KEY",),
    ),
    Command(
        "keyring remove",
        "Drop a gossip key from every agent",
        remove,
        arguments=_KEY,
        flags=(_RELAY,),
        example=("ctl keyring remove KEY",),
    ),
)
