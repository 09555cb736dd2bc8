"""Which work belongs to the primary datacenter, wherever it is asked for: there the ACLs are changed that
hold everywhere, and the config entries; without copies of its tokens it also says who a token is
(protocols/rpc.md section 4)."""

from __future__ import annotations

from typing import Any

from core.acl.settings import AclSettings
from core.api.endpoint import Command, Errand, Question
from core.errors import Invalid
from core.store.state import Store

_READS_OF_TOKENS = frozenset(
    ("ACL.TokenRead", "ACL.TokenList", "ACL.TokenBatchRead", "ACL.PolicyResolve", "ACL.RoleResolve")
)
_ALWAYS = frozenset(
    (
        "ACL.BootstrapTokens",
        "ACL.PolicySet",
        "ACL.PolicyDelete",
        "ACL.RoleSet",
        "ACL.RoleDelete",
        "ACL.Apply",
        "ConfigEntry.Apply",
        "ConfigEntry.Delete",
    )
)
_ACCESSORS = frozenset(("ACL.TokenClone", "ACL.TokenDelete"))
_LOGINS = frozenset(
    (
        "ACL.AuthMethodSet",
        "ACL.AuthMethodDelete",
        "ACL.BindingRuleSet",
        "ACL.BindingRuleDelete",
        "ACL.Login",
        "ACL.Logout",
    )
)
_READS_OF_LOGINS = frozenset(
    ("ACL.AuthMethodRead", "ACL.AuthMethodList", "ACL.BindingRuleRead", "ACL.BindingRuleList")
)
NO_LOCAL_TOKENS = "Local tokens are disabled"
ONLY_PRIMARY = "Invalid Auth Method: TokenLocality 'global' can only be used in the primary datacenter"
NO_LOGINS = "Token replication is required for auth methods to function"


class Primary:
    """What a server of another datacenter sends to the primary one."""

    def __init__(self, settings: AclSettings, view: Store) -> None:
        self.datacenter = settings.primary_datacenter
        self._own = settings.datacenter
        self._local_tokens = settings.token_replication
        self._view = view

    def owns(self, work: Question | Command | Errand, leads: bool = True) -> bool:
        """Whether work that was asked for here is for the primary datacenter. Invalid for what cannot be
        done without local tokens. `leads`: we are the leader, so a token that is not here is not ours."""
        if isinstance(work, Question):
            return not self._local_tokens and self._here(work.options) and self._reads_tokens(work.read.rpc)
        if not self._here(work):
            return False
        rpc = work.write.rpc if isinstance(work, Command) else work.action.rpc
        if rpc in _ALWAYS:
            return True
        if rpc == "ACL.TokenSet":
            return self._sets_global_token(work.args)
        if rpc in _ACCESSORS:
            return self._is_global(work.args, leads)
        if rpc in _LOGINS and not self._local_tokens:
            raise Invalid(NO_LOGINS)
        if rpc == "ACL.AuthMethodSet" and work.args.auth_method.token_locality == "global":
            raise Invalid(ONLY_PRIMARY)
        return False

    def _here(self, work: Any) -> bool:
        return work.datacenter in ("", self._own)

    @staticmethod
    def _reads_tokens(rpc: str) -> bool:
        if rpc in _READS_OF_LOGINS:
            raise Invalid(NO_LOGINS)
        return rpc in _READS_OF_TOKENS

    def _sets_global_token(self, args: Any) -> bool:
        if args.acl_token.local and not self._local_tokens:
            raise Invalid(NO_LOCAL_TOKENS)
        return not args.acl_token.local

    def _is_global(self, args: Any, leads: bool) -> bool:
        """Whether the token that is to be copied or deleted is none of this datacenter."""
        accessor = args.token_id if hasattr(args, "token_id") else args.acl_token.accessor_id
        row = self._view.token_by_accessor(accessor)
        return leads if row is None else not row.local


def primary(settings: AclSettings, view: Store) -> Primary | None:
    """What a server sends to the primary datacenter; None for the servers of that one."""
    return Primary(settings, view) if settings.datacenter != settings.primary_datacenter else None
