"""Go's net/rpc over msgpack: a header and a body, one after the other (protocols/rpc.md section 3).

request :  {ServiceMethod, Seq}          body
response:  {Error, Seq, ServiceMethod}   body"""

from __future__ import annotations

from typing import Any

import msgpack as library  # type: ignore[import-untyped]

from core.codec.msgpack import DecodeError, encode

MAX_MESSAGE = 256 << 20  # bytes
_MAX_ITEMS = 1 << 24  # of one list or map

_ERROR = encode("Error")
_SEQ = encode("Seq")
_METHOD = encode("ServiceMethod")
_EMPTY_MAP = encode({})

Message = tuple[dict[bytes, Any], Any]


def request(method: str, seq: int, body: Any) -> bytes:
    """The bytes of a call."""
    return b"\x82" + _METHOD + encode(method) + _SEQ + encode(seq) + encode(body)


def response(method: str, seq: Any, body: Any) -> bytes:
    """The bytes of an answer. `seq` as it came."""
    return head(method, seq) + encode(body)


def head(method: str, seq: Any) -> bytes:
    """What stands before the body of an answer."""
    return b"\x83" + _ERROR + b"\xa0" + _SEQ + encode(seq) + _METHOD + encode(method)


def failure(method: str, seq: Any, error: str) -> bytes:
    """The bytes of an answer that is an error; an empty map is its body."""
    return b"\x83" + _ERROR + encode(error) + _SEQ + encode(seq) + _METHOD + encode(method) + _EMPTY_MAP


class Messages:
    """Headers and bodies from a stream of bytes, in whatever pieces they come."""

    __slots__ = ("_header", "_unpacker", "partial")

    def __init__(self) -> None:
        self.partial = False  # whether a message has begun
        self._header: dict[bytes, Any] | None = None
        # (Its buffer grows when needed; at the start it would have a megabyte.)
        self._unpacker = library.Unpacker(
            raw=True,
            strict_map_key=False,
            read_size=4096,
            max_buffer_size=MAX_MESSAGE,
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
        )

    def feed(self, data: bytes) -> None:
        """Add what came. DecodeError when it is too much."""
        try:
            self._unpacker.feed(data)
        except library.BufferFull as error:
            raise DecodeError("a message is too large") from error
        self.partial = True

    def next(self) -> Message | None:
        """The next message that is complete. DecodeError for what is none."""
        unpack = self._unpacker.unpack
        try:
            header = self._header
            if header is None:
                header = unpack()
                if type(header) is not dict:
                    raise DecodeError("net/rpc: a header was expected")
                self._header = header
            body = unpack()
        except library.OutOfData:
            return None
        except (ValueError, TypeError, RecursionError, library.UnpackException) as error:
            raise DecodeError(f"msgpack: {error or type(error).__name__}") from error
        self._header = None
        return header, body
