"""Raft's messages out of a stream of bytes (protocols/raft.md section 1).

    requests    type byte, map [, the state of an InstallSnapshot]
    responses   error text, map

Nothing carries a length, so the reader keeps what belongs to the next message, and gives it back
where raw bytes follow (section 10, pitfall 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgpack  # type: ignore[import-untyped]

from core.codec.msgpack import DecodeError
from core.raft.messages import Request, request_of

MAX_MESSAGE = 256 << 20  # bytes; Consul's leaders send up to 64 entries of half a MiB at once


def _unpacker() -> Any:
    return msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=MAX_MESSAGE)


class _Stream:
    def __init__(self) -> None:
        self._unpacker = _unpacker()

    def feed(self, data: bytes) -> None:
        """More bytes have come. DecodeError when a message grows beyond all bounds."""
        self._try(lambda: self._unpacker.feed(data))

    def _value(self) -> Any:
        """The next value. msgpack.OutOfData when it has not come yet: what has come is remembered."""
        return self._try(self._unpacker.unpack)

    @staticmethod
    def _try(act: Callable[[], Any]) -> Any:
        try:
            return act()
        except msgpack.OutOfData:
            raise
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise DecodeError(f"msgpack: {error or type(error).__name__}") from error


class Requests(_Stream):
    """What a follower reads."""

    def __init__(self) -> None:
        super().__init__()
        self._kind = -1

    def next(self) -> Request | None:
        """The next request, None if more bytes are needed. ValueError for what is none."""
        if self._kind < 0:
            byte = self._unpacker.read_bytes(1)
            if not byte:
                return None
            self._kind = byte[0]
        try:
            fields = self._value()
        except msgpack.OutOfData:
            return None
        kind, self._kind = self._kind, -1
        return request_of(kind, fields)

    def raw(self, limit: int) -> bytes:
        """Up to `limit` of the bytes that have come already and follow an InstallSnapshot."""
        return cast(bytes, self._unpacker.read_bytes(limit))


class Responses(_Stream):
    """What the sender of requests reads."""

    def __init__(self) -> None:
        super().__init__()
        self._error: str | None = None

    def next(self) -> tuple[str, dict[bytes, Any]] | None:
        """Error text and fields ({} for nil) of the next response, None if more bytes are needed.
        ValueError for what is none."""
        try:
            if self._error is None:
                text = self._value()
                if text is not None and type(text) is not bytes:
                    raise DecodeError(f"an error text was expected, not {type(text).__name__}")
                self._error = (text or b"").decode("utf-8", "replace")
            fields = self._value()
        except msgpack.OutOfData:
            return None
        if fields is not None and type(fields) is not dict:
            raise DecodeError(f"a map was expected, not {type(fields).__name__}")
        error, self._error = self._error, None
        return error, fields or {}
