"""What is in a snapshot: its records, counted and measured. Reads newer versions' records too, since a
record says itself where it ends (protocols/snapshot.md section 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from core.codec import msgpack
from core.store import archive, commands
from core.store.archive import SnapshotMeta
from core.store.persist import SnapshotError

_NAMES = {
    commands.REGISTER: "Register",
    commands.DEREGISTER: "Deregister",
    commands.KVS: "KVS",
    commands.SESSION: "Session",
    commands.ACL: "ACL (Deprecated)",
    commands.TOMBSTONE: "Tombstone",
    commands.COORDINATES: "CoordinateBatchUpdate",
    commands.PREPARED_QUERY: "PreparedQuery",
    commands.TXN: "Txn",
    commands.AUTOPILOT: "Autopilot",
    commands.ACL_BOOTSTRAP: "ACLBootstrap",
    commands.INTENTION: "Intention",
    commands.CONNECT_CA: "ConnectCA",
    commands.CA_PROVIDER_STATE: "ConnectCAProviderState",
    commands.CA_CONFIG: "ConnectCAConfig",
    commands.INDEX: "Index",
    commands.ACL_TOKEN_SET: "ACLToken",
    commands.ACL_POLICY_SET: "ACLPolicy",
    commands.CONFIG_ENTRY: "ConfigEntry",
    commands.ACL_ROLE_SET: "ACLRole",
    commands.ACL_BINDING_RULE_SET: "ACLBindingRule",
    commands.ACL_AUTH_METHOD_SET: "ACLAuthMethod",
    commands.CHUNKING_STATE: "ChunkingState",
    commands.FEDERATION_STATE: "FederationState",
    commands.SYSTEM_METADATA: "SystemMetadata",
    32: "ServiceVirtualIP",
    33: "FreeVirtualIP",
    34: "KindServiceNames",
    35: "Peering",
    38: "PeeringTrustBundle",
    40: "PeeringSecrets",
    42: "Resource",
}


class Record(Struct):
    """One record: its type, its value as read (bytes for text), and how many bytes it takes."""

    kind: int
    value: Any
    size: int

    @property
    def name(self) -> str:
        return _NAMES.get(self.kind, f"Type {self.kind}")


class Count(Struct):
    """How many records of a type there are, and how many bytes they take."""

    name: str
    count: int = 0
    size: int = 0


class Snapshot:
    """An archive that has been read and found whole."""

    def __init__(self, data: bytes) -> None:
        """SnapshotError says what is wrong with it."""
        self.meta: SnapshotMeta
        self.meta, self._state = archive.read(data)
        self.counts: dict[int, Count] = {}
        for record in self.records():
            count = self.counts.setdefault(record.kind, Count(record.name))
            count.count += 1
            count.size += record.size

    @property
    def size(self) -> int:
        return len(self._state)

    def records(self) -> Iterator[Record]:
        """Every record in the order of the file."""
        reader = msgpack.Reader(self._state)
        try:
            reader.value()  # the header
            while not reader.at_end:
                start = reader.position
                kind = reader.byte()
                yield Record(kind, reader.value(), reader.position - start)
        except msgpack.DecodeError as error:
            raise SnapshotError(f"the snapshot is damaged: {error}") from error

    def number(self, kind: int) -> int:
        """How many records of a type there are."""
        return self.counts[kind].count if kind in self.counts else 0

    def by_size(self) -> list[Count]:
        """The largest types first."""
        return sorted(self.counts.values(), key=lambda count: (-count.size, count.name))

    def keys_by_size(self, depth: int, prefix: str) -> list[Count]:
        """The sizes of keys by their first `depth` path elements, the largest first."""
        counts: dict[str, Count] = {}
        for record in self.records():
            if record.kind != commands.KVS or type(record.value) is not dict:
                continue
            key = bytes(record.value.get(b"Key") or b"").decode("utf-8", "replace")
            if key.startswith(prefix):
                name = "/".join(key.split("/")[:depth])
                count = counts.setdefault(name, Count(name))
                count.count += 1
                count.size += record.size
        return sorted(counts.values(), key=lambda count: (-count.size, count.name))

    def has_token(self, secret: str) -> bool:
        """Whether an ACL token with this secret is in it."""
        wanted = secret.encode()
        return any(
            record.kind == commands.ACL_TOKEN_SET
            and type(record.value) is dict
            and record.value.get(b"SecretID") == wanted
            for record in self.records()
        )
