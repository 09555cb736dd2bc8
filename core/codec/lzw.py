"""LZW as gossip packs it (protocols/gossip.md 2.6): Go's compress/lzw, least significant bit first, literal
width 8. GIF's code stream without its blocks; neither TIFF's nor `compress`'s."""

from __future__ import annotations

from core.codec.msgpack import DecodeError

_CLEAR, _END, _FIRST = 256, 257, 258
_MAX_WIDTH = 12
_LAST = (1 << _MAX_WIDTH) - 1  # the encoder clears the table instead of assigning this code
_LITERALS = [*(bytes((byte,)) for byte in range(256)), b"", b""]
_CHUNK = 64  # bytes moved to the bit buffer at once


def decode(data: bytes, limit: int) -> bytes:
    """The plain bytes of `data`, at most `limit`. DecodeError: broken, without its end, or too long."""
    parts: list[bytes] = []
    table = _LITERALS[:]
    previous = b""  # the last entry; empty after a clear
    bits = count = position = size = 0
    width, top = 9, 512
    while True:
        if count < width:
            chunk = data[position : position + _CHUNK]
            position += _CHUNK
            bits |= int.from_bytes(chunk, "little") << count
            count += 8 * len(chunk)
            if count < width:
                raise DecodeError("lzw: unexpected end")
        code = bits & (top - 1)
        bits >>= width
        count -= width
        if code == _CLEAR:
            del table[_FIRST:]
            previous, width, top = b"", 9, 512
            continue
        if code == _END:
            return b"".join(parts)
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous:
            entry = previous + previous[:1]
        else:
            raise DecodeError("lzw: invalid code")
        size += len(entry)
        if size > limit:
            raise DecodeError(f"lzw: more than {limit} bytes")
        parts.append(entry)
        if previous and len(table) <= _LAST:
            table.append(previous + entry[:1])
            if len(table) == top and width < _MAX_WIDTH:
                width += 1
                top <<= 1
        previous = entry


def encode(data: bytes) -> bytes:
    """`data` packed, byte for byte as Go's encoder does it."""
    out = bytearray()
    table: dict[int, int] = {}  # code << 8 | byte -> longer code
    bits, count = _CLEAR, 9
    width, last = 9, _END  # `last` is the code assigned last
    code = -1  # of the longest known string that the input stands in; -1: no input yet
    for byte in data:
        if code < 0:
            code = byte
            continue
        longer = table.get(code << 8 | byte)
        if longer is not None:
            code = longer
            continue
        bits |= code << count
        count += width
        last += 1
        if last == 1 << width:
            width += 1
        if last == _LAST:
            bits |= _CLEAR << count
            count += width
            table.clear()
            width, last = 9, _END
        else:
            table[code << 8 | byte] = last
        code = byte
        if count >= 8 * _CHUNK:
            whole = count >> 3
            out += (bits & ((1 << 8 * whole) - 1)).to_bytes(whole, "little")
            bits >>= 8 * whole
            count &= 7
    if code >= 0:
        bits |= code << count
        count += width
        last += 1
        if last == 1 << width:
            width += 1
        if last == _LAST:
            bits |= _CLEAR << count
            count += width
            width = 9
    bits |= _END << count
    return bytes(out) + bits.to_bytes((count + width + 7) >> 3, "little")
