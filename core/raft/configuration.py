"""Who the servers are: the configuration entries of the log and the rule that only one may be open.

A configuration counts from the moment it is appended; if its entry is truncated away, the last
committed one counts again (protocols/raft.md, section 2)."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.codec.msgpack import decode as unpack
from core.codec.msgpack import encode as pack
from core.errors import Invalid

VOTER = 0
NONVOTER = 1
STAGING = 2

SUFFRAGE = {VOTER: "Voter", NONVOTER: "Nonvoter", STAGING: "Staging"}


class Server(Struct, frozen=True):
    """One member of a configuration: node id, last known address, right to vote."""

    id: str
    address: str
    suffrage: int = VOTER

    def __str__(self) -> str:
        return f"{{Suffrage:{SUFFRAGE.get(self.suffrage, '?')} ID:{self.id} Address:{self.address}}}"


class Configuration(Struct, frozen=True):
    """An ordered list of servers. Values are never changed, only replaced."""

    servers: tuple[Server, ...] = ()

    def get(self, server_id: str) -> Server | None:
        """The server with this id, if it is a member."""
        for server in self.servers:
            if server.id == server_id:
                return server
        return None

    def by_address(self, address: str) -> Server | None:
        """The server with this address, if it is a member."""
        for server in self.servers:
            if server.address == address:
                return server
        return None

    def votes(self, server_id: str) -> bool:
        """Whether this server is a voter."""
        server = self.get(server_id)
        return server is not None and server.suffrage == VOTER

    @property
    def voters(self) -> list[str]:
        """Ids of all voters."""
        return [server.id for server in self.servers if server.suffrage == VOTER]

    @property
    def quorum(self) -> int:
        """How many voters are a majority."""
        return len(self.voters) // 2 + 1

    def is_sole(self, server_id: str) -> bool:
        """Whether this server is the only member and a voter: nobody else can know or decide anything."""
        return len(self.servers) == 1 and self.votes(server_id)

    def __str__(self) -> str:
        return f"[{' '.join(map(str, self.servers))}]"

    def encode(self) -> bytes:
        """The data of a configuration entry."""
        servers = [{"Address": s.address, "ID": s.id, "Suffrage": s.suffrage} for s in self.servers]
        return pack({"Servers": servers})

    def encode_peers(self) -> bytes:
        """The old form in snapshots: the voters' addresses."""
        addresses = [server.address for server in self.servers if server.suffrage == VOTER]
        return pack(addresses)

    # The four changes; each gives the next configuration or raises Invalid.

    def with_voter(self, server_id: str, address: str) -> Configuration:
        """Add or promote; the same id with another address updates the address."""
        return self._with(Server(server_id, address, VOTER))

    def with_nonvoter(self, server_id: str, address: str) -> Configuration:
        """Add without a vote. A voter stays a voter and only gets the address."""
        known = self.get(server_id)
        return self._with(Server(server_id, address, known.suffrage if known else NONVOTER))

    def demoted(self, server_id: str) -> Configuration:
        """Take the vote away."""
        known = self.get(server_id)
        if known is None:
            raise Invalid(f'id "{server_id}" was not found in the Raft configuration')
        return self._with(Server(server_id, known.address, NONVOTER))

    def without(self, server_id: str) -> Configuration:
        """Remove a server; no error if it is not a member."""
        return self._checked(tuple(server for server in self.servers if server.id != server_id))

    def _with(self, new: Server) -> Configuration:
        if self.get(new.id) is None:
            return self._checked((*self.servers, new))
        return self._checked(tuple(new if server.id == new.id else server for server in self.servers))

    @staticmethod
    def _checked(servers: tuple[Server, ...]) -> Configuration:
        addresses = [server.address for server in servers]
        if any(not server.id for server in servers):
            raise Invalid("empty ID in configuration")
        if any(not address for address in addresses):
            raise Invalid("empty address in configuration")
        if len(set(addresses)) < len(addresses):
            raise Invalid("found duplicate address in configuration")
        if not any(server.suffrage == VOTER for server in servers):
            raise Invalid("need at least one voter in configuration")
        return Configuration(servers)


def decode(data: bytes) -> Configuration:
    """The configuration in an entry's data. ValueError if it is none."""
    fields = unpack(data)
    if not isinstance(fields, dict) or not isinstance(fields.get(b"Servers") or [], list):
        raise ValueError("a configuration must be a map with a list of servers")
    return Configuration(tuple(_server(item) for item in fields.get(b"Servers") or []))


def _server(fields: Any) -> Server:
    if not isinstance(fields, dict):
        raise ValueError("a server must be a map")
    address, server_id, suffrage = fields.get(b"Address"), fields.get(b"ID"), fields.get(b"Suffrage") or 0
    if not isinstance(suffrage, int):
        raise ValueError("Suffrage: a number was expected")
    return Server(_text(server_id), _text(address), suffrage)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, bytes):
        raise ValueError("text was expected")
    return value.decode("utf-8", "surrogateescape")


class Configurations:
    """The configuration that counts, and the history needed to take it back or to describe a snapshot."""

    __slots__ = ("_history", "committed_index")

    def __init__(self, base: Configuration, base_index: int) -> None:
        """`base` is what the newest snapshot says (empty and 0 without one)."""
        self._history: list[tuple[int, Configuration]] = [(base_index, base)]
        self.committed_index = base_index

    @property
    def latest(self) -> Configuration:
        return self._history[-1][1]

    @property
    def latest_index(self) -> int:
        return self._history[-1][0]

    @property
    def committed(self) -> Configuration:
        return self.at(self.committed_index)[1]

    @property
    def is_stable(self) -> bool:
        """No change is under way."""
        return self.latest_index == self.committed_index

    def append(self, index: int, configuration: Configuration) -> None:
        """An entry was appended: it counts from now on."""
        self._history.append((index, configuration))

    def truncate(self, first: int) -> None:
        """Entries from `first` on are gone; what counted before counts again."""
        while len(self._history) > 1 and self._history[-1][0] >= first:
            self._history.pop()

    def commit(self, index: int) -> None:
        """Everything up to `index` is committed."""
        self.committed_index = max(self.committed_index, self.at(index)[0])

    def at(self, index: int) -> tuple[int, Configuration]:
        """Index and value of the configuration that counts for a state at `index`."""
        for position, configuration in reversed(self._history):
            if position <= index:
                return position, configuration
        return self._history[0]

    def compact(self, index: int) -> None:
        """Forget what a snapshot at `index` makes useless."""
        while len(self._history) > 1 and self._history[1][0] <= index:
            del self._history[0]
