"""Lists as JSON, put together from the bytes of their elements.

The store's objects are frozen: the JSON of one is the same until another takes its place. So what was
rendered once is kept, and a list of a thousand instances of which one has changed costs the joining of
bytes, not the rendering of a thousand objects for every client that was woken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from msgspec import Raw

from core.api import render
from core.codec import gojson
from core.store.structs import CheckServiceNode, DirEntry, HealthCheck, Node, NodeService

ROOM = 8 << 20  # bytes that are kept of one kind, with what keeping costs
_COST = 250  # bytes: an entry of the dictionary, a tuple, an integer and two objects' heads

T = TypeVar("T")


class Fragments(Generic[T]):
    """The JSON of objects that never change, by identity. When `room` bytes are full, it begins anew."""

    def __init__(self, show: Callable[[T], Any], room: int = ROOM) -> None:
        self._show = show
        self._room = room
        self._size = 0
        self._kept: dict[int | tuple[int, int], tuple[T, bytes]] = {}

    def __call__(self, item: T) -> Raw:
        """`body`, for an encoder that makes the list."""
        return Raw(self.body(item))

    def body(self, item: T) -> bytes:
        """What `show` makes of `item`, encoded. The item is held, so its id cannot be another's meanwhile."""
        kept = self._kept.get(id(item))
        return kept[1] if kept is not None else self._keep(id(item), item)

    def _keep(self, key: int | tuple[int, int], item: T) -> bytes:
        body = gojson.encode(self._show(item))
        self._size += len(body) + _COST
        if self._size > self._room:
            self._kept.clear()
            self._size = len(body) + _COST
        if self._size <= self._room:
            self._kept[key] = (item, body)
        return body


class _Pairs(Fragments[tuple[Node, NodeService]]):
    """Of pairs that are made for each answer of objects that last."""

    def body(self, item: tuple[Node, NodeService]) -> bytes:
        """By the two objects' identities."""
        key = (id(item[0]), id(item[1]))
        kept = self._kept.get(key)
        return kept[1] if kept is not None else self._keep(key, item)


dir_entry: Fragments[DirEntry] = Fragments(render.dir_entry)
node: Fragments[Node] = Fragments(render.node)
health_check: Fragments[HealthCheck] = Fragments(render.health_check)
service_node = _Pairs(lambda pair: render.service_node(*pair))
_service: Fragments[NodeService] = Fragments(render.node_service)


def check_service_node(item: CheckServiceNode) -> bytes:
    """structs.CheckServiceNode, of the fragments of its parts."""
    checks = b",".join([health_check.body(check) for check in item.checks])
    parts = node.body(item.node), _service.body(item.service), checks
    return b'{"Node":%b,"Service":%b,"Checks":[%b]}' % parts


def listed(items: Iterable[T], each: Callable[[T], bytes]) -> bytes:
    """The JSON list of what `each` makes of the items."""
    return b"[%b]" % b",".join([each(item) for item in items])
