"""Reads BoltDB files, in which Consul keeps its Raft log (protocols/snapshot.md section 4).

    page     id, flags, element count, overflow (pages that follow it), elements
    leaf     keys with their values; a value may be a bucket: the page of its root, or the page itself
    branch   keys with the pages below them
    meta     the first two pages: the newer valid one names the root

All numbers are little endian. Nothing is ever written."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from core.codec.msgpack import DecodeError

_META = Struct("<IIIIQQQQQQ")  # magic, version, page size, flags, root, sequence, freelist, pages, txid, sum
_HEADER = Struct("<QHHI")  # id, flags, count, overflow
_LEAF = Struct("<IIII")  # flags, position, key size, value size
_BRANCH = Struct("<IIQ")  # position, key size, page
_BUCKET = Struct("<QQ")  # root page (0: the page follows), sequence

_MAGIC, _VERSION = 0xED0CDAED, 2
_IS_BRANCH, _IS_LEAF, _IS_META = 1, 2, 4
_IS_BUCKET = 1
_DEPTH = 32  # of a tree: more is a circle
_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536, 2048, 1024)

Data = bytes | bytearray | memoryview


class Bolt:
    """One file, as bytes. DecodeError when it is none or damaged."""

    def __init__(self, data: Data) -> None:
        self._data = memoryview(data)
        metas = [meta for meta in map(self._meta, (0, *_PAGE_SIZES)) if meta is not None]
        if not metas:
            raise DecodeError("not a BoltDB file, or both of its meta pages are damaged")
        newest = max(metas, key=lambda meta: meta[8])
        self._page_size, self._root = newest[2], newest[4]

    def bucket(self, name: bytes) -> Iterator[tuple[bytes, memoryview]]:
        """Keys and values of a bucket by key; none when there is no such bucket."""
        for flags, found, bucket in self._walk(self._page(self._root), 0, set()):
            if found == name and flags & _IS_BUCKET:
                for _, key, value in self._walk(self._inside(bucket), 0, set()):
                    yield key, value
                return

    def _meta(self, offset: int) -> tuple[int, ...] | None:
        """The meta page there, when it is whole."""
        raw = self._data[offset + _HEADER.size : offset + _HEADER.size + _META.size]
        if len(raw) < _META.size:
            return None
        meta = _META.unpack(raw)
        _, flags, _, _ = _HEADER.unpack(self._data[offset : offset + _HEADER.size])
        valid = flags & _IS_META and meta[:2] == (_MAGIC, _VERSION) and meta[9] == _fnv(raw[:-8])
        return meta if valid and meta[2] in _PAGE_SIZES and offset in (0, meta[2]) else None

    def _page(self, number: int) -> memoryview:
        start = number * self._page_size
        if start + self._page_size > len(self._data):
            raise DecodeError(f"page {number} lies behind the end of the file")
        overflow = _HEADER.unpack(self._data[start : start + _HEADER.size])[3]
        return self._data[start : start + (overflow + 1) * self._page_size]

    def _inside(self, value: memoryview) -> memoryview:
        """The root page of the bucket that is this value."""
        root = _BUCKET.unpack(_part(value, 0, _BUCKET.size))[0]
        return self._page(root) if root else value[_BUCKET.size :]

    def _walk(self, page: memoryview, depth: int, seen: set[int]) -> Iterator[tuple[int, bytes, memoryview]]:
        """Flags, key and value of all leaves below `page`, by key. A tree reaches each page once."""
        number, flags, count, _ = _HEADER.unpack(_part(page, 0, _HEADER.size))
        if depth > _DEPTH or not flags & (_IS_BRANCH | _IS_LEAF):
            raise DecodeError(f"page {number}: neither branch nor leaf")
        kind = _LEAF if flags & _IS_LEAF else _BRANCH
        for place in range(_HEADER.size, _HEADER.size + count * kind.size, kind.size):
            fields = kind.unpack(_part(page, place, kind.size))
            if kind is _BRANCH:
                below = fields[2]
                if below in seen:
                    raise DecodeError(f"page {number}: page {below} is reached twice")
                seen.add(below)
                yield from self._walk(self._page(below), depth + 1, seen)
            else:
                start, key_size = place + fields[1], fields[2]
                yield (
                    fields[0],
                    bytes(_part(page, start, key_size)),
                    _part(page, start + key_size, fields[3]),
                )


def _part(page: memoryview, start: int, size: int) -> memoryview:
    part = page[start : start + size]
    if len(part) < size:
        raise DecodeError("an element lies behind the end of its page")
    return part


def _fnv(data: memoryview) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
