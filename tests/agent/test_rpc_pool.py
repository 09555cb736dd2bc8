"""Calls between agents over loopback: a pool on one side, a server with a real state on the other."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from agent.dial import Dialer
from agent.pool import Pool, PoolSettings
from agent.rpc import ALPN_NAMES, MULTIPLEX, SINGLE, Peer, RpcLimits, RpcListener
from agent.rpc_limits import RequestLimits
from agent.rpc_serve import RpcServer
from agent.tls import RpcTls, TlsFiles
from agent.world import World
from core.api import kv
from core.api.endpoint import Answer, Command, Errand, QueryOptions, Question
from core.api.remote import REMOTES
from core.codec import msgpack, netrpc
from core.codec.yamux import DATA, Session, Settings
from core.config.settings import Config
from core.errors import CtlError, Denied, Invalid, Lost, NoLeader, TooManyRequests, Unavailable, Unsent
from core.gossip.member import ALIVE
from core.node.servers import ServerFacts
from core.store.fsm import FSM
from core.store.watch import Watch
from tests.agent.rpc_certs import Authority

HOST = "127.83.0.2"


class Calls:
    """A server's state without a log: writes are applied at once, or held until `release`."""

    def __init__(self) -> None:
        self.fsm = FSM()
        self.store = self.fsm.store
        self.index = 10
        self.held: list[Callable[[], None]] | None = None
        self.blocked = 0
        self.cancelled = 0
        self.error: Exception | None = None
        self.is_leader = True

    def here(self, question: Question) -> bool:
        return question.options.datacenter == "dc1"

    def ask(self, question: Question, watch: Watch | None = None) -> Answer:
        if self.error is not None:
            raise self.error
        return question.read.run(self.store, question.args, watch)

    async def read(self, question: Question) -> Answer:
        if not self.here(question):
            raise Unavailable("No path to datacenter")
        self.blocked += 1
        try:
            while True:
                fired = asyncio.Event()
                watch = Watch()
                answer = self.ask(question, watch)
                if answer.index > question.options.min_query_index:
                    return answer
                watch.on_fire(fired.set)
                await fired.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.blocked -= 1

    def tell(self, command: Command, done: Callable[[object], None]) -> None:
        data = command.write.prepare(self.store, command.args)

        def apply() -> None:
            self.index += 1
            done(self.fsm.apply(self.index, data, b"", 1))

        if self.held is None:
            apply()
        else:
            self.held.append(apply)

    async def run(self, errand: Errand) -> Any:
        return await errand.action.run(None, errand.args)  # type: ignore[arg-type]

    def put(self, key: bytes, value: bytes) -> None:
        self.tell(Command(kv.APPLY, kv.KVChange("set", key, value), lambda _: None), lambda _: None)  # type: ignore[arg-type,return-value]


class Cluster:
    """One server and one pool."""

    def __init__(self, tls: RpcTls | None = None, **settings: Any) -> None:
        loop = asyncio.get_running_loop()
        self.calls = Calls()
        self.tls = tls
        self.rates = {
            "limits.request_limits.mode": "disabled",
            "limits.request_limits.read_rate": -1.0,
            "limits.request_limits.write_rate": -1.0,
        }
        self.limits = RequestLimits(World(), Config(self.rates))
        self.server = RpcServer(loop, self.calls, self.limits, Settings(streams=400))
        self.port = 0
        self.listen()
        self.pool = Pool(loop, Dialer(loop, tls, HOST), PoolSettings(**settings))
        self.facts = ServerFacts("id", "s1", "dc1", HOST, self.port, ALIVE)

    def listen(self) -> None:
        protocols = {MULTIPLEX: self.server.multiplexed, SINGLE: self.server.single}
        limits = RpcLimits(max_conns_per_client=0)
        loop = asyncio.get_running_loop()
        self.listener = RpcListener(loop, HOST, self.port, protocols, self.tls, limits)
        self.listener.open()
        self.port = self.listener.port

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.pool.close()
        self.listener.close()
        for task in self.server.tasks:
            task.cancel()
        await asyncio.sleep(0)

    async def get(self, key: bytes, **options: Any) -> Answer:
        remote = REMOTES["KVS.Get"]
        question = Question(kv.GET, kv.KeyRequest(key), QueryOptions(**options), lambda _: None)  # type: ignore[arg-type,return-value]
        answer = remote.answer(await self.pool.call(self.facts, "KVS.Get", remote.request(question, "dc1")))
        assert isinstance(answer, Answer)
        return answer

    async def put(self, key: bytes, value: bytes, **fields: Any) -> Any:
        remote = REMOTES["KVS.Apply"]
        fields.setdefault("op", "set")
        command = Command(kv.APPLY, kv.KVChange(key=key, value=value, **fields), lambda _: None)  # type: ignore[arg-type,return-value]
        body = remote.request(command, "dc1")
        return remote.answer(await self.pool.call(self.facts, "KVS.Apply", body))

    @property
    def lines(self) -> int:
        return len(self.pool._lines)

    async def raw(self, first: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(first)
        return reader, writer


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner.run


def test_reads_and_writes(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            assert (await cluster.get(b"a")).value is None
            assert await cluster.put(b"a", b"1") is False, "as Consul answers a plain set"
            answer = await cluster.get(b"a")
            assert (answer.value.value, answer.index, answer.known_leader) == (b"1", 11, True)
            assert await cluster.put(b"a", b"2", op="cas", cas_index=11) is True
            assert await cluster.put(b"a", b"3", op="cas", cas_index=11) is False
            await cluster.pool.ping(cluster.facts)
            assert cluster.lines == 1

    run(main())


def test_streams_are_used_again(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            for number in range(20):
                await cluster.put(b"k", b"%d" % number)
            (line,) = cluster.pool._lines.values()
            assert len(line.session) == 1

    run(main())


def test_many_calls_at_the_same_time_and_many_turns(run: Any) -> None:
    async def main() -> None:
        async with Cluster(idle_streams=8) as cluster:
            for _ in range(3):
                await asyncio.gather(*(cluster.put(b"k%d" % number, b"v") for number in range(300)))
            answers = await asyncio.gather(*(cluster.get(b"k%d" % number) for number in range(300)))
            assert all(answer.value.value == b"v" for answer in answers)
            assert cluster.lines == 1
            (line,) = cluster.pool._lines.values()
            await until(lambda: len(line.session) <= 8)

    run(main())


def test_large_values_both_ways(run: Any) -> None:
    """More than windows and socket buffers hold."""

    async def main() -> None:
        async with Cluster() as cluster:
            large = bytes(range(256)) * 20_000
            await asyncio.gather(*(cluster.put(b"k%d" % number, large) for number in range(4)))
            answers = await asyncio.gather(*(cluster.get(b"k%d" % number) for number in range(4)))
            assert all(answer.value.value == large for answer in answers)

    run(main())


def test_long_lists_leave_others_a_turn(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            for number in range(5000):
                cluster.calls.put(b"k%04d" % number, b"v")
            question = Question(kv.LIST, kv.KeyRequest(b""), QueryOptions(), lambda _: None)  # type: ignore[arg-type,return-value]
            remote = REMOTES["KVS.List"]
            body = remote.request(question, "dc1")
            listing = asyncio.ensure_future(cluster.pool.call(cluster.facts, "KVS.List", body))
            single = asyncio.ensure_future(cluster.get(b"k0001"))
            await asyncio.wait((listing, single), return_when=asyncio.FIRST_COMPLETED)
            assert single.done() and not listing.done(), "who asks for little need not wait"
            answer = remote.answer(await listing)
            assert [entry.key for entry in answer.value] == [b"k%04d" % number for number in range(5000)]
            # Nobody wants it any more.
            listing = asyncio.ensure_future(cluster.pool.call(cluster.facts, "KVS.List", body))
            await until(lambda: bool(cluster.server.tasks))
            listing.cancel()
            await until(lambda: not cluster.server.tasks)

    run(main())


def test_errors_keep_their_text_and_class(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            with pytest.raises(Invalid, match=r"^rpc error making call: Must provide key$"):
                await cluster.put(b"", b"")
            with pytest.raises(Invalid, match="Invalid KVS operation 'bogus'"):
                await cluster.put(b"x", b"", op="bogus")
            with pytest.raises(Invalid, match=r"rpc: can't find service Nope\.Method"):
                await cluster.pool.call(cluster.facts, "Nope.Method", {})
            with pytest.raises(Invalid, match=r"rpc: can't find method KVS\.Nope"):
                await cluster.pool.call(cluster.facts, "KVS.Nope", {})
            with pytest.raises(Invalid, match="rpc: service/method request ill-formed: NoDot"):
                await cluster.pool.call(cluster.facts, "NoDot", {})
            for method in (
                "ConnectCA.Roots",
                "Intention.Match",
                "DiscoveryChain.Get",
            ):  # and the stream stays
                with pytest.raises(Invalid, match="Connect must be enabled in order to use this endpoint"):
                    await cluster.pool.call(cluster.facts, method, {})
            with pytest.raises(Unavailable, match="No path to datacenter"):
                await cluster.get(b"x", datacenter="dc2")
            for error in (NoLeader(), Denied("Permission denied"), Denied("ACL not found")):
                cluster.calls.error = error
                with pytest.raises(type(error), match=str(error)):
                    await cluster.get(b"x")
            cluster.calls.error = None
            assert (await cluster.get(b"x")).value is None
            assert cluster.lines == 1

    run(main())


def test_request_limits(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:

            def limit(mode: str, read: float, write: float) -> None:
                prefix = "limits.request_limits"
                rates = {f"{prefix}.mode": mode, f"{prefix}.read_rate": read, f"{prefix}.write_rate": write}
                cluster.limits.configure(Config(rates))

            limit("enforcing", 0.0, -1.0)
            await cluster.get(b"x")  # one is always left
            with pytest.raises(TooManyRequests, match="try again later or against a different server"):
                await cluster.get(b"x")
            await cluster.put(b"x", b"1")
            limit("enforcing", -1.0, 0.0)
            with pytest.raises(TooManyRequests, match="can only be performed by the leader, try again later"):
                for _ in range(2):
                    await cluster.put(b"x", b"1")
            cluster.calls.is_leader = False
            with pytest.raises(TooManyRequests, match="against a different server"):
                await cluster.put(b"x", b"1")
            await cluster.get(b"x")
            limit("permissive", 0.0, 0.0)
            await cluster.put(b"x", b"1")
            limit("disabled", 0.0, 0.0)
            await cluster.get(b"x")

    run(main())


def test_a_defect_is_answered(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            cluster.calls.error = ZeroDivisionError("by chance")
            with pytest.raises(Invalid, match=r"internal error in KVS\.Get"):
                await cluster.get(b"x")
            with pytest.raises(Invalid, match=r"internal error in KVS\.Get"):
                await cluster.get(b"x", min_query_index=1)
            cluster.calls.error = None
            await cluster.get(b"x")

    run(main())


def test_blocking_reads(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            await cluster.put(b"a", b"1")
            task = asyncio.ensure_future(cluster.get(b"a", min_query_index=11, max_query_time=60 * 10**9))
            await until(lambda: cluster.calls.blocked == 1)
            await cluster.put(b"b", b"1")  # another one goes on beside it
            await cluster.put(b"a", b"2")
            assert (await task).value.value == b"2"

    run(main())


def test_a_blocking_read_ends_with_its_caller(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            task = asyncio.ensure_future(cluster.get(b"a", min_query_index=99))
            await until(lambda: cluster.calls.blocked == 1)
            task.cancel()
            await until(lambda: cluster.calls.blocked == 0)
            assert cluster.calls.cancelled == 1
            assert cluster.lines == 1, "the connection stays"
            await asyncio.gather(task, return_exceptions=True)

    run(main())


def test_a_blocking_read_ends_with_its_connection(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            task = asyncio.ensure_future(cluster.get(b"a", min_query_index=99))
            await until(lambda: cluster.calls.blocked == 1)
            cluster.pool.close()
            await until(lambda: cluster.calls.cancelled == 1)
            with pytest.raises(Lost, match="rpc error making call"):
                await task

    run(main())


def test_calls_that_take_too_long(run: Any) -> None:
    async def main() -> None:
        async with Cluster(call_timeout=0.1, hold=0.0) as cluster:
            cluster.calls.held = []
            with pytest.raises(Lost, match="i/o deadline reached"):
                await cluster.put(b"a", b"1")
            with pytest.raises(Lost, match="i/o deadline reached"):
                await cluster.get(b"a", min_query_index=99, max_query_time=10**8)
            await until(lambda: cluster.calls.blocked == 0)
            cluster.calls.held.pop()()  # its answer finds nobody
            cluster.calls.held = None
            assert (await cluster.get(b"a")).value.value == b"1"

    run(main())


def test_a_server_that_comes_back(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            await cluster.put(b"a", b"1")
            cluster.calls.held = []
            under_way = asyncio.ensure_future(cluster.put(b"b", b"1"))
            await until(lambda: bool(cluster.calls.held))
            cluster.listener.close()
            with pytest.raises(Lost, match="rpc error making call: "):
                await under_way
            await until(lambda: cluster.lines == 0)
            with pytest.raises(Unsent, match="rpc error getting client: failed to get conn: dial tcp"):
                await cluster.put(b"c", b"1")
            cluster.calls.held = None
            cluster.listen()
            await cluster.put(b"c", b"1")
            assert (await cluster.get(b"c")).value.value == b"1"

    run(main())


def test_one_connection_for_all_who_come_at_once(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            made: list[Peer] = []
            make = cluster.listener.protocols[MULTIPLEX]
            cluster.listener.protocols = {MULTIPLEX: lambda peer: made.append(peer) or make(peer)}  # type: ignore[func-returns-value]
            await asyncio.gather(*(cluster.get(b"a") for _ in range(50)))
            assert len(made) == 1
            cluster.pool.close()
            await asyncio.gather(*(cluster.get(b"a") for _ in range(5)))
            assert len(made) == 2

    run(main())


def test_unused_connections_are_closed(run: Any) -> None:
    async def main() -> None:
        async with Cluster(idle=0.05) as cluster:
            await cluster.get(b"a")
            await until(lambda: cluster.lines == 0)
            await cluster.get(b"a")

    run(main())


def test_a_silent_server_is_given_up(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        silent = socket.create_server((HOST, 0))
        facts = ServerFacts("id", "s1", "dc1", HOST, silent.getsockname()[1], ALIVE)
        session = Settings(keep_alive=0.05, ping_timeout=0.05)
        pool = Pool(loop, Dialer(loop, None), PoolSettings(session=session))
        with pytest.raises(Lost, match="keepalive timeout"):
            await pool.ping(facts)
        pool.close()
        silent.close()

    run(main())


def test_a_server_far_away_that_hangs_is_found_out_sooner(run: Any) -> None:
    """Its kernel takes everything in, as that of a stopped process does; who waits has others to ask."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        silent = socket.create_server((HOST, 0))
        port = silent.getsockname()[1]
        far = Settings(keep_alive=0.05, ping_timeout=0.05)
        pool = Pool(loop, Dialer(loop, None, datacenter="dc1"), PoolSettings(far=far))
        with pytest.raises(Lost, match=rf"keepalive timeout \(server {HOST}:{port} in dc2\)"):
            await pool.ping(ServerFacts("id", "s1", "dc2", HOST, port, ALIVE))
        near = asyncio.create_task(pool.ping(ServerFacts("id", "s1", "dc1", HOST, port, ALIVE)))
        done, _ = await asyncio.wait([near], timeout=0.3)
        assert not done
        near.cancel()
        pool.close()
        silent.close()

    run(main())
    assert PoolSettings().far.keep_alive + PoolSettings().far.ping_timeout < 10


def test_keep_alive_keeps(run: Any) -> None:
    async def main() -> None:
        async with Cluster(session=Settings(keep_alive=0.02, ping_timeout=1.0)) as cluster:
            await cluster.get(b"a")
            (line,) = cluster.pool._lines.values()
            await until(lambda: line.session._ping_id >= 2)
            await cluster.get(b"a")
            assert cluster.pool._lines and line is next(iter(cluster.pool._lines.values()))

    run(main())


def test_who_was_asleep_listens_first(run: Any) -> None:
    """The answer to a ping lies in the socket of a process that was stopped: that is no silence."""

    async def main() -> None:
        async with Cluster(session=Settings(keep_alive=0.02, ping_timeout=0.3)) as cluster:
            await cluster.get(b"a")
            (line,) = cluster.pool._lines.values()
            await until(lambda: line.session._answer_by is not None)
            time.sleep(0.9)  # the whole process
            await cluster.get(b"a")
            assert cluster.pool._lines and line is next(iter(cluster.pool._lines.values()))

    run(main())


def test_tell_needs_no_task(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            outcomes: list[object] = []
            assert not cluster.pool.tell(cluster.facts, "Status.Ping", {}, outcomes.append)
            await cluster.pool.ping(cluster.facts)
            assert cluster.pool.tell(cluster.facts, "Status.Ping", {}, outcomes.append)
            assert cluster.pool.tell(cluster.facts, "Nope.X", {}, outcomes.append)
            await until(lambda: len(outcomes) == 2)
            assert {} in outcomes and any(isinstance(outcome, CtlError) for outcome in outcomes)

    run(main())


def test_over_tls(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        authority = Authority(tmp_path)
        pair = authority.issue("server", "server.dc1.consul")
        files = TlsFiles(cert_file=pair[0], key_file=pair[1], ca_file=authority.ca_file, verify_incoming=True)
        tls = RpcTls(
            files, verify_outgoing=True, verify_server_hostname=True, domain="consul.", alpn=ALPN_NAMES
        )
        async with Cluster(tls) as cluster:
            large = bytes(range(256)) * 4000
            await cluster.put(b"a", large)
            assert (await cluster.get(b"a")).value.value == large
            cluster.facts = ServerFacts("id", "s2", "dc2", HOST, cluster.port, ALIVE)
            with pytest.raises(Unsent, match="x509: Hostname mismatch"):
                await cluster.get(b"a")

    run(main())


def test_calls_without_multiplexing(run: Any) -> None:
    """Byte 0: one call after the other, also when they come all at once."""

    async def main() -> None:
        async with Cluster() as cluster:
            cluster.calls.put(b"a", b"1")
            reader, writer = await cluster.raw(b"\0")
            body = {"Datacenter": "dc1", "Key": "a"}
            blocking = {**body, "MinQueryIndex": 11}
            writer.write(netrpc.request("KVS.Get", 1, body) + netrpc.request("KVS.Get", 2, blocking))
            writer.write(netrpc.request("KVS.Get", 3, body) + netrpc.request("Nope.X", 4, {}))
            await until(lambda: cluster.calls.blocked == 1)
            cluster.calls.put(b"a", b"2")
            async with asyncio.timeout(10):
                answer = await reader.read()  # until it is closed, after the last error
            messages = netrpc.Messages()
            messages.feed(answer)
            seqs = []
            while message := messages.next():
                seqs.append((message[0][b"Seq"], message[0][b"Error"]))
            unknown = b"rpc: can't find service Nope.X"
            assert seqs == [(1, b""), (2, b""), (3, b""), (4, unknown)]
            writer.close()

    run(main())


def test_a_broken_body_closes_without_an_answer(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            for body in (1, {"Datacenter": 5}, {"Key": {"a": 1}}, b"text"):
                reader, writer = await cluster.raw(b"\0" + netrpc.request("KVS.Get", 1, body))
                async with asyncio.timeout(10):
                    assert await reader.read() == b""
                writer.close()

    run(main())


def test_a_broken_body_closes_its_stream_only(run: Any) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            reader, writer = await cluster.raw(b"\x04")
            session = Session(True, 0.0)
            bad, good = session.open(), session.open()
            session.send(bad, netrpc.request("KVS.Get", 1, 1))
            session.send(good, netrpc.request("Status.Ping", 2, {}))
            writer.write(session.drain())
            got = []
            async with asyncio.timeout(10):
                while len(got) < 2:
                    got += session.receive(await reader.read(1000), 0.0)
            assert {(stream.id, kind) for stream, kind, _ in got} == {(bad.id, 4), (good.id, DATA)}
            writer.close()

    run(main())


@pytest.mark.parametrize("first", [b"\0", b"\x04"])
def test_hostile_bytes(run: Any, first: bytes) -> None:
    import random

    chance = random.Random(7)
    good = netrpc.request("KVS.Get", 1, {"Datacenter": "dc1", "Key": "a"})

    async def main() -> None:
        async with Cluster() as cluster:
            for _ in range(60):
                _, writer = await cluster.raw(first)
                junk = bytearray(good * 3 if chance.random() < 0.5 else chance.randbytes(200))
                if first == b"\x04" and chance.random() < 0.7:
                    session = Session(True, 0.0)
                    session.send(session.open(), bytes(junk))
                    junk = bytearray(session.drain())
                for _ in range(chance.randrange(4)):
                    junk[chance.randrange(len(junk))] = chance.randrange(256)
                writer.write(junk)
                await asyncio.sleep(0)
                if chance.random() < 0.5:
                    writer.close()
            await cluster.put(b"a", b"1")
            assert (await cluster.get(b"a")).value.value == b"1"

    run(main())


def test_what_a_server_must_not_answer(run: Any) -> None:
    """Answers to other calls, of the wrong shape, or on streams of its own end the call, nothing else."""

    async def main() -> None:
        answers = [
            netrpc.response("Status.Ping", 999, {}),
            msgpack.encode(5) + msgpack.encode({}),
            b"\xc1",
            netrpc.response("Status.Ping", 4, {})[:-1],
        ]
        asked = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            session = Session(False, 0.0)
            while data := await reader.read(4096):
                for stream, kind, _ in session.receive(data, 0.0):
                    if kind == DATA and answers:
                        session.send(session.open(), b"hello")
                        session.send(stream, answers.pop(0))
                        asked.set()
                writer.write(session.drain())
            writer.close()

        server = await asyncio.start_server(serve, HOST, 0)
        loop = asyncio.get_running_loop()
        facts = ServerFacts("id", "s1", "dc1", HOST, server.sockets[0].getsockname()[1], ALIVE)
        pool = Pool(loop, Dialer(loop, None), PoolSettings(call_timeout=0.3))
        for _ in range(4):
            with pytest.raises(Lost):
                await pool.ping(facts)
        assert len(pool._lines) == 1
        pool.close()
        server.close()

    run(main())
