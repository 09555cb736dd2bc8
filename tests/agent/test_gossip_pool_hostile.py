"""What strangers may send to a gossip pool: nothing of it ends the pool, costs much, or lets them in."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import gossip_streams, gossip_thread
from agent.gossip_log import LINES_PER_SECOND, GossipLog
from agent.logs import ERROR, get_logger, hub
from tests.agent.gossip_pools import Listener, make, running, until

KEYS = [base64.b64encode(bytes([number]) * size).decode() for number, size in ((1, 32), (2, 16))]
VECTORS = Path(__file__).parents[1] / "vectors" / "gossip"


@pytest.fixture(autouse=True)
def defects(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was logged as a defect of our own: nothing, unless a test says so."""
    found: list[str] = []
    emit = hub.emit

    def note(level: int, name: str, message: str, fields: dict[str, object]) -> None:
        if level >= ERROR:
            found.append(f"{message}: {fields}")
        emit(level, name, message, fields)

    monkeypatch.setattr(hub, "emit", note)
    yield found
    assert found == []


def frames(transport: str) -> list[bytes]:
    """Recorded packets or streams of real agents."""
    found = []
    for path in sorted(VECTORS.glob("*.json")):
        vector = json.loads(path.read_text())
        if isinstance(vector, dict) and vector.get("transport") == transport and "hex" in vector:
            found.append(bytes.fromhex(vector["hex"]))
    assert len(found) > 10
    return found


def spoiled(frame: bytes, chance: random.Random) -> bytes:
    """A frame with something wrong in it."""
    broken = bytearray(frame)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(broken))
        kind = chance.randrange(4)
        if kind == 0:
            broken[at] = chance.randrange(256)
        elif kind == 1:
            broken[at:at] = chance.randbytes(chance.randint(1, 8))
        elif kind == 2 and len(broken) > 4:
            del broken[at : at + chance.randint(1, 8)]
        else:
            broken[at] = chance.choice((0x00, 0xC0, 0xDF, 0xDD, 0xDB, 0xFF))
    return bytes(broken) or b"\0"


async def talk(listener: Listener, data: bytes) -> bytes:
    """One stream: everything sent, the answer until its end."""
    ip, port = listener.pool.endpoint
    reader, writer = await asyncio.open_connection(ip, port)
    with contextlib.suppress(OSError):
        writer.write(data)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 10)
    return b""


async def still_at_work(a: Listener, b: Listener) -> None:
    """Both hear each other, and nobody was suspected meanwhile."""
    count = len(b.user_events())
    await a.pool.user_event("still", os.urandom(4))
    await until("an event passes", lambda: len(b.user_events()) > count)
    assert {"a", "b"} <= a.alive() and {"a", "b"} <= b.alive()


@pytest.mark.parametrize("key", ["", KEYS[0]], ids=["plain", "encrypted"])
def test_packets_of_all_kinds(key: str) -> None:
    """Recorded packets with defects, as they are, and noise: nobody falls over."""
    chance = random.Random(7)
    known = frames("udp")

    async def scene() -> None:
        a, b = make("a", encrypt=key), make("b", encrypt=key)
        async with running(a, b):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(a.pool.endpoint)
                for number in range(4000):
                    packet = chance.choice(known)
                    if number % 3:
                        packet = spoiled(packet, chance)
                    elif number % 5 == 0:
                        packet = chance.randbytes(chance.randrange(1500))
                    with contextlib.suppress(OSError):
                        sock.send(packet)
                    if number % 50 == 0:
                        await asyncio.sleep(0.001)
                for packet in (b"", bytes(65000), b"\x07\xff" + bytes(600), b"\xf4\x00"):
                    sock.send(packet)
            await still_at_work(a, b)

    asyncio.run(scene())


@pytest.mark.parametrize("key", ["", KEYS[0]], ids=["plain", "encrypted"])
def test_streams_of_all_kinds(key: str) -> None:
    chance = random.Random(11)
    known = frames("tcp")

    async def scene() -> None:
        a, b = make("a", encrypt=key), make("b", encrypt=key)
        async with running(a, b):
            for _ in range(20):
                sent = [spoiled(chance.choice(known), chance) for _ in range(19)]
                sent.append(chance.randbytes(chance.randrange(3000)))
                await asyncio.gather(*(talk(a, data) for data in sent))
            huge = struct.pack(">BI", 10, 0xFFFFFFFF)
            for data in (
                b"",
                b"\x06\x83",
                huge,
                b"\x06" + b"\xdf\xff\xff\xff\xff",
                b"\x09" + b"\x82\xa4Algo\x00\xa3Buf",
            ):
                await talk(a, data)
            await still_at_work(a, b)

    asyncio.run(scene())


def test_silent_connections_do_not_keep_others_out() -> None:
    """They are let go after the time-out, and beyond the limit at once."""

    async def scene() -> None:
        a, b = make("a"), make("b")
        async with running(a, b):
            silent = [
                await asyncio.open_connection(*a.pool.endpoint) for _ in range(gossip_streams.MAX_STREAMS)
            ]
            reader, _ = await asyncio.open_connection(*a.pool.endpoint)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 1.5) == b""
            await still_at_work(a, b)
            for reader, _ in silent:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 5) == b""
            assert (await b.pool.join([a.place]))[0] == 1

    asyncio.run(scene())


def test_unfinished_messages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_streams, "MAX_UNREAD", 1 << 20)

    async def scene() -> None:
        a, b = make("a"), make("b")
        async with running(a, b):
            header = b"\x06\x83\xa4Join\xc2\xa5Nodes\x00\xacUserStateLen\xce\x01\x00\x00\x00"
            ends = sorted(await asyncio.gather(*(without_end(a, header) for _ in range(4))))
            assert ends[0] < 1.0 < ends[-1]  # some at once, the others when their time was over
            await still_at_work(a, b)

    async def without_end(listener: Listener, data: bytes) -> float:
        """How long the pool puts up with a message that stays unfinished."""
        began = asyncio.get_running_loop().time()
        reader, writer = await asyncio.open_connection(*listener.pool.endpoint)
        writer.write(data + bytes(600_000))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        return asyncio.get_running_loop().time() - began

    asyncio.run(scene())


def test_push_pulls_at_a_time_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip_streams, "MAX_PUSH_PULLS", 0)

    async def scene() -> None:
        a, b = make("a"), make("b")
        async with running(a, b, joined=False):
            joined, errors = await b.pool.join([a.place])
            assert (joined, len(errors)) == (0, 1) and "EOF" in errors[0]

    asyncio.run(scene())


def test_other_keys_and_none_keep_out() -> None:
    async def scene() -> None:
        a, b = make("a", encrypt=KEYS[0]), make("b", encrypt=KEYS[0])
        other, plain = make("other", encrypt=KEYS[1]), make("plain")
        async with running(a, b), running(other, plain, joined=False):
            assert a.pool.encrypted and not plain.pool.encrypted
            for stranger in (other, plain):
                joined, errors = await stranger.pool.join([a.place])
                assert joined == 0 and len(errors) == 1
                assert (await a.pool.join([stranger.place]))[0] == 0
            assert a.alive() == {"a", "b"}
            await still_at_work(a, b)

    asyncio.run(scene())


def test_rotation_of_keys(tmp_path: Path) -> None:
    """install, use, remove: the files follow, nobody is lost, and a restart has the new key."""

    def kept(name: str) -> list[str]:
        found = json.loads((tmp_path / name / "serf" / "local.keyring").read_text())
        assert isinstance(found, list)
        return found

    async def scene() -> None:
        a, b = (make(name, encrypt=KEYS[0], data_dir=tmp_path / name) for name in "ab")
        async with running(a, b):
            assert kept("a") == kept("b") == [KEYS[0]]
            assert (await a.pool.keyring("install", KEYS[1])).error == ""
            assert (await b.pool.keyring("use", KEYS[1])).error == ""
            await until("the files have it first", lambda: kept("a") == kept("b") == KEYS[::-1])
            assert (await a.pool.keyring("remove", KEYS[0])).error == ""
            answer = await b.pool.keyring("list")
            assert (answer.keys, answer.primary_keys, answer.nodes) == ({KEYS[1]: 2}, {KEYS[1]: 2}, 2)
            answer = await a.pool.keyring("use", KEYS[0])
            assert answer.error == "2/2 nodes reported failure"
            assert set(answer.messages.values()) == {"Requested key is not in the keyring"}
            answer = await a.pool.keyring("install", "abc")
            assert (answer.error, answer.nodes) == ("illegal base64 data at input byte 0", 0)
            await still_at_work(a, b)
            await b.pool.stop()
            again = make("b", encrypt=KEYS[0], data_dir=tmp_path / "b", bind=b.pool.settings.bind)
            async with running(again):
                await until("it is back", lambda: again.alive() == {"a", "b"} == a.alive())

    asyncio.run(scene())


def test_key_operations_without_keys() -> None:
    async def scene() -> None:
        a = make("a")
        async with running(a):
            answer = await a.pool.keyring("list")
            assert (answer.error, answer.messages) == (
                "1/1 nodes reported failure",
                {"a": "Keyring is empty (encryption not enabled)"},
            )

    asyncio.run(scene())


def test_a_defect_costs_one_packet(monkeypatch: pytest.MonkeyPatch, defects: list[str]) -> None:
    """A machine that breaks at every third packet and at ticks: told of, and the rest goes on."""

    async def scene() -> None:
        a, b = make("a"), make("b")
        async with running(a, b):
            serf = a.pool._work.serf
            receive, tick, count = serf.receive, serf.tick, [0]

            def broken(*arguments: object) -> None:
                count[0] += 1
                if count[0] % 3 == 0:
                    raise RuntimeError("a defect")
                receive(*arguments)  # type: ignore[arg-type]

            def late(now: float) -> None:
                count[0] += 1
                if count[0] % 2:
                    raise ValueError("another")
                tick(now)

            monkeypatch.setattr(serf, "receive", broken)
            monkeypatch.setattr(serf, "tick", late)
            await until("defects were told of", lambda: len(defects) > 3)
            before = len(defects)
            await asyncio.sleep(0.3)
            assert len(defects) - before < 0.3 / gossip_thread._AFTER_DEFECT + 20  # no busy loop
            monkeypatch.setattr(serf, "receive", receive)
            monkeypatch.setattr(serf, "tick", tick)
            await until("it goes on", lambda: a.alive() == b.alive() == {"a", "b"})
            await still_at_work(a, b)

    asyncio.run(scene())
    assert any("a defect" in text for text in defects) and any("another" in text for text in defects)
    defects.clear()


def test_a_callback_that_breaks_loses_no_event(defects: list[str]) -> None:
    async def scene() -> None:
        a = make("a")
        seen: list[object] = []

        def broken(event: object) -> None:
            seen.append(event)
            raise RuntimeError("a defect")

        a.pool._on_event = broken
        async with running(a):
            for number in range(3):
                await a.pool.user_event(f"e{number}", b"")
            await until("all came", lambda: len(seen) == 4)

    asyncio.run(scene())
    assert len(defects) == 4
    defects.clear()


def test_strangers_cannot_flood_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(hub, "emit", lambda level, name, message, fields: lines.append(message))
    time = [0.0]
    log = GossipLog(get_logger("test"), lambda: time[0])
    for second in range(3):
        time[0] = float(second)
        for _ in range(1000):
            log.warn("rubbish")
    assert lines.count("rubbish") == 3 * LINES_PER_SECOND
    assert lines.count("more was not logged") == 2
