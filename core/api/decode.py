"""Bodies of requests as the objects that they stand for.

Field names match in any letter case; the agent's service and check definitions take snake_case too.
Fields that nobody knows are refused. Durations are Go's texts or numbers of nanoseconds. Fields of
later versions are accepted; those of the enterprise edition only with their neutral value."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from core.codec import duration, gojson
from core.codec.gojson import JsonError
from core.codec.shapes import (
    ANY,
    BOOL,
    INT,
    STRING,
    STRING_MAP,
    STRINGS,
    UINT,
    Errors,
    ListOf,
    MapOf,
    Object,
    Shape,
    Text,
    fit,
)
from core.errors import BadRequest
from core.node.definitions import CheckDefinition, ServiceDefinition
from core.store.structs import (
    CheckSpec,
    DeregisterRequest,
    HealthCheck,
    NodeService,
    RegisterRequest,
    ServiceAddress,
    ServiceCheck,
    Session,
    Weights,
    go_name,
)


class _Duration(Shape):
    """Nanoseconds from `"10s"` or a number; Go ignores every other kind of value."""

    zero = 0

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, str):
            try:
                return duration.parse(value)
            except ValueError as error:
                raise JsonError(str(error)) from None
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= duration.MAX:
            return int(value)
        return 0


class _LockDelay(_Duration):
    """A duration whose small numbers are seconds, as old clients send them."""

    def fit(self, value: Any, errors: Errors) -> Any:
        found = super().fit(value, errors)
        return found * duration.SECOND if not isinstance(value, str) and found < 1000 else found


class _Neutral(Shape):
    """An enterprise field: only what it is without the edition may be said."""

    def fit(self, value: Any, errors: Errors) -> Any:
        if value not in ("", "default"):
            errors.note(f"json: unknown field {duration.quote(errors.path[-1])}")
        return None


_DURATION = _Duration("time.Duration")
NEUTRAL = _Neutral("string")
_NODE_ID = Text("types.NodeID")
CHECK_ID = Text("types.CheckID")
_HEADER = MapOf(STRINGS)
_TENANCY: dict[str, Shape] = {"Namespace": NEUTRAL, "Partition": NEUTRAL, "PeerName": NEUTRAL}
_INDEXES: dict[str, Shape] = {"CreateIndex": UINT, "ModifyIndex": UINT}
_ADDRESSES = MapOf(Object("structs.ServiceAddress", {"Address": STRING, "Port": INT}))
_WEIGHTS = Object("structs.Weights", {"Passing": INT, "Warning": INT})
_PROXY = Object(
    "structs.ConnectProxyConfig",
    {
        "DestinationServiceName": STRING,
        "DestinationServiceID": STRING,
        "LocalServiceAddress": STRING,
        "LocalServicePort": INT,
        "LocalServiceSocketPath": STRING,
        "Mode": STRING,
        "Config": MapOf(ANY),
        "Upstreams": ListOf(ANY, "structs.Upstreams"),
        "MeshGateway": MapOf(ANY),
        "Expose": MapOf(ANY),
        "TransparentProxy": MapOf(ANY),
        "EnvoyExtensions": ListOf(ANY),
        "AccessLogs": MapOf(ANY),
    },
    translated=True,
)
_CONNECT = Object(
    "structs.ServiceConnect", {"Native": BOOL, "SidecarService": ANY}, translated=True, lenient=True
)

# --- the catalog -----------------------------------------------------------------------------------

_SPEC = Object(
    "structs.HealthCheckDefinition",
    {
        "HTTP": STRING,
        "TLSSkipVerify": BOOL,
        "Header": _HEADER,
        "Method": STRING,
        "Body": STRING,
        "TCP": STRING,
        "Interval": _DURATION,
        "OutputMaxSize": UINT,
        "Timeout": _DURATION,
        "DeregisterCriticalServiceAfter": _DURATION,
        "ScriptArgs": STRINGS,
        "DockerContainerID": STRING,
        "Shell": STRING,
        "GRPC": STRING,
        "GRPCUseTLS": BOOL,
        "AliasNode": STRING,
        "AliasService": STRING,
        "TTL": _DURATION,
        # of later versions; the catalog does not keep them
        "TLSServerName": ANY,
        "TCPUseTLS": ANY,
        "UDP": ANY,
        "H2PING": ANY,
        "H2PINGUseTLS": ANY,
        "OSService": ANY,
        "DisableRedirects": ANY,
    },
    translated=True,
    lenient=True,
)
CHECK = Object(
    "structs.HealthCheck",
    {
        "Node": STRING,
        "CheckID": CHECK_ID,
        "Name": STRING,
        "Status": STRING,
        "Notes": STRING,
        "Output": STRING,
        "ServiceID": STRING,
        "ServiceName": STRING,
        "ServiceTags": STRINGS,
        "Type": STRING,
        "Definition": _SPEC,
        "Interval": ANY,
        "Timeout": ANY,
        "ExposedPort": ANY,
        **_TENANCY,
        **_INDEXES,
    },
)
SERVICE = Object(
    "structs.NodeService",
    {
        "Kind": Text("structs.ServiceKind"),
        "ID": STRING,
        "Service": STRING,
        "Tags": STRINGS,
        "Address": STRING,
        "TaggedAddresses": _ADDRESSES,
        "Meta": STRING_MAP,
        "Port": INT,
        "SocketPath": ANY,
        "Weights": _WEIGHTS,
        "EnableTagOverride": BOOL,
        "Proxy": _PROXY,
        "Connect": _CONNECT,
        "Locality": ANY,
        **_TENANCY,
        **_INDEXES,
    },
)
_REGISTER = Object(
    "structs.RegisterRequest",
    {
        "Datacenter": STRING,
        "ID": _NODE_ID,
        "Node": STRING,
        "Address": STRING,
        "TaggedAddresses": STRING_MAP,
        "NodeMeta": STRING_MAP,
        "Service": SERVICE,
        "Check": CHECK,
        "Checks": ListOf(CHECK, "structs.HealthChecks"),
        "SkipNodeUpdate": BOOL,
        "Token": STRING,
        "Locality": ANY,
        **_TENANCY,
        **_INDEXES,
    },
)
_DEREGISTER = Object(
    "struct { Address string; *structs.Alias }",  # what its own decoder calls it
    {
        "Datacenter": STRING,
        "Node": STRING,
        "ServiceID": STRING,
        "CheckID": CHECK_ID,
        "Token": STRING,
        **_TENANCY,
    },
)

# --- the agent -------------------------------------------------------------------------------------

CHECK_DEFINITION = Object(
    "structs.CheckDefinition",
    {
        "ID": CHECK_ID,
        "Name": STRING,
        "Notes": STRING,
        "ServiceID": STRING,
        "Token": STRING,
        "Status": STRING,
        "Args": STRINGS,
        "HTTP": STRING,
        "Header": _HEADER,
        "Method": STRING,
        "Body": STRING,
        "DisableRedirects": BOOL,
        "TCP": STRING,
        "TCPUseTLS": BOOL,
        "UDP": STRING,
        "GRPC": STRING,
        "GRPCUseTLS": BOOL,
        "H2PING": STRING,
        "H2PINGUseTLS": BOOL,
        "OSService": STRING,
        "DockerContainerID": STRING,
        "Shell": STRING,
        "AliasNode": STRING,
        "AliasService": STRING,
        "TTL": _DURATION,
        "Interval": _DURATION,
        "Timeout": _DURATION,
        "TLSServerName": STRING,
        "TLSSkipVerify": BOOL,
        "SuccessBeforePassing": INT,
        "FailuresBeforeWarning": INT,
        "FailuresBeforeCritical": INT,
        "DeregisterCriticalServiceAfter": _DURATION,
        "OutputMaxSize": INT,
        "ProxyHTTP": ANY,
        "ProxyGRPC": ANY,
        "ExposedPort": ANY,
        **_TENANCY,
    },
    aliases={"ScriptArgs": "Args", "args": "Args", "CheckID": "ID"},
    translated=True,
)
_ALONE = Object(  # one that is registered by itself has no CheckID
    "structs.CheckDefinition",
    CHECK_DEFINITION.fields,
    aliases={"ScriptArgs": "Args", "args": "Args"},
    translated=True,
)
_SERVICE_DEFINITION = Object(
    "structs.ServiceDefinition",
    {
        "Kind": Text("structs.ServiceKind"),
        "ID": STRING,
        "Name": STRING,
        "Tags": STRINGS,
        "Address": STRING,
        "TaggedAddresses": _ADDRESSES,
        "Meta": STRING_MAP,
        "Port": INT,
        "SocketPath": STRING,
        "Check": CHECK_DEFINITION,
        "Checks": ListOf(CHECK_DEFINITION, "structs.CheckTypes"),
        "Weights": _WEIGHTS,
        "Token": STRING,
        "EnableTagOverride": BOOL,
        "Proxy": _PROXY,
        "Connect": _CONNECT,
        "Locality": ANY,
        **_TENANCY,
    },
    translated=True,
)
_SESSION = Object(
    "struct { LockDelay interface {}; *structs.Alias }",
    {
        "ID": ANY,  # whoever makes a session does not choose its id
        "Name": STRING,
        "Node": STRING,
        "LockDelay": _LockDelay("time.Duration"),
        "Behavior": Text("structs.SessionBehavior"),
        "TTL": STRING,
        "NodeChecks": STRINGS,
        "ServiceChecks": ListOf(
            Object("structs.ServiceCheck", {"ID": STRING, "Namespace": STRING}), "[]structs.ServiceCheck"
        ),
        "Checks": ListOf(CHECK_ID),
        **_TENANCY,
        **_INDEXES,
    },
)
_CHECK_UPDATE = Object("agent.checkUpdate", {"Status": STRING, "Output": STRING})
_TOKEN = Object("api.AgentToken", {"Token": STRING})

_Made = TypeVar("_Made", bound=Struct)


def _make(kind: type[_Made], fields: dict[str, Any], **more: Any) -> _Made:
    """A struct of the fields that were given and are not null."""
    for attribute in kind.__struct_fields__:
        value = fields.get(go_name(attribute))
        if value is not None:
            more.setdefault(attribute, value)
    return kind(**more)


def _read(body: bytes, shape: Object, lenient: bool = False) -> dict[str, Any]:
    """The fields of a body; a body of `null` has none. BadRequest has Consul's text."""
    try:
        fields = fit(gojson.decode(body), shape, lenient)
    except JsonError as error:
        raise BadRequest(f"Request decode failed: {error}") from None
    return fields or {}


def _addresses(value: dict[str, Any] | None) -> dict[str, ServiceAddress] | None:
    if value is None:
        return None
    return {tag: _make(ServiceAddress, address or {}) for tag, address in value.items()}


def _weights(value: dict[str, Any] | None) -> Weights | None:
    return None if value is None else Weights(value.get("Passing", 0), value.get("Warning", 0))


def node_service(fields: dict[str, Any]) -> NodeService:
    """A service of the catalog from the fields of SERVICE."""
    return _make(
        NodeService,
        fields,
        weights=_weights(fields.get("Weights")),
        tagged_addresses=_addresses(fields.get("TaggedAddresses")),
    )


def health_check(fields: dict[str, Any] | None) -> HealthCheck:
    """A check of the catalog from the fields of CHECK."""
    fields = fields or {}
    return _make(HealthCheck, fields, definition=_make(CheckSpec, fields.get("Definition") or {}))


def catalog_register(body: bytes) -> RegisterRequest:
    """The body of `/v1/catalog/register`. BadRequest has Consul's text."""
    fields = _read(body, _REGISTER)
    service, check, checks = fields.get("Service"), fields.get("Check"), fields.get("Checks")
    return _make(
        RegisterRequest,
        fields,
        service=None if service is None else node_service(service),
        check=None if check is None else health_check(check),
        checks=None if checks is None else [health_check(item) for item in checks],
    )


def catalog_deregister(body: bytes) -> DeregisterRequest:
    """The body of `/v1/catalog/deregister`. BadRequest has Consul's text."""
    return _make(DeregisterRequest, _read(body, _DEREGISTER))


def check_of(fields: dict[str, Any] | None) -> CheckDefinition:
    """A check's definition from the fields of CHECK_DEFINITION."""
    return _make(CheckDefinition, fields or {})


def check_definition(body: bytes) -> CheckDefinition:
    """The body of `/v1/agent/check/register`. BadRequest has Consul's text."""
    return check_of(_read(body, _ALONE))


def service_definition(body: bytes) -> ServiceDefinition:
    """The body of `/v1/agent/service/register`; `Check`, unless it is empty, goes before `Checks`.
    BadRequest has Consul's text."""
    fields = _read(body, _SERVICE_DEFINITION)
    single = check_of(fields.get("Check"))
    checks = [] if single == CheckDefinition() else [single]
    checks += [check_of(item) for item in fields.get("Checks") or []]
    return _make(
        ServiceDefinition,
        fields,
        checks=checks,
        weights=_weights(fields.get("Weights")),
        tagged_addresses=_addresses(fields.get("TaggedAddresses")),
    )


def session(body: bytes, default: Session) -> Session:
    """The body of `/v1/session/create`: `default` where it says nothing; unknown fields are ignored, as
    Consul's own decoder of this type does. BadRequest has Consul's text."""
    fields = _read(body, _SESSION, lenient=True)
    fields.pop("ID", None)
    given: dict[str, Any] = dict.fromkeys(_emptied(body))
    for attribute in Session.__struct_fields__:
        value = fields.get(go_name(attribute))
        if value is not None and attribute not in ("create_index", "modify_index"):
            given[attribute] = value
    if "service_checks" in given:
        given["service_checks"] = [_make(ServiceCheck, item or {}) for item in given["service_checks"]]
    return replace(default, **given)


def _emptied(body: bytes) -> list[str]:
    """The lists of checks that a session's body makes null, which is not what their absence means."""
    value = gojson.decode(body)
    names = [key.lower() for key, item in value.items() if item is None] if isinstance(value, dict) else []
    return [name for name in ("checks", "node_checks") if name.replace("_", "") in names]


def check_update(body: bytes) -> tuple[str, str]:
    """Status and output in the body of `/v1/agent/check/update/ID`. BadRequest has Consul's text."""
    fields = _read(body, _CHECK_UPDATE)
    return fields.get("Status", ""), fields.get("Output", "")


def agent_token(body: bytes) -> str:
    """The token in the body of `/v1/agent/token/KIND`. BadRequest has Consul's text."""
    token: str = _read(body, _TOKEN).get("Token", "")
    return token
