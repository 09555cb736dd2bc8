"""What templates may do in the world while they are rendered: plugins, side files, the sandbox."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

from cli.client import error_text
from cli.command import Failure
from cli.templatefile import current, owner
from core.template.errors import FunctionError
from core.template.render import Environment
from core.template.settings import Output

PLUGIN_SECONDS = 30.0


def surroundings(output: Output, socket_address: Callable[[str], str], dry: bool) -> Environment:
    """The surroundings of a pass of `output` at this moment."""
    return Environment(
        now=time.time(),
        variables=os.environ,
        denied=output.denied,
        error_on_missing_key=output.error_on_missing_key,
        check_path=_sandbox(output.sandbox) if output.sandbox else None,
        run_plugin=_run_plugin,
        write_file=_ignore_file if dry else _write_file,
        socket_address=socket_address,
    )


def _sandbox(folder: str) -> Callable[[str], None]:
    root = os.path.realpath(folder)

    def check(path: str) -> None:
        if os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise FunctionError(f"'{path}' is outside of sandbox")

    return check


def _run_plugin(name: str, args: list[str]) -> str:
    try:
        done = subprocess.run(
            [name, *args], capture_output=True, timeout=PLUGIN_SECONDS, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        raise FunctionError(f'exec "{name}": did not finish in {PLUGIN_SECONDS:.0f}s') from None
    except OSError as error:
        raise FunctionError(f'exec "{name}": {error_text(error)}') from None
    out = done.stdout.decode("utf-8", "surrogateescape")
    if done.returncode:
        stderr = done.stderr.decode("utf-8", "replace").strip()
        raise FunctionError(f'exec "{name}": exit status {done.returncode}: {stderr or out.strip()}')
    return out


def _write_file(path: str, user: str, group: str, perms: str, flags: str, content: str) -> None:
    """Side files are written in place: other programs may hold them open."""
    data = (content + ("\n" if "newline" in flags else "")).encode("utf-8", "surrogateescape")
    append = "append" in flags
    try:
        if not append and current(path) == data:
            return
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "ab" if append else "wb") as file:
            file.write(data)
            uid, gid = owner(user, group)
            if (uid, gid) != (-1, -1):
                os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), int(perms, 8))
    except OSError as error:
        raise FunctionError(f"cannot write {path}: {error_text(error)}") from None
    except Failure as failure:
        raise FunctionError(str(failure)) from None


def _ignore_file(path: str, user: str, group: str, perms: str, flags: str, content: str) -> None:
    """A dry run writes nothing."""
