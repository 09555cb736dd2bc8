"""Everything under `/v1/acl/`: tokens, policies, roles, auth methods, logins, the old system.

acl_tokens, acl_policies, acl_roles, acl_methods   reads, what the leader does, HTTP
acl_token_write                                    what the leader does to tokens
acl_login, acl_binding, acl_keys                   from a credential to a token
acl_rules                                          what rules say, and what a token may do
acl_bootstrap, acl_legacy                          the first token; the system of old
acl_shapes, acl_render, acl_requests               JSON in, JSON out, what travels between agents
"""

from __future__ import annotations

from core.api import (
    acl_bootstrap,
    acl_legacy,
    acl_login,
    acl_methods,
    acl_policies,
    acl_roles,
    acl_rules,
    acl_tokens,
)
from core.api.endpoint import Route

ROUTES: tuple[Route, ...] = (
    *acl_bootstrap.ROUTES,
    *acl_tokens.ROUTES,
    *acl_policies.ROUTES,
    *acl_roles.ROUTES,
    *acl_methods.ROUTES,
    *acl_login.ROUTES,
    *acl_rules.ROUTES,
    *acl_legacy.ROUTES,
)
