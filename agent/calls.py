"""Where a question, a command or an errand is carried out: here, at the leader, or at some server.

    question -> here (leader, or a stale read on any server) -> store, blocking in the lobby
             -> the leader (a follower asks), or the next server of the list (a client agent asks)

Without a leader a call is tried again for a while (performance.rpc_hold_timeout): an election then is
a pause, not an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from agent.cache import Cache
from agent.counts import Counts
from agent.lobby import Lobby, blocks
from agent.relay import replaced
from core.acl.access import Authorizer
from core.api.blocking import DEFAULT_WAIT, MAX_WAIT, wait_seconds
from core.api.endpoint import Answer, Command, Errand, Permissions, Question, Settled
from core.codec.duration import MILLISECOND
from core.errors import CtlError, Denied, Lost, NoLeader, Unauthorized, Unavailable, Unsent
from core.node.routing import ServerList
from core.node.wan import NO_PATH, Router
from core.store.watch import Watch

if TYPE_CHECKING:
    from agent.raft import RaftService
    from agent.relay import Relay
    from agent.world import World
    from core.api.endpoint import ServerDoor
    from core.api.primary import Primary
    from core.node.servers import ServerFacts
    from core.store.state import Store

T = TypeVar("T")
W = TypeVar("W", Question, Command, Errand)
_FRESH = 150 * MILLISECOND  # ns
_NO_LEADER_IN_LIST = "Raft leader not found in server lookup mapping"


class CallSettings(Struct, frozen=True):
    """Seconds that a call is tried again for, and ns that blocking queries wait."""

    hold: float = 7.0
    default_query_time: int = DEFAULT_WAIT
    max_query_time: int = MAX_WAIT


class Calls:
    """Runs questions, commands and errands for every door: HTTP, DNS, RPC, the agent itself."""

    def __init__(
        self,
        store: Store,
        raft: RaftService | None,
        datacenter: str,
        world: World,
        loop: asyncio.AbstractEventLoop,
        settings: CallSettings,
    ) -> None:
        self.store = store
        self.settings = settings
        self.servers = ServerList(world.random, world.now())
        self.lobby = Lobby(loop, self.outcome)
        self.cache = Cache(self.read, world)
        self.relay: Relay | None = None  # set when there may be other servers
        self.server: ServerDoor | None = None  # set on servers
        self.router: Router | None = None  # set on servers with a WAN pool
        self.permissions: Permissions | None = None  # set where ACLs are on
        self.primary: Primary | None = None  # set on servers of other datacenters than the primary one
        self.counts = Counts()
        self.leaving = False  # a server that leaves does not wait for another leader
        self._raft = raft
        self._datacenter = datacenter
        self._world = world
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    # here

    def here(self, question: Question) -> bool:
        """Whether `ask` may answer: this is the leader, or a server that may answer a stale read."""
        options = question.options
        raft = self._raft
        if raft is None or (options.datacenter and options.datacenter != self._datacenter):
            return False
        if self.primary is not None and not self._settled(self.primary, question):
            return False
        leads = raft.is_leader if options.require_consistent else raft.holds_lease
        return leads or (options.allow_stale and raft.has_heard_of_leader)

    @property
    def is_leader(self) -> bool:
        """Whether this server leads and has applied all that was committed before."""
        return self._raft is not None and self._raft.is_leader

    @property
    def holds_lease(self) -> bool:
        """Whether this server leads, and no other can by now."""
        return self._raft is not None and self._raft.holds_lease

    @property
    def is_fresh(self) -> bool:
        """Whether what this server knows is as good as the leader's last heartbeat: an answer may then be
        given again with the LastContact that it had."""
        return self._raft is not None and bool(self._raft.leader_id) and self._raft.contact_age() < _FRESH

    def ask(self, question: Question, watch: Watch | None = None) -> Answer:
        """Answer a read now, from this server's state. Raises CtlError; `watch` is registered in what
        the answer was made of."""
        raft = self._raft
        if raft is None or not self.here(question):
            raise self._why_not_here(question.options.datacenter)
        if self.permissions is None:
            if question.read.acl_only:
                raise Unauthorized("ACL support disabled")
            answer = question.read.run(self.store, question.args, watch)
        else:
            answer = self._permitted(self.permissions, question, watch)
        if question.read.sift is not None:
            answer = question.read.sift(question.args, answer)
        if not raft.is_leader:
            answer.last_contact = raft.contact_age()
            answer.known_leader = bool(raft.leader_id)
        self.counts.read(question, answer)
        return answer

    def _permitted(self, permissions: Permissions, question: Question, watch: Watch | None) -> Answer:
        """What the token of a question may see of its answer."""
        read, args, token = question.read, question.args, question.options.token
        if read.judged is None and read.permit is None:  # also for a token that is not known
            return read.run(self.store, args, watch)
        authorizer = self._judge(permissions, token)
        if read.judged is not None:
            answer = read.judged(authorizer, self.store, args, watch)
        else:
            answer = read.run(self.store, args, watch)
            if read.permit is not None:
                answer = read.permit(authorizer, args, answer)
        if answer.filtered and not token:
            answer.filtered = False  # who has no token need not know that there is more
        if authorizer.expires:
            answer.remember = False
        return answer

    @staticmethod
    def _judge(permissions: Permissions, token: str) -> Authorizer:
        """The judge of a token at a server, which has looked for it before."""
        authorizer = permissions.known(token) or permissions.latest(token)
        if authorizer is None:
            raise Denied("ACL not found")
        return authorizer

    def _prepared(self, command: Command) -> tuple[bytes | Settled, Callable[[object], object]]:
        """A permitted command's log bytes, and what is shown of its result."""
        write = command.write
        if self.permissions is None:
            return write.prepare(self.store, command.args), _as_it_is
        authorizer = self._judge(self.permissions, command.token)
        refused = write.permit(authorizer, self.store, command.args) if write.permit is not None else None
        data = refused or write.prepare(self.store, command.args)
        if write.shown is None:
            return data, _as_it_is
        shown = write.shown
        return data, lambda result: result if isinstance(result, BaseException) else shown(authorizer, result)

    def _why_not_here(self, datacenter: str) -> CtlError:
        if datacenter and datacenter != self._datacenter:
            return Unavailable(NO_PATH)
        return NoLeader() if self._raft is not None else Unavailable("No known Consul servers")

    def outcome(self, question: Question, watch: Watch | None) -> Answer | CtlError:
        """`ask`, with the error as a value."""
        try:
            return self.ask(question, watch)
        except CtlError as error:
            return error

    def keeps(self, question: Question) -> bool:
        """Whether the cache may answer: a plain read that a client agent would send on."""
        return self._raft is None and not question.options.min_query_index

    async def verify(self) -> None:
        """Confirm the leadership with a quorum, for consistent reads here."""
        if self._raft is None:
            raise NoLeader()
        await self._raft.verify_leader()

    # anywhere

    async def read(self, question: Question) -> Answer:
        """Answer a read, wherever that can be done, waiting as its options say. Raises CtlError."""
        return await self._held(lambda: self._read(question), (NoLeader, Unsent, Lost))

    async def _read(self, question: Question) -> Answer:
        if self.primary is not None:
            if self.primary.owns(question):
                question = replaced(question, datacenter=self.primary.datacenter)
            await self._learn(question, question.options.datacenter)
        options = question.options
        if not self.here(question):
            return await self._relayed(question)
        if options.require_consistent:
            await self.verify()
        answer = await self._waited(question)
        if self._too_stale(question, answer):
            fresh = replaced(question, allow_stale=False)
            return await self._relayed(fresh)
        return answer

    def _too_stale(self, question: Question, answer: Answer) -> bool:
        longest = question.options.max_stale_duration
        return bool(longest) and question.options.allow_stale and answer.last_contact > longest

    async def _relayed(self, question: Question) -> Answer:
        datacenter = question.options.datacenter
        until = self._world.now() + self._wait_seconds(question)
        far = self.router.servers(datacenter) if self.router is not None else None
        for _ in range(len(far or ()) - 1):  # all servers there are asked before it counts as lost
            try:
                return await self._asked(self.target(datacenter), question, until)
            except (Unsent, Lost):
                continue  # that one comes last now
        return await self._asked(self.target(datacenter), question, until)

    async def _asked(self, server: ServerFacts, question: Question, until: float) -> Answer:
        question = self._abroad(server, question)
        answer = await self._way().ask(server, question, max(0.0, until - self._world.now()))
        if self._too_stale(question, answer):
            return await self._way().ask(server, replaced(question, allow_stale=False), 0.0)
        return answer

    async def _waited(self, question: Question) -> Answer:
        watch = Watch() if question.options.min_query_index else None
        answer = self.ask(question, watch)
        if watch is None:
            return answer
        if not blocks(answer, question):
            watch.close()
            return answer
        future: asyncio.Future[Answer] = self._loop.create_future()

        def tell(question: Question, outcome: Answer | CtlError, shared: dict[Hashable, bytes]) -> None:
            if isinstance(outcome, CtlError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        seconds = self._wait_seconds(question)
        waiter = self.lobby.join(question_key(question), question, watch, seconds, tell)
        try:
            return await future
        finally:
            waiter.cancel()

    def _wait_seconds(self, question: Question) -> float:
        settings = self.settings
        return wait_seconds(
            question.options, self._world.random, settings.default_query_time, settings.max_query_time
        )

    def tell(self, command: Command, done: Callable[[object], None]) -> None:
        """Carry out a write; `done(result)` or `done(error)` follows. Raises CtlError when the command is
        refused at once."""

        def again(result: object) -> None:
            if isinstance(result, NoLeader | Unsent):
                self._apply_later(command, done)
            else:
                done(result)

        if self.primary is not None and not self._settled(self.primary, command):
            self._apply_later(command, done)
            return
        raft = self._raft
        if raft is not None and raft.is_leader and command.datacenter in ("", self._datacenter):
            data, show = self._prepared(command)
            if isinstance(data, Settled):
                done(data.result)
            else:
                told = self.counts.timed(command.write.rpc, again)
                raft.propose(data, told if show is _as_it_is else lambda result: told(show(result)))
            return
        try:
            target = self.target(command.datacenter)
            command = self._abroad(target, command)
            if self.relay is not None and self.relay.tell(target, command.write.rpc, command, again):
                return
        except NoLeader:
            pass  # held until there is one
        self._apply_later(command, done)

    def _apply_later(self, command: Command, done: Callable[[object], None]) -> None:
        task = self._loop.create_task(self._tell_later(command, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell_later(self, command: Command, done: Callable[[object], None]) -> None:
        try:
            result = await self.apply(command)
        except CtlError as error:
            result = error
        done(result)

    async def apply(self, command: Command) -> object:
        """Carry out a write and wait for its result; raises what the state machine refused. After
        anything but NoLeader the write may have been carried out."""
        return await self._held(lambda: self._apply(command), (NoLeader, Unsent))

    async def _apply(self, command: Command) -> object:
        if self.primary is not None:
            if self.primary.owns(command):
                command = replace(command, datacenter=self.primary.datacenter)
            await self._learn(command, command.datacenter)
        raft = self._raft
        if raft is not None and raft.is_leader and command.datacenter in ("", self._datacenter):
            data, show = self._prepared(command)
            began = perf_counter()
            result = data.result if isinstance(data, Settled) else show(await raft.apply(data))
            self.counts.wrote(command.write.rpc, began)
        else:
            target = self.target(command.datacenter)
            result = await self._way().send(target, command.write.rpc, self._abroad(target, command))
        if isinstance(result, CtlError):
            raise result
        return result

    async def run(self, errand: Errand) -> Any:
        """Have an action done by a server that can."""
        return await self._held(lambda: self._run(errand), (NoLeader, Unsent))

    async def _run(self, errand: Errand) -> Any:
        if self.primary is not None and self.primary.owns(errand, self.is_leader):
            errand = replace(errand, datacenter=self.primary.datacenter)
        action = errand.action
        ours = self.server is not None and errand.datacenter in ("", self._datacenter)
        if self.server is not None and ours and (self.is_leader or not action.leader):
            if self.permissions is not None and action.permit is not None:
                action.permit(await self.permissions.find(errand.token), errand.args)
            return await action.run(self.server, errand.args)
        target = self.target(errand.datacenter)
        return await self._way().send(target, action.rpc, self._abroad(target, errand))

    # other datacenters

    def _settled(self, primary: Primary, work: Question | Command) -> bool:
        """Whether the primary datacenter has no part in what is to be done here."""
        if primary.owns(work):
            return False
        permissions = self.permissions
        place = work.options.datacenter if isinstance(work, Question) else work.datacenter
        if permissions is None or place not in ("", self._datacenter) or not _is_judged(work):
            return True
        try:
            return permissions.known(_token(work)) is not None
        except Denied:  # which is an answer
            return True

    async def _learn(self, work: Question | Command, datacenter: str) -> None:
        """Have the judge of a token at hand for work that is to be done here."""
        permissions = self.permissions
        if permissions is not None and datacenter in ("", self._datacenter) and _is_judged(work):
            await permissions.find(_token(work))

    def _abroad(self, server: ServerFacts, work: W) -> W:
        """Work as it goes to a server: a token that is valid in this datacenter alone is not told to
        another one (protocols/rpc.md section 4)."""
        if server.datacenter == self._datacenter or self.permissions is None or self._raft is None:
            return work
        secret = _token(work)
        row = self.store.token_by_secret(secret) if secret else None
        return work if row is None or not row.local else _without_token(work)

    # the way to others

    def target(self, datacenter: str) -> ServerFacts:
        """The server to send a call to that cannot be answered here."""
        raft = self._raft
        if datacenter and datacenter != self._datacenter and raft is not None:
            if self.router is None:
                raise Unavailable(NO_PATH)
            return self.router.target(datacenter)
        if raft is None:
            server = self.servers.first()
            if server is None:
                raise Unavailable("No known Consul servers")
            return server
        leader = raft.leader_id
        if not leader or leader == raft.node_id:
            raise NoLeader()
        server = self.servers.by_id(leader)
        if server is None:
            raise NoLeader(_NO_LEADER_IN_LIST)
        return server

    def _way(self) -> Relay:
        if self.relay is None:
            raise NoLeader()
        return self.relay

    async def _held(self, attempt: Callable[[], Awaitable[T]], again: tuple[type[CtlError], ...]) -> T:
        """Try until it works, fails for another reason than those in `again`, or the time is up."""
        until = self._world.now() + self.settings.hold
        tries = 0
        while True:
            try:
                return await attempt()
            except again as error:
                if self.leaving or self._world.now() >= until:
                    raise
                tries += 1
                another = isinstance(error, (Unsent, Lost)) and tries < len(self.servers)
            if not another:
                await asyncio.sleep(self._world.random.random() * self.settings.hold / 32)


def _as_it_is(result: object) -> object:
    return result


def _is_judged(work: Question | Command) -> bool:
    """Whether it depends on the token."""
    if isinstance(work, Command):
        return True
    return work.read.permit is not None or work.read.judged is not None


def _token(work: Question | Command | Errand) -> str:
    return work.options.token if isinstance(work, Question) else work.token


def _without_token(work: W) -> W:
    changed: Any = work
    if isinstance(work, Question):
        changed = replaced(work, token="")
    elif isinstance(work, Errand):
        changed = replace(work, token="")
    if getattr(work.args, "token", ""):
        changed = replace(changed, args=replace(work.args, token=""))
    return cast(W, changed)


def question_key(question: Question) -> tuple[Any, ...]:
    """What makes two blocking questions the same."""
    options = question.options
    return (
        question.read.rpc,
        question.args,
        options.min_query_index,
        options.datacenter,
        options.allow_stale,
        options.token,
    )
