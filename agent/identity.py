"""Who this node is: its id, kept in the data directory so that a copy of the host is another node
(design: pains row 29), and its name."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ConfigError

if TYPE_CHECKING:
    from agent.world import World


def new_node_id(world: World) -> str:
    """A random UUID (version 4)."""
    bits = world.random.getrandbits(128)
    text = f"{bits & ~(0xF << 76) | (4 << 76):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{(int(text[16], 16) & 3) | 8:x}{text[17:20]}-{text[20:]}"


def node_id(world: World, configured: str, data_dir: Path | None) -> str:
    """The configured id, else the one in `data_dir/node-id`, else a new one, written there."""
    if configured:
        if data_dir is not None:
            world.write_file(data_dir / "node-id", configured.lower().encode())
        return configured.lower()
    if data_dir is None:
        return new_node_id(world)
    path = data_dir / "node-id"
    try:
        text = path.read_text("utf-8", "replace").strip().lower()
    except FileNotFoundError:
        text = new_node_id(world)
        world.write_file(path, text.encode())
    if len(text) != 36 or text.count("-") != 4 or not all(c in "0123456789abcdef-" for c in text):
        raise ConfigError(f"{path} holds no UUID but {text[:60]!r}; put the node's id back or delete it")
    return text


def host_name() -> str:
    """The host's name, the default name of a node."""
    return socket.gethostname()
