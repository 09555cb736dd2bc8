"""Help pages: the declarations as a typer application, which knows how to lay them out.

Only help needs typer and rich (100 ms to import); the commands themselves are run by `cli/main.py`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal

import typer
import typer.core

from cli.command import Argument, Command, Flag, Usage
from cli.main import GROUPS, load
from cli.usage import SUBGROUPS, SUMMARIES, flag_label

PANELS = {"agent": "Which agent to ask", "output": "Output"}

# The words of the first page by what they are for.
THEMES = {
    "Agents and their cluster": "agent members join leave force-leave rtt info reload maint monitor "
    "validate dev doctor top debug",
    "Keys, services, events": "kv services checks nodes catalog dc event query changes",
    "Acting on what happens": "watch wait template env exec session lock",
    "Access and encryption": "acl login logout tls keyring keygen",
    "Servers and state": "operator raft snapshot config",
    "The rest": "connect intention version completions help",
}
_FIRST_STEPS = (
    "ctl agent start --dev        an agent of one's own, on this machine",
    "ctl kv put greeting hello    ... and something in it",
    "ctl members                  who is there",
    "ctl doctor                   when something is wrong",
)


def show_help(path: tuple[str, ...], name: str) -> None:
    """Print the page of a command, a group, or of all when `path` is empty. Usage when there is none."""
    commands = _below(path)
    if path and not commands:
        raise Usage(f"Error: no help on `{' '.join(path)}`: no such command")
    pretty = sys.stdout.isatty()
    application = build(commands, pretty) if path else overview(pretty)
    typer.main.get_command(application)(args=[*path, "--help"], prog_name=name, standalone_mode=False)


def tree(first: str = "") -> dict[str, Command]:
    """Every declared command by its path, in the order of the top-level page; `first`: only of this word."""
    commands: dict[str, Command] = {}
    for word, group in GROUPS.items():
        if first in ("", word):
            for path, command in load(group).items():
                if path.split()[0] == word and not command.hidden:
                    commands[path] = command
    return commands


def _below(path: tuple[str, ...]) -> dict[str, Command]:
    """The commands that the page of `path` shows; other groups are not even loaded."""
    if not path:
        return {}
    wanted = " ".join(path)
    return {
        known: command
        for known, command in tree(path[0]).items()
        if known == wanted or known.startswith(wanted + " ")
    }


def overview(pretty: bool) -> typer.Typer:
    """The first page: one line a word. No group is loaded for it."""
    top = _top(pretty, "\n\n" + _lines("First steps:", _FIRST_STEPS, pretty))
    for theme, words in THEMES.items():
        for word in words.split():
            top.command(word, help=_text(SUMMARIES[word], pretty), rich_help_panel=theme)(_nothing)
    return top


def build(commands: dict[str, Command], pretty: bool) -> typer.Typer:
    """The application for the help on `commands`. `pretty` lays pages out for a terminal."""
    settings, mode = _SETTINGS, _mode(pretty)
    top = _top(pretty)
    groups = {"": top}
    for path, command in commands.items():
        *above, last = path.split()
        parent = top
        for depth, word in enumerate(above, 1):
            group = " ".join(above[:depth])
            if group not in groups:
                groups[group] = typer.Typer(rich_markup_mode=mode, context_settings=settings)
                about = SUMMARIES.get(group) or SUBGROUPS[group]
                parent.add_typer(groups[group], name=word, help=about)
            parent = groups[group]
        parent.command(
            last,
            help=_text(_page(command), pretty),
            short_help=command.summary,
            epilog=_examples(command, pretty),
            context_settings=settings,
        )(_shape(command))
    return top


_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def _mode(pretty: bool) -> Literal["rich"] | None:
    return "rich" if pretty else None


def _top(pretty: bool, more: str = "") -> typer.Typer:
    top = typer.Typer(
        add_completion=False,
        context_settings=_SETTINGS,
        rich_markup_mode=_mode(pretty),
        help="Service discovery, configuration and coordination.",
        epilog=_text("`--help` after any command shows its flags and an example.", pretty) + more,
        cls=_InOrder,
    )
    top.callback()(_nothing)  # so that typer keeps the group even around a single command
    return top


class _InOrder(typer.core.TyperGroup):
    """The commands in our order; typer would show single commands before groups."""

    def list_commands(self, ctx: Any) -> list[str]:
        return " ".join(THEMES.values()).split()


def _nothing() -> None:
    """What typer calls before the page of a command."""


def _page(command: Command) -> str:
    return f"{command.summary}.\n\n{command.text}" if command.text else f"{command.summary}."


def _examples(command: Command, pretty: bool) -> str:
    """One line each. An empty line is how rich pages break a line, `\b` how plain ones keep it."""
    return _lines("Examples:", command.example, pretty)


def _lines(title: str, given: Iterable[str], pretty: bool) -> str:
    lines = [title, *(f"  {line}" for line in given)]
    return _text("\n\n".join(lines), pretty) if pretty else "\b\n" + "\n".join(lines)


def _text(text: str, pretty: bool) -> str:
    if not pretty:
        return text
    from rich.markup import escape

    return escape(text)


def _shape(command: Command) -> Callable[..., None]:
    """A function whose signature says what the command takes. typer reads it; nobody calls it."""

    def described() -> None:
        raise AssertionError("only described, never called")

    parameters = [_argument(argument) for argument in command.arguments]
    common = {flag.name for flag in command.all_flags()} - {flag.name for flag in command.flags}
    for flag in command.all_flags():
        if not flag.hidden:
            parameters.append(_option(flag, _panel(flag) if flag.name in common else None))
    described.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    described.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return described


def _panel(flag: Flag) -> str:
    return PANELS["output" if flag.name in ("format", "quiet", "no-color", "strict-exit") else "agent"]


def _argument(argument: Argument) -> inspect.Parameter:
    metavar = argument.name + ("..." if argument.many else "")
    return inspect.Parameter(
        argument.name.lower(),
        inspect.Parameter.KEYWORD_ONLY,
        annotation=str,
        default=typer.Argument(
            ... if argument.required else "", help=argument.help, metavar=metavar, show_default=False
        ),
    )


def _option(flag: Flag, panel: str | None) -> inspect.Parameter:
    metavar = "string" if flag.choices else flag_label(flag).partition("=")[2].strip("<>") or None
    declared = [f"--{flag.name}"] + ([f"-{flag.short}"] if flag.short else [])
    is_bool = flag.kind == "bool"
    help_text = f"{flag.help} (default {flag.default})" if flag.default else flag.help
    if flag.choices:
        help_text += f" One of {', '.join(flag.choices)}."
    default = typer.Option(
        False if is_bool else "",
        *declared,
        help=help_text,
        metavar=None if is_bool else metavar,
        show_default=False,
        rich_help_panel=panel,
    )
    name = "flag_" + flag.name.replace("-", "_")
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=bool if is_bool else str, default=default
    )
