"""core/ is pure: no socket, file, thread, event loop, clock, process, environment or global chance."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy.source import python_files, tree

MODULES = {
    *("asyncio", "concurrent", "contextvars", "multiprocessing", "queue", "sched", "selectors", "select"),
    *("_thread", "threading", "uvloop", "signal", "subprocess", "ctypes", "mmap", "fcntl", "resource"),
    *("os", "io", "pathlib", "shutil", "glob", "tempfile", "sqlite3", "platform", "pwd", "grp", "getpass"),
    *("time", "secrets", "logging", "socket", "ssl", "http", "ftplib", "smtplib"),
    *("httpx", "httptools", "h2", "cryptography"),
}
# Ciphers get their nonces as arguments; new private keys are nothing that a test may decide.
CRYPTOGRAPHY_ALLOWED = {Path("core/gossip/keyring.py"), Path("core/certs.py"), Path("core/acl/jwt.py")}
NAMES = {"open", "input", "print", "exec", "eval", "__import__", "breakpoint", "globals"}
# Attributes of modules that core may import, which look at the world all the same.
CALLS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "uuid.uuid1",
    "uuid.uuid4",
    "uuid.getnode",
    "random.SystemRandom",
    "sys.argv",
    "sys.stdin",
    "sys.stdout",
    "sys.stderr",
}
RANDOM_ALLOWED = {"Random"}  # the type; the functions of the module are global chance


def impurities(module: ast.Module) -> Iterator[str]:
    """What in `module` reaches for the world, with its line."""
    imported = _imported(module)
    for name, line in imported.values():
        if name.split(".")[0] in MODULES:
            yield f"{line}: imports {name}"
        if name.startswith("random.") and name.split(".")[1] not in RANDOM_ALLOWED:
            yield f"{line}: imports {name}"
    yield from _reaches(module, set(imported))


def _imported(module: ast.Module) -> dict[str, tuple[str, int]]:
    """Local name -> (what it is, line)."""
    found = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = (f"{node.module}.{alias.name}", node.lineno)
    return found


def _reaches(node: ast.AST, imported: set[str]) -> Iterator[str]:
    """Uses of forbidden names. A parameter hides the module of its name."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        imported = imported - {argument.arg for argument in every}
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
        full = f"{node.value.id}.{node.attr}"
        if full in CALLS or (node.value.id == "random" and node.attr not in RANDOM_ALLOWED):
            yield f"{node.lineno}: uses {full}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
        yield f"{node.lineno}: calls {node.func.id}"
    if isinstance(node, ast.Global):
        yield f"{node.lineno}: keeps state in its module"
    for child in ast.iter_child_nodes(node):
        yield from _reaches(child, imported)


@pytest.mark.parametrize("path", python_files("core"), ids=str)
def test_core_is_pure(path: Path) -> None:
    found = list(impurities(tree(path)))
    if path in CRYPTOGRAPHY_ALLOWED:
        found = [text for text in found if "imports cryptography." not in text]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "from time import monotonic",
        "import os.path",
        "from pathlib import Path",
        "import random\nrandom.random()",
        "from random import choice",
        "import datetime\nfrom datetime import datetime\ndatetime.now()",
        "import uuid\nuuid.uuid4()",
        "def f():\n    import socket",
        "with open('a') as f: pass",
        "print('a')",
        "count = 0\ndef f():\n    global count\n    count += 1",
    ],
)
def test_the_test_sees_impurities(code: str) -> None:
    assert list(impurities(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "import random\ndef f(chance: random.Random): return chance.random()",
        "import random\ndef f(random: random.Random): return random.random()",
        "from datetime import datetime, UTC\ndatetime.fromtimestamp(0, UTC)",
        "import uuid\nuuid.UUID('a')",
        "async def f(door): return await door.leave()",
        "class A:\n    def open(self): return self.time.open()",
    ],
)
def test_the_test_lets_pure_code_be(code: str) -> None:
    assert not list(impurities(ast.parse(code)))
