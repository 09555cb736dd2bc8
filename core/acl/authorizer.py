"""The judge of a token: its rights, and the default policy where they say nothing.

A refusal tells what is needed to put it right: whose token, which right, on what, and who refused."""

from __future__ import annotations

from typing import Literal

from core.acl.access import Access, Decision, Resource
from core.acl.rights import NEEDS, Held, Rights
from core.codec.duration import quote
from core.errors import Denied
from core.store.acl import ANONYMOUS

Default = Literal["allow", "deny", "manage"]  # `allow` is not for the ACLs themselves, `manage` is
_NO_TOKEN = " The anonymous token is used implicitly when a request does not specify a token."


class Judge:
    """core.acl.access.Authorizer. `place`: the agent that it judges for. `expires`: when the token ends,
    Unix seconds, 0 for never."""

    __slots__ = ("_default", "_key_list", "_names", "_place", "accessor", "expires_at")

    def __init__(
        self,
        accessor: str,
        rights: Rights,
        default: Default,
        place: str,
        key_list: bool = False,
        expires_at: float = 0.0,
    ) -> None:
        self.accessor = accessor
        self.expires_at = expires_at
        self._names = rights.names
        self._default = default
        self._place = place
        self._key_list = key_list

    @property
    def expires(self) -> bool:
        """Whether the token ends by itself, so that nothing it was given may be kept."""
        return self.expires_at > 0

    def allows(self, resource: Resource, name: str, access: Access) -> bool:
        """Whether the token may do this to that name."""
        if name == "*" and resource == "intention":
            return self._allows_every_intention(access)
        if access == "list" and self._lists_freely(resource):
            return True
        held = self._names[resource].find(name)
        return self._by_default(resource) if held is None else held.grants >= NEEDS[access]

    def allows_below(self, resource: Resource, prefix: str, access: Access) -> bool:
        """Whether it may do this to every name that begins with `prefix`: the rule for the prefix grants
        it, and no rule for anything below takes it back."""
        if access == "list" and self._lists_freely(resource):
            return True
        names, needs = self._names[resource], NEEDS[access]
        held = names.above(prefix)
        if held is not None and held.grants < needs:
            return False
        if any(one.grants < needs for one in names.below(prefix)):
            return False
        return held is not None or self._by_default(resource)

    def allows_any(self, resource: Resource, access: Access) -> bool:
        """Whether it may do this to any name at all, be it one that is not there yet."""
        names = self._names[resource]
        if names.most >= NEEDS[access]:
            return True
        return names.above("") is None and self._by_default(resource)

    def require(self, resource: Resource, name: str, access: Access) -> None:
        """Denied unless `allows`."""
        if not self.allows(resource, name, access):
            raise self._refusal(resource, access, f" on {quote(name)}" if name else "")

    def require_below(self, resource: Resource, prefix: str, access: Access) -> None:
        """Denied unless `allows_below`."""
        if not self.allows_below(resource, prefix, access):
            raise self._refusal(resource, access, f" on all below {quote(prefix)}")

    def explain(self, resource: Resource, name: str, access: Access) -> Decision:
        """What `allows` says, and why."""
        allowed = self.allows(resource, name, access)
        held: Held | None = self._names[resource].find(name)
        if held is None or (access == "list" and self._lists_freely(resource)):
            return Decision(allowed, default="allow" if allowed else "deny")
        return Decision(allowed, held.policy, str(held.rule))

    def _by_default(self, resource: Resource) -> bool:
        return self._default == "manage" or (self._default == "allow" and resource != "acl")

    def _lists_freely(self, resource: Resource) -> bool:
        return resource == "key" and not self._key_list

    def _allows_every_intention(self, access: Access) -> bool:
        if access == "read":  # to see those for all services one needs to see any
            return self.allows_any("intention", access)
        return self.allows_below("intention", "", access)

    def _refusal(self, resource: Resource, access: Access, what: str) -> Denied:
        lacks = f"lacks permission '{resource}:{access}'{what}"
        if self.accessor == ANONYMOUS:
            whose, hint = "anonymous token", "." + _NO_TOKEN
        else:
            whose, hint = f"token with AccessorID '{self.accessor}'" if self.accessor else "token", ""
        return Denied(f"Permission denied: {whose} {lacks}{hint} (refused by {quote(self._place)})")
