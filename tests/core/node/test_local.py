from __future__ import annotations

from random import Random

from msgspec.structs import replace

from core.node.local import LocalState, Push
from core.store.structs import (
    DeregisterRequest,
    HealthCheck,
    Node,
    NodeService,
    RegisterRequest,
    Weights,
)
from core.store.watch import Watch

NODE = Node(
    id="u", node="n1", address="10.0.0.1", datacenter="dc1", tagged_addresses={"lan": "10.0.0.1"}, meta={}
)
WEB = NodeService(id="web", service="web", tags=["a"], port=80, weights=Weights())
MINUTE = 60_000_000_000


class Catalog:
    """What the servers would have, as far as requests say it."""

    def __init__(self) -> None:
        self.node: Node | None = None
        self.services: dict[str, NodeService] = {}
        self.checks: dict[str, HealthCheck] = {}
        self.requests = 0

    def take(self, push: Push) -> None:
        self.requests += 1
        request = push.request
        if isinstance(request, DeregisterRequest):
            self.services.pop(request.service_id, None)
            self.checks.pop(request.check_id, None)
            for check_id, check in list(self.checks.items()):
                if request.service_id and check.service_id == request.service_id:
                    del self.checks[check_id]
            return
        if not request.skip_node_update:
            self.node = Node(
                request.id, request.node, request.address, "dc1", request.tagged_addresses, request.node_meta
            )
        if request.service is not None:
            self.services[request.service.id] = replace(request.service, create_index=7, modify_index=9)
        for check in request.checks or ([request.check] if request.check else []):
            self.checks[check.check_id] = replace(check, modify_index=9)

    def mend(self, state: LocalState) -> None:
        for push in state.pushes():
            self.take(push)
            state.pushed(push)

    def look(self, state: LocalState) -> None:
        state.compare(self.node, self.services.values(), self.checks.values())


def make(interval: int = 0, discard: bool = False) -> LocalState:
    return LocalState(NODE, Random(1), interval, discard)


def check(check_id: str, service_id: str = "", status: str = "critical", output: str = "") -> HealthCheck:
    return HealthCheck(
        node="n1", check_id=check_id, name=check_id, status=status, output=output, service_id=service_id
    )


def test_a_service_travels_with_its_checks() -> None:
    state, catalog = make(), Catalog()
    state.add_service(WEB, "t")
    state.add_check(check("c1", "web"), "t")
    state.add_check(check("c2", "web"), "t")
    state.add_check(check("other-token", "web"), "x")
    pushes = list(state.pushes())
    assert [push.service_id for push in pushes][:2] == ["", "web"]
    assert pushes[0].request == RegisterRequest(
        datacenter="dc1",
        id="u",
        node="n1",
        address="10.0.0.1",
        tagged_addresses={"lan": "10.0.0.1"},
        node_meta={},
    )
    request = pushes[1].request
    assert isinstance(request, RegisterRequest) and request.checks is not None
    assert [item.check_id for item in request.checks] == ["c1", "c2"]
    assert request.checks[0].service_tags == ["a"]
    catalog.mend(state)
    assert state.in_sync()
    assert catalog.requests == 3  # node, service with two checks, the other check
    assert set(catalog.checks) == {"c1", "c2", "other-token"}
    catalog.look(state)
    assert state.in_sync()


def test_what_the_catalog_has_too_much_is_removed_but_for_the_servers_own() -> None:
    state, catalog = make(), Catalog()
    catalog.services = {"old": NodeService(id="old", service="old"), "consul": NodeService(id="consul")}
    catalog.checks = {"old-check": check("old-check"), "serfHealth": check("serfHealth")}
    catalog.look(state)
    assert state.services == {} and state.checks == {}
    catalog.mend(state)
    assert set(catalog.services) == {"consul"} and set(catalog.checks) == {"serfHealth"}
    catalog.look(state)
    assert state.in_sync()


def test_an_empty_proxy_that_is_written_out_is_no_change() -> None:
    """As a file of the data directory has it, or a server that decodes whole structs."""
    state, catalog = make(), Catalog()
    state.add_service(replace(WEB, proxy={"MeshGateway": {}, "Expose": {}}, connect={}))
    catalog.mend(state)
    bare = {"Config": None, "DestinationServiceName": "", "LocalServicePort": 0, "MeshGateway": {"Mode": ""}}
    for proxy, connect in ((None, None), (bare, {"Native": False})):
        catalog.services["web"] = replace(WEB, proxy=proxy, connect=connect)
        catalog.look(state)
        assert state.in_sync()
    catalog.services["web"] = replace(WEB, proxy={**bare, "LocalServicePort": 1})
    catalog.look(state)
    assert not state.in_sync()


def test_what_the_catalog_lost_or_changed_is_pushed_again() -> None:
    state, catalog = make(), Catalog()
    state.add_service(WEB)
    state.add_check(check("c"))
    catalog.mend(state)
    del catalog.checks["c"]
    catalog.services["web"] = replace(catalog.services["web"], port=81)
    catalog.look(state)
    assert not state.in_sync()
    catalog.mend(state)
    assert catalog.services["web"].port == 80 and "c" in catalog.checks
    catalog.node = replace(NODE, address="10.9.9.9")
    catalog.look(state)
    catalog.mend(state)
    assert catalog.node is not None and catalog.node.address == "10.0.0.1"


def test_tags_may_be_overridden_when_the_service_says_so() -> None:
    for override, expected in ((True, ["theirs"]), (False, ["a"])):
        state, catalog = make(), Catalog()
        state.add_service(replace(WEB, enable_tag_override=override))
        catalog.mend(state)
        catalog.services["web"] = replace(catalog.services["web"], tags=["theirs"])
        catalog.look(state)
        catalog.mend(state)
        assert catalog.services["web"].tags == expected
        found = state.service("web")
        assert found is not None and found.tags == expected


def test_nil_and_empty_are_the_same() -> None:
    state, catalog = make(), Catalog()
    state.add_service(replace(WEB, tags=[], meta={}, tagged_addresses={}, weights=None))
    catalog.mend(state)
    catalog.services["web"] = replace(
        catalog.services["web"], tags=None, meta=None, tagged_addresses=None, weights=Weights()
    )
    catalog.look(state)
    assert state.in_sync()


def test_a_status_is_sent_at_once_and_an_output_alone_later() -> None:
    state, catalog = make(MINUTE), Catalog()
    changes, waits = [], []
    state.add_check(check("c"))
    catalog.mend(state)
    state.on_change = lambda: changes.append(1)
    state.on_wait = lambda: waits.append(1)
    state.update_check("c", "passing", "ok", 0.0)
    assert changes == [1] and not state.in_sync()
    catalog.mend(state)
    state.update_check("c", "passing", "still ok", 10.0)
    state.update_check("c", "passing", "fine", 11.0)
    assert (changes, waits) == ([1], [1]) and state.in_sync()
    found = state.check("c")
    assert found is not None and found.output == "fine"
    deadline = state.deadline()
    assert deadline is not None and 10 + 30 <= deadline <= 10 + 90
    catalog.look(state)
    assert state.in_sync()  # the look leaves the output to the timer
    state.tick(deadline - 0.1)
    assert state.in_sync()
    state.tick(deadline)
    assert changes == [1, 1] and not state.in_sync()
    catalog.mend(state)
    assert catalog.checks["c"].output == "fine"
    assert state.deadline() is None


def test_without_an_interval_outputs_are_sent_at_once() -> None:
    state, catalog = make(0), Catalog()
    state.add_check(check("c"))
    catalog.mend(state)
    state.update_check("c", "critical", "new", 0.0)
    assert not state.in_sync()
    state.update_check("gone", "critical", "new", 0.0)


def test_output_can_be_discarded() -> None:
    state = make(0, discard=True)
    state.add_check(check("c", output="secret"))
    state.update_check("c", "passing", "secret", 0.0)
    found = state.check("c")
    assert found is not None and (found.status, found.output) == ("passing", "")


def test_a_change_while_a_push_is_under_way_stays_out_of_sync() -> None:
    state, catalog = make(), Catalog()
    state.add_service(WEB)
    state.add_check(check("c", "web"))
    catalog.mend(state)
    state.update_check("c", "warning", "", 0.0)
    push = next(iter(state.pushes()))
    state.update_check("c", "passing", "", 0.0)
    catalog.take(push)
    state.pushed(push)
    assert not state.in_sync()
    catalog.mend(state)
    assert catalog.checks["c"].status == "passing"


def test_registered_again_while_the_removal_is_under_way() -> None:
    state, catalog = make(), Catalog()
    state.add_service(WEB)
    catalog.mend(state)
    assert state.remove_service("web")
    push = next(iter(state.pushes()))
    state.add_service(WEB)
    catalog.take(push)
    state.pushed(push)
    catalog.mend(state)
    assert "web" in catalog.services and state.in_sync()


def test_a_removal_takes_the_checks_along() -> None:
    state, catalog = make(), Catalog()
    state.add_service(WEB)
    state.add_check(check("c", "web"))
    state.add_check(check("node"))
    catalog.mend(state)
    before = catalog.requests
    assert state.remove_service("web")
    assert not state.remove_service("web") and not state.remove_service("none")
    assert list(state.checks) == ["node"]
    catalog.mend(state)
    assert catalog.requests == before + 1
    assert list(catalog.checks) == ["node"] and catalog.services == {}
    assert state.in_sync()


def test_what_the_servers_refuse_waits_for_a_change() -> None:
    state = make()
    state.add_service(WEB)
    state.add_check(check("c", "web"))
    for push in state.pushes():
        if push.service_id:
            state.dropped(push)
        else:
            state.pushed(push)
    assert state.in_sync() and list(state.pushes()) == []
    state.add_service(replace(WEB, port=81))
    assert not state.in_sync()


def test_the_same_again_is_no_change() -> None:
    state, catalog = make(), Catalog()
    state.add_service(WEB, "t")
    state.add_check(check("c"), "t")
    catalog.mend(state)
    state.add_service(replace(WEB), "t")
    state.add_check(check("c"), "t")
    assert state.in_sync()


def test_watches_and_listeners() -> None:
    state = make()
    watch = Watch()
    assert state.service("web", watch) is None
    heard: list[str] = []
    cancel = state.listen("web", lambda: heard.append("web"))
    state.listen("", lambda: heard.append("node"))
    state.add_service(WEB)
    assert watch.fired and heard == ["web"]
    state.add_check(check("c", "web"))
    state.add_check(check("n"))
    assert heard == ["web", "web", "web", "node"]
    cancel()
    cancel()
    state.update_check("c", "passing", "", 0.0)
    assert len(heard) == 4


def test_new_node_facts_are_pushed() -> None:
    state, catalog = make(), Catalog()
    catalog.mend(state)
    state.set_node(replace(NODE, meta={"rack": "1"}))
    catalog.mend(state)
    assert catalog.node is not None and catalog.node.meta == {"rack": "1"}
