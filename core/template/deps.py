"""What templates ask for: dependencies, and the small language of their arguments
(reference/template.md 2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.codec.duration import quote
from core.template.errors import FunctionError

STATUSES = ("any", "passing", "warning", "critical", "maintenance")

_QUERY = r"(?:\?(?P<query>[\w=&-]+))?"
_DC = r"(?:@(?P<dc>[\w.-]+))?"
_NEAR = r"(?:~(?P<near>[\w.-]+))?"
_FILTER = r"(?:\|(?P<filter>[\w,]+))?"
_KEY = re.compile(rf"/?(?P<path>[^@?]+){_QUERY}{_DC}", re.ASCII)
_PREFIX = re.compile(rf"/?(?P<path>[^@?]*){_QUERY}{_DC}", re.ASCII)
_SERVICE = re.compile(rf"(?:(?P<tag>[\w=:.-]+)\.)?(?P<name>[\w-]+){_QUERY}{_DC}{_NEAR}{_FILTER}", re.ASCII)
_SERVICES = re.compile(rf"{_QUERY}{_DC}", re.ASCII)
_NODE = re.compile(rf"(?P<name>[\w.-]+)?{_DC}", re.ASCII)
_NODES = re.compile(rf"{_QUERY}{_DC}{_NEAR}", re.ASCII)


@dataclass(frozen=True)
class KeyDep:
    """The pair of one key."""

    path: str
    dc: str = ""
    query: str = ""

    def __str__(self) -> str:
        return f"key({self.path}{_suffix(self.query, self.dc)})"


@dataclass(frozen=True)
class PrefixDep:
    """All pairs below a prefix."""

    path: str
    dc: str = ""
    query: str = ""

    def __str__(self) -> str:
        return f"tree({self.path}{_suffix(self.query, self.dc)})"


@dataclass(frozen=True)
class ServiceDep:
    """The instances of a service with one of the statuses `filters`; `connect`: those in the mesh."""

    name: str
    tag: str = ""
    dc: str = ""
    near: str = ""
    filters: tuple[str, ...] = ("passing",)
    connect: bool = False
    query: str = ""

    def __str__(self) -> str:
        tag = f"{self.tag}." if self.tag else ""
        filters = "" if self.filters == ("passing",) else f"|{','.join(self.filters)}"
        function = "connect" if self.connect else "service"
        return f"{function}({tag}{self.name}{_suffix(self.query, self.dc, self.near)}{filters})"


@dataclass(frozen=True)
class ServicesDep:
    """The names and tags of all services."""

    dc: str = ""
    query: str = ""

    def __str__(self) -> str:
        return f"services({_suffix(self.query, self.dc)})"


@dataclass(frozen=True)
class NodeDep:
    """A node with its services; the agent's own if it has no name."""

    name: str = ""
    dc: str = ""

    def __str__(self) -> str:
        return f"node({self.name}{_suffix('', self.dc)})"


@dataclass(frozen=True)
class NodesDep:
    """All nodes."""

    dc: str = ""
    near: str = ""
    query: str = ""

    def __str__(self) -> str:
        return f"nodes({_suffix(self.query, self.dc, self.near)})"


@dataclass(frozen=True)
class DatacentersDep:
    """The names of the datacenters, without those that cannot be reached if `reachable`."""

    reachable: bool = False

    def __str__(self) -> str:
        return "datacenters()"


@dataclass(frozen=True)
class FileDep:
    """The contents of a local file."""

    path: str

    def __str__(self) -> str:
        return f"file({self.path})"


Dependency = KeyDep | PrefixDep | ServiceDep | ServicesDep | NodeDep | NodesDep | DatacentersDep | FileDep


def _suffix(query: str, dc: str, near: str = "") -> str:
    return "".join(mark + text for mark, text in (("?", query), ("@", dc), ("~", near)) if text)


def _match(pattern: re.Pattern[str], what: str, text: str) -> dict[str, str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise FunctionError(f"{what}: invalid format: {quote(text)}")
    return {name: value or "" for name, value in found.groupdict().items()}


def key(text: str) -> KeyDep:
    """`PATH?query@dc`."""
    return KeyDep(**_match(_KEY, "kv.get", text))


def prefix(text: str) -> PrefixDep:
    """`PREFIX?query@dc`."""
    return PrefixDep(**_match(_PREFIX, "kv.list", text))


def service(text: str, connect: bool = False) -> ServiceDep:
    """`[TAG.]NAME[?query][@dc][~near][|filter]`."""
    kind = "health.connect" if connect else "health.service"
    parts = _match(_SERVICE, kind, text)
    filters = sorted({word for word in parts.pop("filter").split(",") if word}) or ["passing"]
    for word in filters:
        if word not in STATUSES:
            known = ", ".join(STATUSES)
            raise FunctionError(f"{kind}: invalid filter: {quote(word)} in {quote(text)} (there are {known})")
    return ServiceDep(**parts, filters=tuple(filters), connect=connect)


def services(text: str) -> ServicesDep:
    """`[?query][@dc]`."""
    return ServicesDep(**_match(_SERVICES, "catalog.services", text))


def node(text: str) -> NodeDep:
    """`[NAME][@dc]`."""
    return NodeDep(**_match(_NODE, "catalog.node", text))


def nodes(text: str) -> NodesDep:
    """`[?query][@dc][~near]`."""
    return NodesDep(**_match(_NODES, "catalog.nodes", text))
