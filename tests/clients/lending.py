"""Programs and libraries written for Consul, as their users get them.

Three Python libraries are one module of the same name, so each lives in a folder of its own, filled once by
its registry's client and kept beside the environment that runs the tests. What cannot be had is skipped."""

from __future__ import annotations

import importlib
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import pytest

_KEPT = Path(sys.prefix) / "clients"
_PATIENCE = 180.0  # seconds for an installation


def python_folder(*requirements: str) -> Path:
    """A folder with these Python packages."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target"]
    return _folder(requirements[0], lambda folder: [*pip, str(folder), *requirements])


def node_folder(requirement: str) -> Path:
    """A folder with a package of Node in its node_modules."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    flags = ["--silent", "--no-fund", "--no-audit", "--ignore-scripts"]
    return _folder(requirement, lambda folder: [npm, "install", *flags, "--prefix", str(folder), requirement])


def _folder(requirement: str, command: object) -> Path:
    assert callable(command)
    folder = _KEPT / re.sub(r"[^\w.-]+", "-", requirement)
    if folder.is_dir():
        return folder
    # Test workers may come here at once: what is complete is moved in, and the first one wins.
    making = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
    making.mkdir(parents=True)
    try:
        done = subprocess.run(
            command(making), capture_output=True, timeout=_PATIENCE, check=False, cwd=making, env=os.environ
        )
        if done.returncode:
            pytest.skip(f"{requirement} cannot be had: {done.stderr.decode(errors='replace')[-300:]}")
        with suppress(OSError):
            making.rename(folder)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{requirement} could not be had within {_PATIENCE:g} s")
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


@contextmanager
def imported(folder: Path, name: str, *own: str) -> Iterator[ModuleType]:
    """The module of that name in the folder, whatever other folder had one; with it goes what is in `own`."""
    families = {name.partition(".")[0], *own}

    def forget() -> None:
        for known in [known for known in sys.modules if known.partition(".")[0] in families]:
            del sys.modules[known]

    forget()
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        forget()
