"""A server for the actions of prepared queries, and a judge who allows what is on a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from core.acl.access import Decision
from core.api.endpoint import Errand
from core.api.query_execute import Executed
from core.errors import CtlError, Denied, NoLeader
from core.store.view import Hooks
from tests.core.store.maker import Bench


class Only:
    """Allows pairs of resource and access, with a name or for all names."""

    accessor = "a-c-c"
    expires = False

    def __init__(self, *allowed: str) -> None:
        """`query:read`, or `query:read geo-` for names that begin so."""
        self._allowed = [rule.partition(" ") for rule in allowed]

    def allows(self, resource: str, name: str, access: str) -> bool:
        return any(
            right == f"{resource}:{access}" and name.startswith(prefix) for right, _, prefix in self._allowed
        )

    def allows_below(self, resource: str, prefix: str, access: str) -> bool:
        return self.allows(resource, prefix, access)

    def allows_any(self, resource: str, access: str) -> bool:
        return any(right == f"{resource}:{access}" for right, _, _ in self._allowed)

    def require(self, resource: str, name: str, access: str) -> None:
        if not self.allows(resource, name, access):
            raise Denied(f"Permission denied: needs {resource}:{access} on {name}")

    def require_below(self, resource: str, prefix: str, access: str) -> None:
        self.require(resource, prefix, access)

    def explain(self, resource: str, name: str, access: str) -> Decision:
        return Decision(self.allows(resource, name, access))


class Judges:
    """The judges of tokens."""

    def __init__(self, judges: Mapping[str, Only]) -> None:
        self._judges = judges

    def token(self, given: str) -> str:
        return given

    def known(self, token: str) -> Only:
        found = self._judges.get(token)
        if found is None:
            raise Denied("ACL not found")
        return found

    async def find(self, token: str) -> Only:
        return self.known(token)


class _Raft:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.is_leader, self.leader_id = True, "s1"
        self.contact = 0
        self.verified = 0

    def contact_age(self) -> int:
        return self.contact

    async def verify_leader(self) -> None:
        if not self.is_leader:
            raise NoLeader()
        self.verified += 1

    async def apply(self, data: bytes) -> Any:
        return self._bench.apply(data)


class _Ids(Hooks):
    def __init__(self) -> None:
        self._next = 0

    def new_id(self) -> str:
        self._next += 1
        return f"00000000-0000-0000-0000-{self._next:012d}"


class QueryServer:
    """`elsewhere`: what other datacenters answer, nearest first."""

    datacenter = "dc1"

    def __init__(self, elsewhere: Mapping[str, Executed | CtlError] | None = None) -> None:
        self.bench = Bench()
        self.store = self.bench.store
        self.store.hooks = _Ids()
        self.raft = _Raft(self.bench)
        self.chance = Random(1)
        self.permissions: Judges | None = None
        self.elsewhere = dict(elsewhere or {})
        self.sent: list[Errand] = []
        self.failures: list[str] = []

    def other_datacenters(self) -> Sequence[str]:
        return list(self.elsewhere)

    async def run(self, errand: Errand) -> Any:
        self.sent.append(errand)
        answer = self.elsewhere[errand.datacenter]
        if isinstance(answer, CtlError):
            raise answer
        return answer

    def failed_over(self, query: str, datacenter: str, error: CtlError) -> None:
        self.failures.append(f"{query} {datacenter}: {error}")
