"""The snapshot archive of `snapshot save` and `/v1/snapshot` (protocols/snapshot.md section 1): a gzip of
a tar with meta.json, state.bin and SHA256SUMS.

The tar ends right behind its two zero blocks, since Consul's reader refuses padding."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from core.codec import msgpack
from core.store.persist import SnapshotError
from core.store.structs import go_name

BLOCK = 512
SLICE = 256 * 1024
MAX_SIZE = 1 << 31  # of the tar; a gzip that goes on and on must not eat all memory
NAMES = ("meta.json", "state.bin", "SHA256SUMS")
VOTER = 0
_GZIP = 31  # zlib's window bits for a gzip wrapper


class SnapshotServer(Struct, frozen=True, rename=go_name):
    """A server of the Raft configuration. `suffrage`: 0 voter, 1 non-voter, 2 staging."""

    suffrage: int = VOTER
    id: str = ""
    address: str = ""


class SnapshotConfiguration(Struct, frozen=True, rename=go_name):
    """The Raft configuration when the snapshot was taken."""

    servers: list[SnapshotServer] = []


class SnapshotMeta(Struct, frozen=True, rename=go_name):
    """meta.json. `peers` is base64 of the msgpack list of the voters' addresses, `size` that of state.bin."""

    version: int = 1
    id: str = ""
    index: int = 0
    term: int = 0
    peers: str = ""
    configuration: SnapshotConfiguration = SnapshotConfiguration()
    configuration_index: int = 0
    size: int = 0


def peers_of(servers: list[SnapshotServer]) -> str:
    """The old `Peers` field for a configuration."""
    voters = [server.address for server in servers if server.suffrage == VOTER]
    return base64.b64encode(msgpack.encode(voters)).decode("ascii")


def write(meta: SnapshotMeta, state: bytes, written: int = 0) -> Iterator[bytes]:
    """The archive, in slices that each take a few milliseconds. `written` is the files' time in Unix
    seconds; `meta.size` is set here."""
    meta = msgspec.structs.replace(meta, size=len(state))
    return write_pieces(meta, (state[at : at + SLICE] for at in range(0, len(state), SLICE)), written)


def write_pieces(meta: SnapshotMeta, state: Iterable[bytes], written: int = 0) -> Iterator[bytes]:
    """`write` for a state that comes in pieces. SnapshotError if they are not `meta.size` bytes."""
    meta_json = encode_meta(meta)
    digest = hashlib.sha256()
    compressor = zlib.compressobj(wbits=_GZIP)

    def pieces() -> Iterator[bytes]:
        yield _member(NAMES[0], len(meta_json), written) + _padded(meta_json)
        yield _member(NAMES[1], meta.size, written)
        size = 0
        for piece in state:
            size += len(piece)
            digest.update(piece)
            yield piece
        if size != meta.size:
            raise SnapshotError(f"the state has {size} bytes instead of {meta.size}")
        sums = "".join(
            f"{checksum}  {name}\n"
            for name, checksum in zip(
                NAMES, (hashlib.sha256(meta_json).hexdigest(), digest.hexdigest()), strict=False
            )
        ).encode()
        yield bytes(-size % BLOCK) + _member(NAMES[2], len(sums), written) + _padded(sums)
        yield bytes(2 * BLOCK)

    for piece in pieces():
        packed = compressor.compress(piece)
        if packed:
            yield packed
    yield compressor.flush()


def read(archive: bytes) -> tuple[SnapshotMeta, bytes]:
    """What is in an archive: meta.json and the bytes of state.bin, checksums verified. SnapshotError."""
    members = _members(_decompress(archive))
    for name in NAMES:
        if name not in members:
            raise SnapshotError(f"failed to read snapshot file: missing file {name!r}")
    _verify(members)
    meta = decode_meta(members[NAMES[0]])
    if meta.size != len(members[NAMES[1]]):
        raise SnapshotError(f"state.bin has {len(members[NAMES[1]])} bytes, meta.json says {meta.size}")
    return meta, members[NAMES[1]]


def encode_meta(meta: Struct) -> bytes:
    """meta.json: one object and a newline."""
    return msgspec.json.encode(meta) + b"\n"


def decode_meta(data: bytes) -> SnapshotMeta:
    """SnapshotError for anything but a version 1 meta.json."""
    try:
        meta = msgspec.json.decode(data, type=SnapshotMeta)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise SnapshotError(f"failed to decode snapshot metadata: {error}") from error
    if meta.version != 1:
        raise SnapshotError(f"snapshot version {meta.version} is not supported")
    return meta


def _decompress(archive: bytes) -> bytes:
    """The bytes inside the gzip, which may consist of several members."""
    out = []
    left = MAX_SIZE
    while archive:
        unpacker = zlib.decompressobj(wbits=_GZIP)
        try:
            out.append(unpacker.decompress(archive, left))
        except zlib.error as error:
            raise SnapshotError(f"failed to decompress snapshot: {error}") from error
        left -= len(out[-1])
        if left <= 0:
            raise SnapshotError(f"failed to decompress snapshot: it is larger than {MAX_SIZE} bytes")
        if not unpacker.eof:
            raise SnapshotError("failed to decompress snapshot: unexpected EOF")
        archive = unpacker.unused_data
    if not out:
        raise SnapshotError("failed to decompress snapshot: unexpected EOF")
    return b"".join(out)


def _members(tar: bytes) -> dict[str, bytes]:
    """The regular files of a tar that has just our names."""
    members: dict[str, bytes] = {}
    at = 0
    while True:
        header = tar[at : at + BLOCK]
        if len(header) < BLOCK:
            raise SnapshotError("failed to read snapshot file: unexpected EOF")
        at += BLOCK
        if not any(header):
            break
        name, size = _read_header(header)
        if name not in NAMES or name in members:
            raise SnapshotError(f"failed to read snapshot file: unexpected file {name!r} in snapshot")
        members[name] = tar[at : at + size]
        if len(members[name]) < size:
            raise SnapshotError("failed to read snapshot file: unexpected EOF")
        at += size + -size % BLOCK
    rest = tar[at:]
    if rest.strip(b"\0"):
        raise SnapshotError(f"{len(rest)} unread uncompressed bytes remain")
    return members


def _read_header(header: bytes) -> tuple[str, int]:
    try:
        checksum = int(header[148:156].strip(b" \0"), 8)
        size = int(header[124:136].strip(b" \0") or b"0", 8)
    except ValueError as error:
        raise SnapshotError("failed to read snapshot file: invalid tar header") from error
    if size < 0 or checksum != _checksum(header) or header[156:157] not in (b"0", b"\0"):
        raise SnapshotError("failed to read snapshot file: invalid tar header")
    return header[:100].rstrip(b"\0").decode("utf-8", "replace"), size


def _verify(members: dict[str, bytes]) -> None:
    left = set(NAMES[:2])
    for line in members[NAMES[2]].decode("utf-8", "replace").splitlines():
        checksum, _, name = line.partition("  ")
        if name not in left:
            raise SnapshotError(f"failed to verify snapshot: unexpected hash for {name!r}")
        left.discard(name)
        if hashlib.sha256(members[name]).hexdigest() != checksum.lower():
            raise SnapshotError(f"failed to verify snapshot: hash check failed for {name!r}")
    if left:
        raise SnapshotError(f"failed to verify snapshot: missing hash for {min(left)!r}")


def _member(name: str, size: int, written: int) -> bytes:
    """A ustar header of a regular file with mode 0600."""
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000600\0" + b"0000000\0" * 2,
        b"%011o\0%011o\0" % (size, written),
        b" " * 8,
        b"0".ljust(101, b"\0"),
        b"ustar\x0000",
        bytes(BLOCK - 265),
    )
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % _checksum(header) + header[156:]


def _checksum(header: bytes) -> int:
    return sum(header[:148]) + 8 * 0x20 + sum(header[156:])


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
