"""One pass: a template, what is known, and the surroundings become text, or a list of what is missing.

The runner asks for what is missing and renders again until nothing is (reference/template.md 2). A pass is
pure: the clock, the environment, programs and files come through `Environment`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from core.template.access import FAIL, ZERO
from core.template.deps import Dependency
from core.template.engine import Template
from core.template.errors import FunctionError, TemplateError
from core.template.scratch import Scratch
from core.template.state import MAX_CALLS


class _Missing:
    """What `Brain.lookup` yields for a dependency that has not been answered yet."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Brain(Protocol):
    """What is known. Answers are those of `core/template/answers`."""

    def lookup(self, dependency: Dependency) -> Any:
        """The answer to `dependency`, None when there is no such key or node, MISSING while nobody
        has answered."""


@dataclass(frozen=True)
class Environment:
    """The surroundings of a pass. Doors that are None make their functions fail with a sentence; doors
    report errors as FunctionError."""

    now: float = 0.0
    variables: Mapping[str, str] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    error_on_missing_key: bool = False
    check_path: Callable[[str], None] | None = None  # FunctionError for a file outside the sandbox
    run_plugin: Callable[[str, list[str]], str] | None = None
    write_file: Callable[[str, str, str, str, str, str], None] | None = None
    socket_address: Callable[[str], str] | None = None  # evaluates a go-sockaddr pipeline


@dataclass(frozen=True)
class Rendered:
    """The outcome of a pass. `text` counts only if it is `complete`: nothing missing, no error.
    An error while something is missing may go away with the answer (an index into a list that is empty
    for now), so it is one only when `missing` is empty. `notes` is what spew_dump and its kin say."""

    text: str
    used: tuple[Dependency, ...]
    missing: tuple[Dependency, ...]
    error: TemplateError | None = None
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the text may be written."""
        return not self.missing and self.error is None


class Pass:
    """What contextual functions see of the pass that they run in."""

    def __init__(self, brain: Brain, environment: Environment) -> None:
        self._brain = brain
        self.environment = environment
        self.used: dict[Dependency, None] = {}
        self.missing: dict[Dependency, None] = {}
        self.scratch = Scratch()
        self.notes: list[str] = []
        self.execute: Callable[[str, Any], str] | None = None
        self._depth = 0

    def lookup(self, dependency: Dependency) -> Any:
        """The answer to `dependency`, which is noted as used, and as missing if nobody has answered."""
        self.used[dependency] = None
        value = self._brain.lookup(dependency)
        if value is MISSING:
            self.missing[dependency] = None
        return value

    def nested(self, name: str, dot: Any) -> str:
        """The text of a defined template (executeTemplate)."""
        if self.execute is None:
            raise FunctionError("only Go templates have defined templates")
        if self._depth >= MAX_CALLS // 4:
            raise FunctionError(f"exceeded maximum template depth ({MAX_CALLS // 4})")
        self._depth += 1
        try:
            return self.execute(name, dot)
        except TemplateError as error:
            raise FunctionError(str(error)) from None
        finally:
            self._depth -= 1


class Language(Protocol):
    """A template in some language, ready to be rendered."""

    def text(self, context: Pass) -> str:
        """The text of one pass. TemplateError if it fails."""


class GoTemplate:
    """A template in the language of consul-template."""

    def __init__(self, template: Template) -> None:
        self._template = template

    def text(self, context: Pass) -> str:
        missing_key = FAIL if context.environment.error_on_missing_key else ZERO

        def execute(name: str, dot: Any) -> str:
            return self._template.execute(dot, context, missing_key, name)

        context.execute = execute
        return self._template.execute(context=context, missing_key=missing_key)


def load(name: str, text: str, left: str = "", right: str = "") -> Language:
    """A template from its text: Jinja2 if `name` ends with `.j2`, else Go's language.
    TemplateError if it cannot be read."""
    if name.endswith(".j2"):
        from core.template.jinja import JinjaTemplate

        return JinjaTemplate(name, text, left, right)
    from core.template.functions import FUNCTIONS

    return GoTemplate(Template(name, text, FUNCTIONS, left, right))


def render(template: Language, brain: Brain, environment: Environment) -> Rendered:
    """One pass of `template`."""
    context = Pass(brain, environment)
    text, error = "", None
    try:
        text = template.text(context)
    except TemplateError as caught:
        error = caught
    return Rendered(text, tuple(context.used), tuple(context.missing), error, tuple(context.notes))
