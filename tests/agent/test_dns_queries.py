"""Prepared queries over real DNS sockets: executed anew each time, by whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.edns
import dns.rcode
import uvloop

from agent.dns import DnsServer
from agent.dns_queries import DnsQueries
from core.api.endpoint import Errand
from core.api.query_execute import Executed
from core.dns.settings import DnsSettings
from core.errors import CtlError, Denied, NotFound, Unavailable
from core.metrics import Metrics
from core.node.prepared import Found, Source
from core.store.structs import QueryDNSOptions
from tests.agent.test_dns_server import HOST, Running
from tests.core.dns.maker import Maker


class Calls:
    """Answers errands with what `found` says of the name."""

    def __init__(self, found: Callable[[str], Executed | CtlError]) -> None:
        self.errands: list[Errand] = []
        self._found = found

    async def run(self, errand: Errand) -> Executed:
        self.errands.append(errand)
        await asyncio.sleep(0)
        found = self._found(errand.args.name)
        if isinstance(found, CtlError):
            raise found
        return found


@asynccontextmanager
async def running(found: Callable[[Maker, str], Executed | CtlError]) -> AsyncIterator[tuple[Running, Calls]]:
    from tests.agent.test_dns_server import PretendWorld

    maker, world = Maker(), PretendWorld()
    maker.many("web", 5)
    calls = Calls(lambda name: found(maker, name))
    queries = DnsQueries(calls, Source("dc1", node="me"), lambda: "token", True, 5)  # type: ignore[arg-type]
    server = DnsServer(maker.store, DnsSettings(), world, Metrics(0.0), queries.execute)
    await server.start([(HOST, 0)])
    try:
        yield Running(maker, server, world), calls
    finally:
        await server.stop()


def web(maker: Maker, name: str) -> Executed | CtlError:
    errors = {
        "none": NotFound("rpc error making call: Query not found"),
        "denied": Denied("ACL not found"),
        "nowhere": Unavailable("rpc error making call: No path to datacenter"),
        "broken": Unavailable("No cluster leader"),
    }
    if name in errors:
        return errors[name]
    return Executed(Found("web", maker.store.check_service_nodes("web")[1], QueryDNSOptions("9s"), "dc1"))


def test_each_question_is_executed() -> None:
    async def main() -> None:
        async with running(web) as (at, calls):
            for tcp in (False, True):
                message = await at.ask("Q.query.consul", "A", tcp=tcp)
                assert [rrset.ttl for rrset in message.answer] == [9] * (5 if tcp else 3)
                assert message.answer[0].name.to_text() == "Q.query.consul."
            assert len(calls.errands) == 2
            at.maker.node("node1", "10.99.0.1")
            assert "10.99.0.1" in await at.data("q.query.consul", tcp=True)
            args = calls.errands[0].args
            assert (args.name, args.agent, args.token) == ("q", Source("dc1", node="me"), "token")
            assert (args.allow_stale, args.max_stale) == (True, 5)
            assert args.source == Source(ip=HOST)
            await at.ask("q.query.dc7.consul")
            assert calls.errands[-1].datacenter == "dc7"
            ecs = dns.edns.ECSOption("192.0.2.7", 32)
            await at.ask("q.query.consul", use_edns=0, payload=1232, options=[ecs])
            assert calls.errands[-1].args.source.ip == "192.0.2.7"

    uvloop.run(main())


def test_what_is_not_there_and_what_cannot_be_asked() -> None:
    async def main() -> None:
        async with running(web) as (at, _):
            for name in ("none", "denied", "nowhere"):
                for tcp in (False, True):
                    message = await at.ask(f"{name}.query.consul", tcp=tcp)
                    assert message.rcode() == dns.rcode.NXDOMAIN, name
                    assert len(message.authority) == 1
            assert (await at.ask("broken.query.consul")).rcode() == dns.rcode.SERVFAIL

    uvloop.run(main())


def test_a_service_that_is_a_query() -> None:
    async def main() -> None:
        async with running(web) as (at, calls):
            at.maker.node("ext", "q.query.consul")
            at.maker.add("ext", "mail")
            message = await at.ask("mail.service.consul", tcp=True)
            names = {rrset.name.to_text() for rrset in message.answer}
            assert names == {"mail.service.consul.", "q.query.consul."}
            assert len(calls.errands) == 1

    uvloop.run(main())
