"""The transport by itself, against peers that are not ours: their quirks, their silence, their nonsense."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.dial import Dialer
from agent.raft_transport import RaftTransport, configured
from agent.rpc import RAFT, Peer
from agent.snapshots import MemorySnapshots, SnapshotMeta
from core.errors import Unsent
from core.node.servers import ServerFacts
from core.raft.configuration import Configuration, Server
from core.raft.messages import (
    AppendEntries,
    AppendReply,
    Entry,
    InstallReply,
    InstallSnapshot,
    PreVoteReply,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    Unreachable,
    VoteReply,
    decode_request,
    encode_request,
    encode_response,
)
from core.raft.stream import Requests, Responses
from tests.agent.raft_network import run, until

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "raft" / "rpcs.json").read_text()
)["vectors"]
HEARTBEAT = AppendEntries(3, "127.0.0.1:8300")
TALK = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Service:
    """What the transport sees of a RaftService."""

    def __init__(self) -> None:
        self.node_id, self.address = "me", "127.0.0.1:8300"
        self.leader_id = ""
        self.failure = None
        self.configuration = Configuration((Server("them", "127.0.0.9:8300"),))
        self.snapshot_store = MemorySnapshots()
        self.heard: list[tuple[str, Any]] = []
        self.gone: list[str] = []

    def deliver(self, source: str, message: Any) -> None:
        self.heard.append((source, message))

    def leader_gone(self, leader: str) -> None:
        self.gone.append(leader)

    def wall(self) -> float:
        return 1.0

    def take(self) -> Any:
        _, message = self.heard.pop(0)
        return message


def transport(service: Service, port: int = 1) -> RaftTransport:
    made = RaftTransport(
        Dialer(asyncio.get_running_loop(), None),
        lambda server, address: configured(server, f"127.0.0.1:{port}", ""),
    )
    made.attach(service)  # type: ignore[arg-type]
    return made


@asynccontextmanager
async def other(talk: TALK) -> AsyncIterator[tuple[Service, RaftTransport]]:
    """A transport, and a server that answers as `talk` does."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(1) == bytes([RAFT])
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    service = Service()
    made = transport(service, server.sockets[0].getsockname()[1])
    try:
        yield service, made
    finally:
        made.close()
        server.close()


@asynccontextmanager
async def served() -> AsyncIterator[
    tuple[Service, RaftTransport, asyncio.StreamReader, asyncio.StreamWriter]
]:
    """A transport, and a connection into it."""
    service = Service()
    made = transport(service)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: made.protocol(Peer("127.0.0.1", 1)), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield service, made, reader, writer
    finally:
        writer.close()
        made.close()
        server.close()


async def response(reader: asyncio.StreamReader) -> tuple[str, dict[bytes, Any]]:
    responses = Responses()
    while (found := responses.next()) is None:
        data = await reader.read(1)
        assert data, "closed"
        responses.feed(data)
    return found


async def one_by_one(reader: asyncio.StreamReader) -> AsyncIterator[Any]:
    requests = Requests()
    while data := await reader.read(1000):
        requests.feed(data)
        while (request := requests.next()) is not None:
            yield request


# Going out


def test_responses_find_their_requests_in_order() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for request in one_by_one(reader):
            assert request.sender == "me"
            writer.write(encode_response(AppendReply(3, request.prev_index, True)))

    async def test() -> None:
        async with other(talk) as (service, made):
            sent = [
                AppendEntries(3, "x", n, 2, [Entry(n + 1, 3, 0, b"d")], sequence=n) for n in range(1, 200)
            ]
            for request in sent:
                made.send("them", "", request)
            await until(lambda: len(service.heard) == 199)
            assert [reply.request for _, reply in service.heard] == sent
            assert [reply.last_log for _, reply in service.heard] == list(range(1, 200))

    run(test)


def test_heartbeats_do_not_wait_for_entries_or_votes() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for request in one_by_one(reader):
            if isinstance(request, AppendEntries) and request.is_heartbeat:
                writer.write(encode_response(AppendReply(3, 0, True)))

    async def test() -> None:
        async with other(talk) as (service, made):
            made.send("them", "", AppendEntries(3, "x", 1, 1, [Entry(2, 3)], sequence=1))
            made.send("them", "", RequestVote(3, "x", 1, 1))
            for _ in range(5):
                made.send("them", "", HEARTBEAT)
            await until(lambda: len(service.heard) == 5)
            assert all(reply.request is HEARTBEAT for _, reply in service.heard)

    run(test)


@pytest.mark.parametrize("how", ["hangs up", "says so"])
def test_a_peer_that_knows_no_pre_vote_counts_as_granting(how: str) -> None:
    """The vote follows in the same turn, and must reach it: else no election is ever won. Nor does a vote
    that it answered on the same connection mean that it knows the next pre-vote."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for request in one_by_one(reader):
            if isinstance(request, RequestPreVote) and how == "hangs up":
                return
            error = "unexpected command" if isinstance(request, RequestPreVote) else ""
            writer.write(encode_response(VoteReply(3, True), error))

    async def test() -> None:
        async with other(talk) as (service, made):
            for _ in range(3):
                made.send("them", "", RequestPreVote(4, "x", 1, 1))
                await until(lambda: service.heard)
                reply = service.take()
                assert isinstance(reply, PreVoteReply) and reply.granted and reply.term == 3
                made.send("them", "", RequestVote(4, "x", 1, 1))
                await until(lambda: service.heard)
                vote = service.take()
                assert isinstance(vote, VoteReply) and vote.granted

    run(test)


@pytest.mark.parametrize(
    ("leader", "granted"), [("127.0.0.1:8300", True), ("127.0.0.2:8300", False), ("", True), (None, True)]
)
def test_a_peer_without_pre_vote_refuses_while_it_follows_a_leader(leader: str | None, granted: bool) -> None:
    """As Consul 1.9.8 refuses the vote itself; None: it does not say whom it follows."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in one_by_one(reader):
            return

    async def leader_of(server: ServerFacts) -> str:
        assert (server.id, server.address) == ("them", "127.0.0.1")
        if leader is None:
            raise Unsent("it cannot be asked")
        return leader

    async def test() -> None:
        async with other(talk) as (service, made):
            made.leader_of = leader_of
            made.send("them", "", RequestPreVote(4, service.address, 1, 1))
            await until(lambda: service.heard)
            reply = service.take()
            assert isinstance(reply, PreVoteReply) and reply.granted is granted

    run(test)


def test_a_peer_that_knows_pre_vote_and_dies_grants_nothing() -> None:
    answers = [True]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in one_by_one(reader):
            if not answers.pop():
                return
            answers.append(False)
            writer.write(encode_response(PreVoteReply(3, True)))

    async def test() -> None:
        async with other(talk) as (service, made):
            for wanted in (PreVoteReply, Unreachable):
                made.send("them", "", RequestPreVote(4, "x", 1, 1))
                await until(lambda: service.heard)
                assert isinstance(service.take(), wanted)

    run(test)


def test_what_cannot_be_delivered_is_told_and_tried_again_later() -> None:
    async def test() -> None:
        service = Service()
        made = transport(service)  # nobody listens at port 1
        for _ in range(3):
            made.send("them", "", HEARTBEAT)
        await until(lambda: len(service.heard) == 3)
        made.send("them", "", HEARTBEAT)
        await until(lambda: len(service.heard) == 4)
        assert all(isinstance(message, Unreachable) for _, message in service.heard)
        assert "refused" in made.errors()["them"]
        made.close()

    run(test)


@pytest.mark.parametrize(
    "answer", [b"\xa0\x01", b"\xff" * 100, b"\xc1", encode_response(None, "no"), b"\xa0\x81\xa4Term\xa1x"]
)
def test_nonsense_and_errors_are_as_good_as_no_answer(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        await reader.read()

    async def test() -> None:
        async with other(talk) as (service, made):
            made.send("them", "", HEARTBEAT)
            await until(lambda: service.heard)
            assert isinstance(service.take(), Unreachable)

    run(test)


def stored(service: Service, state: bytes) -> SnapshotMeta:
    writer = service.snapshot_store.create(SnapshotMeta("2-9-1", 9, 2, Configuration(), 1))
    writer.write(state)
    return writer.finish()


def snapshot_request(meta: SnapshotMeta) -> InstallSnapshot:
    return InstallSnapshot(3, "x", meta.index, meta.term, Configuration().encode(), 1, handle=meta)


def test_a_snapshot_goes_out_raw_behind_its_header() -> None:
    state = Random(1).randbytes(3_000_000)
    received = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = Requests()
        request = None
        while request is None:
            requests.feed(await reader.read(100))
            request = requests.next()
        assert isinstance(request, InstallSnapshot) and request.size == len(state)
        received.extend(requests.raw(1 << 30))
        while len(received) < request.size:
            received.extend(await reader.read(1 << 16))
        writer.write(encode_response(InstallReply(3, True)))

    async def test() -> None:
        async with other(talk) as (service, made):
            request = snapshot_request(stored(service, state))
            made.send("them", "", request)
            made.send("them", "", snapshot_request(request.handle))  # one at a time
            await until(lambda: len(service.heard) == 2)
            assert isinstance(service.take(), Unreachable)
            reply = service.take()
            assert isinstance(reply, InstallReply) and reply.success and reply.request is request
            assert bytes(received) == state

    run(test)


def test_a_snapshot_that_is_not_taken_is_told() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)

    async def test() -> None:
        async with other(talk) as (service, made):
            made.send("them", "", snapshot_request(stored(service, bytes(3_000_000))))
            await until(lambda: service.heard)
            assert isinstance(service.take(), Unreachable)
            made.send("them", "", snapshot_request(SnapshotMeta("gone", 1, 1, Configuration(), 1)))
            await until(lambda: service.heard)
            assert isinstance(service.take(), Unreachable)

    run(test)


# Coming in


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["rpc"])
def test_recorded_requests_come_in(vector: dict[str, Any]) -> None:
    """However the bytes are cut; the source is known by its address where no id is said."""
    raw = bytes.fromhex(vector["request_hex"])
    request = decode_request(raw[0], raw[1:])
    state = bytes(getattr(request, "size", 0))

    async def test() -> None:
        async with served() as (service, made, reader, writer):
            address = getattr(request, "leader", "") or getattr(request, "candidate", "")
            service.configuration = Configuration((Server("consul", address),))
            for piece in (raw[:1], raw[1:9], raw[9:] + state):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if vector["response_error"]:
                assert (await response(reader))[0] == vector["response_error"]
                return
            await until(lambda: service.heard)
            source, seen = service.heard[0]
            assert source == ("" if isinstance(request, TimeoutNow) else "consul")
            if isinstance(seen, InstallSnapshot):
                meta = seen.handle.finish()
                assert service.snapshot_store.load(meta) == state
                seen.handle = None
            assert seen == request
            if vector["response_hex"]:
                recorded = bytes.fromhex(vector["response_hex"])
                made.answer(seen, _decoded(raw[0], recorded))
                error, fields = await response(reader)
                assert not error and fields[b"Term"] == vector["response"]["Term"]

    run(test)


def _decoded(kind: int, raw: bytes) -> Any:
    from core.raft.messages import decode_response

    responses = Responses()
    responses.feed(raw)
    found = responses.next()
    assert found is not None
    return decode_response(kind, found[1])


def test_answers_leave_in_the_order_of_the_questions() -> None:
    async def test() -> None:
        async with served() as (service, made, reader, writer):
            for number in range(1, 6):
                writer.write(encode_request(AppendEntries(number, "127.0.0.9:8300", 1, 1, [])))
            await until(lambda: len(service.heard) == 5)
            for source, request in reversed(service.heard):
                assert source == "them"
                made.answer(request, AppendReply(request.term, 0, True))
            assert [(await response(reader))[1][b"Term"] for _ in range(5)] == [1, 2, 3, 4, 5]

    run(test)


def test_other_protocol_versions_are_refused_but_in_heartbeats() -> None:
    async def test() -> None:
        async with served() as (service, made, reader, writer):
            writer.write(encode_request(RequestVote(3, "x", 1, 1, version=9)))
            error, fields = await response(reader)
            assert error == "operation not supported with current protocol version" and not fields
            writer.write(encode_request(AppendEntries(3, "x", version=9)))
            await until(lambda: service.heard)
            made.answer(service.heard[0][1], AppendReply(3, 0, True))
            assert (await response(reader))[0] == ""

    run(test)


def test_nonsense_is_hung_up_on_and_nothing_else_happens() -> None:
    chance = Random(5)

    async def test() -> None:
        for attempt in range(60):
            async with served() as (service, made, reader, writer):
                raw = bytearray(encode_request(AppendEntries(3, "x", 1, 1, [Entry(2, 2, 0, b"data")])))
                if attempt % 2:
                    raw[chance.randrange(len(raw))] = chance.randrange(256)
                else:
                    raw = bytearray(chance.randbytes(chance.randrange(1, 300)))
                writer.write(bytes(raw))
                writer.write_eof()
                assert await reader.read() == b"" or service.heard is not None
                for _, request in service.heard:
                    made.answer(request, AppendReply(3, 0, True))

    run(test)


def test_a_snapshot_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        from agent.snapshots import DiskSnapshots

        async with served() as (service, _, _, writer):
            service.snapshot_store = DiskSnapshots(tmp_path / "snapshots")  # type: ignore[assignment]
            request = snapshot_request(SnapshotMeta("2-9-1", 9, 2, Configuration(), 1))
            request.size = 5_000_000
            writer.write(encode_request(request) + bytes(2_000_000))
            await writer.drain()
            await until(
                lambda: (tmp_path / "snapshots").exists() and list((tmp_path / "snapshots").iterdir())
            )
            writer.transport.abort()
            await until(lambda: not list((tmp_path / "snapshots").iterdir()))
            assert not service.heard

    run(test)


def test_a_lost_leader_is_only_gone_when_its_port_refuses() -> None:
    async def test() -> None:
        listening = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        for lives in (True, False):
            async with served() as (service, made, _, writer):
                made._address_of = lambda server, address: configured(server, f"127.0.0.1:{port}", "")
                if not lives:
                    listening.close()
                service.leader_id = "them"
                writer.write(encode_request(AppendEntries(3, "127.0.0.9:8300")))
                await until(lambda: service.heard)
                writer.transport.abort()
                if lives:
                    await asyncio.sleep(0.5)
                else:
                    await until(lambda: service.gone, 1)
                assert service.gone == ([] if lives else ["them"])

    run(test)


def test_forgotten_requests_break_only_their_connections() -> None:
    async def test() -> None:
        async with served() as (service, made, reader, writer):
            writer.write(encode_request(AppendEntries(3, "127.0.0.9:8300", 1, 1, [])))
            await until(lambda: service.heard)
            made.forget()
            with pytest.raises(ConnectionError):
                assert not await reader.read(1), "an answer?"
                raise ConnectionResetError
            made.answer(service.heard[0][1], AppendReply(3, 0, True))  # too late, and no harm

    run(test)


def test_the_leaders_header_is_skipped_by_older_peers() -> None:
    raw = encode_request(HEARTBEAT, {"Addr": b"127.0.0.1:8300", "ID": b"me"})
    assert decode_request(raw[0], raw[1:]).sender == "me"
    assert struct.unpack_from("B", raw, 1)[0] == 0x80 | 9
