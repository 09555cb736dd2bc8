"""Clusters of real processes: servers `s1`, `s2`, ... and client agents `c1`, `c2`, ...

    with Cluster(folder, servers=3, clients=2) as cluster:
        with Load([*cluster.servers, *cluster.clients]) as load:
            cluster.leader().kill9()
            load.until_acknowledged()
        load.check()                       # linearizable, and nothing acknowledged was lost

`Cluster(..., network=Network())` gives every agent a network namespace of its own, whose ways to the
others can be cut (needs root)."""

from tests.cluster.agents import Cluster, Node
from tests.cluster.load import Load
from tests.cluster.network import Network

__all__ = ["Cluster", "Load", "Network", "Node"]
