"""Prepared queries for names: NAME.query.consul is executed each time that it is asked for, since what it
finds depends on who asks, on chance, and on other datacenters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from core.api import query_execute
from core.api.query_execute import Executed, ExecuteRequest
from core.errors import Denied, NotFound, Unavailable
from core.node.prepared import Found, Source
from core.node.wan import NO_PATH

if TYPE_CHECKING:
    from agent.calls import Calls

# (name or id, datacenter or "", the client's address) -> what it finds, None when there is no such query.
# Raises CtlError.
Execute = Callable[[str, str, str], Awaitable[Found | None]]


async def no_queries(name: str, datacenter: str, client: str) -> Found | None:
    """Where there is nobody to execute queries."""
    return None


class DnsQueries:
    """Executes queries for the agent's DNS server, near to the agent unless the query says otherwise."""

    def __init__(
        self,
        calls: Calls,
        agent: Source,
        token: Callable[[], str],
        allow_stale: bool,
        max_stale: int,
    ) -> None:
        """`token` is the one that names are looked up with; `max_stale` in ns (dns_config.max_stale)."""
        self._calls = calls
        self._agent = agent
        self._token = token
        self._allow_stale, self._max_stale = allow_stale, max_stale

    async def execute(self, name: str, datacenter: str, client: str) -> Found | None:
        """See Execute. What may not be read does not exist."""
        args = ExecuteRequest(
            name,
            source=Source(ip=client),
            agent=self._agent,
            token=self._token(),
            allow_stale=self._allow_stale,
            max_stale=self._max_stale,
        )
        try:
            executed: Executed = await self._calls.run(query_execute.errand(args, datacenter))
        except (NotFound, Denied):
            return None
        except Unavailable as error:
            if NO_PATH in str(error):
                return None
            raise
        return executed.found
