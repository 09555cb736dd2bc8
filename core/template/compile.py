"""Trees become closures, once per template: rendering walks functions, not nodes.

The order of evaluation, the node that an error is told of, and the texts are those of Go's
text/template: `state.node` is the last node that was entered, which is where an error belongs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.codec.duration import quote
from core.template import access, nodes
from core.template.errors import EvalError, FunctionError
from core.template.gofmt import Flags, formatted, show
from core.template.parse import Tree
from core.template.state import MAX_STEPS, State
from core.template.values import INVALID, Function, go_type, sorted_items, truth

BREAK = "break"
"""What a body returns to leave the range; "continue" only ends the body."""
_NOTHING: Any = object()  # no value was piped into the command

Eval = Callable[["State", Any], Any]
Walk = Callable[["State", Any], str | None]
Piped = Callable[..., Any]  # state, dot, the piped value or _NOTHING, the receiver of a method


class Compiled:
    """A template ready to be carried out."""

    __slots__ = ("tree", "walk")

    def __init__(self, tree: Tree, functions: Mapping[str, Function]) -> None:
        self.tree = tree
        self.walk = _Compiler(functions).body(tree.body)


class _Compiler:
    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = functions

    # --- nodes that print or decide ----------------------------------------------------------------

    def body(self, body: nodes.Body) -> Walk:
        walks = tuple(self._node(node) for node in body.nodes)
        if len(walks) == 1:
            return walks[0]

        def walk(state: State, dot: Any) -> str | None:
            for each in walks:
                jump = each(state, dot)
                if jump is not None:
                    return jump
            return None

        return walk

    def _node(self, node: nodes.Node) -> Walk:
        if isinstance(node, nodes.Text):
            text = node.text

            def copy(state: State, dot: Any) -> None:
                state.out.append(text)

            return copy
        if isinstance(node, nodes.Action):
            return self._action(node)
        if isinstance(node, nodes.Control):
            return self._range(node) if node.keyword == "range" else self._choice(node)
        if isinstance(node, nodes.Jump):
            keyword = node.keyword
            return lambda state, dot: keyword
        return self._template(node)

    def _action(self, node: nodes.Action) -> Walk:
        pipe = self._pipe(node.pipe)
        if node.pipe.variables:

            def declare(state: State, dot: Any) -> None:
                pipe(state, dot)

            return declare

        def write(state: State, dot: Any) -> None:
            value = pipe(state, dot)
            if type(value) is str:
                state.out.append(value)
                return
            if isinstance(value, Function):
                state.node = node
                raise EvalError(f"can't print {node} of type {go_type(value)}")
            state.out.append(show(value))

        alone = node.pipe.commands[0].args[0] if len(node.pipe.commands) == 1 else None
        if isinstance(alone, nodes.Field) and len(alone.names) == 1 and len(node.pipe.commands[0].args) == 1:
            return _text_of_field(alone.names[0], write)
        return write

    def _choice(self, node: nodes.Control) -> Walk:
        """`if` and `with`."""
        pipe, body = self._pipe(node.pipe), self.body(node.body)
        otherwise = None if node.otherwise is None else self.body(node.otherwise)
        moves = node.keyword == "with"

        def choose(state: State, dot: Any) -> str | None:
            mark = len(state.variables)
            value = pipe(state, dot)
            if truth(value):
                jump = body(state, value if moves else dot)
            else:
                jump = None if otherwise is None else otherwise(state, dot)
            del state.variables[mark:]
            return jump

        return choose

    def _range(self, node: nodes.Control) -> Walk:
        pipe, body = self._pipe(node.pipe), self.body(node.body)
        otherwise = None if node.otherwise is None else self.body(node.otherwise)
        names, assigns = node.pipe.variables, node.pipe.assigns

        def bind(state: State, index: Any, element: Any) -> None:
            values = (element,) if len(names) == 1 else (index, element)
            for at, (name, value) in enumerate(zip(names, values, strict=True)):
                if assigns:
                    state.assign(name, value)
                else:
                    state.variables[at - len(names)] = name, value

        def walk(state: State, dot: Any) -> str | None:
            outer = len(state.variables)
            value = pipe(state, dot)
            mark = len(state.variables)
            empty = True
            for index, element in _rounds(value, len(names)):
                empty = False
                state.steps -= 1
                if state.steps < 0:
                    raise EvalError(f"more than {MAX_STEPS} rounds of range in one pass")
                if names:
                    bind(state, index, element)
                jump = body(state, element)
                del state.variables[mark:]
                if jump == BREAK:
                    break
            if empty and otherwise is not None:
                jump = otherwise(state, dot)
                del state.variables[outer:]
                return jump
            del state.variables[outer:]
            return None

        return walk

    def _template(self, node: nodes.Call) -> Walk:
        pipe = None if node.pipe is None else self._pipe(node.pipe)

        def call(state: State, dot: Any) -> None:
            state.node = node
            if node.name not in state.templates:
                raise EvalError(f"template {quote(node.name)} not defined")
            mark = len(state.variables)
            argument = INVALID if pipe is None else pipe(state, dot)
            state.run(node.name, argument)
            del state.variables[mark:]

        return call

    # --- pipelines and commands --------------------------------------------------------------------

    def _pipe(self, pipe: nodes.Pipe) -> Eval:
        first = self._command(pipe.commands[0])
        rest = tuple(self._command(command) for command in pipe.commands[1:])
        names, assigns = tuple(pipe.variables), pipe.assigns
        if not rest and not names:

            def single(state: State, dot: Any) -> Any:
                state.node = pipe
                value = first(state, dot, _NOTHING)
                return INVALID if value is None else value

            return single

        def run(state: State, dot: Any) -> Any:
            state.node = pipe
            value = first(state, dot, _NOTHING)
            for command in rest:
                value = command(state, dot, INVALID if value is None else value)
            if value is None:
                value = INVALID
            for name in names:
                if assigns:
                    state.assign(name, value)
                else:
                    state.variables.append((name, value))
            return value

        return run

    def _command(self, command: nodes.Command) -> Piped:
        first = command.args[0]
        args = command.args[1:]
        if isinstance(first, nodes.Identifier):
            return self._function(first, command, args)
        if isinstance(first, nodes.Field):
            return self._fields(_dot, first, first.names, args)
        if isinstance(first, nodes.Variable):
            variable = _variable(first)
            if first.names:
                return self._fields(variable, first, first.names, args)
            return self._alone(variable, first, args)
        if isinstance(first, nodes.Chain):
            return self._fields(self._chain_start(first), first, first.names, args)
        if isinstance(first, nodes.Pipe):
            return self._alone(self._pipe(first), first, args)
        return self._alone(_literal(first), first, args)

    def _alone(self, value: Eval, first: nodes.Operand, args: list[nodes.Operand]) -> Piped:
        """Something that takes no arguments."""

        def run(state: State, dot: Any, final: Any) -> Any:
            if args or final is not _NOTHING:
                if not isinstance(first, nodes.Pipe):
                    state.node = first
                raise EvalError(f"can't give argument to non-function {first}")
            return value(state, dot)

        return run

    def _chain_start(self, chain: nodes.Chain) -> Eval:
        if isinstance(chain.of, nodes.Nil):

            def refuse(state: State, dot: Any) -> Any:
                state.node = chain
                raise EvalError(f"indirection through explicit nil in {chain}")

            return refuse
        return self._argument(chain.of, access.VALUE)

    # --- fields ------------------------------------------------------------------------------------

    def _fields(self, start: Eval, node: nodes.Any, names: list[str], args: list[nodes.Operand]) -> Piped:
        """`start.a.b`; arguments go to the last name, which must be a method then."""
        *path, last = names
        calls: dict[Function, Piped] = {}  # how each kind of value carries out its method
        plain: dict[type, bool] = {}  # whether values of a type have a field of that name and nothing else
        short = not path and not args

        def run(state: State, dot: Any, final: Any) -> Any:
            state.node = node
            value = start(state, dot)
            state.node = node
            if short and final is _NOTHING:
                kind = type(value)
                if plain.get(kind):
                    return getattr(value, last)
                if kind not in plain:
                    plain[kind] = access.has_field(value, last)
            in_map = False
            for name in path:
                method = access.method(value, name)
                if method is not None:
                    value = self._call(method, name, node, [])(state, dot, _NOTHING, value)
                    in_map = False
                    continue
                found = access.get(value, name, state.missing_key, in_map)
                in_map = type(value) is dict
                value = found
            method = access.method(value, last)
            if method is not None:
                call = calls.get(method) or calls.setdefault(method, self._call(method, last, node, args))
                return call(state, dot, final, value)
            if args or final is not _NOTHING:
                access.refuse_arguments(value, last)
            return access.get(value, last, state.missing_key, in_map)

        return run

    # --- functions ---------------------------------------------------------------------------------

    def _function(self, name: nodes.Identifier, node: nodes.Any, args: list[nodes.Operand]) -> Piped:
        function = self._functions[name.name]
        run = self._shortcut(name.name, args) if name.name in ("and", "or") else None
        call = run or self._call(function, name.name, node, args)

        def enter(state: State, dot: Any, final: Any) -> Any:
            state.node = name
            return call(state, dot, final)

        return enter

    def _shortcut(self, name: str, args: list[nodes.Operand]) -> Piped:
        """`and` and `or` look only as far as they must."""
        values = [self._argument(arg, access.VALUE) for arg in args]
        stops_at = name == "or"

        def run(state: State, dot: Any, final: Any) -> Any:
            if not values and final is _NOTHING:
                raise EvalError(f"wrong number of args for {name}: want at least 1 got 0")
            value: Any = INVALID
            for each in values:
                value = each(state, dot)
                if truth(value) == stops_at:
                    return value
            return value if final is _NOTHING else final

        return run

    def _call(self, function: Function, name: str, node: nodes.Any, args: list[nodes.Operand]) -> Piped:
        kinds = [*function.params[: len(args)]]
        if function.rest is not None:
            kinds += [function.rest] * (len(args) - len(kinds))
        counts = _count_error(function, name, len(args), 0), _count_error(function, name, len(args), 1)
        values = () if len(kinds) < len(args) else tuple(map(self._argument, args, kinds))
        last = function.params[len(args)] if len(args) < len(function.params) else function.rest
        call = function.call

        def run(state: State, dot: Any, final: Any, *receiver: Any) -> Any:
            wrong = counts[final is not _NOTHING]
            if wrong is not None:
                raise EvalError(wrong)
            given = [value(state, dot) for value in values]
            if final is not _NOTHING:
                assert last is not None  # the count was right
                given.append(access.fit(final, last))
            try:
                return call(state.context, *given) if function.contextual else call(*receiver, *given)
            except FunctionError as error:
                state.node = node
                raise EvalError(f"error calling {name}: {error}") from None

        return run

    def _argument(self, node: nodes.Operand, kind: str) -> Eval:
        """An argument that must be of type `kind`."""
        if isinstance(node, nodes.Bool | nodes.Number | nodes.String | nodes.Nil):
            return _constant(node, kind)
        if isinstance(node, nodes.Dot):
            value: Eval = _dot
        elif isinstance(node, nodes.Pipe):
            value = self._pipe(node)
        else:
            command = self._command(nodes.Command(node.pos, [node]))
            if isinstance(node, nodes.Identifier):  # alone, it is its own context in errors
                command = self._function(node, node, [])
            value = _without_final(command)

        def run(state: State, dot: Any) -> Any:
            state.node = node
            return access.fit(value(state, dot), kind)

        return run


def _rounds(value: Any, names: int) -> Any:
    """(index, element) of everything that a range goes through."""
    if isinstance(value, list | range):
        return enumerate(value)
    if isinstance(value, dict):
        return sorted_items(value)
    if value is INVALID:
        return ()
    if isinstance(value, int) and not isinstance(value, bool):
        if names > 1:
            raise EvalError(f"can't use {value} to iterate over more than one variable")
        return ((number, number) for number in range(value))
    raise EvalError(f"range can't iterate over {formatted(value, 'v', Flags())}")


def _count_error(function: Function, name: str, args: int, piped: int) -> str | None:
    """What is wrong with the number of arguments."""
    fixed = len(function.params)
    if function.rest is not None:
        if args + piped < fixed:
            return f"wrong number of args for {name}: want at least {fixed} got {args}"
    elif args + piped != fixed:
        return f"wrong number of args for {name}: want {fixed} got {args + piped}"
    return None


def _text_of_field(name: str, otherwise: Walk) -> Walk:
    """`{{.Name}}`, what templates do most: text in a field of a record goes out at once."""
    known: dict[type, bool] = {}  # whether records of a type have that field

    def write(state: State, dot: Any) -> str | None:
        kind = type(dot)
        if known.get(kind):
            value = getattr(dot, name)
            if type(value) is str:
                state.out.append(value)
                return None
        elif kind not in known:
            known[kind] = access.has_field(dot, name)
        return otherwise(state, dot)

    return write


def _dot(state: State, dot: Any) -> Any:
    return dot


def _variable(node: nodes.Variable) -> Eval:
    name = node.name

    def run(state: State, dot: Any) -> Any:
        state.node = node
        for known, value in reversed(state.variables):
            if known == name:
                return value
        raise EvalError(f"undefined variable: {name}")

    return run


def _literal(node: nodes.Operand) -> Eval:
    """A word that stands alone as a command."""

    def run(state: State, dot: Any) -> Any:
        state.node = node
        if isinstance(node, nodes.Dot):
            return dot
        if isinstance(node, nodes.Number):
            return access.ideal(node)
        if isinstance(node, nodes.String | nodes.Bool):
            return node.value
        raise EvalError("nil is not a command")

    return run


def _constant(node: nodes.Bool | nodes.Number | nodes.String | nodes.Nil, kind: str) -> Eval:
    """A literal argument, looked at once; what does not fit is told when it is used, as Go does."""
    try:
        value = access.constant(node, kind)
    except EvalError as error:
        wrong = str(error)

        def refuse(state: State, dot: Any) -> Any:
            state.node = node
            raise EvalError(wrong)

        return refuse

    def run(state: State, dot: Any) -> Any:
        state.node = node
        return value

    return run


def _without_final(command: Piped) -> Eval:
    return lambda state, dot: command(state, dot, _NOTHING)
