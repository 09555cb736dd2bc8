"""The leader of another datacenter copies what the primary one keeps for all: policies and roles, tokens
where acl.enable_token_replication is on, and config entries.

Each kind has a loop of its own: list what there is (a blocking query, so that changes come at once), tell
the difference (core/node/replication.py), fetch it, write it to the log in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from agent.replication_kinds import CONFIG_ENTRIES, POLICIES, ROLES, TOKENS, Kind
from core.api.acl_requests import ACLReplicationStatus
from core.api.endpoint import Answer, QueryOptions, Question, Read
from core.api.remote_kinds import unrendered
from core.codec.duration import SECOND
from core.codec.msgpack import ZERO_TIME, encode_time
from core.errors import CtlError, Denied
from core.node.replication import Difference, difference, in_the_way

if TYPE_CHECKING:
    from agent.logs import Logger
    from agent.world import World
    from core.acl.settings import AclSettings
    from core.store.state import Store

ROUND = 1.0  # seconds at least between two rounds of a kind: changes in between are one difference
BATCH = 64  # rows in a request or a log command
BATCH_PAUSE = 0.05  # seconds between log commands: others write, too
WAIT = 60  # seconds that a list is waited for
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds after a failure


class Replication:
    """`ask(question)` has a read answered wherever its datacenter is, `apply(data)` writes to our log.
    Both raise CtlError."""

    def __init__(
        self,
        settings: AclSettings,
        store: Store,
        ask: Callable[[Question], Awaitable[Answer]],
        apply: Callable[[bytes], Awaitable[object]],
        token: Callable[[], str],
        world: World,
        logger: Logger,
    ) -> None:
        self._settings = settings
        self._store = store
        self._ask = ask
        self._apply = apply
        self._token = token
        self._world = world
        self._log = logger
        self._tasks: list[asyncio.Task[None]] = []
        self._indexes: dict[str, int] = {}  # of the primary, by kind: what was copied last
        self._compared: dict[str, int] = {}  # the same, as long as the copy is known to be whole
        self._last_success = self._last_error = ZERO_TIME

    def start(self) -> None:
        """Copy for as long as this server leads. Nothing in the primary datacenter itself."""
        settings = self._settings
        if self._tasks or settings.datacenter == settings.primary_datacenter:
            return
        self._indexes, self._compared = {}, {}
        kinds = [CONFIG_ENTRIES]
        if settings.enabled:
            kinds += [POLICIES, ROLES]
            if settings.token_replication:
                kinds.append(TOKENS)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._copy(kind)) for kind in kinds]

    def stop(self) -> None:
        """This server leads no more."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def status(self) -> ACLReplicationStatus:
        """How copying the ACLs goes."""
        settings = self._settings
        if not settings.enabled or settings.datacenter == settings.primary_datacenter:
            return ACLReplicationStatus()
        return ACLReplicationStatus(
            enabled=True,
            running=bool(self._tasks),
            source_datacenter=settings.primary_datacenter,
            replication_type=TOKENS.name if settings.token_replication else POLICIES.name,
            replicated_index=self._indexes.get(POLICIES.name, 0),
            replicated_role_index=self._indexes.get(ROLES.name, 0),
            replicated_token_index=self._indexes.get(TOKENS.name, 0),
            last_success=self._last_success,
            last_error=self._last_error,
        )

    async def _copy(self, kind: Kind) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = self._world.now()
            try:
                await self._round(kind)
            except CtlError as error:
                self._compared.pop(kind.name, None)  # it may be half done
                self._note(kind, success=False)
                self._log.warn(
                    "replication failed",
                    kind=kind.name,
                    dc=self._settings.primary_datacenter,
                    error=str(error),
                )
                await asyncio.sleep(pause * (1 + self._world.random.random() / 4))
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE
                self._note(kind, success=True)
                await asyncio.sleep(max(0.0, began + ROUND - self._world.now()))

    def _note(self, kind: Kind, *, success: bool) -> None:
        """The status endpoint speaks of ACLs only."""
        if kind is CONFIG_ENTRIES:
            return
        wall = self._world.wall()
        now = encode_time(int(wall), int(wall % 1 * 1e9))
        if success:
            self._last_success = now
        else:
            self._last_error = now

    async def _round(self, kind: Kind) -> None:
        """Wait for a list that is newer than the last one, and take over what differs."""
        last = self._compared.get(kind.name, 0)
        listed = await self._read(kind.listing, kind.listing_args, last, stale=True)
        if listed.filtered:
            raise kind.refused()
        since = last if listed.index >= last else 0  # an index that goes back: the state was restored
        if listed.index != last or not last:
            found = difference(kind.local(self._store), kind.remote(listed.value), since)
            await self._take_over(kind, found, listed.value)
        self._indexes[kind.name] = self._compared[kind.name] = max(listed.index, 1)

    async def _take_over(self, kind: Kind, found: Difference, listed: Any) -> None:
        rows = await self._fetch(kind, found.fetch, listed)
        here = [row for row in kind.local(self._store) if row.key not in found.delete]
        gone = [*found.delete, *in_the_way(here, map(kind.known, rows))]
        for start in range(0, len(gone), BATCH):
            for command in kind.delete(gone[start : start + BATCH]):
                await self._write(command)
        for start in range(0, len(rows), BATCH):
            for command in kind.store(rows[start : start + BATCH]):
                await self._write(command)
        if gone or rows:
            self._log.info("replicated", kind=kind.name, deleted=len(gone), changed=len(rows))

    async def _fetch(self, kind: Kind, keys: Sequence[str], listed: Any) -> list[Any]:
        """The rows themselves, where the list shows only their outlines."""
        if kind.batch is None:
            wanted = frozenset(keys)
            return [row for row in listed if kind.known(row).key in wanted]
        rows: list[Any] = []
        for start in range(0, len(keys), BATCH):
            # By the leader: a follower may not know yet what another one has listed.
            args = kind.batch_args(keys[start : start + BATCH])
            answer = await self._read(kind.batch, args, 0, stale=False)
            kind.check(answer)
            rows += answer.value
        return rows

    async def _read(self, read: Read, args: Any, index: int, *, stale: bool) -> Answer:
        token = self._token()
        if self._settings.enabled and not token:  # without one less might be seen than there is
            raise Denied("acl.tokens.replication is not set")
        options = QueryOptions(
            token=token,
            datacenter=self._settings.primary_datacenter,
            min_query_index=index,
            max_query_time=WAIT * SECOND,
            allow_stale=stale,
        )
        return await self._ask(Question(read, args, options, unrendered))

    async def _write(self, command: bytes) -> None:
        result = await self._apply(command)
        if isinstance(result, CtlError):
            raise result
        await asyncio.sleep(BATCH_PAUSE)
