"""What each kind of config entry holds: one table a kind, from which entries are decoded, filled and shown.

An entry is the map that it travels as (protocols/fsm.md section 5): all fields under their own names, zero
values included, durations in ns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.api.config_entry_shapes import (
    Bool,
    Duration,
    Entry,
    Faults,
    Free,
    ListOf,
    MapOf,
    Moment,
    Number,
    Record,
    Shape,
    Text,
)
from core.codec import wire
from core.errors import BadRequest, Invalid

TEXT, BOOL, INT, FREE = Text(), Bool(), Number("int"), Free()
_UINT32, _UINT64, _DURATION = Number("uint32"), Number("uint64"), Duration()
_TEXTS, _META = ListOf(TEXT), MapOf(TEXT)
_SOME = {"optional": True}

_MESH_GATEWAY = Record({"Mode": TEXT})
_EXPOSE = Record(
    {
        "Checks": BOOL,
        "Paths": ListOf(
            Record(
                {
                    "ListenerPort": INT,
                    "Path": TEXT,
                    "LocalPathPort": INT,
                    "Protocol": TEXT,
                    "ParsedFromCheck": BOOL,
                }
            )
        ),
    }
)
_MATCH_HEADER: dict[str, Shape] = {
    "Name!": TEXT,
    "Present": BOOL,
    "Exact": TEXT,
    "Prefix": TEXT,
    "Suffix": TEXT,
    "Regex": TEXT,
    "Invert": BOOL,
}
_PATHS: dict[str, Shape] = {"PathExact": TEXT, "PathPrefix": TEXT, "PathRegex": TEXT}
_ROUTE_MATCH = {
    **_PATHS,
    "Header": ListOf(Record(_MATCH_HEADER)),
    "QueryParam": ListOf(Record({"Name!": TEXT, "Present": BOOL, "Exact": TEXT, "Regex": TEXT})),
    "Methods": _TEXTS,
}
_TARGET: dict[str, Shape] = {"Service": TEXT, "ServiceSubset": TEXT, "Namespace": TEXT}
_DESTINATION = {
    "RequestTimeout": _DURATION,
    **_TARGET,
    "PrefixRewrite": TEXT,
    "NumRetries": _UINT32,
    "RetryOnConnectFailure": BOOL,
    "RetryOnStatusCodes": ListOf(_UINT32),
}
_ROUTE = Record(
    {
        "Match": Record({"HTTP": Record(_ROUTE_MATCH, **_SOME)}, **_SOME),
        "Destination": Record(_DESTINATION, **_SOME),
    }
)
_HASH_POLICY = Record(
    {
        "Field": TEXT,
        "FieldValue": TEXT,
        "CookieConfig": Record({"Session": BOOL, "TTL": Duration(as_text=False), "Path": TEXT}, **_SOME),
        "SourceIP": BOOL,
        "Terminal": BOOL,
    }
)
_LOAD_BALANCER = Record(
    {
        "Policy": TEXT,
        "RingHashConfig": Record({"MinimumRingSize": _UINT64, "MaximumRingSize": _UINT64}, **_SOME),
        "LeastRequestConfig": Record({"ChoiceCount": _UINT32}, **_SOME),
        "HashPolicies": ListOf(_HASH_POLICY),
    },
    **_SOME,
)
_PERMISSION = Record(
    {
        "Action!": TEXT,
        "HTTP": Record({**_PATHS, "Header": ListOf(Record(_MATCH_HEADER)), "Methods": _TEXTS}, **_SOME),
    }
)
_SOURCE = Record(
    {
        "Name!": TEXT,
        "Action": TEXT,
        "Permissions": ListOf(_PERMISSION),
        "Precedence!": INT,
        "LegacyID": TEXT,
        "Type!": TEXT,
        "Description": TEXT,
        "LegacyMeta": _META,
        "LegacyCreateTime": Moment(),
        "LegacyUpdateTime": Moment(),
    }
)
_HEAD: dict[str, Shape] = {"Kind!": TEXT, "Name!": TEXT}
_TAIL: dict[str, Shape] = {"Meta": _META}

KINDS: dict[str, Record] = {
    "service-defaults": Record(
        {
            **_HEAD,
            "Protocol!": TEXT,
            "MeshGateway": _MESH_GATEWAY,
            "Expose": _EXPOSE,
            "ExternalSNI": TEXT,
            **_TAIL,
        }
    ),
    "proxy-defaults": Record(
        {**_HEAD, "Config!": MapOf(FREE), "MeshGateway": _MESH_GATEWAY, "Expose": _EXPOSE, **_TAIL}
    ),
    "service-router": Record({**_HEAD, "Routes!": ListOf(_ROUTE), **_TAIL}),
    "service-splitter": Record(
        {**_HEAD, "Splits!": ListOf(Record({"Weight!": Number("float32"), **_TARGET})), **_TAIL}
    ),
    "service-resolver": Record(
        {
            "ConnectTimeout": _DURATION,
            **_HEAD,
            "DefaultSubset": TEXT,
            "Subsets": MapOf(Record({"Filter": TEXT, "OnlyPassing": BOOL})),
            "Redirect": Record({**_TARGET, "Datacenter": TEXT}, **_SOME),
            "Failover": MapOf(Record({**_TARGET, "Datacenters": _TEXTS})),
            "LoadBalancer": _LOAD_BALANCER,
            **_TAIL,
        }
    ),
    "ingress-gateway": Record(
        {
            **_HEAD,
            "TLS": Record({"Enabled!": BOOL}),
            "Listeners!": ListOf(
                Record(
                    {
                        "Port!": INT,
                        "Protocol!": TEXT,
                        "Services!": ListOf(Record({"Name!": TEXT, "Hosts!": _TEXTS, "Meta": _META})),
                    }
                )
            ),
            **_TAIL,
        }
    ),
    "terminating-gateway": Record(
        {
            **_HEAD,
            "Services!": ListOf(
                Record({"Name": TEXT, "CAFile": TEXT, "CertFile": TEXT, "KeyFile": TEXT, "SNI": TEXT})
            ),
            **_TAIL,
        }
    ),
    "service-intentions": Record({**_HEAD, "Sources!": ListOf(_SOURCE), **_TAIL}),
}
_INDEXES = ("CreateIndex", "ModifyIndex")  # which only the servers set


def known_kind(kind: str) -> Record:
    """The table of a kind. Invalid when there is none."""
    record = KINDS.get(kind)
    if record is None:
        raise Invalid(f"invalid config entry kind: {kind}")
    return record


def read_entry(body: Any) -> Entry:
    """The entry that a decoded body describes, with all its fields. BadRequest has Consul's texts."""
    if body is None:
        body = {}
    if not isinstance(body, dict):
        raise BadRequest(f"'' expected a map, got '{_go_kind(body)}'")
    kind = body.get("Kind", body.get("kind"))
    if kind is None and "Kind" not in body and "kind" not in body:
        raise BadRequest("Payload does not contain a kind/Kind key at the top level")
    if not isinstance(kind, str):
        raise BadRequest("Kind value in payload is not a string")
    if kind not in KINDS:
        raise BadRequest(f"invalid config entry kind: {kind}")
    faults = Faults()
    given = {name: value for name, value in body.items() if name not in _INDEXES}
    entry = KINDS[kind].read(given, "", faults)
    faults.check()
    return {**entry, "CreateIndex": 0, "ModifyIndex": 0}


def refit(kind: str, entry: Entry) -> Entry:
    """An entry that came over RPC, with all its fields and of the right types; fields of later versions are
    left out, as Consul's servers do. Invalid."""
    faults = Faults()
    found = known_kind(kind).read(entry, "", faults)
    index = entry.get("ModifyIndex") or 0
    if type(index) is not int:
        faults.misfit("ModifyIndex", "uint64", index)
    if faults.values:
        raise Invalid("; ".join(faults.values))
    return {**found, "Kind": kind, "CreateIndex": 0, "ModifyIndex": index}


def _go_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "float64"
    return "slice" if isinstance(value, list) else "string"


def show_entry(entry: Entry) -> Entry:
    """An entry as the API shows it."""
    record = KINDS.get(str(entry.get("Kind")))
    if record is None:  # of a later version, from a log or snapshot
        return dict(entry)
    shown: Entry = record.show(entry)
    known = {*record.fields, *_INDEXES}
    later = {name: value for name, value in entry.items() if name not in known and not wire.is_zero(value)}
    return {**shown, **later, **{name: wire.integer(entry.get(name)) for name in _INDEXES}}


def rows(entry: Entry, name: str) -> Iterable[Entry]:
    """The maps in a list of an entry, none when there is no such list."""
    value = entry.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else ()
