"""Which servers Raft should name, and where: the leader's plan for its configuration, and whether a
server may leave it (protocols/raft.md section 8). Pure; votes are given by core/node/autopilot.py."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from core.gossip.member import ALIVE, LEFT
from core.node.cluster import Cluster, Me, Refusal, shown
from core.node.servers import ServerFacts
from core.raft.configuration import VOTER, Configuration, Server
from core.store.state import Store


class AddServer(Struct, frozen=True):
    """A server joins Raft without a vote, or a known one gets another address."""

    id: str
    address: str
    text: str


class RemoveServer(Struct, frozen=True):
    """A server leaves Raft."""

    id: str
    text: str


ServerStep = AddServer | RemoveServer | Refusal


def plan_servers(view: Store, cluster: Cluster, configuration: Configuration, me: Me) -> list[ServerStep]:
    """The changes, one after the other, that make the configuration name the servers that there are.

    Servers that swapped their addresses stand in each other's way, since no two may have the same one:
    then one of them is removed and comes back as if it were new."""
    steps: list[ServerStep] = []
    for server in configuration.servers:
        if (
            server.id != me.id
            and _has_left(cluster, server.id)
            and _is_safe(cluster, configuration, server, me)
        ):
            steps.append(RemoveServer(server.id, "server left, removing it from Raft"))
            configuration = configuration.without(server.id)
    wanted = _wanted(view, cluster, configuration, me, steps)
    while wanted:
        free = next((one for one in wanted if configuration.by_address(one.address) is None), None)
        if free is not None:
            wanted.remove(free)
            steps.append(free)
            configuration = configuration.with_nonvoter(free.id, free.address)
            continue
        holder = _holder_to_remove(cluster, configuration, wanted, me)
        if holder is None:
            steps += [_occupied(one, configuration) for one in wanted]
            break
        steps.append(RemoveServer(holder.id, f"another server has its address {holder.address}, removing it"))
        configuration = configuration.without(holder.id)
    return steps


def _has_left(cluster: Cluster, server_id: str) -> bool:
    return not cluster.alive_server(server_id) and any(
        facts.id == server_id and facts.status == LEFT for facts in cluster.servers.values()
    )


def _wanted(
    view: Store, cluster: Cluster, configuration: Configuration, me: Me, steps: list[ServerStep]
) -> list[AddServer]:
    """The alive servers that the configuration lacks or has at another address; refusals go to `steps`."""
    wanted = []
    for name, facts in cluster.servers.items():
        known = configuration.get(facts.id)
        if facts.status != ALIVE or (known is not None and known.address == facts.target):
            continue
        if not facts.id:
            text = "has no node id among its tags, so it cannot be a Raft server (protocol 3 is needed)"
            steps.append(Refusal(f"{shown(facts)} {text}"))
        elif known is None and facts.id == me.id:
            continue  # the leader was removed and is about to step down
        elif not cluster.owns_id(view, cluster.by_name[name]):
            continue  # Cluster.conflicts says so
        elif known is None and (other := _other_bootstrap(cluster, facts)) is not None:
            text = (
                f"is in bootstrap mode, as is {shown(other)}, and is not added to Raft: it may lead a cluster"
            )
            cure = "of its own. Start it without -bootstrap and with an empty data directory"
            steps.append(Refusal(f"{shown(facts)} {text} {cure}"))
        else:
            text = "adding server to Raft" if known is None else "server has another address, telling Raft"
            wanted.append(AddServer(facts.id, facts.target, text))
    return wanted


def _other_bootstrap(cluster: Cluster, facts: ServerFacts) -> ServerFacts | None:
    if not facts.bootstrap:
        return None
    others = (one for one in cluster.servers.values() if one.bootstrap and one.alive and one.id != facts.id)
    return next(others, None)


def _holder_to_remove(
    cluster: Cluster, configuration: Configuration, wanted: list[AddServer], me: Me
) -> Server | None:
    """A server in the way of another one that may be removed; rather one that is not alive."""
    holders = [holder for one in wanted if (holder := configuration.by_address(one.address)) is not None]
    holders.sort(key=lambda holder: cluster.alive_server(holder.id))
    for holder in holders:
        if holder.id != me.id and _is_safe(cluster, configuration, holder, me):
            return holder
    return None


def _is_safe(cluster: Cluster, configuration: Configuration, server: Server, me: Me) -> bool:
    """Whether those who would be left to vote are enough, and alive."""
    if server.suffrage != VOTER:
        return True
    left = [voter for voter in configuration.voters if voter != server.id]
    alive = sum(voter == me.id or cluster.alive_server(voter) for voter in left)
    return bool(left) and alive >= _quorum(len(left))


def _quorum(voters: int) -> int:
    return voters // 2 + 1


def _occupied(one: AddServer, configuration: Configuration) -> Refusal:
    holder = configuration.by_address(one.address)
    assert holder is not None
    return Refusal(
        f"server {one.id} is at {one.address}, which Raft knows as the address of server {holder.id}; "
        "that one cannot be removed without losing the quorum. Start more of the voters, or remove it "
        f"by hand: ctl operator raft remove-peer --id {holder.id}"
    )


def leave_refusal(configuration: Configuration, server_id: str, is_alive: Callable[[str], bool]) -> str:
    """Why this server should not leave, "" if it may (design: pains row 13). `is_alive` tells of a server
    id whether gossip knows it alive."""
    if not configuration.votes(server_id):
        return ""
    left = [voter for voter in configuration.voters if voter != server_id]
    stop = (
        "To stop this server and keep its place, end its process (SIGTERM) and start it again later with the "
        "same data directory; to leave all the same: ctl leave --yes-destroy-quorum"
    )
    if len(configuration.servers) == 1:
        return ""  # nobody is left behind, and it leads again when it comes back with its data directory
    if not left:
        return f"this is the last voter: without it nobody can be elected, and nothing written. {stop}"
    alive = sum(map(is_alive, left))
    if alive < _quorum(len(left)):
        return (
            f"{alive} of the {len(left)} other voters {'is' if alive == 1 else 'are'} alive, and they need "
            f"{_quorum(len(left))} to elect a leader and to write. {stop}"
        )
    return ""
