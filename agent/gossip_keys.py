"""A pool's keyring on disk: a JSON array of base64 keys, primary first (protocols/gossip.md 2.8)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ConfigError

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.world import World

KEY_SIZES = (16, 24, 32)


def parse_key(text: str) -> bytes:
    """The bytes of a key as `encrypt` has it. ConfigError."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"Invalid encryption key: {error}") from None
    if len(key) not in KEY_SIZES:
        raise ConfigError(f"Invalid encryption key: key size must be 16, 24 or 32 bytes, not {len(key)}")
    return key


class KeyringFile:
    """Where the keys of a pool are kept between starts. `path` None: nowhere."""

    def __init__(self, path: Path | None, world: World, log: Logger) -> None:
        self.path, self._world, self._log = path, world, log

    def load(self, encrypt: str) -> list[bytes]:
        """The keys to start with; none when gossip is not encrypted. The file wins over `encrypt`: keys may
        have been rotated since. Without a file, `encrypt` makes one. ConfigError when it cannot be read."""
        given = parse_key(encrypt) if encrypt else None
        if self.path is None or not self.path.exists():
            keys = [given] if given is not None else []
            if keys:
                self.save(keys)
            return keys
        keys = self._read(self.path)
        if given is not None and keys and given not in keys:
            self._log.warn(
                "the key in encrypt is not in the keyring file, which counts: remove the file or rotate keys",
                path=str(self.path),
            )
        elif given is not None and keys and given != keys[0]:
            self._log.info("another key of the keyring file is the primary one", path=str(self.path))
        return keys

    def save(self, keys: Sequence[bytes]) -> None:
        """Replace the file; the pool goes on with the keys in memory when that fails. Any thread may call."""
        if self.path is None:
            return
        text = json.dumps([base64.b64encode(key).decode() for key in keys], indent=2)
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._world.write_file(self.path, text.encode(), 0o600)
        except OSError as error:
            self._log.error("keyring was not saved", path=str(self.path), error=str(error))

    def _read(self, path: Path) -> list[bytes]:
        # A broken keyring is fatal, unlike a broken snapshot: to start without keys is to talk in clear.
        try:
            found = json.loads(path.read_bytes())
            if not isinstance(found, list) or not found or not all(isinstance(key, str) for key in found):
                raise ConfigError("not a list of keys")
            return [parse_key(key) for key in found]
        except OSError as error:
            raise ConfigError(f"cannot read keyring {path}: {error.strerror}") from None
        except (ValueError, ConfigError) as error:
            raise ConfigError(f"keyring {path} cannot be used: {error}") from None
