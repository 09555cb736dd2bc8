"""Snapshots between agents: connections with first byte 5 (protocols/rpc.md section 6).

    -> SnapshotRequest {AllowStale, Datacenter, Op, Token} [, the archive, end of the write side]
    <- SnapshotResponse {Error, QueryMeta} [, the archive, end]

An archive is a gzip stream, which says itself where it ends, so a server need not wait for more."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import msgpack  # type: ignore[import-untyped]

from agent.logs import get_logger
from agent.rpc import SNAPSHOT
from agent.tls_halves import end_direction
from core.api.endpoint import Saved
from core.codec import wire
from core.codec.msgpack import DecodeError, encode
from core.errors import CtlError, Lost, from_remote

if TYPE_CHECKING:
    from agent.dial import Dialer
    from agent.rpc import Peer
    from core.api.endpoint import SnapshotDoor
    from core.node.servers import ServerFacts

SAVE, RESTORE = 0, 1
MAX_ARCHIVE = 1 << 30  # bytes
_MAX_HEAD = 1 << 16
_PIECE = 1 << 18
_QUIET = 60.0  # seconds that the other side may say nothing; a restore of a large state takes a while
_PATIENCE = 600.0  # seconds for a restore

_log = get_logger("agent.server.snapshot")
_tasks: set[asyncio.Task[None]] = set()


# Serving


def serve(door: SnapshotDoor, peer: Peer) -> asyncio.Protocol:
    """The protocol of one connection."""

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(_serve(door, peer, reader, writer))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    return asyncio.StreamReaderProtocol(asyncio.StreamReader(_PIECE), connected)


async def _serve(
    door: SnapshotDoor, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        request, rest = await _head(reader, _QUIET)
        try:
            saved = await _carry_out(door, request, reader, rest)
        except CtlError as error:
            _log.error("a snapshot operation failed", peer=str(peer), error=error)
            writer.write(_response(str(error)))
            await _hear_out(reader, writer)
            return
        writer.write(_response("", saved))
        if saved is not None:
            async for piece in saved.stream:
                writer.write(piece)
                await writer.drain()
    except (CtlError, OSError, TimeoutError, ValueError) as error:
        _log.warn("a snapshot connection failed", peer=str(peer), error=str(error) or type(error).__name__)
        writer.transport.abort()
    finally:
        writer.close()


async def _carry_out(
    door: SnapshotDoor, request: dict[bytes, Any], reader: asyncio.StreamReader, rest: bytes
) -> Saved | None:
    operation = wire.integer(request.get(b"Op"))
    datacenter, token = wire.text(request.get(b"Datacenter")), wire.text(request.get(b"Token"))
    if operation == SAVE:
        return await door.save(datacenter, bool(request.get(b"AllowStale")), token)
    if operation != RESTORE:
        raise CtlError(f'unrecognized snapshot op "{operation}"')
    await door.may_restore(datacenter, token)
    await door.restore(await _archive(reader, rest), datacenter, token)
    return None


async def _hear_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closing while the other side still sends would take the error from it: let it finish, for a while."""
    await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    async with asyncio.timeout(_QUIET):
        while await reader.read(_PIECE):
            pass


def _response(error: str, saved: Saved | None = None) -> bytes:
    return encode(
        {
            "ConsistencyLevel": "",
            "Error": error,
            "Index": saved.index if saved else 0,
            "KnownLeader": saved.known_leader if saved else False,
            "LastContact": saved.last_contact if saved else 0,
            "NotModified": False,
        }
    )


async def _head(reader: asyncio.StreamReader, patience: float) -> tuple[dict[bytes, Any], bytes]:
    """The map at the beginning, and the bytes that came behind it. DecodeError, Lost."""
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=_MAX_HEAD + _PIECE)
    size = 0
    while True:
        data = await _read(reader, patience)
        if not data:
            raise Lost("rpc error making call: EOF")
        size += len(data)
        try:
            unpacker.feed(data)
            found = unpacker.unpack()
        except msgpack.OutOfData:
            if size > _MAX_HEAD:
                raise DecodeError("a snapshot request that does not end") from None
            continue
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise DecodeError(f"msgpack: {error or type(error).__name__}") from error
        if type(found) is not dict:
            raise DecodeError("a map was expected")
        return found, cast(bytes, unpacker.read_bytes(size))


async def _archive(reader: asyncio.StreamReader, data: bytes) -> bytes:
    """A gzip stream from its first byte to its end, or to the end of what comes. CtlError."""
    end = zlib.decompressobj(wbits=31)
    archive = bytearray()
    loop = asyncio.get_running_loop()
    while True:
        archive += data
        if len(archive) > MAX_ARCHIVE:
            raise CtlError(f"failed to read snapshot: it is larger than {MAX_ARCHIVE} bytes")
        try:
            await loop.run_in_executor(None, _pass, end, data)
        except zlib.error as error:
            raise CtlError(f"failed to decompress snapshot: {error}") from error
        if end.eof:
            return bytes(archive)
        data = await _read(reader)
        if not data:
            return bytes(archive)  # whether it is whole is found when it is verified


def _pass(end: Any, data: bytes) -> None:
    """Run `data` through a decompressor for the sake of its end, a little at a time."""
    while data and not end.eof:
        end.decompress(data, _PIECE)
        data = end.unconsumed_tail


async def _read(reader: asyncio.StreamReader, patience: float = _QUIET) -> bytes:
    async with asyncio.timeout(patience):
        return await reader.read(_PIECE)


# Calling


async def save(dialer: Dialer, server: ServerFacts, datacenter: str, stale: bool, token: str) -> Saved:
    """Have a server take a snapshot. The stream ends early with Lost when the server is lost. CtlError."""
    reader, writer = await _call(dialer, server, SAVE, datacenter, stale, token)
    try:
        end_direction(writer.transport)  # a server of Consul's that passes it on to its leader waits for it
        answer, rest = await _answer(reader)
    except BaseException:
        writer.close()
        raise
    return Saved(
        wire.integer(answer.get(b"Index")),
        _stream(reader, writer, rest),
        wire.integer(answer.get(b"LastContact")),
        bool(answer.get(b"KnownLeader")),
    )


async def restore(dialer: Dialer, server: ServerFacts, datacenter: str, token: str, archive: bytes) -> None:
    """Have a server restore an archive. CtlError; Lost: it may have been restored."""
    reader, writer = await _call(dialer, server, RESTORE, datacenter, False, token)
    try:
        with contextlib.suppress(OSError):  # refused already: the answer says why
            for at in range(0, len(archive), _PIECE):
                writer.write(archive[at : at + _PIECE])
                await writer.drain()
            end_direction(writer.transport)
        await _answer(reader, _PATIENCE)
    finally:
        writer.close()


async def _call(
    dialer: Dialer, server: ServerFacts, operation: int, datacenter: str, stale: bool, token: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(_PIECE)
    transport, protocol = await dialer.connect(
        server.address, server.port, SNAPSHOT, lambda: asyncio.StreamReaderProtocol(reader), server.datacenter
    )
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    writer.write(encode({"AllowStale": stale, "Datacenter": datacenter, "Op": operation, "Token": token}))
    return reader, writer


async def _answer(reader: asyncio.StreamReader, patience: float = _QUIET) -> tuple[dict[bytes, Any], bytes]:
    try:
        answer, rest = await _head(reader, patience)
    except (OSError, DecodeError, TimeoutError) as error:
        raise Lost(f"rpc error making call: {error or type(error).__name__}") from error
    text = wire.text(answer.get(b"Error"))
    if text:
        raise from_remote(text)
    return answer, rest


async def _stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
) -> AsyncIterator[bytes]:
    try:
        while data or not reader.at_eof():
            if data:
                yield data
            data = await _read(reader)
    except (OSError, TimeoutError) as error:
        raise Lost(f"rpc error making call: {error or type(error).__name__}") from error
    finally:
        writer.close()
