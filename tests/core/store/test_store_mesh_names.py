"""What takes mesh connections for a service, with the indexes that Consul 1.9.8 gave, and who hears of it."""

from __future__ import annotations

import pytest

from core.store.watch import Watch
from tests.core.store.maker import Bench


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.register("n1")
    bench.service("n1", "web1", "web")
    bench.service("n1", "p1", "web-proxy", kind="connect-proxy", proxy={"DestinationServiceName": "Web"})
    bench.service("n1", "db1", "db", connect={"Native": True})
    return bench


def ids(found: list[tuple[object, object]]) -> list[str]:
    return [pair[1].id for pair in found]  # type: ignore[attr-defined]


def test_proxies_and_native_services_are_found_by_the_name_they_serve(bench: Bench) -> None:
    assert ids(bench.store.mesh_nodes("WEB")[1]) == ["p1"]  # type: ignore[arg-type]
    assert ids(bench.store.mesh_nodes("db")[1]) == ["db1"]  # type: ignore[arg-type]
    assert bench.store.mesh_nodes("web-proxy")[1] == []
    bench.service("n1", "p1", "web-proxy", kind="connect-proxy", proxy={"DestinationServiceName": "db"})
    assert bench.store.check_mesh_nodes("web")[1] == []
    assert [item.service.id for item in bench.store.check_mesh_nodes("db")[1]] == ["db1", "p1"]


def test_the_index_is_that_of_the_service_or_with_checks_of_its_proxies(bench: Bench) -> None:
    web, proxy = bench.store.index("service.web"), bench.store.index("service.web-proxy")
    assert web < proxy
    assert bench.store.mesh_nodes("web")[0] == web
    assert bench.store.check_mesh_nodes("web")[0] == proxy
    bench.service("n1", "plain", "plain")
    plain = bench.index
    bench.put(b"later")
    assert bench.store.mesh_nodes("plain")[0] == bench.store.check_mesh_nodes("plain")[0] == plain
    bench.service("n1", "gone", "gone")
    bench.deregister("n1", "gone")
    assert bench.store.mesh_nodes("plain")[0] == bench.store.check_mesh_nodes("plain")[0] == bench.index


def test_a_new_proxy_wakes_who_waits_and_a_check_only_who_shows_it(bench: Bench) -> None:
    plain, checked = Watch(), Watch()
    bench.store.mesh_nodes("web", plain)
    bench.store.check_mesh_nodes("web", checked)
    bench.check("n1", "c1", service_id="p1")
    assert checked.fired and not plain.fired
    checked = Watch()
    bench.store.check_mesh_nodes("web", checked)
    bench.service("n1", "p2", "other", kind="connect-proxy", proxy={"DestinationServiceName": "web"})
    assert checked.fired and plain.fired
