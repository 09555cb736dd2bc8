"""The `consul` package of Node, driven by a script beside this file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.clients.lending import node_folder
from tests.harness import Agent

SCRIPT = Path(__file__).with_name("node_client.js")


def test_all_of_it(home: Agent) -> None:
    folder = node_folder("consul@2.0.1")
    node = shutil.which("node")
    assert node is not None
    done = subprocess.run(
        [node, str(SCRIPT), home.address, str(home.http_port), home.token],
        env=os.environ | {"NODE_PATH": str(folder / "node_modules")},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == b"passed\n", done.stderr.decode()
