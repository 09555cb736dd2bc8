"""Every method that servers answer over RPC (protocols/rpc.md section 7): the page to open first.

What a method is, as body and reply, is said in the other `remote_*`; the kinds of methods are those of
`remote_kinds`."""

from __future__ import annotations

from core.api.remote_acl import ACLS
from core.api.remote_actions import EXEC
from core.api.remote_changes import STREAM
from core.api.remote_config import CONFIG
from core.api.remote_coordination import COORDINATION
from core.api.remote_internal import INTERNAL
from core.api.remote_kinds import Remote
from core.api.remote_operator import OPERATOR
from core.api.remote_query import QUERIES
from core.api.remote_reads import READS
from core.api.remote_ui import UI
from core.api.remote_writes import ERRANDS, WRITES

REMOTES: dict[str, Remote] = {
    remote.rpc: remote
    for remote in (
        *(*READS, *WRITES, *ERRANDS, *OPERATOR, *COORDINATION),
        *(*ACLS, *QUERIES, *INTERNAL, *CONFIG, *UI, *STREAM, *EXEC),
    )
}

# Methods of the service mesh. Agents of Consul's kind call them for endpoints of their own; with `connect`
# off Consul's servers answer all of them with one text.
OF_THE_MESH = frozenset(
    (
        *(f"ConnectCA.{name}" for name in ("ConfigurationGet", "ConfigurationSet", "Roots", "Sign")),
        *(f"Intention.{name}" for name in ("Apply", "Check", "Get", "List", "Match")),
        *("ConnectCA.SignIntermediate", "DiscoveryChain.Get"),
    )
)

# All services of Consul's servers; of some of them no method is answered.
SERVICES = frozenset(
    (
        *("ACL", "Catalog", "ConfigEntry", "ConnectCA", "Coordinate", "DiscoveryChain", "FederationState"),
        *("Health", "Intention", "Internal", "KVS", "Operator", "PreparedQuery", "Session", "Status", "Txn"),
    )
)
