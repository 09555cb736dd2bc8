"""A real `serf` agent is a member of our gossip, in the clear and encrypted: joins, lists, tags, events,
queries, keys, leaves and failures, in both directions."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from core.gossip.member import QueryEvent
from core.gossip.settings import LAN
from tests.agent.gossip_pools import Listener, make, running, until
from tests.agent.serf_agent import DEADLINE, SerfAgent

KEYS = [base64.b64encode(bytes([number]) * size).decode() for number, size in ((1, 32), (2, 16), (3, 24))]
# A word of gossip is told four times in so small a cluster: now and then somebody is not reached and hears of
# it by push/pull only, which therefore comes soon here.
TIMING = replace(
    LAN, push_pull_interval=2.0, leave_propagate_delay=1.0, dead_node_reclaim=0.0, reconnect_interval=5.0
)

Tool = Callable[[str], str]


@asynccontextmanager
async def cluster(
    tool: Tool,
    folder: Path,
    ours: list[str],
    theirs: list[str],
    key: str = "",
    push_pull: float = TIMING.push_pull_interval,
) -> AsyncIterator[tuple[list[Listener], list[SerfAgent]]]:
    """Started, each for itself."""
    timing = replace(TIMING, push_pull_interval=push_pull)
    listeners = [
        make(name, timing=timing, encrypt=key, data_dir=folder / name, tags={"role": "node", "by": "ctl"})
        for name in ours
    ]
    options = ["-tag", "role=node", "-tag", "by=serf"]
    agents = []
    for name in theirs:
        extra = []
        if key:
            (folder / f"{name}.keyring").write_text(json.dumps([key]))
            extra = [f"-keyring-file={folder / name}.keyring"]
        agents.append(SerfAgent(tool("serf"), folder, name, *options, *extra))
    try:
        await asyncio.gather(*(agent.start() for agent in agents))
        async with running(*listeners, joined=False):
            yield listeners, agents
    finally:
        await asyncio.gather(*(agent.end() for agent in agents))


async def agreed(
    listeners: list[Listener], agents: list[SerfAgent], expected: dict[str, str], deadline: float = DEADLINE
) -> None:
    """Until every list is `expected`: status by name."""

    async def holds() -> bool:
        return all([await agent.statuses() == expected for agent in agents])

    def text() -> str:
        return f"{expected}; ours: {[one.statuses() for one in listeners]}"

    await until(text(), lambda: all(one.statuses() == expected for one in listeners), deadline)
    await eventually(text(), holds, deadline)


async def eventually(what: str, holds: Callable[[], Awaitable[bool]], deadline: float = DEADLINE) -> None:
    end = asyncio.get_running_loop().time() + deadline
    while not await holds():
        assert asyncio.get_running_loop().time() < end, f"not within {deadline:g} s: {what}"
        await asyncio.sleep(0.05)


def alive(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "alive")


@pytest.mark.parametrize("key", ["", KEYS[0]], ids=["plain", "encrypted"])
def test_members_of_one_cluster(tool: Tool, tmp_path: Path, key: str) -> None:
    """One cluster, from the first join to the last leave."""

    async def scene() -> None:
        async with cluster(tool, tmp_path, ["a", "b", "c"], ["s", "t"], key) as (ours, theirs):
            (a, b, c), (s, t) = ours, theirs
            # we join it, it joins us
            assert await a.pool.join([s.place]) == (1, [])
            assert "Successfully joined" in await t.ok("join", a.place)
            assert (await b.pool.join([t.place]))[0] == (await c.pool.join([s.place]))[0] == 1
            await agreed(ours, theirs, alive("a", "b", "c", "s", "t"))
            await tags(a, s, b, t)
            await events(ours, theirs)
            await queries(a, s)
            await gone_in_peace(ours, theirs)

    asyncio.run(scene())


async def tags(a: Listener, s: SerfAgent, b: Listener, t: SerfAgent) -> None:
    def seen(listener: Listener, name: str) -> dict[str, str]:
        return next(member.tags for member in listener.pool.members() if member.name == name)

    assert (await s.members())["b"][1] == {"role": "node", "by": "ctl"}
    assert seen(b, "s") == {"role": "node", "by": "serf"}
    await a.pool.set_tags({"role": "node", "version": "2"})
    await s.ok("tags", "-set", "version=3", "-delete", "by")
    await until("its tags are here", lambda: seen(b, "s") == {"role": "node", "version": "3"})

    async def ours_are_there() -> bool:
        return (await t.members())["a"][1] == {"role": "node", "version": "2"}

    await eventually("our tags are there", ours_are_there)


async def events(ours: list[Listener], theirs: list[SerfAgent]) -> None:
    await ours[0].pool.user_event("deploy", b"from ctl")
    await theirs[0].ok("event", "-coalesce=false", "restart", "from serf")
    expected = {("deploy", b"from ctl"), ("restart", b"from serf")}
    await until("we heard both", lambda: all(set(one.user_events()) == expected for one in ours))
    lines = {"user deploy from ctl", "user restart from serf"}
    await until("they heard both", lambda: all(lines <= set(agent.handled()) for agent in theirs))
    assert all(len(one.user_events()) == 2 for one in ours)


async def queries(a: Listener, s: SerfAgent) -> None:
    async def ours_are_answered() -> bool:
        found = [
            (one.source, one.payload) async for one in a.pool.query("load", b"abc", ack=True, timeout=1.0)
        ]
        assert len(set(found)) == len(found)
        return {("s", b"ABC"), ("t", b"ABC"), *((name, None) for name in "abcst")} <= set(found)

    async def theirs_are_answered() -> bool:
        asking = asyncio.ensure_future(s.ok("query", "-timeout=1s", "-node=a", "uptime", "xyz"))
        a.events.clear()
        with contextlib.suppress(AssertionError):
            await until("we were asked", lambda: any(isinstance(one, QueryEvent) for one in a.events), 1.0)
        for query in a.events:
            assert isinstance(query, QueryEvent)
            assert (query.name, query.payload, query.source) == ("uptime", b"xyz", "s")
            await a.pool.respond(query, b"7 days")
        output = await asking
        return "Ack from 'a'" in output and "Response from 'a': 7 days" in output

    async def by_tag_and_through_others() -> bool:
        asking = a.pool.query("load", b"up", tags={"role": "^no", "by": "^$"}, relay_factor=2, timeout=1.0)
        return [(one.source, one.payload) async for one in asking] == [("s", b"UP")]

    # Nothing makes up for a query that did not reach everybody, so it is asked again.
    for answered in (ours_are_answered, theirs_are_answered, by_tag_and_through_others):
        await eventually(answered.__name__, answered)


async def gone_in_peace(ours: list[Listener], theirs: list[SerfAgent]) -> None:
    (a, b, c), (s, t) = ours, theirs
    told, _ = await asyncio.gather(b.pool.leave(), t.ok("leave"))
    assert told
    await b.pool.stop()
    await agreed([a, c], [s], alive("a", "c", "s") | {"b": "left", "t": "left"})


def test_members_that_are_killed(tool: Tool, tmp_path: Path) -> None:
    """Ours and theirs, in the clear and encrypted: a cluster for each, so that none waits for another.

    Three members each: then suspicion is exactly SuspicionMult x ProbeInterval (protocols/gossip.md 4.5)."""

    async def scene(key: str, ours: bool, folder: Path) -> None:
        folder.mkdir()
        names = (["a", "x"], ["s"]) if ours else (["a"], ["s", "x"])
        # Without push/pull in between: after it Serf's own members ignore a prune that follows a leave.
        async with cluster(tool, folder, *names, key, push_pull=0.0) as (listeners, agents):
            a, s = listeners[0], agents[0]
            await join_all(listeners, agents)
            if ours:
                await listeners[1].pool.stop()
            else:
                agents[1].kill()
            began = asyncio.get_running_loop().time()
            await agreed([a], [s], {"a": "alive", "s": "alive", "x": "failed"})
            assert asyncio.get_running_loop().time() - began >= 4.0
            if ours:
                await s.ok("force-leave", "x")
            else:
                await a.pool.force_leave("x", prune=False)
            await agreed([a], [s], {"a": "alive", "s": "alive", "x": "left"})
            if ours:
                await s.ok("force-leave", "-prune", "x")
            else:
                await a.pool.force_leave("x", prune=True)
            await agreed([a], [s], alive("a", "s"))

    async def scenes() -> None:
        every = [(key, ours) for key in ("", KEYS[0]) for ours in (True, False)]
        await asyncio.gather(
            *(scene(key, ours, tmp_path / str(number)) for number, (key, ours) in enumerate(every))
        )

    asyncio.run(scenes())


async def join_all(listeners: list[Listener], agents: list[SerfAgent]) -> None:
    """We join the first of theirs, the rest of theirs joins us."""
    for listener in listeners:
        assert await listener.pool.join([agents[0].place]) == (1, [])
    for agent in agents[1:]:
        await agent.ok("join", listeners[0].place)
    names = [listener.pool.settings.name for listener in listeners] + [agent.name for agent in agents]
    await agreed(listeners, agents, alive(*names))


def test_keys_are_changed_from_either_side(tool: Tool, tmp_path: Path) -> None:
    """install, use, remove by `serf keys`, then by us; all the time everyone hears everyone."""

    def kept(path: Path) -> list[str]:
        found = json.loads(path.read_text())
        assert isinstance(found, list)
        return found

    async def scene() -> None:
        async with cluster(tool, tmp_path, ["a", "b"], ["s"], KEYS[0]) as (ours, theirs):
            (a, b), (s,) = ours, theirs
            assert (await a.pool.join([s.place]))[0] == (await b.pool.join([a.place]))[0] == 1
            await agreed(ours, theirs, alive("a", "b", "s"))

            await s.ok("keys", f"-install={KEYS[1]}")
            listed = await a.pool.keyring("list")
            assert (listed.keys, listed.primary_keys) == ({KEYS[0]: 3, KEYS[1]: 3}, {KEYS[0]: 3})
            assert (listed.nodes, listed.error) == (3, "")
            await s.ok("keys", f"-use={KEYS[1]}")
            await s.ok("keys", f"-remove={KEYS[0]}")
            assert KEYS[0] not in await s.ok("keys", "-list")
            ring = tmp_path / "a" / "serf" / "local.keyring"
            await until("our file has them", lambda: kept(ring) == [KEYS[1]])

            assert (await b.pool.keyring("install", KEYS[2])).error == ""
            assert (await b.pool.keyring("use", KEYS[2], relay_factor=1)).error == ""
            answer = await a.pool.keyring("remove", KEYS[2])
            assert answer.error == "3/3 nodes reported failure" and set(answer.messages) == {"a", "b", "s"}
            assert all("emoving the primary key is not allowed" in text for text in answer.messages.values())
            assert (await a.pool.keyring("remove", KEYS[1])).error == ""
            await until("their file has them", lambda: kept(tmp_path / "s.keyring") == [KEYS[2]])
            await a.pool.user_event("still", b"here")
            await until("it is heard", lambda: "user still here" in s.handled())
            await agreed(ours, theirs, alive("a", "b", "s"))
            code, output = await s.run("keys", f"-remove={KEYS[2]}")
            assert code == 1 and "3/3 nodes reported failure" in output, output

    asyncio.run(scene())


def test_strangers_keep_out(tool: Tool, tmp_path: Path) -> None:
    """Who has no key, or another one, joins nobody, and both sides say why."""

    async def scene() -> None:
        async with cluster(tool, tmp_path, ["a"], ["s"], KEYS[0]) as ((a,), (s,)):
            plain = make("plain", timing=TIMING)
            other = make("other", timing=TIMING, encrypt=KEYS[1])
            async with running(plain, other, joined=False):
                reasons = {
                    plain: "Remote state is encrypted and encryption is not configured",
                    other: "no installed keys could decrypt the message",
                }
                for stranger, reason in reasons.items():
                    for place in (s.place, a.place):
                        joined, errors = await stranger.pool.join([place])
                        expected = f"Failed to join {place.partition(':')[0]}: {reason}"
                        assert (joined, [text.lower() for text in errors]) == (0, [expected.lower()])
                code, output = await s.run("join", plain.place)
                assert code == 1, output
                assert (await a.pool.join([s.place]))[0] == 1
                await agreed([a], [s], alive("a", "s"))

    asyncio.run(scene())


def test_a_restart_finds_the_cluster_again(tool: Tool, tmp_path: Path) -> None:
    """Each by its own snapshot file: ours after a kill, with Serf's agent as the only one to find."""

    async def scene() -> None:
        async with cluster(tool, tmp_path, ["a"], ["s"]) as ((a,), (s,)):
            assert (await a.pool.join([s.place]))[0] == 1
            await agreed([a], [s], alive("a", "s"))
            await a.pool.stop()
            again = make("a", timing=TIMING, data_dir=tmp_path / "a", bind=a.pool.settings.bind)
            async with running(again):
                await agreed([again], [s], alive("a", "s"))

    asyncio.run(scene())
