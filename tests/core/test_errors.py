"""Errors that other servers answer: their text stays, their class comes from the words in it."""

from __future__ import annotations

import pytest

from core.errors import (
    CtlError,
    Denied,
    Invalid,
    Lost,
    NoLeader,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unsent,
    from_remote,
)

# The error strings of protocols/rpc.md section 5.
TEXTS: list[tuple[str, type[CtlError]]] = [
    ("No cluster leader", NoLeader),
    ("No path to datacenter", Unavailable),
    ("Remote DC has no server currently reachable", Unavailable),
    ("No known Consul servers", Unavailable),
    ("Raft leader not found in server lookup mapping", NoLeader),
    ("Not ready to serve consistent reads", Unavailable),
    ("RPC rate limit exceeded", TooManyRequests),
    ("rate limit exceeded, try again later or against a different server", TooManyRequests),
    ("Permission denied", Denied),
    ("ACL not found", Denied),
    ("ACL support disabled", Unauthorized),
    ("rpc: can't find service X.Y", Invalid),
    ("rpc: can't find method X.Y", Invalid),
    ("node is not the leader", NoLeader),
    ("leadership lost while committing log", Unavailable),
    ("timed out enqueuing operation", Unavailable),
    ("leadership transfer in progress", NoLeader),
    ("No cluster leader: leadership transfer in progress", NoLeader),
    ("Must provide key", Invalid),
    ("Missing node registration", Invalid),
    ("Invalid KVS operation 'x'", Invalid),
    ("rpc error getting client: failed to get conn: dial tcp 127.0.0.1:8300: connection refused", Unsent),
    ("rpc error making call: EOF", Lost),
    ("", Invalid),
]


@pytest.mark.parametrize(("text", "kind"), TEXTS)
@pytest.mark.parametrize("hops", [0, 1, 2])
def test_errors_from_other_servers(text: str, kind: type[CtlError], hops: int) -> None:
    text = "rpc error making call: " * hops + text
    error = from_remote(text)
    assert (type(error), str(error)) == (kind, text)


def test_only_what_was_not_carried_out_is_safe_to_repeat() -> None:
    """Nothing of which a write may have been carried out has a class that writes are repeated for."""
    for text in ("leadership lost while committing log", "rpc error making call: EOF"):
        assert not isinstance(from_remote(text), NoLeader | Unsent)
