"""The members of a datacenter that its servers and its catalog should know (protocols/gossip.md 9.2)."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from core.gossip.member import ALIVE, LEFT, Member
from core.node.servers import ServerFacts, is_client, server_facts
from core.store.state import Store


class Me(Struct, frozen=True):
    """The server that leads."""

    id: str
    name: str
    datacenter: str


class Refusal(Struct, frozen=True):
    """What a leader does not do, why, and the cure."""

    text: str


class Cluster:
    """The agents of one datacenter, one for each name: letter case does not count in the catalog, and an
    alive agent comes before others. `gone` are members that gossip has just forgotten (reaped)."""

    def __init__(self, members: Iterable[Member], datacenter: str, gone: Iterable[Member] = ()) -> None:
        self.by_name: dict[str, Member] = {}
        self.servers: dict[str, ServerFacts] = {}  # by name
        self.known: set[str] = set()  # every name that gossip knows, also of what is no agent
        self.same_name: list[tuple[Member, Member]] = []  # alive both: (kept, other)
        self._alive_by_id: dict[str, list[Member]] = {}
        for member in members:
            self.known.add(member.name.lower())
            self._take(member, datacenter)
        for member in gone:
            if member.name.lower() not in self.known:
                self._take(replace(member, status=LEFT), datacenter)

    def _take(self, member: Member, datacenter: str) -> None:
        facts = server_facts(member)
        if member.tags.get("dc") != datacenter or (facts is None and not is_client(member)):
            return
        key = member.name.lower()
        other = self.by_name.get(key)
        if other is not None and other.status == ALIVE:
            if member.status == ALIVE:
                self.same_name.append((other, member))
            return
        self.by_name[key] = member
        self.servers.pop(key, None)
        if facts is not None:
            self.servers[key] = facts
        node_id = member.tags.get("id", "").lower()
        if member.status == ALIVE and node_id:
            self._alive_by_id.setdefault(node_id, []).append(member)

    def alive_server(self, server_id: str) -> bool:
        """Whether a server with this id is alive."""
        members = self._alive_by_id.get(server_id.lower(), ())
        return any(member.name.lower() in self.servers for member in members)

    def owns_id(self, view: Store, member: Member) -> bool:
        """Whether `member`, which is alive, has its node id for itself, or has it rightly."""
        claimants = self._alive_by_id.get(member.tags.get("id", "").lower(), [member])
        return len(claimants) == 1 or _owner(view, claimants) is member

    def conflicts(self, view: Store) -> list[Refusal]:
        """The members that cannot be told apart from another one (design: pains row 29)."""
        found = [
            Refusal(
                f"{shown(other)} has the name of {shown(kept)} but for letter case and stays out of the "
                "catalog: give one of them another -node name"
            )
            for kept, other in self.same_name
        ]
        for node_id, members in self._alive_by_id.items():
            if len(members) == 1:
                continue
            owner = _owner(view, members)
            found += [
                Refusal(
                    f"{shown(member)} has the node id {node_id} of {shown(owner)}, perhaps copied with its "
                    "data directory, and stays out of the catalog: stop it, delete the file node-id in its "
                    "data directory, and start it again"
                )
                for member in members
                if member is not owner and _endpoint(member) != _endpoint(owner)
            ]
        return found


def _owner(view: Store, members: list[Member]) -> Member:
    """Which of several alive members with one node id has it rightly. At one address it is an agent that
    was renamed: the newer member. Else the one that the catalog has, or the first by name."""
    newest = max(members, key=lambda member: (member.since, member.name))
    if all(_endpoint(member) == _endpoint(newest) for member in members):
        return newest
    node = view.get_node_by_id(newest.tags["id"])
    return min(
        members, key=lambda member: (node is None or member.name.lower() != node.node.lower(), member.name)
    )


def _endpoint(member: Member) -> tuple[str, int]:
    return member.address, member.port


def shown(member: Member | ServerFacts) -> str:
    """A member as messages name it."""
    return f'node "{member.name}" ({member.address})'
