"""Snapshots on disk, as Consul lays them out (protocols/snapshot.md, section 3).

    <data_dir>/raft/snapshots/<term>-<index>-<unix ms>/{meta.json, state.bin}

Written in `<name>.tmp`, made durable, renamed; two are kept; a damaged one is passed over for the
next. The checksum is CRC-64/XZ. A table in Python would hold the interpreter for minutes, so liblzma
computes it: directly where the library can be loaded, else by letting the `lzma` module compress the
data into an .xz stream, whose block check is this very sum. Both release the interpreter lock."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import msgspec

from agent.logs import get_logger
from core.errors import StorageFull
from core.raft.configuration import SUFFRAGE, Configuration, Server

KEPT = 2
_SYNC_EVERY = 4 << 20  # bytes: one large fsync at the end would hold up those of the log
_SUFFRAGE = {name: number for number, name in SUFFRAGE.items()}
_log = get_logger("agent.raft.snapshot")

Checksum = Callable[[bytes], None]


class SnapshotMeta(msgspec.Struct):
    """What meta.json says, `id` being the directory's name."""

    id: str
    index: int
    term: int
    configuration: Configuration
    configuration_index: int
    size: int = 0


class _LibraryCrc:
    """liblzma's lzma_crc64, found with ctypes."""

    def __init__(self) -> None:
        import ctypes

        library = ctypes.CDLL("liblzma.so.5")
        self._function = library.lzma_crc64
        self._function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
        self._function.restype = ctypes.c_uint64
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = self._function(data, len(data), self._value)

    def digest(self) -> bytes:
        return int(self._value).to_bytes(8, "big")


class _StreamCrc:
    """The block check of an .xz stream that is thrown away but for its end."""

    def __init__(self) -> None:
        import lzma

        cheap = {"id": lzma.FILTER_LZMA2, "dict_size": 4096, "mode": lzma.MODE_FAST}
        cheap |= {"mf": lzma.MF_HC3, "depth": 1, "nice_len": 273, "lc": 0, "lp": 0, "pb": 0}
        self._compressor = lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=[cheap])
        self._tail = b""

    def update(self, data: bytes) -> None:
        self._tail = (self._tail + self._compressor.compress(data))[-256:]

    def digest(self) -> bytes:
        end = self._tail + self._compressor.flush()
        if len(end) <= 32 + 12:
            return bytes(8)  # no block: the sum of nothing
        index = (int.from_bytes(end[-8:-4], "little") + 1) * 4  # the footer tells the index' size
        return end[-12 - index - 8 : -12 - index][::-1]


def crc64() -> _LibraryCrc | _StreamCrc:
    """A running CRC-64 (ECMA, reflected, start and end inverted): update(data), digest() big-endian."""
    try:
        return _LibraryCrc()
    except (OSError, AttributeError, ImportError):
        return _StreamCrc()


class SnapshotWriter(Protocol):
    """One snapshot being written. Every method may block; StorageFull means it is gone."""

    def write(self, data: bytes) -> None: ...

    def finish(self) -> SnapshotMeta: ...

    def abandon(self) -> None: ...


class SnapshotReader(Protocol):
    """The state of one snapshot, from its beginning. Every method may block."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end."""
        ...

    def close(self) -> None: ...


class SnapshotStore(Protocol):
    """Where snapshots are kept. All methods may block."""

    def create(self, meta: SnapshotMeta) -> SnapshotWriter: ...

    def open(self, meta: SnapshotMeta) -> SnapshotReader: ...

    def list(self) -> list[SnapshotMeta]: ...

    def load(self, meta: SnapshotMeta) -> bytes: ...

    def remove(self, meta: SnapshotMeta) -> None: ...

    def spare_index(self) -> int:
        """Entries up to here are not needed even if the newest snapshot turns out to be damaged."""
        ...


class DamagedSnapshot(ValueError):
    """The state does not have the size or checksum that its description says."""


class DiskSnapshots:
    """The directory `raft/snapshots`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, meta: SnapshotMeta) -> SnapshotWriter:
        """Begin a snapshot named `meta.id`. StorageFull."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return _DiskWriter(self._folder, meta, self._prune)
        except OSError as error:
            raise _full(error) from error

    def list(self) -> list[SnapshotMeta]:
        """All finished ones whose description can be read, newest first."""
        found = []
        names = os.listdir(self._folder) if self._folder.is_dir() else []
        for name in names:
            if name.endswith(".tmp"):
                continue
            try:
                found.append(_read_meta(self._folder / name))
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.warn("a snapshot cannot be used", snapshot=name, error=error)
        found.sort(key=lambda meta: (meta.term, meta.index, meta.id), reverse=True)
        return found

    def load(self, meta: SnapshotMeta) -> bytes:
        """The state. DamagedSnapshot, OSError."""
        folder = self._folder / meta.id
        data = (folder / "state.bin").read_bytes()
        wanted = msgspec.json.decode((folder / "meta.json").read_bytes())["CRC"]
        crc = crc64()
        crc.update(data)
        if len(data) != meta.size:
            raise DamagedSnapshot(f"{folder}: state.bin has {len(data)} bytes instead of {meta.size}")
        if base64.b64encode(crc.digest()).decode() != wanted:
            raise DamagedSnapshot(f"{folder}: state.bin does not have its checksum")
        return data

    def remove(self, meta: SnapshotMeta) -> None:
        """Drop a finished snapshot that must not be used. OSError."""
        shutil.rmtree(self._folder / meta.id)
        _sync(self._folder)

    def open(self, meta: SnapshotMeta) -> SnapshotReader:
        """The state, readable to its end also when the snapshot is removed meanwhile. OSError."""
        return open(self._folder / meta.id / "state.bin", "rb")

    def spare_index(self) -> int:
        kept = self.list()
        return kept[1].index if len(kept) > 1 else 0

    def _prune(self) -> None:
        for old in self.list()[KEPT:]:
            shutil.rmtree(self._folder / old.id, ignore_errors=True)
        for name in os.listdir(self._folder):
            if name.endswith(".tmp"):
                shutil.rmtree(self._folder / name, ignore_errors=True)


class _DiskWriter:
    def __init__(self, folder: Path, meta: SnapshotMeta, prune: Callable[[], None]) -> None:
        self._folder, self._meta, self._prune = folder, meta, prune
        self._path = folder / f"{meta.id}.tmp"
        shutil.rmtree(self._path, ignore_errors=True)
        self._path.mkdir(mode=0o755)
        self._file = open(self._path / "state.bin", "wb", buffering=0)  # noqa: SIM115
        self._crc = crc64()
        self._unsynced = 0

    def write(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            self._unsynced += len(data)
            if self._unsynced >= _SYNC_EVERY:
                os.fdatasync(self._file.fileno())
                self._unsynced = 0
        except OSError as error:
            self.abandon()
            raise _full(error) from error
        self._crc.update(data)
        self._meta.size += len(data)

    def finish(self) -> SnapshotMeta:
        """Make it durable and visible; drop the oldest beyond two."""
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            with open(self._path / "meta.json", "wb") as file:
                file.write(msgspec.json.encode(_meta_fields(self._meta, self._crc.digest())) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            _sync(self._path)
            os.rename(self._path, self._folder / self._meta.id)
            _sync(self._folder)
        except OSError as error:
            self.abandon()
            raise _full(error) from error
        with contextlib.suppress(OSError):
            self._prune()
        return self._meta

    def abandon(self) -> None:
        """Remove what is unfinished; nothing happens once it is finished."""
        self._file.close()
        shutil.rmtree(self._path, ignore_errors=True)


class MemorySnapshots:
    """Dev mode: the newest one is kept in memory, for the log to be cut and for servers that lag behind."""

    def __init__(self) -> None:
        self._newest: SnapshotMeta | None = None
        self._state = b""

    def create(self, meta: SnapshotMeta) -> SnapshotWriter:
        return _MemoryWriter(meta, self._finished)

    def _finished(self, meta: SnapshotMeta, state: bytes) -> None:
        self._newest, self._state = meta, state

    def spare_index(self) -> int:
        return self._newest.index if self._newest is not None else 0

    def list(self) -> list[SnapshotMeta]:
        return []  # nothing is there at start

    def load(self, meta: SnapshotMeta) -> bytes:
        if self._newest is None or self._newest.id != meta.id:
            raise DamagedSnapshot("the state of this snapshot was not kept")
        return self._state

    def remove(self, meta: SnapshotMeta) -> None:
        if self._newest is not None and self._newest.id == meta.id:
            self._newest, self._state = None, b""

    def open(self, meta: SnapshotMeta) -> SnapshotReader:
        return BytesIO(self.load(meta))


class _MemoryWriter:
    def __init__(self, meta: SnapshotMeta, finished: Callable[[SnapshotMeta, bytes], None]) -> None:
        self._meta, self._finished = meta, finished
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._meta.size += len(data)
        self._pieces.append(data)

    def finish(self) -> SnapshotMeta:
        self._finished(self._meta, b"".join(self._pieces))
        return self._meta

    def abandon(self) -> None:
        """Nothing to undo."""


def _full(error: OSError) -> StorageFull:
    return StorageFull(f"the snapshot cannot be written: {error.strerror or error}")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _meta_fields(meta: SnapshotMeta, crc: bytes) -> dict[str, Any]:
    servers = [
        {"Suffrage": server.suffrage, "ID": server.id, "Address": server.address}
        for server in meta.configuration.servers
    ]
    return {
        "Version": 1,
        "ID": meta.id,
        "Index": meta.index,
        "Term": meta.term,
        "Peers": base64.b64encode(meta.configuration.encode_peers()).decode(),
        "Configuration": {"Servers": servers},
        "ConfigurationIndex": meta.configuration_index,
        "Size": meta.size,
        "CRC": base64.b64encode(crc).decode(),
    }


def _read_meta(folder: Path) -> SnapshotMeta:
    fields = msgspec.json.decode((folder / "meta.json").read_bytes())
    if fields["Version"] not in (0, 1):
        raise ValueError(f"unknown version {fields['Version']}")
    servers = tuple(
        Server(str(item["ID"]), str(item["Address"]), _suffrage(item["Suffrage"]))
        for item in (fields["Configuration"] or {}).get("Servers") or []
    )
    return SnapshotMeta(
        folder.name,
        int(fields["Index"]),
        int(fields["Term"]),
        Configuration(servers),
        int(fields["ConfigurationIndex"]),
        int(fields["Size"]),
    )


def _suffrage(value: Any) -> int:
    return _SUFFRAGE[value] if isinstance(value, str) else int(value)
