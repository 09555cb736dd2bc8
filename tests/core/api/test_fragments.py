"""Lists put together from kept bytes are the bytes that one encoding of the whole list makes."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from core.api import fragments, render
from core.codec import gojson
from core.store.structs import CheckServiceNode, DirEntry, HealthCheck, Node, NodeService

texts = st.text(max_size=8)
keys = st.binary(max_size=8)
nodes = st.builds(Node, id=texts, node=texts, address=texts, meta=st.none() | st.dictionaries(texts, texts))
services = st.builds(
    NodeService, id=texts, service=texts, tags=st.none() | st.lists(texts), port=st.integers(0, 9)
)
checks = st.builds(HealthCheck, node=texts, check_id=texts, output=texts, status=texts)
entries = st.builds(DirEntry, key=keys, value=st.none() | st.binary(max_size=8), session=texts)


@given(st.lists(entries, max_size=4))
def test_keys(found: list[DirEntry]) -> None:
    whole = gojson.encode([render.dir_entry(entry) for entry in found])
    assert fragments.listed(found, fragments.dir_entry.body) == whole
    assert fragments.listed(found, fragments.dir_entry.body) == whole


@given(st.lists(st.builds(CheckServiceNode, nodes, services, st.lists(checks, max_size=3)), max_size=3))
def test_instances(found: list[CheckServiceNode]) -> None:
    whole = gojson.encode([render.check_service_node(item) for item in found])
    assert fragments.listed(found, fragments.check_service_node) == whole
    pairs = [(item.node, item.service) for item in found]
    assert fragments.listed(pairs, fragments.service_node.body) == gojson.encode(
        [render.service_node(*pair) for pair in pairs]
    )


def test_what_is_kept_has_an_end_and_never_is_anothers() -> None:
    """Objects come and go, and with them their ids: each is shown as itself."""
    shown: Fragments = fragments.Fragments(lambda number: {"n": number[0]}, room=2000)
    for number in range(1000):
        item = [number]
        assert shown.body(item) == b'{"n":%d}' % number
        assert shown.body(item) == b'{"n":%d}' % number
        del item
    gc.collect()
    assert len(shown._kept) * 255 <= 2000


def test_what_is_larger_than_the_room_is_shown_and_not_kept() -> None:
    shown: Fragments = fragments.Fragments(lambda text: text, room=1000)
    small, large = "a" * 10, "b" * 2000
    assert shown.body(small) == b'"%b"' % small.encode()
    assert shown.body(large) == b'"%b"' % large.encode()
    assert len(shown._kept) == 0


Fragments = fragments.Fragments[object]
