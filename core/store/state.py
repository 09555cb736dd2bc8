"""The replicated state: one Store per server. `core/store/apply.py` is the only door for writes."""

from __future__ import annotations

from core.store.acl import ACLState
from core.store.mesh import MeshState
from core.store.queries import QueryReads
from core.store.sessions import SessionReads
from core.store.txn import TxnState


class Store(TxnState, SessionReads, QueryReads, ACLState, MeshState):
    """Tables, indexes and reads; see the rooms' files for each. Reads return (index, value), the index
    as the index table has it, 0 before anything was written."""
