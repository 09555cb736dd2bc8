"""The table of endpoints: the page to open first. Every question that ctl answers over HTTP is a row."""

from __future__ import annotations

from core.api import (
    acl,
    actions,
    agent,
    agent_debug,
    catalog,
    changes,
    config_entry,
    coordinate,
    event,
    health,
    internal_ui,
    keyring,
    kv,
    mesh,
    operator,
    operator_usage,
    query,
    serf_query,
    session,
    snapshot,
    status,
    txn,
)
from core.api.endpoint import Route

ROUTES: tuple[Route, ...] = (
    *kv.ROUTES,
    *txn.ROUTES,
    *session.ROUTES,
    *snapshot.ROUTES,
    *catalog.ROUTES,
    *changes.ROUTES,
    *actions.ROUTES,
    *health.ROUTES,
    *query.ROUTES,
    *serf_query.ROUTES,
    *agent.ROUTES,
    *agent_debug.ROUTES,
    *acl.ROUTES,
    *event.ROUTES,
    *coordinate.ROUTES,
    *keyring.ROUTES,
    *config_entry.ROUTES,
    *operator.ROUTES,
    *operator_usage.ROUTES,
    *mesh.ROUTES,
    *internal_ui.ROUTES,
    *status.ROUTES,
)
