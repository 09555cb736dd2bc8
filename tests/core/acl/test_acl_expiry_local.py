"""Copies of tokens end when the primary datacenter says so."""

from __future__ import annotations

from core.acl.expiry import expired
from core.codec import msgpack
from core.store.acl_structs import ACLToken, ACLTokenBatchSetRequest
from core.store.commands import ACL_TOKEN_SET, command
from core.store.fsm import FSM


def test_only_the_tokens_of_the_datacenter_itself_are_reaped_beside_copies() -> None:
    fsm = FSM()
    ends = msgpack.encode_time(100)
    tokens = [
        ACLToken(accessor_id="copy", secret_id="c", expiration_time=ends),
        ACLToken(accessor_id="own", secret_id="o", expiration_time=ends, local=True),
    ]
    fsm.apply(1, command(ACL_TOKEN_SET, ACLTokenBatchSetRequest(tokens)))
    assert sorted(expired(fsm.store, 200.0, 30.0)[0]) == ["copy", "own"]
    assert expired(fsm.store, 200.0, 30.0, local_only=True) == (["own"], 30.0)
    assert expired(fsm.store, 50.0, 30.0, local_only=True) == ([], 30.0)
    assert expired(fsm.store, 99.5, 30.0, local_only=True) == ([], 0.5)
