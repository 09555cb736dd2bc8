"""Errors of templates, in the words of Go's text/template: where first, then what."""

from __future__ import annotations

from core.errors import CtlError


class TemplateError(CtlError):
    """A template that cannot be read or carried out.

    `name` is the template's file, `line` counts from 1, `column` from 0 in bytes as Go counts (None for
    what the parser found), `reason` is the message without the place."""

    def __init__(self, text: str, name: str, line: int, column: int | None, reason: str) -> None:
        super().__init__(text)
        self.name, self.line, self.column, self.reason = name, line, column, reason


class FunctionError(Exception):
    """A function's own complaint; the evaluator adds the place and the function's name."""


class EvalError(Exception):
    """What is wrong at the node being evaluated; the evaluator adds the place."""
