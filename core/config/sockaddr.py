"""Address templates as go-sockaddr has them: `{{ GetPrivateIP }}`, `{{ GetInterfaceIP "eth0" }}`,
`{{ GetAllInterfaces | include "network" "10.0.0.0/8" | sort "-address" | limit 1 | join "address" " " }}`.

Pure: the interfaces of the machine are an argument. An unknown function is a TemplateError."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class TemplateError(ValueError):
    """An address template that cannot be evaluated."""


class Interface(NamedTuple):
    """A network interface that is up: its name and its addresses with their networks (`10.0.0.5/24`)."""

    name: str
    addresses: tuple[str, ...]


class Host(NamedTuple):
    """What must be known of a machine to choose addresses. `default` names the interface of the default
    route, `` when there is none; `names` are host names with their addresses, for addresses given by name."""

    interfaces: tuple[Interface, ...] = ()
    default: str = ""
    names: dict[str, str] = {}


class _Address(NamedTuple):
    name: str  # of the interface
    on: IPInterface
    default: bool

    @property
    def ip(self) -> IPAddress:
        return self.on.ip


# RFC 6890 and its successors, as go-sockaddr counts them: what is not public.
_PRIVATE_V4 = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4"""
_PRIVATE_V6 = """
    ::/128 ::1/128 ::ffff:0:0/96 100::/64 2001::/23 2001:db8::/32 2002::/16 fc00::/7 fe80::/10"""

# What no router passes on, as go-sockaddr counts it; all else is "forwardable".
_FENCED = """
    0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 192.0.0.0/24 192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4
    ::1/128 ::/128 ::ffff:0:0/96 2001:db8::/32 2001:10::/28 fe80::/10"""
_RFCS = {  # besides 6890: what templates name to find private or special addresses
    "919": "255.255.255.255/32",
    "1112": "224.0.0.0/4",
    "1122": "0.0.0.0/8 127.0.0.0/8",
    "1918": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16",
    "2544": "198.18.0.0/15",
    "3849": "2001:db8::/32",
    "3927": "169.254.0.0/16",
    "4193": "fc00::/7",
    "5737": "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24",
    "6598": "100.64.0.0/10",
    "6666": "100::/64",
    "6890": _PRIVATE_V4 + _PRIVATE_V6,
}

_PART = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|`([^`]*)`|(\||\(|\))|([^\s"`|()]+))')
_HOLE = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)


def is_private(ip: IPAddress) -> bool:
    """Whether an address is of a range that is not public (RFC 6890)."""
    return _within(ip, _RFCS["6890"])


def _within(ip: IPAddress, networks: str) -> bool:
    return any(ip.version == network.version and ip in network for network in _networks(networks))


@cache
def _networks(texts: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text) for text in texts.split()]


def is_template(text: str) -> bool:
    """Whether `text` must be evaluated."""
    return "{{" in text


def evaluate(text: str, host: Host) -> str:
    """`text` with its templates replaced. TemplateError says what is wrong with it."""
    addresses = all_addresses(host)

    def fill(hole: re.Match[str]) -> str:
        value = _pipeline(hole.group(1), addresses)
        return value if isinstance(value, str) else " ".join(str(address.ip) for address in value)

    filled = _HOLE.sub(fill, text)
    if "{{" in filled or "}}" in filled:
        raise TemplateError("unclosed action")
    return filled.strip()


def all_addresses(host: Host) -> list[_Address]:
    """Every address of the machine, in the order of its interfaces."""
    found = []
    for interface in host.interfaces:
        for text in interface.addresses:
            try:
                on = ipaddress.ip_interface(text.partition("%")[0] if "%" in text else text)
            except ValueError:
                continue  # the system named something that is no address
            found.append(_Address(interface.name, on, interface.name == host.default))
    return found


def _pipeline(text: str, addresses: list[_Address]) -> Any:
    words = _words(text)
    value: Any = None
    first = True
    while words:
        name, arguments = words[0], []
        words = words[1:]
        while words and words[0] != "|":
            arguments.append(words[0])
            words = words[1:]
        if words:
            words = words[1:]
            if not words:
                raise TemplateError("missing value for command")
        value = _call(name, arguments, value, addresses, first)
        first = False
    if first:
        raise TemplateError("missing value for command")
    return value


def _words(text: str) -> list[str]:
    words = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise TemplateError("unterminated quoted string")
        quoted, raw, sign, plain = part.groups()
        if sign in ("(", ")"):
            raise TemplateError("parentheses are not supported in address templates")
        words.append(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else raw or sign or plain or "")
        at = part.end()
    return words


def _call(name: str, arguments: list[str], value: Any, addresses: list[_Address], first: bool) -> Any:
    sources, filters = _SOURCES, _FILTERS
    known = sources if first else filters
    if name not in known:
        if name in sources or name in filters:
            place = "at the start" if name in sources else "behind a list of interfaces"
            raise TemplateError(f'function "{name}" can only be used {place}')
        known_names = ", ".join(sorted([*sources, *filters]))
        raise TemplateError(f'function "{name}" not defined; there are {known_names}')
    count, function = known[name]
    if len(arguments) != count:
        raise TemplateError(f"wrong number of args for {name}: want {count} got {len(arguments)}")
    if not first and isinstance(value, str):
        raise TemplateError(f"{name} needs a list of interfaces, not text")
    return function(addresses, *arguments) if first else function(*arguments, value)


# --- where a pipeline begins --------------------------------------------------------------------


def default_addresses(addresses: Sequence[_Address]) -> list[_Address]:
    """Addresses of the interface that has the default route, IPv4 first."""
    return sorted((a for a in addresses if a.default), key=lambda address: address.ip.version)


def private_addresses(addresses: Sequence[_Address]) -> list[_Address]:
    """Private addresses that others can reach, those of the default route's interface first."""
    return [a for a in _reachable(addresses) if is_private(a.ip)]


def public_addresses(addresses: Sequence[_Address]) -> list[_Address]:
    """Public addresses, those of the default route's interface first."""
    return [a for a in _reachable(addresses) if not is_private(a.ip)]


def _reachable(addresses: Sequence[_Address]) -> list[_Address]:
    return _sort([address for address in addresses if _forwardable(address)], "default,type,size")


def _forwardable(address: _Address) -> bool:
    return not _within(address.ip, _FENCED)


def _of_interface(addresses: Sequence[_Address], pattern: str) -> list[_Address]:
    """Addresses of the interface of that name; else of all whose names match the regular expression."""
    exact = [address for address in addresses if address.name == pattern]
    matches = _matches("name", pattern)
    return _sort(exact or [address for address in addresses if matches(address)], "type,size")


def interface_addresses(addresses: Sequence[_Address], name: str) -> list[_Address]:
    """Addresses of one interface, IPv4 first."""
    found = [address for address in addresses if address.name == name]
    return sorted(found, key=lambda address: (address.ip.version, address.ip.is_link_local))


def _first(found: list[_Address]) -> str:
    return str(found[0].ip) if found else ""


def _every(found: list[_Address]) -> str:
    return " ".join(str(address.ip) for address in found)


_SOURCES: dict[str, tuple[int, Callable[..., Any]]] = {
    "GetAllInterfaces": (0, list),
    "GetDefaultInterfaces": (0, default_addresses),
    "GetPrivateInterfaces": (0, private_addresses),
    "GetPublicInterfaces": (0, public_addresses),
    "GetPrivateIP": (0, lambda addresses: _first(private_addresses(addresses))),
    "GetPrivateIPs": (0, lambda addresses: _every(_sort(private_addresses(addresses), "type,size"))),
    "GetPublicIP": (0, lambda addresses: _first(public_addresses(addresses))),
    "GetPublicIPs": (0, lambda addresses: _every(_sort(public_addresses(addresses), "type,size"))),
    "GetInterfaceIP": (1, lambda all, name: _first(list(filter(_forwardable, _of_interface(all, name))))),
    "GetInterfaceIPs": (1, lambda all, name: _every(_of_interface(all, name))),
}


# --- what may follow ----------------------------------------------------------------------------


def _matches(kind: str, text: str) -> Callable[[_Address], bool]:
    kind = kind.lower()
    if kind == "name":
        pattern = _regex(text)
        return lambda address: pattern.search(address.name) is not None
    if kind == "address":
        pattern = _regex(text)
        return lambda address: pattern.search(str(address.on)) is not None
    if kind == "network":
        try:
            networks = [ipaddress.ip_network(part, strict=False) for part in text.split("|")]
        except ValueError as error:
            raise TemplateError(str(error)) from None
        return lambda address: any(address.ip.version == n.version and address.ip in n for n in networks)
    if kind == "type":
        wanted = text.lower().split("|")
        for name in wanted:
            if name not in ("ip", "ipv4", "ipv6"):
                raise TemplateError(f'unsupported address type "{name}"')
        return lambda address: "ip" in wanted or f"ipv{address.ip.version}" in wanted
    if kind in ("rfc", "rfcs"):
        for name in text.split("|"):
            if name not in _RFCS:
                raise TemplateError(f'unsupported RFC "{name}"; there are {", ".join(_RFCS)}')
        ranges = " ".join([_RFCS[name] for name in text.split("|")])
        return lambda address: _within(address.ip, ranges)
    if kind in ("flag", "flags"):
        return _has_flags(text)
    if kind == "size":
        return lambda address: str(address.on.network.prefixlen) == text.lstrip("/")
    raise TemplateError(f'invalid include selector type: "{kind}"')


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise TemplateError(f'bad regular expression "{text}": {error}') from None


def _never(address: _Address) -> bool:
    return False


# Flags of interfaces, of which an address must have all, and of addresses, of which one is enough.
_INTERFACE_FLAGS: dict[str, Callable[[_Address], bool]] = {
    "up": lambda address: True,  # only such interfaces are looked at
    "broadcast": lambda address: not address.ip.is_loopback,
    "multicast": lambda address: not address.ip.is_loopback,
    "loopback": lambda address: address.ip.is_loopback,
    "point-to-point": _never,
}
_ADDRESS_FLAGS: dict[str, Callable[[_Address], bool]] = {
    "forwardable": _forwardable,
    "global unicast": lambda address: (
        not (address.ip.is_loopback or address.ip.is_link_local or address.ip.is_multicast)
    ),
    "link-local unicast": lambda address: address.ip.is_link_local,
    "multicast": lambda address: address.ip.is_multicast,
    "loopback": lambda address: address.ip.is_loopback,
    "interface-local multicast": _never,
    "link-local multicast": _never,
    "unspecified": _never,
}


def _has_flags(text: str) -> Callable[[_Address], bool]:
    names = text.lower().split("|")
    for name in names:
        if name not in _INTERFACE_FLAGS and name not in _ADDRESS_FLAGS:
            known = ", ".join(dict.fromkeys([*_INTERFACE_FLAGS, *_ADDRESS_FLAGS]))
            raise TemplateError(f'unsupported flag "{name}"; there are {known}')
    every = [_INTERFACE_FLAGS[name] for name in names if name in _INTERFACE_FLAGS]
    one = [_ADDRESS_FLAGS[name] for name in names if name in _ADDRESS_FLAGS]
    return lambda address: (
        (bool(every) and all(has(address) for has in every)) or any(has(address) for has in one)
    )


def _include(found: list[_Address], kind: str, text: str) -> list[_Address]:
    return list(filter(_matches(kind, text), found))


def _exclude(found: list[_Address], kind: str, text: str) -> list[_Address]:
    matches = _matches(kind, text)
    return [address for address in found if not matches(address)]


_KEYS: dict[str, Callable[[_Address], Any]] = {
    "address": lambda address: (address.ip.version, int(address.ip)),
    "name": lambda address: address.name,
    "type": lambda address: address.ip.version,
    "size": lambda address: address.on.network.prefixlen,  # the larger network first
    "default": lambda address: not address.default,
    "private": lambda address: not is_private(address.ip),
}


def _sort(found: list[_Address], by: str) -> list[_Address]:
    out = list(found)
    for part in reversed(by.split(",")):
        key = part.strip().lower().lstrip("+-")
        if key not in _KEYS:
            raise TemplateError(f'unsupported sort key "{key}"; there are {", ".join(_KEYS)}')
        out.sort(key=_KEYS[key], reverse=part.strip().startswith("-"))
    return out


def _count(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise TemplateError(f'"{text}" is not a number')
    return int(text)


def _limit(found: list[_Address], text: str) -> list[_Address]:
    return found[: max(0, _count(text))]


def _offset(found: list[_Address], text: str) -> list[_Address]:
    return found[_count(text) :]


def _unique(found: list[_Address], kind: str) -> list[_Address]:
    if kind not in ("address", "name"):
        raise TemplateError(f'unsupported unique selector "{kind}"')
    return list({_attribute(address, kind): address for address in reversed(found)}.values())[::-1]


def _math(kind: str, text: str, found: list[_Address]) -> list[_Address]:
    return [address._replace(on=_moved(address.on, kind.lower(), text)) for address in found]


def _moved(on: IPInterface, kind: str, text: str) -> IPInterface:
    """An address moved by a signed number: from itself, or within its network from its start or end."""
    if not re.fullmatch(r"[+-][0-9]{1,18}" if kind in ("address", "network") else "[0-9]{1,3}", text):
        sign = "a sign (+/-) and " if kind in ("address", "network") else ""
        raise TemplateError(f'math "{kind}" needs {sign}a number, not "{text}"')
    number, bits, size = int(text), on.max_prefixlen, on.network.num_addresses
    if kind == "address":
        ip, length = (int(on.ip) + number) % (1 << bits), on.network.prefixlen
    elif kind == "network":
        ip, length = int(on.network.network_address) + number % size, on.network.prefixlen
    elif kind == "mask":
        if number > bits:
            raise TemplateError(f'math "mask" needs a number up to {bits}, not "{text}"')
        ip = int(on.ip) >> (bits - number) << (bits - number)
        length = min(number, on.network.prefixlen)
    else:
        raise TemplateError(f'unsupported math "{kind}"; there are address, network, mask')
    make = ipaddress.IPv4Interface if on.version == 4 else ipaddress.IPv6Interface
    return make((ip, length))


def _attribute(address: _Address, name: str) -> str:
    values = {
        "address": str(address.ip),
        "name": address.name,
        "host": str(address.ip),
        "network": str(address.on.network.network_address),
        "netmask": str(address.on.network.netmask),
        "mask_bits": str(address.on.network.prefixlen),
        "broadcast": str(address.on.network.broadcast_address),
        "size": str(address.on.network.num_addresses),
        "type": f"IPv{address.ip.version}",
        "string": str(address.on),
    }
    if name.lower() not in values:
        raise TemplateError(f'unsupported attribute "{name}"; there are {", ".join(values)}')
    return values[name.lower()]


def _attr(found: list[_Address], name: str) -> str:
    return _attribute(found[0], name) if found else ""


def _join(found: list[_Address], name: str, between: str) -> str:
    return between.join(_attribute(address, name) for address in found)


_FILTERS: dict[str, tuple[int, Callable[..., Any]]] = {
    "include": (2, lambda kind, text, found: _include(found, kind, text)),
    "exclude": (2, lambda kind, text, found: _exclude(found, kind, text)),
    "sort": (1, lambda by, found: _sort(found, by)),
    "limit": (1, lambda count, found: _limit(found, count)),
    "offset": (1, lambda count, found: _offset(found, count)),
    "unique": (1, lambda kind, found: _unique(found, kind)),
    "math": (2, lambda kind, text, found: _math(kind, text, found)),
    "attr": (1, lambda name, found: _attr(found, name)),
    "join": (2, lambda name, between, found: _join(found, name, between)),
}
