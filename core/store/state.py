"""The replicated state: one Store per server. `core/store/apply.py` is the only door for writes."""

from __future__ import annotations

from core.store.catalog import CatalogReads
from core.store.kv import KVReads
from core.store.sessions import SessionReads


class Store(KVReads, CatalogReads, SessionReads):
    """Tables, indexes and reads; see the rooms' files for each. Reads return (index, value), the index
    as the index table has it, 0 before anything was written."""
