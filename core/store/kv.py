"""The KV store: reads, and the writes of protocols/fsm.md section 4.

Entries keep the order of their bytes. A deleted key leaves a tombstone (its raft index), so that the
index of a listing does not go back; the leader reaps them later."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from core.codec import wire
from core.codec.msgpack import DecodeError
from core.errors import Invalid
from core.store.structs import DirEntry
from core.store.view import View
from core.store.watch import Watch


class KVReads(View):
    """Reads of the KV store. The watch of a read covers its value; where the index can move without
    it, the read says so."""

    def kv_get(self, key: bytes, watch: Watch | None = None) -> tuple[int, DirEntry | None]:
        """The entry of `key` and its ModifyIndex. For a missing key the index is that of all keys,
        which moves without firing the watch."""
        if watch is not None:
            watch.enter(self._key_cells, key)
        entry = self.kv.rows.get(key)
        if entry is None:
            return self.index("kvs", "tombstones"), None
        return entry.modify_index, entry

    def kv_list(self, prefix: bytes, watch: Watch | None = None) -> tuple[int, list[DirEntry]]:
        """All entries under `prefix` in key order. The index is the highest ModifyIndex of them and of
        the deletions under the prefix; when there are neither it is that of all keys, which moves
        without firing the watch."""
        if watch is not None:
            watch.enter(self._prefix_cells, prefix)
        keys = list(self.kv.keys_between(prefix, after_prefix(prefix)))
        rows = self.kv.rows
        return self._list_index(prefix, keys), [rows[key] for key in keys]

    def kv_keys(
        self, prefix: bytes, separator: bytes = b"", watch: Watch | None = None
    ) -> tuple[int, list[bytes]]:
        """All keys under `prefix`; with a separator only up to and with its first occurrence after the
        prefix, each once. Index as for `kv_list`."""
        if watch is not None:
            watch.enter(self._prefix_cells, prefix)
        end = after_prefix(prefix)
        keys = list(self.kv.keys_between(prefix, end))
        index = self._list_index(prefix, keys)
        return index, fold(keys, len(prefix), separator) if separator else keys

    def _list_index(self, prefix: bytes, found: list[bytes]) -> int:
        if not prefix:
            return self.index("kvs", "tombstones")
        rows = self.kv.rows
        highest = max([rows[key].modify_index for key in found], default=0)
        buried = self.tombstones.rows
        if buried:
            for key in self.tombstones.keys_between(prefix, after_prefix(prefix)):
                highest = max(highest, buried[key])
            if not found:  # a deleted tree above left its tombstone at its own, shorter prefix
                above = (prefix[:length] for length in range(1, len(prefix)))
                highest = max(highest, max((buried.get(key, 0) for key in above), default=0))
        return highest or self.index("kvs", "tombstones")


def fold(keys: list[bytes], start: int, separator: bytes) -> list[bytes]:
    """Sorted `keys`, those with `separator` behind `start` cut after it and given once."""
    names: list[bytes] = []
    at = 0
    while at < len(keys):
        key = keys[at]
        found = key.find(separator, start)
        if found < 0:
            names.append(key)
            at += 1
            continue
        head = key[: found + len(separator)]
        names.append(head)
        behind = after_prefix(head)
        at = len(keys) if behind is None else bisect_left(keys, behind, at + 1)
    return names


def entry_from_wire(value: Any) -> DirEntry:
    """A DirEntry from its decoded map. DecodeError. By hand, since this is the hottest path: the general
    decoder takes twice as long."""
    if type(value) is not dict:
        raise DecodeError("not a DirEntry")
    get = value.get
    content = get(b"Value")
    return DirEntry(
        wire.raw(get(b"Key")),
        None if content is None else wire.raw(content),
        wire.integer(get(b"Flags")),
        wire.integer(get(b"LockIndex")),
        wire.text(get(b"Session")),
        wire.integer(get(b"CreateIndex")),
        wire.integer(get(b"ModifyIndex")),
    )


def after_prefix(prefix: bytes) -> bytes | None:
    """The first byte string behind all that start with `prefix`; None when there is none."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else None


def put(view: View, index: int, entry: DirEntry, keep_session: bool = True) -> DirEntry:
    """Store `entry` and return what is stored now. Nothing changes when value, flags, lock index and
    session are what they were. `keep_session`: the session stays what it was, whatever `entry` says."""
    existing = view.kv.rows.get(entry.key)
    if existing is None:
        session, created = "" if keep_session else entry.session, index
    else:
        session, created = existing.session if keep_session else entry.session, existing.create_index
        if (
            existing.lock_index == entry.lock_index
            and existing.flags == entry.flags
            and existing.session == session
            and (existing.value or b"") == (entry.value or b"")
        ):
            return existing
    stored = DirEntry(entry.key, entry.value, entry.flags, entry.lock_index, session, created, index)
    view.kv.put(entry.key, stored)
    view.bump("kvs", index)
    view.mark_key(entry.key)
    return stored


def delete(view: View, index: int, key: bytes) -> None:
    """Delete a key and leave a tombstone; nothing when there is no such key."""
    if view.kv.remove(key) is None:
        return
    _bury(view, index, key)
    view.bump("kvs", index)
    view.mark_key(key)


def delete_tree(view: View, index: int, prefix: bytes) -> None:
    """Delete all keys under `prefix` and leave one tombstone for them. With the empty prefix all listings
    become empty and take the index of all keys, so the older tombstones must not hold any of them back."""
    keys = view.kv.remove_between(prefix, after_prefix(prefix))
    if not keys:
        return
    for key in keys:
        view.mark_key(key)
    if prefix:
        _bury(view, index, prefix)
    else:
        view.tombstones.remove_between(b"", None)
    view.bump("kvs", index)


def delete_cas(view: View, index: int, key: bytes, modify_index: int) -> bool:
    """Delete a key if its ModifyIndex is `modify_index`; True also when it is gone already."""
    existing = view.kv.rows.get(key)
    if existing is None:
        return True
    if existing.modify_index != modify_index:
        return False
    delete(view, index, key)
    return True


def cas(view: View, index: int, entry: DirEntry) -> DirEntry | None:
    """Store `entry` if the key's ModifyIndex is that of `entry`, 0 meaning that the key must not exist."""
    existing = view.kv.rows.get(entry.key)
    if entry.modify_index != (0 if existing is None else existing.modify_index):
        return None
    return put(view, index, entry)


def lock(view: View, index: int, entry: DirEntry) -> DirEntry | None:
    """Store `entry` for its session, which must exist; None when another session holds the key."""
    if not entry.session:
        raise Invalid("missing session")
    if entry.session not in view.sessions:
        raise Invalid(f'invalid session "{entry.session}"')
    existing = view.kv.rows.get(entry.key)
    if existing is None:
        lock_index = 1
    elif existing.session == entry.session:
        lock_index = existing.lock_index
    elif existing.session:
        return None
    else:
        lock_index = existing.lock_index + 1
    locked = DirEntry(entry.key, entry.value, entry.flags, lock_index, entry.session)
    return put(view, index, locked, keep_session=False)


def unlock(view: View, index: int, entry: DirEntry) -> DirEntry | None:
    """Store `entry` and give up the lock; None when its session does not hold the key."""
    if not entry.session:
        raise Invalid("missing session")
    existing = view.kv.rows.get(entry.key)
    if existing is None or existing.session != entry.session:
        return None
    unlocked = DirEntry(entry.key, entry.value, entry.flags, existing.lock_index)
    return put(view, index, unlocked, keep_session=False)


def reap(view: View, index: int) -> None:
    """Forget the tombstones up to `index`. No index moves."""
    old = [key for key, buried in view.tombstones.rows.items() if buried <= index]
    for key in sorted(old):
        view.tombstones.remove(key)


def apply_op(view: View, index: int, op: str, entry: DirEntry) -> bool | None:
    """Do the `op` of a KVSRequest (protocols/fsm.md section 4); Invalid is raised before anything changes."""
    if op == "set":
        put(view, index, entry)
        return None
    if op == "delete":
        delete(view, index, entry.key)
        return None
    if op == "delete-tree":
        delete_tree(view, index, entry.key)
        return None
    if op == "delete-cas":
        return delete_cas(view, index, entry.key, entry.modify_index)
    if op == "cas":
        return cas(view, index, entry) is not None
    if op == "lock":
        return lock(view, index, entry) is not None
    if op == "unlock":
        return unlock(view, index, entry) is not None
    raise Invalid(f"Invalid KVS operation '{op}'")


def _bury(view: View, index: int, key: bytes) -> None:
    view.tombstones.put(key, index)
    view.bump("tombstones", index)
