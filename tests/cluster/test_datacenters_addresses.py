"""Datacenters that are reached by other addresses and ports from outside than from within."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster
from tests.cluster.test_datacenters import QUICK
from tests.harness import own_address, until

PORT = 18402


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Cluster]]:
    """The server of dc1 listens on all addresses, on ports of its own; dc2 knows its WAN address only."""
    folder = tmp_path_factory.mktemp("addresses")
    outside = own_address()
    found: list[Cluster] = []
    for name in ("dc1", "dc2"):
        (folder / name).mkdir()
        config = {"datacenter": name, "gossip_wan": QUICK}
        if name == "dc1":
            ports = {"server": PORT - 2, "serf_lan": PORT - 1, "serf_wan": PORT}
            config |= {"advertise_addr_wan": outside, "ports": ports}
        else:
            config |= {"retry_join_wan": [f"{outside}:{PORT}"], "translate_wan_addrs": True}
        found.append(Cluster(folder / name, servers=1, config=config))
    first, second = found
    first["s1"].options += ["--bind", "0.0.0.0", "--advertise", first["s1"].address]
    try:
        for cluster in found:
            cluster.start(wait=False)
        for cluster in found:
            cluster.settle()
        first.outside = outside  # type: ignore[attr-defined]
        yield first, second
    finally:
        for cluster in found:
            cluster.end()


def test_the_others_use_the_address_for_outside(clusters: tuple[Cluster, Cluster]) -> None:
    near, far = clusters[0]["s1"], clusters[1]["s1"]
    outside: str = clusters[0].outside  # type: ignore[attr-defined]
    until("joined", lambda: len(far.get("/v1/catalog/datacenters")) == 2)
    (member,) = [one for one in far.get("/v1/agent/members?wan=1") if one["Name"] == "s1.dc1"]
    assert (member["Addr"], member["Port"]) == (outside, PORT)
    (member,) = near.get("/v1/agent/members")
    assert (member["Addr"], member["Tags"]["wan_join_port"]) == (near.address, str(PORT))
    node = near.get("/v1/catalog/node/s1")["Node"]
    assert (node["Address"], node["TaggedAddresses"]["wan"]) == (near.address, outside)
    assert node["TaggedAddresses"]["lan"] == near.address
    # Calls go both ways, and names are told as they are reached.
    for asked, datacenter in ((far, "dc1"), (near, "dc2")):
        assert asked.put(f"/v1/kv/a?dc={datacenter}", "x").json() is True
    assert far.get("/v1/catalog/node/s1?dc=dc1")["Node"]["Address"] == outside
    assert far.get("/v1/catalog/node/s1")["Node"]["Address"] == far.address
