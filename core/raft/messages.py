"""The Raft vocabulary: log entries and the five calls, as values and as bytes (protocols/raft.md, section 1).

On the wire a request is a type byte and a msgpack map, a response is a msgpack error text and a
msgpack map. Fields that never travel (`request`, `sent_at`, ...) connect an answer with its question
inside one process. Peers are told apart by server id. The wire of 1.9.8 only carries the sender's
address; later versions, and ctl, also put ID and Addr into every header (`header`), which older ones
skip. `sender` is that ID as received, "" if there was none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from core.codec.msgpack import decode as unpack
from core.codec.msgpack import encode as pack

PROTOCOL_VERSION = 3
UNSUPPORTED_VERSION = "operation not supported with current protocol version"
UNEXPECTED_COMMAND = "unexpected command"

# Entry types
COMMAND = 0
NOOP = 1
ADD_PEER = 2
REMOVE_PEER = 3
BARRIER = 4
CONFIGURATION = 5

# Type bytes of the calls
APPEND_ENTRIES = 0
REQUEST_VOTE = 1
INSTALL_SNAPSHOT = 2
TIMEOUT_NOW = 3
REQUEST_PRE_VOTE = 4


class Entry(Struct, gc=False):
    """One log entry. `data` None and empty are different on the wire; bytes stay as received."""

    index: int = 0
    term: int = 0
    type: int = COMMAND
    data: bytes | None = None
    extensions: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of payload, for batch limits."""
        return len(self.data or b"") + len(self.extensions or b"")


class AppendEntries(Struct):
    """Entries, or news of the commit index, or (entries None, previous 0) a heartbeat."""

    term: int
    leader: str  # advertised address
    prev_index: int = 0
    prev_term: int = 0
    entries: list[Entry] | None = None
    commit: int = 0
    version: int = PROTOCOL_VERSION
    sent_at: float = 0.0  # not on the wire
    sequence: int = 0  # not on the wire: names this request among those of one leader
    round: int = 0  # not on the wire: verify round that an answer confirms
    sender: str = ""

    @property
    def is_heartbeat(self) -> bool:
        return not self.entries and not self.prev_index and not self.prev_term and not self.commit


class AppendReply(Struct):
    """`last_log` is the last index before the request's entries were appended."""

    term: int
    last_log: int
    success: bool
    no_retry_backoff: bool = False
    version: int = PROTOCOL_VERSION
    request: AppendEntries | None = None


class RequestVote(Struct):
    """Asks for the vote in `term`; `transfer` overrules the known leader."""

    term: int
    candidate: str  # advertised address
    last_index: int
    last_term: int
    transfer: bool = False
    version: int = PROTOCOL_VERSION
    sender: str = ""


class VoteReply(Struct):
    """`peers` is a field of old versions, always nil."""

    term: int
    granted: bool
    peers: bytes | None = None
    version: int = PROTOCOL_VERSION
    request: RequestVote | None = None


class RequestPreVote(Struct):
    """Asks whether a vote in `term` (own + 1) would be granted; nothing is stored (raft 1.7)."""

    term: int
    candidate: str
    last_index: int
    last_term: int
    version: int = PROTOCOL_VERSION
    sender: str = ""


class PreVoteReply(Struct):
    """Whether the vote would be granted. A peer without pre-vote counts as granting."""

    term: int
    granted: bool
    version: int = PROTOCOL_VERSION
    request: RequestPreVote | None = None


class InstallSnapshot(Struct):
    """The header of a snapshot; `size` bytes of state follow it on the wire.

    `handle` is whatever the shell needs to find those bytes, on both sides."""

    term: int
    leader: str
    last_index: int
    last_term: int
    configuration: bytes
    configuration_index: int
    size: int = 0
    peers: bytes | None = None
    snapshot_version: int = 1
    version: int = PROTOCOL_VERSION
    handle: Any = None  # not on the wire
    sent_at: float = 0.0  # not on the wire
    sequence: int = 0  # not on the wire
    sender: str = ""


class InstallReply(Struct):
    """Whether the snapshot was stored and restored."""

    term: int
    success: bool
    version: int = PROTOCOL_VERSION
    request: InstallSnapshot | None = None


class TimeoutNow(Struct):
    """Tells a voter to start an election at once (leadership transfer)."""

    version: int = PROTOCOL_VERSION
    sender: str = ""


class TimeoutReply(Struct):
    """Says nothing; the votes that follow do."""

    version: int = PROTOCOL_VERSION
    request: TimeoutNow | None = None


class Unreachable(Struct):
    """Said by the shell: `request` could not be delivered or was not answered."""

    request: Request


KINDS: dict[type, int] = {
    AppendEntries: APPEND_ENTRIES,
    RequestVote: REQUEST_VOTE,
    InstallSnapshot: INSTALL_SNAPSHOT,
    TimeoutNow: TIMEOUT_NOW,
    RequestPreVote: REQUEST_PRE_VOTE,
}
Request: TypeAlias = AppendEntries | RequestVote | RequestPreVote | InstallSnapshot | TimeoutNow
Response: TypeAlias = AppendReply | VoteReply | PreVoteReply | InstallReply | TimeoutReply


_NO_HEADER: Mapping[str, Any] = {}


def _pack(fields: dict[str, Any]) -> bytes:
    """Old msgpack (raw only) with sorted keys, as every struct has on this wire."""
    return pack(dict(sorted(fields.items())))


def _fields(data: bytes) -> dict[bytes, Any]:
    fields = unpack(data)
    if not isinstance(fields, dict):
        raise ValueError(f"a map was expected, not {type(fields).__name__}")
    return fields


def _number(fields: dict[bytes, Any], name: bytes) -> int:
    value = fields.get(name)
    if value is None:
        return 0
    if not isinstance(value, int):
        raise ValueError(f"{name.decode()}: a number was expected")
    return int(value)


def _bytes(fields: dict[bytes, Any], name: bytes) -> bytes | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, bytes):
        raise ValueError(f"{name.decode()}: bytes were expected")
    return value


def _text(fields: dict[bytes, Any], name: bytes) -> str:
    return (_bytes(fields, name) or b"").decode("utf-8", "surrogateescape")


def _flag(fields: dict[bytes, Any], name: bytes) -> bool:
    return bool(fields.get(name))


def entry_fields(entry: Entry) -> dict[str, Any]:
    """An entry as the wire's map (also the value format of raft.db)."""
    return {
        "Data": entry.data,
        "Extensions": entry.extensions,
        "Index": entry.index,
        "Term": entry.term,
        "Type": entry.type,
    }


def entry_of(fields: Any) -> Entry:
    """The entry in a decoded map. ValueError if it is none."""
    if not isinstance(fields, dict):
        raise ValueError("an entry must be a map")
    return Entry(
        _number(fields, b"Index"),
        _number(fields, b"Term"),
        _number(fields, b"Type"),
        _bytes(fields, b"Data"),
        _bytes(fields, b"Extensions"),
    )


def encode_entry(entry: Entry) -> bytes:
    """One entry alone, as raft.db stores it."""
    return _pack(entry_fields(entry))


def decode_entry(data: bytes) -> Entry:
    """The reverse of `encode_entry`. ValueError if the bytes are no entry."""
    return entry_of(_fields(data))


def header(server_id: str, address: str) -> dict[str, Any]:
    """What raft 1.7 adds to every message: who sends it."""
    return {
        "Addr": address.encode("utf-8", "surrogateescape"),
        "ID": server_id.encode("utf-8", "surrogateescape"),
    }


def encode_request(request: Request, header: Mapping[str, Any] = _NO_HEADER) -> bytes:
    """Type byte and map. The state that follows an InstallSnapshot is the caller's to send."""
    version: dict[str, Any] = {"ProtocolVersion": request.version, **header}
    if isinstance(request, AppendEntries):
        entries = request.entries
        return b"\x00" + _pack(
            version
            | {
                "Entries": None if entries is None else [entry_fields(entry) for entry in entries],
                "Leader": request.leader.encode("utf-8", "surrogateescape"),
                "LeaderCommitIndex": request.commit,
                "PrevLogEntry": request.prev_index,
                "PrevLogTerm": request.prev_term,
                "Term": request.term,
            }
        )
    if isinstance(request, InstallSnapshot):
        return b"\x02" + _pack(
            version
            | {
                "Configuration": request.configuration,
                "ConfigurationIndex": request.configuration_index,
                "LastLogIndex": request.last_index,
                "LastLogTerm": request.last_term,
                "Leader": request.leader.encode("utf-8", "surrogateescape"),
                "Peers": request.peers,
                "Size": request.size,
                "SnapshotVersion": request.snapshot_version,
                "Term": request.term,
            }
        )
    if isinstance(request, TimeoutNow):
        return b"\x03" + _pack(version)
    vote = version | {
        "LastLogIndex": request.last_index,
        "LastLogTerm": request.last_term,
        "Term": request.term,
    }
    if isinstance(request, RequestVote):
        candidate = request.candidate.encode("utf-8", "surrogateescape")
        return b"\x01" + _pack(vote | {"Candidate": candidate, "LeadershipTransfer": request.transfer})
    return b"\x04" + _pack(vote | {"Addr": request.candidate.encode("utf-8", "surrogateescape")})


def decode_request(kind: int, data: bytes) -> Request:
    """The request of type byte `kind` in one msgpack map. ValueError if it is none."""
    return request_of(kind, _fields(data))


def request_of(kind: int, fields: Any) -> Request:
    """The request of type byte `kind` in a decoded map. ValueError if it is none."""
    if not isinstance(fields, dict):
        raise ValueError(f"a map was expected, not {type(fields).__name__}")
    request = _request_of(kind, fields)
    request.sender = _text(fields, b"ID")
    return request


def _request_of(kind: int, fields: dict[bytes, Any]) -> Request:
    version = _number(fields, b"ProtocolVersion")
    term = _number(fields, b"Term")
    if kind == APPEND_ENTRIES:
        entries = fields.get(b"Entries")
        if entries is not None and not isinstance(entries, list):
            raise ValueError("Entries: a list was expected")
        return AppendEntries(
            term,
            _text(fields, b"Addr") or _text(fields, b"Leader"),
            _number(fields, b"PrevLogEntry"),
            _number(fields, b"PrevLogTerm"),
            None if entries is None else [entry_of(entry) for entry in entries],
            _number(fields, b"LeaderCommitIndex"),
            version,
        )
    last_index, last_term = _number(fields, b"LastLogIndex"), _number(fields, b"LastLogTerm")
    if kind == REQUEST_VOTE:
        candidate = _text(fields, b"Addr") or _text(fields, b"Candidate")
        transfer = _flag(fields, b"LeadershipTransfer")
        return RequestVote(term, candidate, last_index, last_term, transfer, version)
    if kind == REQUEST_PRE_VOTE:
        return RequestPreVote(term, _text(fields, b"Addr"), last_index, last_term, version)
    if kind == INSTALL_SNAPSHOT:
        return InstallSnapshot(
            term,
            _text(fields, b"Addr") or _text(fields, b"Leader"),
            last_index,
            last_term,
            _bytes(fields, b"Configuration") or b"",
            _number(fields, b"ConfigurationIndex"),
            _number(fields, b"Size"),
            _bytes(fields, b"Peers"),
            _number(fields, b"SnapshotVersion"),
            version,
        )
    if kind == TIMEOUT_NOW:
        return TimeoutNow(version)
    raise ValueError(f"unknown raft message type {kind}")


def encode_response(
    response: Response | None, error: str = "", header: Mapping[str, Any] = _NO_HEADER
) -> bytes:
    """Error text and map; nil instead of the map when there was an error."""
    head = pack(error)
    if response is None or error:
        return head + b"\xc0"
    version: dict[str, Any] = {"ProtocolVersion": response.version, **header}
    if isinstance(response, AppendReply):
        return head + _pack(
            version
            | {
                "LastLog": response.last_log,
                "NoRetryBackoff": response.no_retry_backoff,
                "Success": response.success,
                "Term": response.term,
            }
        )
    if isinstance(response, VoteReply):
        return head + _pack(
            version | {"Granted": response.granted, "Peers": response.peers, "Term": response.term}
        )
    if isinstance(response, PreVoteReply):
        return head + _pack(version | {"Granted": response.granted, "Term": response.term})
    if isinstance(response, InstallReply):
        return head + _pack(version | {"Success": response.success, "Term": response.term})
    return head + _pack(version)


def decode_response(kind: int, fields: dict[bytes, Any]) -> Response:
    """The response to a request of type byte `kind` from its decoded map. ValueError if it is none."""
    version, term = _number(fields, b"ProtocolVersion"), _number(fields, b"Term")
    if kind == APPEND_ENTRIES:
        success, fast = _flag(fields, b"Success"), _flag(fields, b"NoRetryBackoff")
        return AppendReply(term, _number(fields, b"LastLog"), success, fast, version)
    if kind == REQUEST_VOTE:
        return VoteReply(term, _flag(fields, b"Granted"), _bytes(fields, b"Peers"), version)
    if kind == REQUEST_PRE_VOTE:
        return PreVoteReply(term, _flag(fields, b"Granted"), version)
    if kind == INSTALL_SNAPSHOT:
        return InstallReply(term, _flag(fields, b"Success"), version)
    if kind == TIMEOUT_NOW:
        return TimeoutReply(version)
    raise ValueError(f"unknown raft message type {kind}")


def refused_version(version: int) -> bool:
    """Whether a request of this protocol version must be refused (raft.md: above 3 or below own - 1)."""
    return version > PROTOCOL_VERSION or version < PROTOCOL_VERSION - 1
