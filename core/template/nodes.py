"""What a template is made of, after parsing. `str` gives a node as error messages show it."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.codec.duration import quote


@dataclass(slots=True)
class Text:
    """Text between actions, copied as it is."""

    pos: int
    text: str

    def __str__(self) -> str:
        return quote(self.text)


@dataclass(slots=True)
class Dot:
    """The value that the template is at."""

    pos: int

    def __str__(self) -> str:
        return "."


@dataclass(slots=True)
class Nil:
    """The constant nil."""

    pos: int

    def __str__(self) -> str:
        return "nil"


@dataclass(slots=True)
class Bool:
    """true or false."""

    pos: int
    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(slots=True)
class Number:
    """A constant; a whole float such as 1e3 can stand for an integer parameter, too (`integer`)."""

    pos: int
    text: str
    value: int | float | complex
    integer: int | None

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class String:
    """A quoted or raw string; `quoted` is how it was written."""

    pos: int
    quoted: str
    value: str

    def __str__(self) -> str:
        return self.quoted


@dataclass(slots=True)
class Identifier:
    """The name of a function."""

    pos: int
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(slots=True)
class Field:
    """`.a.b`: fields of dot."""

    pos: int
    names: list[str]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(slots=True)
class Variable:
    """`$x.a.b`; `name` carries the dollar sign."""

    pos: int
    name: str
    names: list[str]

    def __str__(self) -> str:
        return ".".join([self.name, *self.names])


@dataclass(slots=True)
class Chain:
    """`(pipeline).a.b`: fields of something else than dot or a variable."""

    pos: int
    of: Operand
    names: list[str]

    def __str__(self) -> str:
        start = f"({self.of})" if isinstance(self.of, Pipe) else str(self.of)
        return start + "".join(f".{name}" for name in self.names)


@dataclass(slots=True)
class Command:
    """A function or value with its arguments."""

    pos: int
    args: list[Operand] = field(default_factory=list)

    def __str__(self) -> str:
        return " ".join(f"({arg})" if isinstance(arg, Pipe) else str(arg) for arg in self.args)


@dataclass(slots=True)
class Pipe:
    """Commands, each given the value of the one before; the last value may go to variables."""

    pos: int
    variables: list[str] = field(default_factory=list)
    assigns: bool = False
    commands: list[Command] = field(default_factory=list)

    def __str__(self) -> str:
        commands = " | ".join(map(str, self.commands))
        if not self.variables:
            return commands
        return f"{', '.join(self.variables)} {'=' if self.assigns else ':='} {commands}"


@dataclass(slots=True)
class Action:
    """`{{pipeline}}`."""

    pos: int
    pipe: Pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


@dataclass(slots=True)
class Body:
    """Nodes one after the other."""

    pos: int
    nodes: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return "".join(map(str, self.nodes))


@dataclass(slots=True)
class Control:
    """`if`, `with` or `range`."""

    pos: int
    keyword: str
    pipe: Pipe
    body: Body
    otherwise: Body | None

    def __str__(self) -> str:
        otherwise = "" if self.otherwise is None else f"{{{{else}}}}{self.otherwise}"
        return f"{{{{{self.keyword} {self.pipe}}}}}{self.body}{otherwise}{{{{end}}}}"


@dataclass(slots=True)
class Jump:
    """`break` or `continue`."""

    pos: int
    keyword: str

    def __str__(self) -> str:
        return f"{{{{{self.keyword}}}}}"


@dataclass(slots=True)
class Call:
    """`{{template "name" pipeline}}`."""

    pos: int
    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        pipe = "" if self.pipe is None else f" {self.pipe}"
        return f"{{{{template {quote(self.name)}{pipe}}}}}"


@dataclass(slots=True)
class Ending:
    """`end` or `else`: closes a body, is never part of one."""

    pos: int
    keyword: str

    def __str__(self) -> str:
        return f"{{{{{self.keyword}}}}}"


Operand = Dot | Nil | Bool | Number | String | Identifier | Field | Variable | Chain | Pipe
Node = Text | Action | Control | Jump | Call
Any = Operand | Node | Command | Body
