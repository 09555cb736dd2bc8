"""Files that can be read at a sitting, functions that fit a screen, errors that are named."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.tidy.source import HOUSES, ROOT, python_files, tree

FILE_LINES = 480  # about 400, and a little more for a file that is one thing
FUNCTION_LINES = 60
# path -> why it may be longer
LONG_FILES: dict[str, str] = {}
# path:function -> why it may be longer
LONG_FUNCTIONS: dict[str, str] = {}
# path:function -> why it may catch whatever comes; each of them must say so in its code (BLE001)
BROAD: dict[str, str] = {
    "agent/front.py:serve": "a defect in one endpoint answers 500, the agent lives on",
    "agent/exchange.py:_work": "the same for endpoints that take time",
    "agent/gossip_thread.py:guard": "a packet that finds a defect must not end gossip",
    "agent/gossip.py:_tell": "a callback that breaks must not keep the next events from the agent",
    "agent/rpc_serve.py:_guard": "a defect in one method answers an error, the other calls go on",
    "agent/raft_waiting.py:tell": "a caller that breaks must not stop the log from being applied",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize("path", python_files(*HOUSES), ids=str)
def test_files_are_short(path: Path) -> None:
    lines = len((ROOT / path).read_text().splitlines())
    assert lines <= FILE_LINES or str(path) in LONG_FILES, f"{path} has {lines} lines"


def _functions(path: Path) -> list[Function]:
    return [
        node for node in ast.walk(tree(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


@pytest.mark.parametrize("path", python_files(*HOUSES), ids=str)
def test_functions_fit_a_screen(path: Path) -> None:
    for function in _functions(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        where = f"{path}:{function.name}"
        assert lines <= FUNCTION_LINES or where in LONG_FUNCTIONS, f"{where} has {lines} lines"


def _is_broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and (last.exc is None or handler.name == ast.unparse(last.exc))


@pytest.mark.parametrize("path", python_files(*HOUSES), ids=str)
def test_errors_are_named(path: Path) -> None:
    for function in _functions(path):
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _raises_again(node):
                where = f"{path}:{function.name}"
                assert where in BROAD, f"{where} catches everything in line {node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                names = {ast.unparse(argument) for argument in node.args}
                assert not names & {"Exception", "BaseException"}, (
                    f"{path}:{node.lineno} suppresses everything"
                )


def test_exceptions_are_still_needed() -> None:
    for path in LONG_FILES:
        assert len((ROOT / path).read_text().splitlines()) > FILE_LINES, f"{path} is short now"
    for where in [*BROAD, *LONG_FUNCTIONS]:
        path, _, name = where.partition(":")
        found = [function for function in _functions(Path(path)) if function.name == name]
        assert found, f"{where} is gone"
        if where in BROAD:
            handlers = [node for f in found for node in ast.walk(f) if isinstance(node, ast.ExceptHandler)]
            assert any(_is_broad(handler) for handler in handlers), f"{where} names its errors now"


def _public(path: Path) -> list[ast.AST]:
    found: list[ast.AST] = []
    for node in tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name[0] != "_":
            found.append(node)
    return found


@pytest.mark.parametrize("path", python_files("core"), ids=str)
def test_what_core_offers_is_described(path: Path) -> None:
    if path.name != "__init__.py":
        assert ast.get_docstring(tree(path)), f"{path} does not say what it is"
    for node in _public(path):
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        assert ast.get_docstring(node), f"{path}:{node.lineno}: {node.name} has no docstring"


@pytest.mark.parametrize("path", python_files("agent", "cli"), ids=str)
def test_files_say_what_they_are(path: Path) -> None:
    if path.name != "__init__.py":
        assert ast.get_docstring(tree(path)), f"{path} does not say what it is"
