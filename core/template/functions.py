"""All functions of consul-template by name; what Go brings along itself is in `builtins`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.template.cluster_functions import CLUSTER
from core.template.errors import FunctionError
from core.template.list_functions import LISTS
from core.template.number_functions import NUMBERS
from core.template.render import Pass
from core.template.text_functions import TEXTS
from core.template.values import Function


def _deniable(name: str, function: Function) -> Function:
    """A function that refuses when the configuration of the template denies it."""

    def call(context: Pass, *values: Any) -> Any:
        if name in context.environment.denied:
            raise FunctionError("function is disabled")
        return function.call(context, *values) if function.contextual else function.call(*values)

    checked: Callable[..., Any] = call
    return function._replace(call=checked, contextual=True)


FUNCTIONS: Mapping[str, Function] = {
    name: _deniable(name, function) for name, function in {**CLUSTER, **TEXTS, **NUMBERS, **LISTS}.items()
}
"""Every function by name."""
