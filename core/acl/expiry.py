"""Which tokens have ended."""

from __future__ import annotations

from core.codec.msgpack import decode_time, encode_time
from core.store.acl import ACLState

BATCH = 4096  # tokens that one log command deletes
_TIME_BYTES = 13  # of a time's bytes those that order it; behind them is the zone


def expired(state: ACLState, now: float, longest: float, local_only: bool = False) -> tuple[list[str], float]:
    """The accessors of the tokens that have ended by `now` (Unix seconds), and the seconds until it is worth
    to look again, at most `longest`. `local_only`: the others are copies, which follow the primary."""
    seconds = int(now)
    now_bytes = encode_time(seconds, int((now - seconds) * 1e9))[:_TIME_BYTES]
    rows, ended, first = state.acl_tokens.rows, [], b""
    for secret in state.acl_tokens.group("expires", True):
        row = rows[secret]
        if local_only and not row.local:
            continue
        ends = (row.expiration_time or b"")[:_TIME_BYTES]
        if ends <= now_bytes:
            ended.append(row.accessor_id)
        elif not first or ends < first:
            first = ends
    if not first:
        return ended, longest
    next_seconds, nanoseconds, _ = decode_time(first + b"\xff\xff")
    return ended, min(longest, max(0.1, next_seconds + nanoseconds / 1e9 - now))
