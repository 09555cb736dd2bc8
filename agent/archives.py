"""Archives of the whole state: made here, restored here, or by the server that can (core/api/snapshot.py).

save     leader, or any server with `stale`: a Raft snapshot as archive
restore  leader: verified and loaded aside, then through Raft
else     on to a server, over a connection of its own (agent/snapshot_rpc.py)"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from agent import snapshot_rpc
from agent.logs import get_logger
from core.api.endpoint import Saved
from core.codec import duration
from core.errors import CtlError, Lost, NoLeader, Unavailable, Unsent
from core.store import archive

if TYPE_CHECKING:
    from agent.dial import Dialer
    from agent.raft import RaftService
    from agent.rpc import Peer
    from agent.snapshots import SnapshotMeta, SnapshotReader
    from core.api.endpoint import Permissions
    from core.node.servers import ServerFacts

_PIECE = 1 << 18
_TRIES, _PAUSE = 3, 0.5

_log = get_logger("agent.server.snapshot")


class Archives:
    """Fulfils SnapshotDoor. `protocol` is what RpcListener wants for byte 5."""

    def __init__(
        self,
        raft: RaftService | None,
        dialer: Dialer,
        datacenter: str,
        target: Callable[[str], ServerFacts],
        permissions: Callable[[], Permissions | None],
    ) -> None:
        """`target(datacenter)` is the server to ask when this one cannot do it itself: in the own
        datacenter a server, the leader if this is one; raises CtlError when there is none.
        `permissions()` are those of this agent, None where ACLs are off."""
        self._raft, self._dialer = raft, dialer
        self._datacenter, self._target = datacenter, target
        self._permissions = permissions

    def protocol(self, peer: Peer) -> asyncio.Protocol:
        """What a connection that begins with byte 5 goes on with."""
        return snapshot_rpc.serve(self, peer)

    async def save(self, datacenter: str, stale: bool, token: str) -> Saved:
        raft = self._raft
        if raft is None or datacenter not in ("", self._datacenter) or not (raft.is_leader or stale):
            return await self._save_elsewhere(datacenter, stale, token)
        await self._permit(token)
        if not stale:
            await raft.verify_leader()
        return await self._save(raft)

    async def _save_elsewhere(self, datacenter: str, stale: bool, token: str) -> Saved:
        """By the server that can. What is lost before its first byte is asked for again, of whoever is to
        be asked then: nobody has seen anything of it yet."""
        tries = 0
        while True:
            target = self._target(datacenter)
            try:
                return await snapshot_rpc.save(
                    self._dialer, target, datacenter or self._datacenter, stale, token
                )
            except (Unsent, Lost) as error:
                tries += 1
                if tries == _TRIES:
                    raise
                _log.warn("a snapshot is asked for again", server=target.name, error=error)
            await asyncio.sleep(_PAUSE)

    async def may_restore(self, datacenter: str, token: str) -> None:
        if self._raft is not None and datacenter in ("", self._datacenter):
            await self._permit(token)

    async def restore(self, data: bytes, datacenter: str, token: str) -> None:
        raft = self._raft
        if raft is None or datacenter not in ("", self._datacenter) or not raft.is_leader:
            target = self._target(datacenter)
            await snapshot_rpc.restore(self._dialer, target, datacenter or self._datacenter, token, data)
            return
        await self._permit(token)
        await raft.restore(data)
        _log.warn("the state was restored from an archive", bytes=len(data))

    async def _permit(self, token: str) -> None:
        """Denied unless the token may manage ACLs: an archive holds them all, with their secrets."""
        permissions = self._permissions()
        if permissions is not None:
            (await permissions.find(token)).require("acl", "", "write")

    async def _save(self, raft: RaftService) -> Saved:
        """A new Raft snapshot, or the last one if nothing has happened since."""
        await raft.snapshot()
        meta: SnapshotMeta | None = raft.node.snapshot_handle
        if meta is None:
            raise NoLeader()  # an empty log: no leader has been heard of
        loop = asyncio.get_running_loop()
        try:
            reader = await loop.run_in_executor(None, raft.snapshot_store.open, meta)
        except (OSError, ValueError) as error:
            raise Unavailable(f"the snapshot cannot be read: {error}") from error
        contact = raft.last_contact()
        return Saved(
            meta.index,
            _streamed(_archive(meta, reader, int(raft.wall())), reader),
            0 if contact in ("0", "never") else duration.parse(contact),
            bool(raft.leader_id),
        )


def _archive(meta: SnapshotMeta, reader: SnapshotReader, written: int) -> Iterator[bytes]:
    servers = [
        archive.SnapshotServer(server.suffrage, server.id, server.address)
        for server in meta.configuration.servers
    ]
    described = archive.SnapshotMeta(
        id=meta.id,
        index=meta.index,
        term=meta.term,
        peers=archive.peers_of(servers),
        configuration=archive.SnapshotConfiguration(servers),
        configuration_index=meta.configuration_index,
        size=meta.size,
    )
    return archive.write_pieces(described, iter(lambda: reader.read(_PIECE), b""), written)


async def _streamed(pieces: Iterator[bytes], reader: SnapshotReader) -> AsyncIterator[bytes]:
    """The archive, read and compressed by a thread, a piece at a time."""
    loop = asyncio.get_running_loop()
    try:
        while (piece := await loop.run_in_executor(None, next, pieces, None)) is not None:
            yield piece
    except OSError as error:
        raise CtlError(f"the snapshot cannot be read: {error}") from error
    finally:
        reader.close()
