"""What there is before anybody made anything: the policy that grants all, the anonymous token, and the
first management token where the configuration names its secret."""

from __future__ import annotations

from core.acl.hashes import hashed_policy, hashed_token
from core.store.acl import ANONYMOUS, GLOBAL_MANAGEMENT
from core.store.acl_structs import ACLLink, ACLPolicy, ACLToken

ANONYMOUS_SECRET = "anonymous"  # a name, not a secret

# The text of Consul 1.9, so that servers of both kinds leave it as it is; mesh and peering go with operator.
MANAGEMENT_RULES = """
acl = "write"
agent_prefix "" {
	policy = "write"
}
event_prefix "" {
	policy = "write"
}
key_prefix "" {
	policy = "write"
}
keyring = "write"
node_prefix "" {
	policy = "write"
}
operator = "write"
query_prefix "" {
	policy = "write"
}
service_prefix "" {
	policy = "write"
	intentions = "write"
}
session_prefix "" {
	policy = "write"
}"""


def management_policy() -> ACLPolicy:
    """The policy `global-management`."""
    return hashed_policy(
        ACLPolicy(
            id=GLOBAL_MANAGEMENT,
            name="global-management",
            description="Builtin Policy that grants unlimited access",
            rules=MANAGEMENT_RULES,
        )
    )


def anonymous_token(create_time: bytes) -> ACLToken:
    """The token of requests without one."""
    return hashed_token(
        ACLToken(
            accessor_id=ANONYMOUS,
            secret_id=ANONYMOUS_SECRET,
            description="Anonymous Token",
            create_time=create_time,
        )
    )


def management_token(accessor: str, secret: str, description: str, create_time: bytes) -> ACLToken:
    """A token that may do everything: the bootstrap token, or that of the configuration."""
    return hashed_token(
        ACLToken(
            accessor_id=accessor,
            secret_id=secret,
            description=description,
            policies=[ACLLink(GLOBAL_MANAGEMENT)],
            type="management",
            create_time=create_time,
        )
    )
