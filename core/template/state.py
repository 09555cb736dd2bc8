"""Where a pass through a template stands: what it has printed, its variables, the node that it is at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.codec.duration import quote
from core.template import nodes
from core.template.errors import EvalError, TemplateError
from core.template.parse import Tree

if TYPE_CHECKING:
    from core.template.compile import Compiled

MAX_CALLS = 100
"""How deep templates may call each other."""
MAX_STEPS = 10_000_000
"""How many rounds all ranges of one pass may make together."""


class State:
    """One pass through a template."""

    __slots__ = ("calls", "context", "missing_key", "node", "out", "steps", "templates", "tree", "variables")

    def __init__(self, templates: Mapping[str, Compiled], context: Any, missing_key: str) -> None:
        self.templates, self.context, self.missing_key = templates, context, missing_key
        self.out: list[str] = []
        self.variables: list[tuple[str, Any]] = []
        self.node: nodes.Any = nodes.Dot(0)
        self.tree: Tree | None = None
        self.calls = 0
        self.steps = MAX_STEPS

    def assign(self, name: str, value: Any) -> None:
        """Give the innermost variable `name` another value."""
        for at in range(len(self.variables) - 1, -1, -1):
            if self.variables[at][0] == name:
                self.variables[at] = name, value
                return
        raise EvalError(f"undefined variable: {name}")

    def run(self, name: str, dot: Any) -> None:
        """Carry out the template `name`; what it prints goes to `out`."""
        template = self.templates.get(name)
        if template is None:
            raise EvalError(f"template {quote(name)} not defined")
        if self.calls >= MAX_CALLS:
            raise EvalError(f"exceeded maximum template depth ({MAX_CALLS})")
        outer = self.tree, self.variables
        self.calls += 1
        self.tree, self.variables = template.tree, [("$", dot)]
        template.walk(self, dot)
        self.tree, self.variables = outer
        self.calls -= 1

    def error(self, reason: str) -> TemplateError:
        """The error `reason`, at the node that was entered last."""
        tree = self.tree
        assert tree is not None  # errors come from inside a template
        line, column = place(tree.text, self.node.pos)
        where = f"template: {tree.file}:{line}:{column}: executing {quote(tree.name)} at <{self.node}>"
        return TemplateError(f"{where}: {reason}", tree.file, line, column, reason)


def place(text: str, pos: int) -> tuple[int, int]:
    """Line (from 1) and column (from 0, in bytes) of a position."""
    start = text.rfind("\n", 0, pos) + 1
    return text.count("\n", 0, start) + 1, len(text[start:pos].encode("utf-8", "surrogateescape"))
