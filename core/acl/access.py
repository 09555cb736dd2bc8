"""What a judge is asked: may this token read, list or write that resource?

    allows("key", "a/b", "write")      one name
    allows_below("key", "a/", "write") everything that begins so (delete of a tree)
    require(...)                       the same, or Denied with the reason

Names of resources and levels are the rule language's (reference/http.md, column ACL). Resources without
names (acl, keyring, operator, mesh, peering) are asked with the name "". Snapshots need acl:write. To
`list` keys needs no right unless acl.enable_key_list_policy is on: what is listed is then filtered by
`read`."""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

Resource = Literal[
    "acl",
    "agent",
    "event",
    "intention",
    "key",
    "keyring",
    "mesh",
    "node",
    "operator",
    "peering",
    "query",
    "service",
    "session",
]
Access = Literal["read", "list", "write"]


class Decision(Struct, frozen=True):
    """Why something is allowed or not: the rule that decided and its policy, or the default policy."""

    allowed: bool
    policy: str = ""  # the name of the policy; "" where no rule speaks of the name
    rule: str = ""
    default: str = ""  # "allow" or "deny" where no rule speaks of the name


class Authorizer(Protocol):
    """The judge for one token."""

    @property
    def accessor(self) -> str:
        """The token's accessor id; "" where there is no token."""

    @property
    def expires(self) -> bool:
        """Whether the token ends by itself, so that nothing it was given may be kept."""

    def allows(self, resource: Resource, name: str, access: Access) -> bool:
        """Whether the token may do this to that name."""

    def allows_below(self, resource: Resource, prefix: str, access: Access) -> bool:
        """Whether it may do this to every name that begins with `prefix`."""

    def allows_any(self, resource: Resource, access: Access) -> bool:
        """Whether it may do this to any name at all, be it one that is not there yet."""

    def require(self, resource: Resource, name: str, access: Access) -> None:
        """Denied, with the accessor, the right and the name, unless `allows`."""

    def require_below(self, resource: Resource, prefix: str, access: Access) -> None:
        """Denied unless `allows_below`."""

    def explain(self, resource: Resource, name: str, access: Access) -> Decision:
        """What `allows` says, and why."""


class Unlimited:
    """The judge where ACLs are off: everything may be done."""

    accessor = ""
    expires = False

    def allows(self, resource: Resource, name: str, access: Access) -> bool:
        """Yes."""
        return True

    def allows_below(self, resource: Resource, prefix: str, access: Access) -> bool:
        """Yes."""
        return True

    def allows_any(self, resource: Resource, access: Access) -> bool:
        """Yes."""
        return True

    def require(self, resource: Resource, name: str, access: Access) -> None:
        """Granted."""

    def require_below(self, resource: Resource, prefix: str, access: Access) -> None:
        """Granted."""

    def explain(self, resource: Resource, name: str, access: Access) -> Decision:
        """Allowed, since ACLs are off."""
        return Decision(True, default="allow")


UNLIMITED = Unlimited()
