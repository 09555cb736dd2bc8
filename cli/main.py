"""The entry: find the command, load its group, run it, turn what happened into an exit code.

A small command must cost little more than Python's own start, so this file and all it imports at the
top stay clear of typer, rich, json, re and socket; help pages and tables load them when needed."""

from __future__ import annotations

import os
import sys

from cli.command import Failure, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cli.command import Command
    from cli.parse import Parsed

# First word -> the file that declares it. The order is that of the help page.
GROUPS = {
    "agent": "agent",
    "members": "members",
    "join": "members",
    "leave": "members",
    "force-leave": "members",
    "rtt": "coordinates",
    "kv": "kv",
    "services": "services",
    "checks": "checks",
    "nodes": "nodes",
    "catalog": "catalog",
    "dc": "catalog",
    "event": "event",
    "query": "query",
    "watch": "watch",
    "wait": "wait",
    "changes": "changes",
    "template": "template",
    "env": "env",
    "exec": "exec",
    "session": "session",
    "lock": "lock",
    "config": "configentries",
    "connect": "mesh",
    "intention": "mesh",
    "acl": "acl",
    "login": "login",
    "logout": "login",
    "operator": "operator",
    "raft": "operator",
    "snapshot": "snapshot",
    "top": "top",
    "info": "operate",
    "reload": "operate",
    "maint": "operate",
    "monitor": "operate",
    "debug": "debug",
    "validate": "operate",
    "keygen": "misc",
    "keyring": "keyring",
    "tls": "certificates",
    "dev": "dev",
    "doctor": "doctor",
    "version": "misc",
    "completions": "misc",
    "help": "misc",
    "__complete": "live",
}
NOT_FOUND = 127
INTERRUPTED = 130
BROKEN_PIPE = 141


def main() -> None:
    """The console script."""
    name = os.path.basename(sys.argv[0])
    code = run(sys.argv[1:], "consul" if name == "consul" else "ctl")
    sys.exit(code)


def run(words: list[str], name: str = "ctl") -> int:
    """Do what `words` say and give the exit code. Output goes to sys.stdout and sys.stderr."""
    try:
        code = _dispatch(words, name)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_output()  # whoever read it has enough
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # Failures of the agent, files and children have been told by now; what is left is our output.
        _discard_output()
        from cli.client import error_text

        sys.stderr.write(f"Error: write stdout: {error_text(error)}\n")
        return 1


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that Python does not complain when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def load(group: str) -> dict[str, Command]:
    """The commands that a group file declares, by path."""
    module = __import__(f"cli.{group}", fromlist=["COMMANDS"])
    return {command.path: command for command in module.COMMANDS}


def _dispatch(words: list[str], name: str) -> int:
    from cli.parse import HelpWanted, leading_flags

    common, rest = leading_flags(words)
    if not rest:
        return _usage_of_all(name, NOT_FOUND)
    first = rest[0]
    if first in ("-h", "-help", "--help"):
        return _help((), name)
    if first in ("-v", "-version", "--version"):
        first, rest = "version", ["version", *rest[1:]]
    if first not in GROUPS:
        return _usage_of_all(name, NOT_FOUND, unknown=first)
    commands = load(GROUPS[first])
    command, after = _find(commands, rest)
    if command is None:
        group = tuple(rest[: len(rest) - len(after)])
        if after and _asks_help(after[0]):
            return _help(group, name)
        return _usage_of_group(" ".join(group), commands, name, after[0] if after else "")
    words_of_command = common + after
    try:
        return _run(command, words_of_command, name)
    except HelpWanted:
        return _help(tuple(command.path.split()), name)


def _find(commands: dict[str, Command], words: list[str]) -> tuple[Command | None, list[str]]:
    """The command that `words` begin with, and the words after its path; None and the words after a
    group that is not told further.

    `agent`, `services` and their like stand for their first command when no word follows."""
    for count in (3, 2):
        path = " ".join(words[:count])
        if len(words) >= count and path in commands:
            return commands[path], words[count:]
        if len(words) >= count and any(other.startswith(path + " ") for other in commands):
            return None, words[count:]
    first = words[0]
    command = commands.get(first)
    if command is None:
        return None, words[1:]
    has_children = any(path.startswith(first + " ") for path in commands)
    if has_children and len(words) > 1 and (not words[1].startswith("-") or _asks_help(words[1])):
        return None, words[1:]
    return command, words[1:]


def _asks_help(word: str) -> bool:
    return word in ("-h", "-help", "--help")


def _run(command: Command, words: list[str], name: str) -> int:
    from cli.call import Call, strict_exit
    from cli.parse import Parsed, check_arguments, parse

    parsed = Parsed()
    try:
        if command.raw:
            parsed.arguments = words
        else:
            parse(command, words, parsed)
            check_arguments(command, parsed.arguments)
            _tell_of_surplus(command, parsed.arguments)
        call = Call(command, parsed, name)
        return command.run(call) or 0
    except Failure as failure:
        sys.stdout.flush()
        _report(failure, command, parsed)
        return failure.exit_status(strict_exit(parsed.values))


def _tell_of_surplus(command: Command, arguments: list[str]) -> None:
    """Words that are ignored as Consul ignores them: said to a person, not to a script."""
    surplus = arguments[len(command.arguments) :]
    if command.extra and surplus and sys.stderr.isatty():
        sys.stderr.write(f"Not used: {' '.join(surplus)}\n")


def _report(failure: Failure, command: Command, parsed: Parsed) -> None:
    """The text on stderr; one hint on a terminal only, since scripts compare the text."""
    from cli.client import ConnectError, TransportError

    text = str(failure)
    if isinstance(failure, TransportError):
        text = f"{command.failure}: {text}"
    elif isinstance(failure, ConnectError):
        client = (
            "initializing client" if command.path.startswith("operator ") else "connecting to Consul agent"
        )
        text = f"Error {client}: {text}"
    if text:
        sys.stderr.write(text + "\n")
    if isinstance(failure, Usage) and failure.show:
        from cli.usage import command_usage

        sys.stderr.write(command_usage(command))
    elif failure.hint and sys.stderr.isatty():
        sys.stderr.write(failure.hint + "\n")


def _help(path: tuple[str, ...], name: str) -> int:
    from cli.help import show_help

    show_help(path, name)
    return 0


def _usage_of_all(name: str, code: int, unknown: str = "") -> int:
    from cli.usage import tree_usage, unknown_command

    person = bool(unknown) and sys.stderr.isatty()
    sys.stderr.write(unknown_command(name, unknown) if person else tree_usage(name, unknown))
    return code


def _usage_of_group(group: str, commands: dict[str, Command], name: str, unknown: str) -> int:
    from cli.usage import group_usage

    sys.stderr.write(group_usage(group, commands, name, unknown))
    return 1
