"""Templates as Go carries them out: recorded inputs with output or error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.template.engine import Template
from core.template.errors import FunctionError, TemplateError
from core.template.values import Function

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "gotemplate.json").read_text())

# The oracle was Go 1.19; these cases are errors there and have a meaning since (range over a number
# since 1.22, `else with` since 1.23): case -> the output of the newest Go.
NEWER_GO = {35: "xxx", 134: "b"}


def _boom() -> str:
    raise FunctionError("file does not exist")


FUNCTIONS = {
    "upper": Function(("string",), None, str.upper),
    "list": Function((), "interface {}", lambda *values: list(values)),
    "boom": Function((), None, _boom),
}


def _run(case: dict[str, Any]) -> str:
    template = Template("t", case["template"], FUNCTIONS, case.get("left", ""), case.get("right", ""))
    return template.execute(VECTORS["data"], missing_key=case.get("missingkey", "default"))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['id']}")
def test_recorded_template(case: dict[str, Any]) -> None:
    if case["id"] in NEWER_GO:
        assert "error" in case
        assert _run(case) == NEWER_GO[case["id"]]
    elif "error" in case:
        with pytest.raises(TemplateError) as caught:
            _run(case)
        assert str(caught.value) == case["error"]
    else:
        assert _run(case) == case["output"]


def test_all_cases_are_there() -> None:
    assert len(VECTORS["cases"]) == 163
