"""`version`, `keygen`, `completions`, `help`: commands that need no agent."""

from __future__ import annotations

from cli.command import Argument, Command, Flag
from core.version import CONSUL_VERSION, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cli.call import Call

_PROTOCOL = (
    "Protocol 2 spoken by default, understands 2 to 3 "
    "(agent will automatically use protocol >2 when speaking to compatible agents)"
)


def version(call: Call) -> int:
    """`version`: on a terminal what this is; in a pipe the text that tools look for."""
    if call.out.structured:
        call.out.document(
            {
                "Version": CONSUL_VERSION,
                "Revision": "",
                "Prerelease": "",
                "RPC": {"Default": 2, "Min": 2, "Max": 3},
                "CtlVersion": VERSION,
            }
        )
    elif call.out.quiet:
        call.out.line(VERSION)
    elif call.out.format == "table" and call.name != "consul":
        call.out.line(f"ctl {VERSION}, keeps the API of Consul {CONSUL_VERSION}")
    else:
        call.out.write(f"Consul v{CONSUL_VERSION}\n{_PROTOCOL}\n\n")
    return 0


def keygen(call: Call) -> int:
    """`keygen`: 32 random bytes in base64."""
    import binascii
    import os

    call.out.write(binascii.b2a_base64(os.urandom(32)))
    return 0


def completions(call: Call) -> int:
    from cli.install import completions as give

    return give(call)


def help_(call: Call) -> int:
    from cli.help import show_help

    show_help(tuple(call.arguments), call.name)
    return 0


COMMANDS = (
    Command(
        "version",
        "Show the version of ctl and the Consul API level it keeps",
        version,
        example=("ctl version", "ctl version --format json"),
        connects=False,
        extra=True,
    ),
    Command(
        "keygen",
        "Make a key for gossip encryption",
        keygen,
        example=("ctl keygen",),
        connects=False,
        output=False,
        extra=True,
    ),
    Command(
        "completions",
        "Print or install shell completion",
        completions,
        arguments=(Argument("SHELL", "bash, zsh or fish.", choices=("bash", "zsh", "fish")),),
        flags=(Flag("install", "bool", "Write it where the shell looks for it."),),
        example=("ctl completions bash --install", "source <(ctl completions zsh)"),
        connects=False,
        output=False,
    ),
    Command(
        "help",
        "Show help on a command",
        help_,
        arguments=(Argument("COMMAND", "Words of the command.", required=False, many=True),),
        example=("ctl help kv put",),
        connects=False,
        output=False,
    ),
)
