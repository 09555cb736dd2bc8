"""The keys that packets and streams are encrypted with (protocols/gossip.md 2.7 and 2.8)."""

from __future__ import annotations

from typing import Any

from core.codec.msgpack import DecodeError
from core.errors import Invalid

KEY_SIZES = (16, 24, 32)
NONCE_SIZE, TAG_SIZE = 12, 16


class KeyringError(Invalid):
    """An operation on the keyring that cannot be done."""


class Keyring:
    """An ordered list of keys; the first, primary one encrypts, all decrypt."""

    def __init__(self, keys: list[bytes]) -> None:
        """`keys` has the primary one first; doubles are dropped. KeyringError for a wrong size or no key."""
        if not keys:
            raise KeyringError("empty primary key not allowed")
        from cryptography.exceptions import InvalidTag  # loaded by who has a key only

        self._no_match = InvalidTag
        self._ciphers: dict[bytes, Any] = {}  # in order
        for key in keys:
            self.add(key)

    @property
    def keys(self) -> list[bytes]:
        """All keys, the primary one first."""
        return list(self._ciphers)

    @property
    def primary(self) -> bytes:
        return next(iter(self._ciphers))

    def add(self, key: bytes) -> None:
        """Keep `key` too, last; nothing changes when it is there."""
        if len(key) not in KEY_SIZES:
            raise KeyringError("key size must be 16, 24 or 32 bytes")
        if key not in self._ciphers:
            self._ciphers[key] = _cipher(key)

    def use(self, key: bytes) -> None:
        """Encrypt with `key` from now on; it moves to the front."""
        if key not in self._ciphers:
            raise KeyringError("Requested key is not in the keyring")
        cipher = self._ciphers.pop(key)
        self._ciphers = {key: cipher, **self._ciphers}

    def remove(self, key: bytes) -> None:
        """Forget `key`; nothing changes when it is not there."""
        if key == self.primary:
            raise KeyringError("Removing the primary key is not allowed")
        self._ciphers.pop(key, None)

    def encrypt(self, plain: bytes, nonce: bytes, associated: bytes, version: int = 1) -> bytes:
        """`version | nonce | ciphertext and tag` with the primary key; version 0 is padded."""
        if version == 0:
            plain += bytes((16 - len(plain) % 16,)) * (16 - len(plain) % 16)
        cipher = next(iter(self._ciphers.values()))
        sealed: bytes = cipher.encrypt(nonce, plain, associated)
        return bytes((version,)) + nonce + sealed

    def decrypt(self, data: bytes | memoryview, associated: bytes) -> bytes:
        """What any of the keys makes of `data`. DecodeError."""
        if len(data) < 1 + NONCE_SIZE + TAG_SIZE:
            raise DecodeError("encrypted data is too short")
        version, nonce, sealed = data[0], data[1 : 1 + NONCE_SIZE], data[1 + NONCE_SIZE :]
        if version > 1:
            raise DecodeError(f"encryption version {version} is not supported")
        for cipher in self._ciphers.values():
            try:
                plain: bytes = cipher.decrypt(nonce, sealed, associated)
            except self._no_match:
                continue
            return _unpad(plain) if version == 0 else plain
        raise DecodeError("no installed keys could decrypt the message")


def _unpad(plain: bytes) -> bytes:
    """Without the padding of version 0: 1 to 16 bytes, each its count. Authentic data only comes here."""
    count = plain[-1] if plain else 0
    if not 1 <= count <= 16 or count > len(plain):
        raise DecodeError("broken padding")
    return plain[:-count]


def _cipher(key: bytes) -> Any:
    """One AES-GCM object per key: to make one costs more than to use it."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
