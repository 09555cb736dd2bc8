"""One tree of errors. Each knows its HTTP status and its exit code; its text is the wire's text.

    CtlError
    ├── BadRequest        400  what the caller sent is wrong ("Bad request: ..." on HTTP)
    ├── Unauthorized      401  the feature is off (ACL support disabled)
    ├── Denied            403  permission denied, ACL not found
    ├── NotFound          404
    ├── MethodNotAllowed  405
    ├── TooLarge          413
    ├── Unsupported       415
    ├── TooManyRequests   429
    ├── Invalid           500  refused by the servers' own validation (Consul answers 500 for these)
    ├── Unavailable       500  no leader, lost leadership, no path to a datacenter: retry may help
    │   ├── NoLeader      500  "No cluster leader"
    │   ├── Unsent        500  another server could not be reached: nothing was sent, any call may be retried
    │   └── Lost          500  the connection broke while a call was under way: it may have been carried out
    ├── StorageFull       500  the log could not be written (disk full or failing); nothing was acknowledged
    └── ConfigError        -   configuration text, file and key named

`reference/http.md`: 400 is for what a handler itself finds wrong, errors that come back from the
servers (validation included) are 500 with the error as text.
"""

from __future__ import annotations


class CtlError(Exception):
    """Base of all errors that ctl raises on purpose. `str(error)` is the text shown to users."""

    status = 500
    exit_code = 1

    @property
    def text(self) -> str:
        return str(self)


class BadRequest(CtlError):
    """The caller's request is wrong (HTTP 400)."""

    status = 400


class Unauthorized(CtlError):
    """The feature asked for is switched off (HTTP 401)."""

    status = 401


class Denied(CtlError):
    """Permission denied or unknown token (HTTP 403)."""

    status = 403


class NotFound(CtlError):
    """No such object (HTTP 404)."""

    status = 404


class MethodNotAllowed(CtlError):
    """The route exists, the method does not (HTTP 405)."""

    status = 405


class TooLarge(CtlError):
    """A value or body beyond its limit (HTTP 413)."""

    status = 413


class Unsupported(CtlError):
    """A format that this agent does not offer (HTTP 415)."""

    status = 415


class TooManyRequests(CtlError):
    """A limit of the agent was reached (HTTP 429)."""

    status = 429


class Invalid(CtlError):
    """Refused by the servers' validation; Consul answers 500 with the text."""


class Unavailable(CtlError):
    """The cluster cannot answer now: no leader, no path. A retry may help."""


class NoLeader(Unavailable):
    """No leader is known. Text is Consul's, clients match on it."""

    def __init__(self, text: str = "No cluster leader") -> None:
        super().__init__(text)


class Unsent(Unavailable):
    """A server could not be reached; the call never left, so even a write may go to another one."""


class Lost(Unavailable):
    """The connection broke after a call was sent: a read may be retried, a write may have been done."""


class StorageFull(Unavailable):
    """The durable log could not be written; the write was not acknowledged and left no trace."""


class ConfigError(CtlError):
    """Configuration that cannot be used; the text names file and key."""


# What an error's text means, wherever in it these words are, the first hit (protocols/rpc.md section 5).
_REMOTE: tuple[tuple[str, type[CtlError]], ...] = (
    ("Query not found", NotFound),
    ("Permission denied", Denied),
    ("ACL not found", Denied),
    ("ACL support disabled", Unauthorized),
    ("No cluster leader", NoLeader),
    ("node is not the leader", NoLeader),
    ("Raft leader not found in server lookup mapping", NoLeader),
    ("rate limit exceeded", TooManyRequests),
    ("No path to datacenter", Unavailable),
    ("Remote DC has no server currently reachable", Unavailable),
    ("No known Consul servers", Unavailable),
    ("Not ready to serve consistent reads", Unavailable),
    ("leadership lost while committing log", Unavailable),
    ("leadership transfer in progress", NoLeader),  # refused before it was appended: who leads next takes it
    ("timed out enqueuing operation", Unavailable),
    ("raft is already shutdown", Unavailable),
    ("rpc error getting client", Unsent),
    ("rpc error making call: EOF", Lost),
)


def from_remote(text: str) -> CtlError:
    """The error that a server answered with `text`: its class by the words in it, its text as it is."""
    for words, kind in _REMOTE:
        if words in text:
            return kind(text)
    return Invalid(text)
