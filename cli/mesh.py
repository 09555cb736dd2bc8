"""Commands of the service mesh, which ctl has not. They ask, and pass on what the agent says: `connect` is
disabled, in the words that scripts for Consul know."""

from __future__ import annotations

from cli.command import Argument, Command, Failure, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.call import Call

_NOTE = "ctl has no service mesh; against an agent of Consul this works."


def _asking(path: str, words: str, *names: str, by: str = "") -> Callable[[Call], int]:
    """A command that shows what `path` answers; its arguments are sent as `names`."""

    def ask(call: Call) -> int:
        from cli.client import TransportError

        query = list(zip(names, call.arguments, strict=False))
        if by:
            query.append(("by", by))
        try:
            call.out.document(call.fetch(path, *query))
        except TransportError as error:
            raise error.within(words) from None
        return 0

    return ask


def set_config(call: Call) -> int:
    """`connect ca set-config`."""
    from cli.client import TransportError, error_text

    path = call.text("config-file")
    if not path:
        raise Failure("The -config-file flag is required", kind="usage")
    try:
        with open(path, "rb") as file:
            body = file.read()
    except OSError as error:
        text = f"Error reading config file: open {path}: {error_text(error)}"
        raise Failure(text, kind="missing") from None
    try:
        call.send("/v1/connect/ca/configuration", body=body)
    except TransportError as error:
        raise error.within("Error setting CA configuration") from None
    call.out.done("Configuration updated!", {"Updated": True})
    return 0


def _sending(method: str, words: str) -> Callable[[Call], int]:
    def send(call: Call) -> int:
        from cli.client import TransportError

        pair = [("source", call.argument(0)), ("destination", call.argument(1))]
        action = "deny" if call.yes("deny") else "allow"
        body = b"" if method == "DELETE" else f'{{"Action":"{action}"}}'.encode()
        try:
            call.client.request(method, "/v1/connect/intentions/exact", call.query(*pair), body).checked()
        except TransportError as error:
            raise error.within(words) from None
        call.out.done("Done", {"Source": call.argument(0), "Destination": call.argument(1)})
        return 0

    return send


_SOURCE = Argument("SRC", "Service that calls.", complete="services")
_DESTINATION = Argument("DST", "Service that is called.", complete="services")
_PAIR = (_SOURCE, _DESTINATION)

COMMANDS = (
    Command(
        "connect ca get-config",
        "Show the configuration of the mesh's certificate authority",
        _asking("/v1/connect/ca/configuration", "Error querying CA configuration"),
        example=("ctl connect ca get-config",),
        text=_NOTE,
        server=True,
        extra=True,
    ),
    Command(
        "connect ca set-config",
        "Change the configuration of the mesh's certificate authority",
        set_config,
        flags=(
            Flag("config-file", "string", "JSON file.", complete="files"),
            Flag("force-without-cross-signing", "bool", "Rotate at once.", hidden=True),
        ),
        example=("ctl connect ca set-config -config-file=ca.json",),
        text=_NOTE,
        server=True,
    ),
    Command(
        "intention list",
        "List intentions",
        _asking("/v1/connect/intentions", "Failed to retrieve the intentions list"),
        example=("ctl intention list",),
        text=_NOTE,
        server=True,
        extra=True,
    ),
    Command(
        "intention get",
        "Show an intention",
        _asking("/v1/connect/intentions/exact", "Error", "source", "destination"),
        arguments=_PAIR,
        example=("ctl intention get web db",),
        text=_NOTE,
        server=True,
    ),
    Command(
        "intention match",
        "Show the intentions for a destination",
        _asking("/v1/connect/intentions/match", "Error matching the connection", "name", by="destination"),
        arguments=(_DESTINATION,),
        example=("ctl intention match db",),
        text=_NOTE,
        server=True,
    ),
    Command(
        "intention check",
        "Tell whether a service may call another",
        _asking("/v1/connect/intentions/check", "Error checking the connection", "source", "destination"),
        arguments=_PAIR,
        example=("ctl intention check web db",),
        text=_NOTE,
        server=True,
    ),
    Command(
        "intention create",
        "Let a service call another, or forbid it",
        _sending("PUT", "Error creating intention"),
        arguments=_PAIR,
        flags=(
            Flag("allow", "bool", "Allow it; the default."),
            Flag("deny", "bool", "Forbid it."),
        ),
        example=("ctl intention create web db",),
        text=_NOTE,
        server=True,
    ),
    Command(
        "intention delete",
        "Delete an intention",
        _sending("DELETE", "Error deleting the intention"),
        arguments=_PAIR,
        example=("ctl intention delete web db",),
        text=_NOTE,
        server=True,
    ),
)
