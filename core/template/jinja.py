"""Templates in Jinja2, the second language: the same functions, the same data, the same errors.

Functions are called as in Go's templates, `{{ service("web") }}`; as filters they get the piped value
last, `{{ "a,b" | split(",") }}`. Jinja's own filters keep their names. Templates run in Jinja's sandbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.codec.duration import quote
from core.template.access import ANY, fit
from core.template.errors import EvalError, FunctionError, TemplateError
from core.template.functions import FUNCTIONS
from core.template.render import Pass
from core.template.values import Function

# What an expression of a template can raise: its own mistakes, in Python's words.
_MISTAKES = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
_MISSING = "Jinja2 templates need the package Jinja2, which is not installed here"


class JinjaTemplate:
    """A template ready to be rendered. TemplateError if it cannot be read."""

    def __init__(self, name: str, text: str, left: str = "", right: str = "") -> None:
        try:
            from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ModuleNotFoundError:
            raise _error(name, 1, _MISSING) from None
        self._name = name
        self._context: Pass | None = None
        self._templates = []
        for undefined in (Undefined, StrictUndefined):
            environment = ImmutableSandboxedEnvironment(
                variable_start_string=left or "{{",
                variable_end_string=right or "}}",
                undefined=undefined,
                keep_trailing_newline=True,
                autoescape=False,
            )
            for each, function in FUNCTIONS.items():
                environment.globals[each] = self._bound(each, function)
                environment.filters.setdefault(each, self._filter(each, function))
            environment.globals["scratch"] = _Scratch(self)
            try:
                code = environment.compile(text, name, name)
            except TemplateSyntaxError as error:
                raise _error(name, error.lineno, error.message or "syntax error") from None
            self._templates.append(
                environment.template_class.from_code(environment, code, environment.globals)
            )

    def _bound(self, name: str, function: Function) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            least = len(function.params)
            if len(values) < least or (function.rest is None and len(values) > least):
                raise FunctionError(f"wrong number of args for {name}: want {least} got {len(values)}")
            kinds = [*function.params, *[function.rest or ANY] * (len(values) - least)]
            given = [fit(_known(value), kind) for value, kind in zip(values, kinds, strict=True)]
            return function.call(self._context, *given)

        def named(*values: Any) -> Any:
            try:
                return call(*values)
            except (FunctionError, EvalError) as error:
                raise FunctionError(f"error calling {name}: {error}") from None

        return named

    def _filter(self, name: str, function: Function) -> Callable[..., Any]:
        bound = self._bound(name, function)
        return lambda value, *values: bound(*values, value)

    def text(self, context: Pass) -> str:
        """The text of one pass."""
        from jinja2 import TemplateError as JinjaError

        template = self._templates[context.environment.error_on_missing_key]
        self._context = context
        try:
            return template.render()
        except JinjaError as error:
            raise _error(self._name, self._line(error), error.message or type(error).__name__) from None
        except (FunctionError, EvalError) as error:
            raise _error(self._name, self._line(error), str(error)) from None
        except _MISTAKES as error:
            reason = f"{type(error).__name__}: {error}"
            raise _error(self._name, self._line(error), reason) from None
        finally:
            self._context = None

    def _line(self, error: BaseException) -> int:
        """The line of the template that the error came from: Jinja puts it into the traceback."""
        line = 1
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self._name:
                line = trace.tb_lineno
            trace = trace.tb_next
        return line

    def scratch(self) -> Any:
        """The notebook of the pass under way."""
        assert self._context is not None  # only the template itself asks
        return self._context.scratch


class _Scratch:
    """`scratch.Set("a", 1)`: the notebook of whatever pass is under way."""

    def __init__(self, template: JinjaTemplate) -> None:
        self._template = template

    def __getattr__(self, name: str) -> Any:
        if name[0] == "_":
            raise AttributeError(name)
        return getattr(self._template.scratch(), name)


def _known(value: Any) -> Any:
    """A value that Jinja calls undefined is nil to the functions."""
    from jinja2 import Undefined

    return None if isinstance(value, Undefined) else value


def _error(name: str, line: int, reason: str) -> TemplateError:
    where = f"template: {name}:{line}: executing {quote(name)}"
    return TemplateError(f"{where}: {reason}", name, line, None, reason)
