"""Where the agent binds, what it advertises, where it listens.

Pure: the machine's interfaces come as a `Host`. Besides Consul's rules an interface name is an address
(`bind_addr = "eth0"`), and of several private addresses the one with the default route is taken and
said aloud, where Consul refuses to start (reference/config.md section 3.2)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from core.codec.duration import quote
from core.config.settings import Config
from core.config.sockaddr import (
    Host,
    TemplateError,
    all_addresses,
    evaluate,
    interface_addresses,
    is_private,
    is_template,
)
from core.errors import ConfigError

__all__ = ["Addresses", "Host", "Listener", "resolve"]

UNIX = "unix://"
_ANY = ("0.0.0.0", "::")


class Listener(NamedTuple):
    """An address to listen on: an IP and a port, or a socket's path (port 0)."""

    host: str
    port: int

    @property
    def path(self) -> str:
        """The path of a Unix socket, `` for IP."""
        return self.host.removeprefix(UNIX) if self.host.startswith(UNIX) else ""

    def __str__(self) -> str:
        if self.path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Addresses(NamedTuple):
    """Everything resolved to IP addresses. Listeners are empty lists when their port is off."""

    bind: str
    advertise: str
    advertise_wan: str
    serf_lan: str
    serf_wan: str
    tagged: dict[str, str]
    """`lan`, `wan`, `lan_ipv4`, ...: the node's tagged addresses in the catalog."""
    client: list[str]
    dns: list[Listener]
    http: list[Listener]
    https: list[Listener]
    notices: list[str]
    """What an operator should know, such as which of several addresses was chosen."""


def resolve(config: Config, host: Host) -> Addresses:
    """The addresses of this agent. ConfigError has Consul's text and, where one must be chosen, names the
    candidates."""
    finder = _Finder(config, host)
    bind = finder.one("bind_addr") or "0.0.0.0"
    advertise = finder.one("advertise_addr") or finder.to_advertise(bind)
    wan = finder.one("advertise_addr_wan") or advertise
    for key, address in (("advertise_addr", advertise), ("advertise_addr_wan", wan)):
        if address in _ANY:
            raise ConfigError(f"{key.replace('_', ' ').capitalize()} cannot be 0.0.0.0, :: or [::]")
    client = finder.many("client_addr")
    addresses = Addresses(
        bind,
        advertise,
        wan,
        finder.one("serf_lan") or bind,
        finder.one("serf_wan") or bind,
        finder.tagged(advertise, wan),
        [address for address in client if not address.startswith(UNIX)],
        finder.listeners("dns", client),
        finder.listeners("http", client),
        finder.listeners("https", client),
        finder.notices,
    )
    _check_unique(addresses, config)
    return addresses


class _Finder:
    def __init__(self, config: Config, host: Host) -> None:
        self.config = config
        self.host = host
        self.addresses = all_addresses(host)
        self.notices: list[str] = []

    def many(self, key: str) -> list[str]:
        """The addresses that an option gives: IPs and `unix://` paths."""
        text = self.config[key]
        if is_template(text):
            try:
                filled = evaluate(text, self.host)
            except TemplateError as error:
                raise ConfigError(f"{key}: error parsing {quote(text)}: {error}") from None
            if not filled and key.startswith("addresses."):
                self.notices.append(f"{key}: {quote(text)} gave no address; the client addresses stand in")
                return []
            if not filled:
                raise ConfigError(f"{key}: {quote(text)} gave no address; there are {self._candidates()}")
            text = filled
        return [self._address(key, word) for word in text.split()]

    def one(self, key: str) -> str:
        """The one IP that an option gives, `` when it gives none."""
        found = self.many(key)
        if len(found) > 1:
            raise ConfigError(f"{key}: multiple addresses found: {' '.join(found)}")
        if found and found[0].startswith(UNIX):
            raise ConfigError(f"{key} cannot be a unix socket")
        return found[0] if found else ""

    def _address(self, key: str, word: str) -> str:
        if word.startswith(UNIX):
            return word
        try:
            return str(ipaddress.ip_address(word.strip("[]")))
        except ValueError:
            pass
        found = interface_addresses(self.addresses, word)
        if found:
            self.notices.append(f"{key}: {word} is {found[0].ip}, the address of that interface")
            return str(found[0].ip)
        named = "127.0.0.1" if word == "localhost" else self.host.names.get(word, "")
        if named:
            return named
        raise ConfigError(
            f"{key}: {quote(word)} is no address and no interface; there are {self._candidates()}"
        )

    def _candidates(self) -> str:
        return ", ".join(f"{address.ip} ({address.name})" for address in self.addresses) or "none"

    def to_advertise(self, bind: str) -> str:
        """The address to tell others when none is set: the bind address, or the best there is."""
        if bind == "0.0.0.0":
            return self._best(4, private=True)
        return self._best(6, private=False) if bind == "::" else bind

    def _best(self, version: int, private: bool) -> str:
        kind = f"{'private' if private else 'public'} IPv{version}"
        usable = [
            address
            for address in self.addresses
            if address.ip.version == version and not address.ip.is_loopback and not address.ip.is_link_local
        ]
        fitting = [address for address in usable if is_private(address.ip) == private]
        if not fitting:
            raise ConfigError(
                f"No {kind} address found; there are {self._candidates()}. "
                "Please configure one with 'bind' and/or 'advertise'."
            )
        if len(fitting) == 1:
            return str(fitting[0].ip)
        listed = ", ".join(f"{address.ip} ({address.name})" for address in fitting)
        chosen = next((address for address in fitting if address.default), None)
        if chosen is None:
            raise ConfigError(
                f"Multiple {kind} addresses found. Please configure one with 'bind' and/or 'advertise'. "
                f"There are {listed}, and none has the default route"
            )
        self.notices.append(
            f"Several {kind} addresses found: {listed}. {chosen.ip} is advertised, since {chosen.name} has "
            "the default route; set 'advertise_addr' or 'bind_addr' to choose another"
        )
        return str(chosen.ip)

    def tagged(self, advertise: str, wan: str) -> dict[str, str]:
        """Tagged addresses: what is advertised, by family, and what the options add."""
        tagged = {"lan": advertise, "wan": wan}
        for name, address in (("lan", advertise), ("wan", wan)):
            tagged[f"{name}_ipv{_version(address)}"] = address
        for name, key in (("lan", "advertise_addr"), ("wan", "advertise_addr_wan")):
            for family in ("ipv4", "ipv6"):
                given = self.one(f"{key}_{family}")
                if given:
                    if _version(given) != int(family[-1]):
                        raise ConfigError(f"{key}_{family} must be an IPv{family[-1]} address")
                    tagged[f"{name}_{family}"] = given
        return {**tagged, **self.config["tagged_addresses"]}

    def listeners(self, name: str, client: list[str]) -> list[Listener]:
        """Where one protocol listens. Sockets need no port; DNS has no sockets."""
        port = self.config[f"ports.{name}"]
        found = list(dict.fromkeys(self.many(f"addresses.{name}") or client))
        if name == "dns" and any(address.startswith(UNIX) for address in found):
            raise ConfigError("DNS address cannot be a unix socket")
        if port <= 0:
            return []
        return [Listener(address, 0 if address.startswith(UNIX) else port) for address in found]


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version


def _check_unique(addresses: Addresses, config: Config) -> None:
    """No two listeners on one address; Consul looks at exactly these."""
    used: dict[str, str] = {}
    for name, listener in _users(addresses, config):
        other = used.setdefault(str(listener), name)
        if other != name:
            raise ConfigError(f"{name} address {listener} already configured for {other}")


def _users(addresses: Addresses, config: Config) -> Iterator[tuple[str, Listener]]:
    for name, listeners in (("DNS", addresses.dns), ("HTTP", addresses.http), ("HTTPS", addresses.https)):
        for listener in listeners:
            yield name, listener
    yield "RPC Advertise", Listener(addresses.advertise, config["ports.server"])
    yield "Serf Advertise LAN", Listener(addresses.advertise, config["ports.serf_lan"])
    if config["server"] and config["ports.serf_wan"] > 0:
        yield "Serf Advertise WAN", Listener(addresses.advertise_wan, config["ports.serf_wan"])
