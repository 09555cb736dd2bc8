"""A text becomes a template; a template and data become text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.template.access import KEEP
from core.template.builtins import BUILTINS
from core.template.compile import Compiled
from core.template.errors import EvalError, TemplateError
from core.template.parse import parse
from core.template.state import State
from core.template.values import INVALID, Function


class Template:
    """A parsed template with all that it defines. TemplateError if it cannot be read."""

    def __init__(
        self,
        name: str,
        text: str,
        functions: Mapping[str, Function],
        left: str = "{{",
        right: str = "}}",
    ) -> None:
        self.name = name
        known = {**BUILTINS, **functions}
        try:
            trees = parse(name, text, known, left, right)
            self.templates = {each: Compiled(tree, known) for each, tree in trees.items()}
        except RecursionError:
            reason = "nested too deeply"
            raise TemplateError(f"template: {name}:1: {reason}", name, 1, None, reason) from None

    def execute(
        self,
        dot: Any = INVALID,
        context: Any = None,
        missing_key: str = KEEP,
        name: str | None = None,
    ) -> str:
        """The text that the template makes of `dot`; `context` is handed to contextual functions.
        TemplateError with the place and the reason if it fails."""
        state = State(self.templates, context, missing_key)
        state.tree = self.templates[self.name].tree
        try:
            state.run(self.name if name is None else name, dot)
        except EvalError as error:
            raise state.error(str(error)) from None
        except RecursionError:
            raise state.error("nested too deeply") from None
        return "".join(state.out)
