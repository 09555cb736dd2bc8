"""What every part of the state shares: tables, the index table, the journal, the watch cells."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from ipaddress import IPv6Address
from typing import Any

from core.store import structs
from core.store.changes import KINDS, Changes
from core.store.table import Journal, Table
from core.store.watch import Watch

Cells = dict[Hashable, "set[Watch]"]
NodeKey = tuple[str, str]  # (node name, service or check id), lower case


def plain_address(text: str) -> str:
    """An address as it is usually written, which is how it is looked for; other text as it is."""
    if ":" not in text:
        return text
    try:
        address = IPv6Address(text)
    except ValueError:
        return text
    return str(address.ipv4_mapped or address)


def mesh_name(service: structs.NodeService) -> str | None:
    """The service (lower case) that an instance takes mesh connections for: another one if it is a proxy.
    None if it takes none."""
    if service.kind == "connect-proxy":
        return str((service.proxy or {}).get("DestinationServiceName") or "").lower()
    return service.service.lower() if (service.connect or {}).get("Native") else None


class PrefixCells(Cells):
    """Cells named by a prefix; knows which lengths are watched, so that a write looks up only those."""

    def __init__(self) -> None:
        super().__init__()
        self._lengths: dict[int, int] = {}

    def __setitem__(self, prefix: Hashable, group: set[Watch]) -> None:
        assert isinstance(prefix, bytes) and prefix not in self
        self._lengths[len(prefix)] = self._lengths.get(len(prefix), 0) + 1
        super().__setitem__(prefix, group)

    def __delitem__(self, prefix: Hashable) -> None:
        assert isinstance(prefix, bytes)
        super().__delitem__(prefix)
        left = self._lengths[len(prefix)] - 1
        if left:
            self._lengths[len(prefix)] = left
        else:
            del self._lengths[len(prefix)]

    def above(self, keys: list[bytes]) -> list[Hashable]:
        """The watched prefixes that any of `keys` starts with."""
        found: list[Hashable] = []
        for length in self._lengths:
            found += {key[:length] for key in keys if len(key) >= length} & self.keys()
        return found


class Hooks:
    """What a server adds to its state and what it hears of changes; none of it is replicated."""

    def new_id(self) -> str:
        """A random UUID, for what is made by a command. Only asked while a command is prepared."""
        raise NotImplementedError

    def is_delayed(self, key: bytes) -> bool:
        """Whether the lock delay of a key is not over yet (protocols/fsm.md section 4)."""
        return False

    def lock_released(self, key: bytes, delay: int) -> None:
        """A lock was taken from a session that ended; `delay` in ns."""

    def session_changed(self, session_id: str) -> None:
        """A session was made or ended."""

    def state_replaced(self) -> None:
        """All that was known is gone, and other sessions are there."""


class View:
    """Tables and indexes. Reads live in the subclasses of this room, writes in its functions.

    Table names are those of the index table where there is one (protocols/fsm.md section 2)."""

    def __init__(self) -> None:
        self.applied = 0  # raft index of the last command
        self.indexes: dict[str, int] = {}
        self.tables: dict[str, Table[Any, Any]] = {}
        self.chunks: dict[int, list[structs.ChunkInfo | None]] = {}
        self.hooks = Hooks()
        self._journal: Journal = []
        self._old_indexes: dict[str, int | None] = {}
        self._released: list[tuple[bytes, int]] = []
        self._touched_sessions: list[str] = []
        self._key_cells: Cells = {}
        self._prefix_cells = PrefixCells()
        self._cells: Cells = {}
        self._dirty: set[Hashable] = set()
        self._dirty_keys: list[bytes] = []
        self._make_tables()
        self.changes = Changes()
        self._told = {id(self.tables[name]): kind for name, kind in KINDS.items()}

    def _make_tables(self) -> None:
        self.kv: Table[bytes, structs.DirEntry] = self.add_table(
            "kvs", session=lambda key, row: row.session or None
        )
        self.tombstones: Table[bytes, int] = self.add_table("tombstones")
        self.node_rows: Table[str, structs.Node] = self.add_table(
            "nodes",
            id=lambda key, row: row.id.lower() or None,
            address=lambda key, row: plain_address(row.address),
        )
        self.service_rows: Table[NodeKey, structs.NodeService] = self.add_table(
            "services",
            node=lambda key, row: key[0],
            name=lambda key, row: row.service.lower(),
            mesh=lambda key, row: mesh_name(row),
            kind=lambda key, row: row.kind or None,
            address=lambda key, row: row.address or None,
        )
        self.check_rows: Table[NodeKey, structs.HealthCheck] = self.add_table(
            "checks",
            node=lambda key, row: key[0],
            instance=lambda key, row: (key[0], row.service_id.lower()),
            service=lambda key, row: row.service_name.lower() or None,
            status=lambda key, row: row.status,
        )
        self.sessions: Table[str, structs.Session] = self.add_table(
            "sessions", node=lambda key, row: row.node.lower()
        )
        self.session_checks: Table[tuple[str, str, str], str] = self.add_table(
            "session-checks", check=lambda key, row: key[:2], session=lambda key, row: key[2]
        )
        self.coordinates: Table[NodeKey, structs.Coordinate] = self.add_table(
            "coordinates", node=lambda key, row: key[0]
        )
        self.queries: Table[str, structs.PreparedQuery] = self.add_table(
            "prepared-queries",
            name=lambda key, row: row.name.lower() if row.name or row.template.type else None,
            session=lambda key, row: row.session or None,
        )

    def add_table(self, name: str, /, **groups: Callable[[Any, Any], Any]) -> Table[Any, Any]:
        """A new, empty table under `name`, with secondary indexes (see Table)."""
        if name in self.tables:
            raise ValueError(f"there is a table {name!r} already")
        table = self.tables[name] = Table(self._journal, groups)
        return table

    def index(self, *names: str) -> int:
        """The highest of the named indexes, 0 when none is set."""
        get = self.indexes.get
        return max([get(name, 0) for name in names])

    def bump(self, name: str, index: int) -> None:
        """Set an index and mark the cell of that name."""
        self._old_indexes.setdefault(name, self.indexes.get(name))
        self.indexes[name] = index
        self._dirty.add(name)

    def drop_index(self, name: str) -> None:
        """Remove an index and mark the cell of that name."""
        self._old_indexes.setdefault(name, self.indexes.get(name))
        self.indexes.pop(name, None)
        self._dirty.add(name)

    def mark(self, cell: Hashable) -> None:
        """Note that what the cell stands for has changed."""
        self._dirty.add(cell)

    def mark_key(self, key: bytes) -> None:
        """Note that a key of the KV store has changed."""
        if self._key_cells or self._prefix_cells:
            self._dirty_keys.append(key)

    def released(self, key: bytes, delay: int) -> None:
        """Note that a lock was taken away; the hooks hear of it when the command is through."""
        self._released.append((key, delay))

    def touched_session(self, session_id: str) -> None:
        """Note that a session was made or ended; the hooks hear of it when the command is through."""
        self._touched_sessions.append(session_id)

    def watch_cell(self, watch: Watch | None, *cells: Hashable) -> None:
        if watch is not None:
            for cell in cells:
                watch.enter(self._cells, cell)

    def watch_narrowly(self, watch: Watch | None, whole: Hashable, *narrow: Hashable) -> None:
        """Enter the cells of the value; for a whole watch the cell of what its index depends on, which is
        marked whenever one of those is."""
        if watch is not None:
            self.watch_cell(watch, *((whole,) if watch.whole else narrow))

    def commit(self, index: int = 0) -> None:
        """Keep all changes since the last commit or rollback, those of the command at raft `index` (0: of
        none, a state is being built)."""
        if index and self.changes.note(index, self._journal, self._told):
            self._dirty.add("changes")
        self._journal.clear()
        self._old_indexes.clear()

    def rollback(self) -> None:
        """Take back all changes since the last commit."""
        for table, key, old in reversed(self._journal):
            table.undo(key, old)
        self._journal.clear()
        for name, value in self._old_indexes.items():
            if value is None:
                self.indexes.pop(name, None)
            else:
                self.indexes[name] = value
        self._old_indexes.clear()
        self._dirty.clear()
        self._dirty_keys.clear()
        self._released.clear()
        self._touched_sessions.clear()

    def flush_watches(self) -> None:
        """Fire every watch in a changed cell; to be called once a command is wholly applied."""
        if self._dirty_keys:
            keys, self._dirty_keys = self._dirty_keys, []
            self._fire_keys(keys)
        if self._dirty:
            dirty, self._dirty = self._dirty, set()
            cells = self._cells
            if cells:
                _fire([group for name in dirty if (group := cells.get(name))])
        if self._released:
            released, self._released = self._released, []
            for key, delay in released:
                self.hooks.lock_released(key, delay)
        if self._touched_sessions:
            touched, self._touched_sessions = self._touched_sessions, []
            for session_id in touched:
                self.hooks.session_changed(session_id)

    def _fire_keys(self, keys: list[bytes]) -> None:
        cells = self._key_cells
        groups = [group for key in keys if (group := cells.get(key))] if cells else []
        groups += [self._prefix_cells[prefix] for prefix in self._prefix_cells.above(keys)]
        _fire(groups)

    def fire_all_watches(self) -> None:
        """Fire every watch there is: the whole state was replaced."""
        self._dirty.clear()
        self._dirty_keys.clear()
        every = (self._key_cells, self._prefix_cells, self._cells)
        _fire([group for cells in every for group in cells.values()])

    def replace_with(self, other: View) -> None:
        """Take over the whole state of `other`, which must not be used afterwards. All watches fire."""
        keep = {"_key_cells", "_prefix_cells", "_cells", "hooks"}
        for name, value in vars(other).items():
            if name not in keep:
                setattr(self, name, value)
        self.changes = Changes(self.applied)
        self.fire_all_watches()
        self.hooks.state_replaced()


def _fire(groups: list[set[Watch]]) -> None:
    watches = dict.fromkeys(watch for group in groups for watch in group)
    for watch in watches:
        watch.fire()
