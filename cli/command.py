"""How a command is declared: its words, flags, arguments, examples, and the function that does it.

Each group file holds its functions and a tuple `COMMANDS`. From that one declaration come the
parser (`cli/parse.py`), the help pages (`cli/help.py`), `cli/REFERENCE.md` and the completions
(`cli/generate.py`). Nothing here imports more than the interpreter has loaded already: every
`ctl kv get` pays for it."""

from __future__ import annotations

from core.errors import CtlError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.call import Call

STRICT_CODES = {"usage": 2, "missing": 3, "denied": 4, "unreachable": 5, "conflict": 6}


class Failure(CtlError):
    """A command that could not be done. `str(error)` is the whole text for stderr.

    `kind` chooses the code under `--strict-exit`; without it every failure ends with `code`."""

    def __init__(self, text: str, *, kind: str = "", hint: str = "", code: int = 1) -> None:
        super().__init__(text)
        self.kind = kind
        self.hint = hint
        self.code = code

    def exit_status(self, strict: bool) -> int:
        return STRICT_CODES.get(self.kind, self.code) if strict else self.code


class Usage(Failure):
    """Wrong flags or arguments. `show` adds the usage of the command below the text."""

    def __init__(self, text: str, *, show: bool = False, hint: str = "") -> None:
        super().__init__(text, kind="usage", hint=hint)
        self.show = show


class Flag:
    """One flag. `kind`: bool, string, int, uint, duration, list (repeats), map (k=v, repeats)."""

    __slots__ = ("choices", "complete", "default", "help", "hidden", "kind", "name", "short")

    def __init__(
        self,
        name: str,
        kind: str,
        help: str,
        *,
        default: str = "",
        short: str = "",
        complete: str = "",
        choices: tuple[str, ...] = (),
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.default = default
        self.short = short
        self.complete = complete  # what live words complete its value: keys, services, nodes, files
        self.choices = choices
        self.hidden = hidden


class Argument:
    """One positional argument. `missing` is the text of the error when a required one is left out;
    the usage follows it when there is no such text, or with `show_usage`."""

    __slots__ = ("choices", "complete", "help", "many", "missing", "name", "required", "show_usage")

    def __init__(
        self,
        name: str,
        help: str,
        *,
        required: bool = True,
        many: bool = False,
        missing: str = "",
        show_usage: bool = False,
        complete: str = "",
        choices: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.help = help
        self.required = required
        self.many = many
        self.missing = missing
        self.show_usage = show_usage or not missing
        self.complete = complete
        self.choices = choices


class Command:
    """One command. `path` is its words without `ctl`; `failure` goes before texts of the transport."""

    __slots__ = (
        "arguments",
        "connects",
        "example",
        "extra",
        "failure",
        "flags",
        "hidden",
        "literal",
        "output",
        "path",
        "raw",
        "run",
        "server",
        "stops",
        "summary",
        "surplus",
        "text",
    )

    def __init__(
        self,
        path: str,
        summary: str,
        run: Callable[[Call], int | None],
        *,
        flags: tuple[Flag, ...] = (),
        arguments: tuple[Argument, ...] = (),
        example: tuple[str, ...] = (),
        text: str = "",
        connects: bool = True,
        server: bool = False,
        output: bool = True,
        failure: str = "Error",
        extra: bool = False,
        surplus: str = "",
        literal: int = -1,
        stops: bool = False,
        raw: bool = False,
        hidden: bool = False,
    ) -> None:
        self.path = path
        self.summary = summary
        self.run = run
        self.flags = flags
        self.arguments = arguments
        self.example = example
        self.text = text
        self.connects = connects  # takes the flags that say which agent to ask
        self.server = server  # takes -datacenter and -stale too
        self.output = output  # takes --format and --quiet
        self.failure = failure
        self.extra = extra  # arguments beyond the declared ones are ignored, as Consul does
        self.surplus = surplus  # Consul's own words for too many, with {wanted} and {given}
        self.literal = literal  # this positional is text even when it looks like a flag
        self.stops = stops  # flags end at the first positional: a child command starts there
        self.raw = raw  # flags are parsed by somebody else
        self.hidden = hidden

    def all_flags(self) -> list[Flag]:
        """Own flags first, then the common ones that apply and are not overridden."""
        flags = list(self.flags)
        names = {flag.name for flag in flags}
        common: tuple[Flag, ...] = GENERAL
        if self.output:
            common = OUTPUT + common
        if self.server:
            common = SERVER + common
        if self.connects:
            common = CLIENT + common
        flags += [flag for flag in common if flag.name not in names]
        return flags


CLIENT = (
    Flag("http-addr", "string", "Address of the agent: host:port, http://, https:// or unix:///path."),
    Flag("token", "string", "ACL secret to send."),
    Flag("token-file", "string", "File that holds the ACL secret.", complete="files"),
    Flag("ca-file", "string", "CA certificate to trust.", complete="files"),
    Flag("ca-path", "string", "Directory of CA certificates to trust.", complete="files"),
    Flag("client-cert", "string", "Client certificate.", complete="files"),
    Flag("client-key", "string", "Key of the client certificate.", complete="files"),
    Flag("tls-server-name", "string", "Name to send as SNI and to verify."),
    Flag("namespace", "string", "Enterprise; only `default` is accepted.", hidden=True),
    Flag("partition", "string", "Enterprise; only `default` is accepted.", hidden=True),
)
SERVER = (
    Flag("datacenter", "string", "Datacenter to ask; the agent's own when left out.", complete="datacenters"),
    Flag("stale", "bool", "Let any server answer, not only the leader."),
)
FORMATS = ("table", "plain", "json", "yaml", "pretty")
OUTPUT = (
    Flag("format", "string", "Output format; table on a terminal, else plain.", short="o", choices=FORMATS),
    Flag("quiet", "bool", "Print ids or names only."),
)
GENERAL = (
    Flag("no-color", "bool", "No colour, even on a terminal."),
    Flag("strict-exit", "bool", "Finer exit codes: 2 usage, 3 missing, 4 denied, 5 unreachable, 6 conflict."),
)
