"""Requests, questions and replies: what an endpoint takes and gives, whatever door it came through.

    HTTP bytes -> Request -> handler -> Reply                     (answered at once)
                                     -> Question -> Answer -> Reply   (a read of the state, may block)
                                     -> Command  -> result -> Reply   (a write to the log)
                                     -> Errand   -> result -> Reply   (what only a running server can do)
                                     -> awaitable of a Reply          (agent work that takes time)

A Question and a Command carry an RPC name and arguments, so that a follower or a client agent can
send them on; `core/api/table.py` has all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from msgspec import Struct

from core.acl.access import UNLIMITED, Authorizer
from core.acl.settings import AclSettings
from core.api.query_string import Query as Query
from core.api.query_string import unescape as unescape
from core.gossip.member import Member
from core.metrics import Metrics
from core.node.autopilot import Health
from core.node.definitions import CheckDefinition, ServiceDefinition
from core.node.local import LocalState
from core.raft.configuration import Configuration
from core.store.state import Store
from core.store.structs import Coord, Session
from core.store.watch import Watch

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
PLAIN = "text/plain"


@dataclass(slots=True)
class Request:
    """One request. `path` is unescaped; `rest` is what followed the route's prefix (a key, a name)."""

    method: str
    path: str
    rest: str
    query: Query
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    token: str = ""
    remote: str = ""  # address of the client, "" on the Unix socket
    length: int = 0  # bytes that the client sent as body; more than len(body) when it was beyond the limit
    vars: dict[str, str] = field(default_factory=dict)
    authorizer: Authorizer = UNLIMITED  # judge of the token, on guarded routes


@dataclass(slots=True)
class Reply:
    """One reply. `body` None means none (no Content-Type). `index` > 0 adds the X-Consul-* headers."""

    status: int = 200
    body: bytes | None = None
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    index: int = 0
    stream: AsyncIterator[bytes] | None = None
    fixed: bool = False  # one short object for the life of the program: its bytes are made once
    bare: bool = False  # no endpoint's answer: without the headers that all of those carry


@dataclass(slots=True)
class QueryOptions:
    """structs.QueryOptions: how a read may be answered. Times in ns, 0 = default."""

    token: str = ""
    datacenter: str = ""
    min_query_index: int = 0
    max_query_time: int = 0
    allow_stale: bool = False
    require_consistent: bool = False
    max_stale_duration: int = 0
    use_cache: bool = False
    filter: str = ""


class Answer(Struct):
    """What a read found. `index` is the raft index that it depends on (the runner raises 0 to 1)."""

    index: int
    value: Any
    remember: bool = True  # False: the watch does not cover all that `index` depends on
    last_contact: int = 0  # ns since the answering server heard of the leader
    known_leader: bool = True
    filtered: bool = False  # the token may not see all of it


OPEN: Final = None
"""The permit of work that needs no right, whatever the token, or that asks for it while it is done."""


class Read(Struct, frozen=True):
    """A question by its RPC name. `run(view, args, watch)` is pure: it reads the store, nothing else.
    With ACLs on, `permit(authorizer, args, answer)` gives what the token may see of the answer, or raises
    Denied; it leaves the answer that it was given as it is. Where that must be known while the answer is
    made, `judged(authorizer, view, args, watch)` stands for both. `sift(args, answer)` then picks what the
    arguments' filter wants: only of what may be seen, or the filter would tell of what is hidden.
    `acl_only`: refused where ACLs are off."""

    rpc: str
    run: Callable[[Any, Any, Watch | None], Answer]
    permit: Callable[[Authorizer, Any, Answer], Answer] | None
    judged: Callable[[Authorizer, Any, Any, Watch | None], Answer] | None = None
    acl_only: bool = False
    sift: Callable[[Any, Answer], Answer] | None = None


class Question(Struct):
    """A read to be run here, by the leader, or in another datacenter. `tells_consistency`: the reply
    says how it was answered (X-Consul-Effective-Consistency: catalog, health and query reads).
    `each`: the answer is a list and the body lists what this makes of every element, so that a long one
    may be rendered in slices. `indexed`: the reply has X-Consul-Index."""

    read: Read
    args: Any
    options: QueryOptions
    render: Callable[[Answer], Reply]
    tells_consistency: bool = False
    each: Callable[[Any], Any] | None = None
    indexed: bool = True


class Settled(Struct, frozen=True):
    """The result of a command that needs no log entry."""

    result: Any


class Write(Struct, frozen=True):
    """A command by its RPC name. `prepare(view, args)` runs at the leader: it validates, fills in what
    only the leader may decide, and gives the log bytes, or the result where nothing is to be written
    (or raises). With ACLs on, `permit(authorizer, view, args)` is asked before: it raises Denied, or gives
    the result that refuses; and `shown(authorizer, result)` is what the token may see of the result."""

    rpc: str
    prepare: Callable[[Any, Any], bytes | Settled]
    permit: Callable[[Authorizer, Any, Any], Settled | None] | None
    shown: Callable[[Authorizer, Any], Any] | None = None


class Command(Struct):
    """A write, sent to the leader. Its arguments have a `token`, as those of every write on the wire."""

    write: Write
    args: Any
    render: Callable[[Any], Reply]
    datacenter: str = ""

    @property
    def token(self) -> str:
        token: str = self.args.token
        return token


class Action(Struct, frozen=True):
    """Something that a running server does, by its RPC name: change the servers, fire an event, ask
    autopilot. `run(server, args)` gives the result; `leader`: only the leader can. With ACLs on,
    `permit(authorizer, args)` is asked before and raises Denied."""

    rpc: str
    run: Callable[[ServerDoor, Any], Awaitable[Any]]
    permit: Callable[[Authorizer, Any], None] | None
    leader: bool = True


class Errand(Struct):
    """An Action to be done here, by the leader or another server, or in another datacenter."""

    action: Action
    args: Any
    render: Callable[[Any], Reply]
    datacenter: str = ""
    token: str = ""


Outcome = Reply | Question | Command | Errand | Awaitable[Reply]


class Permissions(Protocol):
    """Tokens and their judges, as this agent knows them. agent/acl.py fulfils it; none where ACLs are off."""

    def token(self, given: str) -> str:
        """The token that counts: the one given with a request, else the agent's default token."""

    def known(self, token: str) -> Authorizer | None:
        """The judge of a token (`""`: the anonymous one); None when a server must be asked first.
        Denied ("ACL not found") when there is no such token."""

    def latest(self, token: str) -> Authorizer | None:
        """The judge that was found last, good or not, for those who cannot wait until another is found."""

    async def find(self, token: str) -> Authorizer:
        """The judge of a token, asking a server where that is needed; when none answers, what
        acl.down_policy says. Denied when there is no such token."""


TokenKind = Literal[
    "agent", "agent_recovery", "config_file_service_registration", "default", "dns", "replication"
]


class TokensDoor(Protocol):
    """The tokens that this agent itself works with. agent/tokens.py fulfils it."""

    def secret(self, kind: TokenKind) -> str:
        """The secret in use, "" when there is none."""

    async def set(self, kind: TokenKind, secret: str) -> None:
        """Use this one from now on, and after a restart where acl.enable_token_persistence is on.
        CtlError when it cannot be stored; it is in use nevertheless."""


class LogLines(Protocol):
    """The log from now on, in chunks of whole lines."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...


class LocalDoor(Protocol):
    """What endpoints may ask of the services and checks of this agent. agent/local.py fulfils it."""

    @property
    def state(self) -> LocalState: ...

    async def add_service(self, service: ServiceDefinition, replace_checks: bool, token: str) -> None: ...

    async def remove_service(self, service_id: str) -> None: ...

    async def add_check(self, check: CheckDefinition, token: str) -> None: ...

    async def remove_check(self, check_id: str) -> None: ...

    def update_ttl_check(self, check_id: str, status: str, output: str) -> None: ...

    async def maintain_service(self, service_id: str, enable: bool, reason: str, token: str) -> None: ...

    async def maintain_node(self, enable: bool, reason: str, token: str) -> None: ...

    async def wait(self, watch: Watch, wait_time: int) -> bool:
        """Whether `watch` fired within `wait_time` ns (and up to a sixteenth more, by chance)."""


class Saved(Struct):
    """A snapshot of the state at `index`, and how the server that took it stands to the leader."""

    index: int
    stream: AsyncIterator[bytes]  # the archive
    last_contact: int = 0  # ns since the server heard of the leader
    known_leader: bool = True


class SnapshotDoor(Protocol):
    """Saves and restores the state of a datacenter ("": the own one). agent/archives.py fulfils it."""

    async def save(self, datacenter: str, stale: bool, token: str) -> Saved:
        """By the leader, or with `stale` by any server. CtlError."""

    async def may_restore(self, datacenter: str, token: str) -> None:
        """Denied when it can be told here that the token may not: before a long archive is taken in."""

    async def restore(self, archive: bytes, datacenter: str, token: str) -> None:
        """Return when a quorum has it. CtlError: nothing was changed, unless the leader was lost."""


class AgentDoor(Protocol):
    """What endpoints may ask of the agent they run in. agent/main.py's Agent fulfils it."""

    @property
    def node_name(self) -> str: ...

    @property
    def datacenter(self) -> str: ...

    @property
    def kv_max_value_size(self) -> int: ...

    @property
    def txn_max_req_len(self) -> int: ...

    def known_datacenters(self) -> list[str]: ...

    def members(self, wan: bool) -> list[dict[str, Any]]: ...

    def self_description(self) -> dict[str, Any]: ...

    def leader_address(self) -> str: ...

    @property
    def local(self) -> LocalDoor: ...

    @property
    def snapshots(self) -> SnapshotDoor: ...

    @property
    def translate_wan_addrs(self) -> bool:
        """Whether nodes and services of other datacenters are shown with their WAN addresses."""

    @property
    def keeps_coordinates(self) -> bool: ...

    # who may do what
    @property
    def acl(self) -> AclSettings: ...

    @property
    def permissions(self) -> Permissions | None:
        """None where ACLs are off."""

    @property
    def tokens(self) -> TokensDoor: ...

    # the agent itself
    @property
    def metrics(self) -> Metrics: ...

    @property
    def prometheus_enabled(self) -> bool: ...

    @property
    def max_query_time(self) -> int: ...

    async def host_facts(self) -> dict[str, Any]: ...

    def follow_log(self, level: str, as_json: bool) -> LogLines: ...

    def wall(self) -> float: ...

    # what more than one question or errand is needed for
    async def ask(self, question: Question) -> Answer:
        """Have a read answered, wherever that can be done. CtlError."""

    async def run(self, errand: Errand) -> Any:
        """Have an action done by a server that can. CtlError."""

    # life
    async def join(self, address: str, wan: bool) -> None: ...

    async def leave(self, destroy_quorum: bool = False) -> None: ...

    async def force_leave(self, node: str, prune: bool, wan: bool = False) -> None: ...

    async def reload(self) -> list[str]:
        """Take the new configuration, all of it or nothing; what waits for a restart is returned."""


class RaftDoor(Protocol):
    """What actions may ask of Raft. agent/raft.py's RaftService fulfils it."""

    @property
    def is_leader(self) -> bool: ...

    @property
    def leader_id(self) -> str: ...

    @property
    def configuration(self) -> Configuration: ...

    async def apply(self, data: bytes) -> object:
        """Write a log command and wait for its result; an error of the state machine is a result."""

    async def change(self, configuration: Configuration) -> None: ...

    def transfer(self, target: str = "") -> str: ...

    async def barrier(self) -> None: ...


class GossipDoor(Protocol):
    """A gossip pool (LAN or WAN) as the rest of the agent sees it; all from the agent's own loop.
    agent/gossip.py fulfils it."""

    def members(self) -> Sequence[Member]: ...

    async def user_event(self, name: str, payload: bytes, coalesce: bool = False) -> None:
        """Tell everyone. Invalid when it is too large."""

    async def keyring(self, operation: str, key: str, relay_factor: int) -> KeyringAnswer:
        """`list`, `install`, `use` or `remove` a key (base64) on every member."""

    def coordinate(self) -> Coord: ...


class KeyringAnswer(Struct):
    """What the members of one pool answered to a keyring operation."""

    messages: dict[str, str] = {}  # by node: what went wrong there
    keys: dict[str, int] = {}  # key -> how many members have it
    primary_keys: dict[str, int] = {}
    nodes: int = 0
    error: str = ""


class ServerDoor(Protocol):
    """What actions may ask of the server that they run on. agent/server.py fulfils it."""

    @property
    def datacenter(self) -> str: ...

    @property
    def store(self) -> Store: ...

    @property
    def raft(self) -> RaftDoor: ...

    @property
    def lan(self) -> GossipDoor: ...

    @property
    def wan(self) -> GossipDoor | None: ...

    @property
    def acl(self) -> AclSettings: ...

    @property
    def permissions(self) -> Permissions | None:
        """None where ACLs are off."""

    def bootstrap_reset_index(self) -> int:
        """What the file acl-bootstrap-reset in the data directory says; 0 without it. The file is removed."""

    def wall(self) -> float:
        """Unix seconds by this server's clock."""

    async def fetch(self, url: str, ca: str, fresh: bool = False) -> bytes:
        """The document at an http(s) URL whose server `ca` (PEM; "": the system's authorities) vouches for;
        one remembered from minutes ago will do unless it must be `fresh`. Unavailable."""

    def renew_session(self, session: Session) -> None:
        """The session's TTL starts anew."""

    def autopilot_health(self) -> Health:
        """Autopilot's last judgement."""

    async def transfer_leader(self, target: str) -> None:
        """Hand leadership to the server with this id ("": any that is able), and wait until it is lost."""


Handler = Callable[[AgentDoor, Request], Outcome]
_NAMESPACED = (
    *("/v1/kv/", "/v1/session/", "/v1/catalog/", "/v1/health/", "/v1/internal/ui/", "/v1/agent/service"),
    *("/v1/agent/check", "/v1/agent/health/"),
)
_OF_NODES = ("/v1/catalog/datacenters", "/v1/catalog/nodes")


class Route(Struct):
    """One HTTP form. `path` ends in `/` when something follows; `methods` in the order of Allow.
    `label` is its name in metrics: `v1_kv_`, `v1_agent_self`. `namespaced`: in the enterprise edition it
    is about things that belong to a namespace."""

    path: str
    methods: tuple[str, ...]
    handler: Handler
    large: bool = False  # takes bodies beyond the usual limit and checks them itself
    guarded: bool = False  # the agent itself judges: the request comes with its token's authorizer
    label: str = ""
    namespaced: bool = False

    def __post_init__(self) -> None:
        self.label = self.path[1:].replace("/", "_")
        self.namespaced = self.path.startswith(_NAMESPACED) and self.path not in _OF_NODES
