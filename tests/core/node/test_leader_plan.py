"""What a leader writes into the catalog: each row of the table in protocols/fsm.md section 9, conflicts of
names and ids, and that a plan that was carried out leaves nothing to do."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from core.gossip.member import ALIVE, FAILED, LEAVING, LEFT, Member
from core.node.cluster import Cluster
from core.store.structs import HealthCheck, NodeService, RegisterRequest
from tests.core.node.cluster_kit import ME, Catalog, client, server


def test_an_alive_client_is_registered() -> None:
    catalog = Catalog()
    assert catalog.follow([client("a")]) == ["a: member joined, marking health alive"]
    node, check = catalog.store.get_node("a"), catalog.store.get_check("a", "serfHealth")
    assert node is not None and (node.id, node.address, node.datacenter) == ("id-a", "10.0.0.9", "dc1")
    assert check is not None
    assert (check.name, check.status, check.output, check.service_id) == (
        *("Serf Health Status", "passing", "Agent alive and reachable", ""),
    )
    assert catalog.store.get_service("a", "consul") is None


def test_an_alive_server_has_the_service_consul() -> None:
    catalog = Catalog()
    catalog.follow([server("s1", port="18300", build="1.9.8:abc", nonvoter="1")])
    service = catalog.store.get_service("s1", "consul")
    assert service is not None
    assert (service.service, service.port, service.tags) == ("consul", 18300, [])
    assert service.weights is not None and (service.weights.passing, service.weights.warning) == (1, 1)
    assert service.meta == {
        "non_voter": "true",
        "raft_version": "3",
        "read_replica": "true",
        "serf_protocol_current": "2",
        "serf_protocol_max": "5",
        "serf_protocol_min": "1",
        "version": "1.9.8",
    }


def test_what_the_agent_said_of_its_node_stays() -> None:
    catalog = Catalog()
    facts = {"tagged_addresses": {"wan": "192.0.2.1"}, "node_meta": {"rack": "r1"}}
    catalog.register(RegisterRequest(id="id-a", node="a", address="10.0.0.9", datacenter="dc1", **facts))  # type: ignore[arg-type]
    catalog.follow([client("a")])
    catalog.follow([client("a", address="10.0.0.10")])
    node = catalog.store.get_node("a")
    assert node is not None
    assert (node.address, node.tagged_addresses, node.meta) == (
        *("10.0.0.10", {"wan": "192.0.2.1"}, {"rack": "r1"}),
    )


def test_a_failed_member_is_critical_and_keeps_its_services() -> None:
    catalog = Catalog()
    catalog.follow([server("s2")])
    catalog.register(
        RegisterRequest(node="s2", service=NodeService(id="web", service="web"), skip_node_update=True)
    )
    assert catalog.follow([server("s2", FAILED)]) == ["s2: member failed, marking health critical"]
    check = catalog.store.get_check("s2", "serfHealth")
    assert check is not None and (check.status, check.output) == (
        *("critical", "Agent not live or unreachable"),
    )
    assert catalog.store.get_service("s2", "web") is not None
    assert catalog.follow([server("s2")]) == ["s2: member joined, marking health alive"]
    assert catalog.health("s2") == "passing"


def test_a_failed_member_that_was_never_there_is_not_registered() -> None:
    catalog = Catalog()
    assert catalog.follow([client("a", FAILED), client("b", LEFT), client("c", LEAVING)]) == []
    assert len(catalog.store.node_rows) == 0


def test_left_reaped_and_forgotten_members_are_deregistered() -> None:
    catalog = Catalog()
    catalog.follow([client("a"), client("b"), client("c"), client("d")])
    assert catalog.follow([client("a", LEFT), client("d")], gone=[client("b", FAILED)]) == [
        "a: member left, deregistering",
        "b: member left, deregistering",
        "c: node is no member any more, deregistering",
    ]
    assert list(catalog.store.node_rows) == ["d"]


def test_a_reaped_member_that_came_back_stays() -> None:
    catalog = Catalog()
    catalog.follow([client("a")])
    assert catalog.follow([client("a")], gone=[client("a", FAILED)]) == []


def test_nodes_that_never_were_members_are_left_alone() -> None:
    catalog = Catalog()
    catalog.register(
        RegisterRequest(
            node="external",
            address="192.0.2.9",
            check=HealthCheck(node="external", check_id="ping", name="ping", status="passing"),
        )
    )
    assert catalog.follow([]) == []


def test_the_leader_never_deregisters_itself() -> None:
    catalog = Catalog()
    catalog.follow([server("s1")])
    assert catalog.follow([server("s1", LEFT)]) == []
    assert catalog.follow([], gone=[server("s1")]) == []
    assert catalog.follow([]) == []


def test_others_are_not_registered() -> None:
    catalog = Catalog()
    strangers = [
        client("far", dc="dc2"),
        client("nobody", role=""),
        client("odd", role="printer"),
        server("broken", port="x"),
        server("elsewhere", dc="dc2"),
    ]
    assert catalog.follow(strangers) == []
    assert len(catalog.store.node_rows) == 0


def test_a_member_without_id_keeps_that_of_its_node() -> None:
    catalog = Catalog()
    catalog.follow([client("a")])
    catalog.follow([client("a", id="", address="10.0.0.10")])
    node = catalog.store.get_node("a")
    assert node is not None and (node.id, node.address) == ("id-a", "10.0.0.10")


# Conflicts (design: pains row 29)


def test_a_node_that_comes_back_with_another_id_takes_its_name_over() -> None:
    catalog = Catalog()
    catalog.follow([client("a")])
    assert catalog.follow([client("a", id="id-new")]) == [
        "a: node id changed from id-a, marking the old node failed",
        "a: member joined, marking health alive",
    ]
    node = catalog.store.get_node("a")
    assert node is not None and node.id == "id-new"
    assert catalog.health("a") == "passing"


def test_a_renamed_agent_leaves_nothing_behind() -> None:
    catalog = Catalog()
    catalog.follow([client("old")])
    newer = client("new", id="id-old", since=5.0)
    # Until gossip finds out, both names are alive at one address: the newer one counts, and no alarm.
    cluster = Cluster([client("old"), newer], "dc1")
    assert cluster.conflicts(catalog.store) == []
    catalog.follow([client("old"), newer])
    catalog.follow([client("old", FAILED), newer])
    assert list(catalog.store.node_rows) == ["new"]
    catalog.follow([newer], gone=[client("old", FAILED)])
    assert list(catalog.store.node_rows) == ["new"]


def test_two_agents_that_swapped_their_names() -> None:
    for order in (1, -1):
        catalog = Catalog()
        catalog.follow([client("a", address="10.0.0.1"), client("b", address="10.0.0.2")])
        swapped = [client("a", id="id-b", address="10.0.0.1"), client("b", id="id-a", address="10.0.0.2")]
        for _ in range(2):  # what the store refuses or undoes on the way is right at the next look
            catalog.take(catalog.plan(swapped[::order]))
        assert catalog.plan(swapped) == []
        assert {key: row.id for key, row in catalog.store.node_rows.rows.items()} == {
            "a": "id-b",
            "b": "id-a",
        }


def test_a_copied_node_id_is_refused_once_naming_both_and_the_cure() -> None:
    catalog = Catalog()
    first = client("a", address="10.0.0.1")
    second = client("b", address="10.0.0.2", id="id-a")
    catalog.follow([first])
    for members in ([first, second], [second, first]):
        assert catalog.follow(members) == []
        (refusal,) = Cluster(members, "dc1").conflicts(catalog.store)
        assert 'node "b" (10.0.0.2) has the node id id-a of node "a" (10.0.0.1)' in refusal.text
        assert "delete the file node-id" in refusal.text


def test_names_that_differ_in_letter_case_only_are_one_node() -> None:
    catalog = Catalog()
    members = [client("Web", address="10.0.0.1"), client("web", address="10.0.0.2", id="id-other")]
    catalog.follow(members)
    (refusal,) = Cluster(members, "dc1").conflicts(catalog.store)
    assert 'node "web" (10.0.0.2) has the name of node "Web" (10.0.0.1)' in refusal.text
    catalog.follow([client("Web", FAILED), client("web", id="id-other")])
    assert catalog.health("web") == "passing"
    # An old entry of the other spelling does not take the alive one away.
    assert catalog.follow([client("Web"), client("web", LEFT)]) != ["web: member left, deregistering"]
    assert list(catalog.store.node_rows) == ["web"]


# Whatever happens

NAMES = ("s1", "s2", "a", "b", "c")


@st.composite
def _members(draw: st.DrawFn) -> list[Member]:
    members = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        make = server if name[0] == "s" or draw(st.integers(0, 9)) == 0 else client
        members.append(
            make(
                name,
                draw(st.sampled_from((ALIVE, ALIVE, FAILED, LEFT, LEAVING))),
                draw(st.sampled_from(("10.0.0.1", "10.0.0.2"))),
                id=draw(st.sampled_from((f"id-{name}", f"id-{name}", "id-a", "id-new", ""))),
            )
        )
    return members


@settings(max_examples=300)
@given(st.lists(st.tuples(_members(), _members()), max_size=5))
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(
    history: list[tuple[list[Member], list[Member]]],
) -> None:
    catalog = Catalog()
    for members, gone in history:
        for _ in range(3):  # names and ids that change hands at once may take a few looks
            steps = catalog.plan(members, gone)
            catalog.take(steps)
        assert catalog.plan(members, gone) == []
        cluster = Cluster(members, "dc1", gone)
        for member in members:
            if cluster.by_name.get(member.name) is not member:
                continue
            if member.status == ALIVE and cluster.owns_id(catalog.store, member):
                assert catalog.health(member.name) == "passing"
            elif member.status == FAILED:
                assert catalog.health(member.name) in ("critical", "")
            elif member.status == LEFT and member.name != ME.name:
                assert catalog.store.get_node(member.name) is None
