"""The agent's DNS server: where its names come from, and who says which of them may be seen."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from agent import settings
from agent.dns import DnsServer
from agent.dns_catalog import Absent, CachedCatalog
from agent.dns_queries import DnsQueries
from core.api import acl_tokens
from core.api.endpoint import QueryOptions, Question
from core.api.remote_kinds import unrendered
from core.errors import CtlError
from core.node.prepared import Source

if TYPE_CHECKING:
    from agent.agent import Agent
    from core.acl.access import Authorizer
    from core.api.endpoint import Permissions
    from core.dns.answer import Catalog


async def _learn(permissions: Permissions, token: str) -> None:
    """Have a judge at hand the next time; what stands against it is said then."""
    with contextlib.suppress(CtlError):
        await permissions.find(token)


class _Judges:
    """The judge of a token that nobody here knows yet: the question waits until the primary datacenter has
    said who it is, as an HTTP request does."""

    def __init__(self, permissions: Permissions, token: str, datacenter: str) -> None:
        self._permissions, self._token = permissions, token
        options = QueryOptions(datacenter=datacenter)
        self.question = Question(acl_tokens.READ, None, options, unrendered)

    async def fetch(self, question: Question) -> None:
        await self._permissions.find(self._token)


def dns_server(agent: Agent) -> DnsServer:
    """A server looks into its own state, unless names must not be stale, and asks itself what the token of
    DNS may see of it; others ask the servers, who know that."""
    config = agent.config
    allow_stale, max_stale = config["dns_config.allow_stale"], config["dns_config.max_stale"]
    looks = agent.raft is not None and allow_stale

    def token() -> str:
        return agent.tokens.for_dns

    def judge() -> Authorizer | None:
        permissions = agent.calls.permissions
        if not looks or permissions is None:
            return None
        found = permissions.known(token())
        if found is None:
            found = permissions.latest(token())
            if found is not None:  # the primary datacenter is asked again, and nobody waits for it
                agent.cluster.spawn(_learn(permissions, token()))
        if found is None:
            judges = _Judges(permissions, token(), config["primary_datacenter"])
            raise Absent(judges.question, judges)
        return found

    store: Catalog = agent.store
    if not looks:
        store = CachedCatalog(agent.calls.cache, allow_stale, max_stale, token)

    def elsewhere(datacenter: str) -> CachedCatalog:
        return CachedCatalog(agent.calls.cache, allow_stale, max_stale, token, datacenter)

    here = Source(config["datacenter"], node=config["node_name"])
    queries = DnsQueries(agent.calls, here, token, allow_stale, max_stale)
    return DnsServer(
        store, settings.dns(config), agent.world, agent.metrics, queries.execute, judge, elsewhere
    )
