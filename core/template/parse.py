"""Items become trees (reference/template.md 1.2 and 1.3). One text may define several templates.

The grammar is read with one item in hand and the rest to look at; errors name the line of the furthest
item that was looked at, as Go's do."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple, NoReturn

from core.codec.duration import quote
from core.template import lex, nodes, strings
from core.template.errors import TemplateError

MAX_DEPTH = 60
"""How deep controls and parentheses may nest together."""
MAX_CHAIN = 150
"""How many `else if` may follow each other."""

_OPERANDS = frozenset(
    (
        *(lex.BOOL, lex.CHAR_CONSTANT, lex.COMPLEX, lex.DOT, lex.FIELD, lex.IDENTIFIER),
        *(lex.NUMBER, lex.NIL, lex.RAW_STRING, lex.STRING, lex.VARIABLE, lex.LEFT_PAREN),
    )
)
_NOT_EXECUTABLE = (nodes.Bool, nodes.Dot, nodes.Nil, nodes.Number, nodes.String)


class Tree(NamedTuple):
    """One template: its name, the body, and the text (with the name of its file) for places in errors."""

    name: str
    body: nodes.Body
    file: str
    text: str


def parse(
    name: str, text: str, functions: Container[str], left: str = "{{", right: str = "}}"
) -> dict[str, Tree]:
    """The templates in `text` by name; the whole text is the one called `name`. TemplateError if it
    cannot be read. `functions` are the names that may be called."""
    parser = _Parser(name, text, functions, left or "{{", right or "}}")
    parser.parse()
    return parser.trees


def is_empty(body: nodes.Body) -> bool:
    """Whether a body is nothing but white space: such a definition may be defined again."""
    return all(isinstance(node, nodes.Text) and not node.text.strip() for node in body.nodes)


class _Parser:
    def __init__(self, name: str, text: str, functions: Container[str], left: str, right: str) -> None:
        self._name, self._text, self._functions = name, text, functions
        self._items = lex.lex(text, left, right)
        self._at = 0
        self._furthest = 0
        self._action_line = 0
        self._ranges = 0
        self._depth = self._chained = 0
        self._variables = ["$"]
        self.trees: dict[str, Tree] = {}

    # --- items -------------------------------------------------------------------------------------

    def _peek(self) -> lex.Item:
        at = min(self._at, len(self._items) - 1)
        self._furthest = max(self._furthest, at)
        return self._items[at]

    def _next(self) -> lex.Item:
        item = self._peek()
        self._at += 1
        return item

    def _peek_word(self) -> lex.Item:
        while self._peek().kind == lex.SPACE:
            self._at += 1
        return self._peek()

    def _next_word(self) -> lex.Item:
        item = self._peek_word()
        self._at += 1
        return item

    def _expect(self, kind: str, context: str) -> lex.Item:
        item = self._next_word()
        if item.kind != kind:
            self._unexpected(item, context)
        return item

    def _fail(self, reason: str) -> NoReturn:
        line = self._items[self._furthest].line
        text = f"template: {self._name}:{line}: {reason}"
        raise TemplateError(text, self._name, line, None, reason)

    def _unexpected(self, item: lex.Item, context: str) -> NoReturn:
        if item.kind != lex.ERROR:
            self._fail(f"unexpected {item} in {context}")
        started = ""
        if self._action_line not in (0, item.line):
            what = "" if item.text.endswith(" action") else " in action"
            started = f"{what} started at {self._name}:{self._action_line}"
        self._fail(f"{item}{started}")

    # --- templates ---------------------------------------------------------------------------------

    def parse(self) -> None:
        """The whole text: definitions aside, everything is the body of the template `name`."""
        body = nodes.Body(self._peek().pos)
        while self._peek().kind != lex.EOF:
            start = self._at
            if self._next().kind == lex.LEFT and self._next_word().kind == "define":
                self._definition()
                continue
            self._at = start
            node = self._text_or_action()
            if isinstance(node, nodes.Ending):
                self._fail(f"unexpected {node}")
            body.nodes.append(node)
        self._add(self._name, body)

    def _definition(self) -> None:
        name = self._template_name("define clause")
        self._expect(lex.RIGHT, "define clause")
        self._add(name, self._apart("define clause"))

    def _apart(self, context: str) -> nodes.Body:
        """A body up to its end that sees no variables of what is around it."""
        around = self._variables, self._ranges
        self._variables, self._ranges = ["$"], 0
        body, end = self._body()
        if end.keyword != "end":
            self._fail(f"unexpected {end} in {context}")
        self._variables, self._ranges = around
        return body

    def _add(self, name: str, body: nodes.Body) -> None:
        known = self.trees.get(name)
        if known is not None and not is_empty(known.body):
            if not is_empty(body):
                self._fail(f"template: multiple definition of template {quote(name)}")
            return
        self.trees[name] = Tree(name, body, self._name, self._text)

    def _template_name(self, context: str) -> str:
        item = self._next_word()
        if item.kind not in (lex.STRING, lex.RAW_STRING):
            self._unexpected(item, context)
        return self._unquote(item)

    def _unquote(self, item: lex.Item) -> str:
        try:
            return strings.unquote(item.text)
        except ValueError as error:
            self._fail(str(error))

    # --- bodies and actions ------------------------------------------------------------------------

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"nested more than {MAX_DEPTH} levels deep")

    def _body(self) -> tuple[nodes.Body, nodes.Ending]:
        self._deeper()
        body = nodes.Body(self._peek_word().pos)
        while True:
            if self._peek_word().kind == lex.EOF:
                self._fail("unexpected EOF")
            node = self._text_or_action()
            if isinstance(node, nodes.Ending):
                self._depth -= 1
                return body, node
            body.nodes.append(node)

    def _text_or_action(self) -> nodes.Node | nodes.Ending:
        item = self._next_word()
        if item.kind == lex.TEXT:
            return nodes.Text(item.pos, item.text)
        if item.kind != lex.LEFT:
            self._unexpected(item, "input")
        self._action_line = item.line
        node = self._action()
        self._action_line = 0
        return node

    def _action(self) -> nodes.Node | nodes.Ending:
        item = self._peek_word()
        if item.kind in ("if", "with", "range"):
            self._next()
            return self._control(item.kind)
        if item.kind in ("break", "continue"):
            self._next()
            context = f"{{{{{item.kind}}}}}"
            self._expect(lex.RIGHT, context)
            if not self._ranges:
                self._fail(f"{context} outside {{{{range}}}}")
            return nodes.Jump(item.pos, item.kind)
        if item.kind == "end":
            self._next()
            self._expect(lex.RIGHT, "end")
            return nodes.Ending(item.pos, "end")
        if item.kind == "else":
            self._next()
            following = self._peek_word()
            if following.kind not in ("if", "with"):
                self._expect(lex.RIGHT, "else")
            return nodes.Ending(item.pos, "else")
        if item.kind in ("template", "block"):
            self._next()
            return self._template_call() if item.kind == "template" else self._block()
        return nodes.Action(item.pos, self._pipe("command", lex.RIGHT))

    def _control(self, keyword: str) -> nodes.Control:
        scope = len(self._variables)
        pipe = self._pipe(keyword, lex.RIGHT)
        self._ranges += keyword == "range"
        body, end = self._body()
        self._ranges -= keyword == "range"
        otherwise = None
        if end.keyword == "else":
            following = self._peek()
            if following.kind == keyword and keyword in ("if", "with"):
                self._next()
                self._chained += 1
                if self._chained > MAX_CHAIN:
                    self._fail(f"more than {MAX_CHAIN} times `else {keyword}` in a row")
                otherwise = nodes.Body(end.pos, [self._control(keyword)])
                self._chained -= 1
            else:
                otherwise, end = self._body()
                if end.keyword != "end":
                    self._fail(f"expected end; found {end}")
        del self._variables[scope:]
        return nodes.Control(pipe.pos, keyword, pipe, body, otherwise)

    def _template_call(self) -> nodes.Call:
        pos = self._peek_word().pos
        name = self._template_name("template clause")
        if self._peek_word().kind == lex.RIGHT:
            self._next()
            return nodes.Call(pos, name, None)
        return nodes.Call(pos, name, self._pipe("template clause", lex.RIGHT))

    def _block(self) -> nodes.Call:
        pos = self._peek_word().pos
        name = self._template_name("block clause")
        pipe = self._pipe("block clause", lex.RIGHT)
        self._add(name, self._apart("block clause"))
        return nodes.Call(pos, name, pipe)

    # --- pipelines ---------------------------------------------------------------------------------

    def _pipe(self, context: str, end: str) -> nodes.Pipe:
        pipe = nodes.Pipe(self._peek_word().pos)
        self._declarations(pipe, context)
        while True:
            item = self._peek_word()
            if item.kind == end:
                self._next()
                self._check(pipe, context)
                return pipe
            if item.kind not in _OPERANDS:
                self._unexpected(item, context)
            pipe.commands.append(self._command())

    def _declarations(self, pipe: nodes.Pipe, context: str) -> None:
        """`$x :=`, `$x =`, and in a range `$i, $e :=`."""
        while self._peek_word().kind == lex.VARIABLE:
            start = self._at
            variable = self._next().text
            following = self._peek_word()
            comma = following.kind == lex.CHAR and following.text == ","
            if not comma and following.kind not in (lex.ASSIGN, lex.DECLARE):
                self._at = start
                return
            self._next()
            pipe.variables.append(variable)
            self._variables.append(variable)
            if not comma:
                pipe.assigns = following.kind == lex.ASSIGN
                return
            if context != "range" or len(pipe.variables) > 1:
                self._fail(f"too many declarations in {context}")
            if self._peek_word().kind not in (lex.VARIABLE, lex.RIGHT, lex.RIGHT_PAREN):
                self._fail("range can only initialize variables")

    def _check(self, pipe: nodes.Pipe, context: str) -> None:
        if not pipe.commands:
            self._fail(f"missing value for {context}")
        for stage, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.args[0], _NOT_EXECUTABLE):
                self._fail(f"non executable command in pipeline stage {stage}")

    def _command(self) -> nodes.Command:
        command = nodes.Command(self._peek_word().pos)
        while True:
            self._peek_word()
            operand = self._operand()
            if operand is not None:
                command.args.append(operand)
            item = self._next()
            if item.kind == lex.SPACE:
                continue
            if item.kind in (lex.RIGHT, lex.RIGHT_PAREN):
                self._at -= 1
            elif item.kind != lex.PIPE:
                self._unexpected(item, "operand")
            if not command.args:
                self._fail("empty command")
            return command

    def _operand(self) -> nodes.Operand | None:
        node = self._term()
        if node is None or self._peek().kind != lex.FIELD:
            return node
        pos = self._peek().pos
        names = []
        while self._peek().kind == lex.FIELD:
            names.append(self._next().text[1:])
        if isinstance(node, nodes.Field):
            return nodes.Field(pos, node.names + names)
        if isinstance(node, nodes.Variable):
            return nodes.Variable(pos, node.name, node.names + names)
        if isinstance(node, nodes.Bool | nodes.String | nodes.Number | nodes.Nil | nodes.Dot):
            self._fail(f"unexpected . after term {quote(str(node))}")
        return nodes.Chain(pos, node, names)

    def _term(self) -> nodes.Operand | None:
        item = self._peek_word()
        if item.kind not in _OPERANDS:
            return None
        self._next()
        if item.kind == lex.IDENTIFIER:
            if item.text not in self._functions:
                self._fail(f"function {quote(item.text)} not defined")
            return nodes.Identifier(item.pos, item.text)
        if item.kind == lex.DOT:
            return nodes.Dot(item.pos)
        if item.kind == lex.NIL:
            return nodes.Nil(item.pos)
        if item.kind == lex.VARIABLE:
            if item.text not in self._variables:
                self._fail(f"undefined variable {quote(item.text)}")
            return nodes.Variable(item.pos, item.text, [])
        if item.kind == lex.FIELD:
            return nodes.Field(item.pos, [item.text[1:]])
        if item.kind == lex.BOOL:
            return nodes.Bool(item.pos, item.text == "true")
        if item.kind == lex.LEFT_PAREN:
            self._deeper()
            pipe = self._pipe("parenthesized pipeline", lex.RIGHT_PAREN)
            self._depth -= 1
            return pipe
        if item.kind in (lex.STRING, lex.RAW_STRING):
            return nodes.String(item.pos, item.text, self._unquote(item))
        return self._number(item)

    def _number(self, item: lex.Item) -> nodes.Number:
        text = item.text
        if item.kind == lex.CHAR_CONSTANT:
            char = self._unquote(item)
            if len(char) != 1:
                self._fail(f"malformed character constant: {text}")
            return nodes.Number(item.pos, text, ord(char), ord(char))
        if text.endswith("i"):
            parts = _complex(text)
            if parts is None:
                self._fail(f"illegal number syntax: {quote(text)}")
            return nodes.Number(item.pos, text, parts, None)
        whole = strings.integer(text)
        if whole is not None:
            if not -(1 << 63) <= whole < 1 << 64:
                self._fail(f"integer overflow: {quote(text)}")
            return nodes.Number(item.pos, text, whole, whole)
        number = strings.real(text)
        if number is None or number - number != 0:
            self._fail(f"illegal number syntax: {quote(text)}")
        whole = int(number) if abs(number) < 1 << 63 and number == int(number) else None
        return nodes.Number(item.pos, text, number, whole)


def _complex(text: str) -> complex | None:
    """`1i` or `1+2i`."""
    body = text[:-1]
    split = max(body.rfind("+", 1), body.rfind("-", 1))
    if split > 0 and body[split - 1] in "eE":
        split = max(body.rfind("+", 1, split - 1), body.rfind("-", 1, split - 1))
    first = strings.real(body[:split]) if split > 0 else 0.0
    second = strings.real(body[split:] if split > 0 else body)
    return None if first is None or second is None else complex(first, second)
