"""What filter expressions can ask: the fields of each kind of object, their types and operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from core.codec import regex
from core.codec.duration import quote
from core.errors import Invalid
from core.store.structs import Weights

Test = Callable[[Any], bool]

_PREFIX = "Failed to create boolean expression evaluator: "


class FieldType:
    """A type of field: the operators that it takes, and how the text of a value is understood."""

    operators: tuple[str, ...] = ("Equal", "Not Equal")

    def coerce(self, raw: str) -> Any:
        """The value to compare with. ValueError if the text is none."""
        return raw

    def test(self, operator: str, value: Any) -> Test:
        if operator == "Equal":
            return lambda field: bool(field == value)
        return lambda field: bool(field != value)


class _String(FieldType):
    operators = ("Equal", "Not Equal", "In", "Not In", "Matches", "Not Matches")

    def test(self, operator: str, value: Any) -> Test:
        if operator == "In":
            return lambda field: value in field
        if operator == "Not In":
            return lambda field: value not in field
        if operator == "Matches":
            return regex.compile(value)
        if operator == "Not Matches":
            found = regex.compile(value)
            return lambda field: not found(field)
        return super().test(operator, value)


class _Integer(FieldType):
    def coerce(self, raw: str) -> int:
        try:
            return int(raw, 0)
        except ValueError:
            raise ValueError(f"strconv.ParseInt: parsing {quote(raw)}: invalid syntax") from None


class _Boolean(FieldType):
    def coerce(self, raw: str) -> bool:
        if raw in ("1", "t", "T", "TRUE", "true", "True"):
            return True
        if raw in ("0", "f", "F", "FALSE", "false", "False"):
            return False
        raise ValueError(f"strconv.ParseBool: parsing {quote(raw)}: invalid syntax")


class _Collection(FieldType):
    """A list of names, a map, or a list of objects. `item` is what its members are."""

    operators: tuple[str, ...] = ("In", "Not In", "Is Empty", "Is Not Empty")

    def __init__(self, item: FieldType | None = None) -> None:
        self.item = item

    def test(self, operator: str, value: Any) -> Test:
        if operator == "In":
            return lambda field: bool(field) and value in field
        if operator == "Not In":
            return lambda field: not field or value not in field
        if operator == "Is Empty":
            return lambda field: not field
        return bool


class _Map(_Collection):
    pass


class _Objects(_Collection):
    operators = ("Is Empty", "Is Not Empty")


class _Object(FieldType):
    operators = ()

    def __init__(self, fields: Mapping[str, tuple[Callable[[Any], Any], FieldType]]) -> None:
        self.fields = fields


_STRING, _INTEGER, _BOOLEAN = _String(), _Integer(), _Boolean()
_NAMES, _TEXTS = _Collection(), _Map(_STRING)
_ADDRESS = _Object({"Address": (attrgetter("address"), _STRING), "Port": (attrgetter("port"), _INTEGER)})
_WEIGHTS = _Object(
    {"Passing": (attrgetter("passing"), _INTEGER), "Warning": (attrgetter("warning"), _INTEGER)}
)
_NO_WEIGHTS = Weights()


def _entry(name: str, zero: Any) -> Callable[[Any], Any]:
    """The entry of a mesh map, `zero` if it is not there: these maps are kept as they came."""

    def get(mapping: Any) -> Any:
        value = mapping.get(name) if isinstance(mapping, dict) else None
        return value if isinstance(value, type(zero)) else zero

    return get


_CONNECT = _Object({"Native": (_entry("Native", False), _BOOLEAN)})
_UPSTREAM_TEXTS = (
    "Datacenter",
    "DestinationName",
    "DestinationNamespace",
    "DestinationType",
    "LocalBindAddress",
)
_PROXY = _Object(
    {
        **{
            name: (_entry(name, ""), _STRING)
            for name in ("DestinationServiceID", "DestinationServiceName", "LocalServiceAddress", "Mode")
        },
        "LocalServicePort": (_entry("LocalServicePort", 0), _INTEGER),
        "MeshGateway": (_entry("MeshGateway", {}), _Object({"Mode": (_entry("Mode", ""), _STRING)})),
        "Upstreams": (
            _entry("Upstreams", []),
            _Objects(
                _Object(
                    {
                        **{name: (_entry(name, ""), _STRING) for name in _UPSTREAM_TEXTS},
                        "LocalBindPort": (_entry("LocalBindPort", 0), _INTEGER),
                        "MeshGateway": (
                            _entry("MeshGateway", {}),
                            _Object({"Mode": (_entry("Mode", ""), _STRING)}),
                        ),
                    }
                )
            ),
        ),
    }
)


def _weights(service: Any) -> Weights:
    return service.weights or _NO_WEIGHTS


_NODE = _Object(
    {
        "ID": (attrgetter("id"), _STRING),
        "Node": (attrgetter("node"), _STRING),
        "Address": (attrgetter("address"), _STRING),
        "Datacenter": (attrgetter("datacenter"), _STRING),
        "TaggedAddresses": (attrgetter("tagged_addresses"), _TEXTS),
        "Meta": (attrgetter("meta"), _TEXTS),
    }
)
_NODE_SERVICE = _Object(
    {
        "Kind": (attrgetter("kind"), _STRING),
        "ID": (attrgetter("id"), _STRING),
        "Service": (attrgetter("service"), _STRING),
        "Tags": (attrgetter("tags"), _NAMES),
        "Address": (attrgetter("address"), _STRING),
        "TaggedAddresses": (attrgetter("tagged_addresses"), _Map(_ADDRESS)),
        "Meta": (attrgetter("meta"), _TEXTS),
        "Port": (attrgetter("port"), _INTEGER),
        "Weights": (_weights, _WEIGHTS),
        "EnableTagOverride": (attrgetter("enable_tag_override"), _BOOLEAN),
        "Proxy": (attrgetter("proxy"), _PROXY),
        "Connect": (attrgetter("connect"), _CONNECT),
    }
)
_HEALTH_CHECK = _Object(
    {
        "Node": (attrgetter("node"), _STRING),
        "CheckID": (attrgetter("check_id"), _STRING),
        "Name": (attrgetter("name"), _STRING),
        "Status": (attrgetter("status"), _STRING),
        "Notes": (attrgetter("notes"), _STRING),
        "Output": (attrgetter("output"), _STRING),
        "ServiceID": (attrgetter("service_id"), _STRING),
        "ServiceName": (attrgetter("service_name"), _STRING),
        "ServiceTags": (attrgetter("service_tags"), _NAMES),
        "Type": (attrgetter("type"), _STRING),
    }
)


def _half(position: int, get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda pair: get(pair[position])


_SERVICE_NODE = _Object(
    {
        **{
            ("NodeMeta" if name == "Meta" else name): (_half(0, get), kind)
            for name, (get, kind) in _NODE.fields.items()
        },
        **{
            ("ServiceName" if name == "Service" else f"Service{name}"): (_half(1, get), kind)
            for name, (get, kind) in _NODE_SERVICE.fields.items()
        },
    }
)
KINDS: dict[str, FieldType] = {
    "node": _NODE,
    "service_node": _SERVICE_NODE,
    "node_service": _NODE_SERVICE,
    "health_check": _HEALTH_CHECK,
    "identity": _Object(
        {"value": (attrgetter("values"), _TEXTS), "list": (attrgetter("lists"), _Map(_NAMES))}
    ),
    "check_service_node": _Object(
        {
            "Node": (attrgetter("node"), _NODE),
            "Service": (attrgetter("service"), _NODE_SERVICE),
            "Checks": (attrgetter("checks"), _Objects(_HEALTH_CHECK)),
        }
    ),
}

# Also Matches: so it is in Consul (seen in 1.9.8), whose filters people have.
_TRUE_WITHOUT_KEY = ("Not Equal", "Not In", "Is Empty", "Matches", "Not Matches")


def bind(kind: FieldType, path: tuple[str, ...], operator: str, raw: str, selector: str) -> Test:
    """The test of one match expression on an object of type `kind`: the field `path`, an operator, and
    the text of a value. Invalid has Consul's text, with `selector` for the path."""
    if isinstance(kind, _Object) and path:
        if path[0] not in kind.fields:
            raise _no_such(selector, path)
        get, inner = kind.fields[path[0]]
        test = bind(inner, path[1:], operator, raw, selector)
        return lambda value: test(get(value))
    if isinstance(kind, _Objects) and path and kind.item is not None:
        test = bind(kind.item, path, operator, raw, selector)
        return lambda items: any(map(test, items or ()))
    if isinstance(kind, _Map) and path and kind.item is not None:
        key, missing = path[0], operator in _TRUE_WITHOUT_KEY
        test = bind(kind.item, path[1:], operator, raw, selector)
        return lambda mapping: test(mapping[key]) if mapping and key in mapping else missing
    if path:
        raise _no_such(selector, path)
    if operator not in kind.operators:
        raise wrong(f"Invalid match operator {quote(operator)} for selector {quote(selector)}")
    try:
        return kind.test(operator, kind.coerce(raw))
    except regex.RegexError as error:
        raise wrong(f"Failed to compile regular expression {quote(raw)}: {error}") from None
    except ValueError as error:
        raise wrong(f"Failed to coerce value {quote(raw)} for selector {quote(selector)}: {error}") from None


class NoSuchField(Invalid):
    """A selector that the objects do not have. `bare` is what Consul says when it notices late."""

    bare = ""


def _no_such(selector: str, path: tuple[str, ...]) -> NoSuchField:
    """`path` is what is left of the selector; with its first name it goes wrong."""
    behind = sum(len(name) + 1 for name in path[1:])
    bare = f"Selector {quote(selector[: len(selector) - behind])} is not valid"
    error = NoSuchField(_PREFIX + bare)
    error.bare = bare
    return error


def wrong(text: str) -> Invalid:
    """The error of an expression that cannot be."""
    return Invalid(_PREFIX + text)
