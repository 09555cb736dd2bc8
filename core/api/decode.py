"""Bodies of requests as the objects that they stand for.

Field names match in any letter case; the agent's service and check definitions take snake_case too.
Fields that nobody knows are refused. Durations are Go's texts or numbers of nanoseconds. Fields of
later versions are accepted; those of the enterprise edition only with their neutral value."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec import Struct

from core.codec import duration, gojson
from core.codec.gojson import (
    ANY,
    BOOL,
    INT,
    STRING,
    STRING_MAP,
    STRINGS,
    UINT,
    JsonError,
    ListOf,
    MapOf,
    Object,
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
    Weights,
    go_name,
)


class _Duration(gojson.Shape):
    """Nanoseconds from `"10s"` or a number; Go ignores every other kind of value."""

    zero = 0

    def fit(self, value: Any, errors: gojson.Errors) -> Any:
        if isinstance(value, str):
            try:
                return duration.parse(value)
            except ValueError as error:
                raise JsonError(str(error)) from None
        if isinstance(value, int | float) and abs(value) <= duration.MAX:
            return int(value)
        return 0


class _Neutral(gojson.Shape):
    """An enterprise field: only what it is without the edition may be said."""

    def fit(self, value: Any, errors: gojson.Errors) -> Any:
        if value not in ("", "default"):
            errors.note(f"json: unknown field {duration.quote(errors.path[-1])}")
        return None


_DURATION = _Duration("time.Duration")
_NEUTRAL = _Neutral("string")
_NODE_ID = gojson.Text("types.NodeID")
_CHECK_ID = gojson.Text("types.CheckID")
_HEADER = MapOf(STRINGS)
_TENANCY: dict[str, gojson.Shape] = {"Namespace": _NEUTRAL, "Partition": _NEUTRAL, "PeerName": _NEUTRAL}
_INDEXES: dict[str, gojson.Shape] = {"CreateIndex": UINT, "ModifyIndex": UINT}
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
_CONNECT = Object("structs.ServiceConnect", {"Native": BOOL, "SidecarService": ANY}, translated=True)

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
)
_CHECK = Object(
    "structs.HealthCheck",
    {
        "Node": STRING,
        "CheckID": _CHECK_ID,
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
_SERVICE = Object(
    "structs.NodeService",
    {
        "Kind": gojson.Text("structs.ServiceKind"),
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
        "Service": _SERVICE,
        "Check": _CHECK,
        "Checks": ListOf(_CHECK, "structs.HealthChecks"),
        "SkipNodeUpdate": BOOL,
        "Token": STRING,
        "Locality": ANY,
        **_TENANCY,
        **_INDEXES,
    },
)
_DEREGISTER = Object(
    "structs.DeregisterRequest",
    {
        "Datacenter": STRING,
        "Node": STRING,
        "ServiceID": STRING,
        "CheckID": _CHECK_ID,
        "Token": STRING,
        **_TENANCY,
    },
)

# --- the agent -------------------------------------------------------------------------------------

_CHECK_DEFINITION = Object(
    "structs.CheckDefinition",
    {
        "ID": _CHECK_ID,
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
    aliases={"ScriptArgs": "Args", "CheckID": "ID"},
    translated=True,
)
_SERVICE_DEFINITION = Object(
    "structs.ServiceDefinition",
    {
        "Kind": gojson.Text("structs.ServiceKind"),
        "ID": STRING,
        "Name": STRING,
        "Tags": STRINGS,
        "Address": STRING,
        "TaggedAddresses": _ADDRESSES,
        "Meta": STRING_MAP,
        "Port": INT,
        "SocketPath": STRING,
        "Check": _CHECK_DEFINITION,
        "Checks": ListOf(_CHECK_DEFINITION, "structs.CheckTypes"),
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


def _read(body: bytes, shape: Object) -> dict[str, Any]:
    """The fields of a body; a body of `null` has none. BadRequest has Consul's text."""
    try:
        fields = gojson.fit(gojson.decode(body), shape)
    except JsonError as error:
        raise BadRequest(f"Request decode failed: {error}") from None
    return fields or {}


def _addresses(value: dict[str, Any] | None) -> dict[str, ServiceAddress] | None:
    if value is None:
        return None
    return {tag: _make(ServiceAddress, address or {}) for tag, address in value.items()}


def _weights(value: dict[str, Any] | None) -> Weights | None:
    return None if value is None else Weights(value.get("Passing", 0), value.get("Warning", 0))


def _node_service(fields: dict[str, Any]) -> NodeService:
    return _make(
        NodeService,
        fields,
        weights=_weights(fields.get("Weights")),
        tagged_addresses=_addresses(fields.get("TaggedAddresses")),
    )


def _health_check(fields: dict[str, Any] | None) -> HealthCheck:
    fields = fields or {}
    return _make(HealthCheck, fields, definition=_make(CheckSpec, fields.get("Definition") or {}))


def catalog_register(body: bytes) -> RegisterRequest:
    """The body of `/v1/catalog/register`. BadRequest has Consul's text."""
    fields = _read(body, _REGISTER)
    service, check, checks = fields.get("Service"), fields.get("Check"), fields.get("Checks")
    return _make(
        RegisterRequest,
        fields,
        service=None if service is None else _node_service(service),
        check=None if check is None else _health_check(check),
        checks=None if checks is None else [_health_check(item) for item in checks],
    )


def catalog_deregister(body: bytes) -> DeregisterRequest:
    """The body of `/v1/catalog/deregister`. BadRequest has Consul's text."""
    return _make(DeregisterRequest, _read(body, _DEREGISTER))


def _check(fields: dict[str, Any] | None) -> CheckDefinition:
    return _make(CheckDefinition, fields or {})


def check_definition(body: bytes) -> CheckDefinition:
    """The body of `/v1/agent/check/register`. BadRequest has Consul's text."""
    return _check(_read(body, _CHECK_DEFINITION))


def service_definition(body: bytes) -> ServiceDefinition:
    """The body of `/v1/agent/service/register`; `Check`, unless it is empty, goes before `Checks`.
    BadRequest has Consul's text."""
    fields = _read(body, _SERVICE_DEFINITION)
    single = _check(fields.get("Check"))
    checks = [] if single == CheckDefinition() else [single]
    checks += [_check(item) for item in fields.get("Checks") or []]
    return _make(
        ServiceDefinition,
        fields,
        checks=checks,
        weights=_weights(fields.get("Weights")),
        tagged_addresses=_addresses(fields.get("TaggedAddresses")),
    )


def check_update(body: bytes) -> tuple[str, str]:
    """Status and output in the body of `/v1/agent/check/update/ID`. BadRequest has Consul's text."""
    fields = _read(body, _CHECK_UPDATE)
    return fields.get("Status", ""), fields.get("Output", "")


def agent_token(body: bytes) -> str:
    """The token in the body of `/v1/agent/token/KIND`. BadRequest has Consul's text."""
    token: str = _read(body, _TOKEN).get("Token", "")
    return token


# --- what the agent keeps in its data directory ----------------------------------------------------

_STORED_SERVICE = Object("agent.persistedService", {"Token": STRING, "Service": _SERVICE, "Source": STRING})
_STORED_CHECK = Object(
    "agent.persistedCheck",
    {"Token": STRING, "Check": _CHECK, "ChkType": _CHECK_DEFINITION, "Source": STRING},
)
_STORED_STATE = Object(
    "agent.persistedCheckState",
    {"CheckID": _CHECK_ID, "Output": STRING, "Status": STRING, "Expires": INT},
)


class StoredService(Struct, frozen=True):
    """A service as it was registered, and with what token."""

    service: NodeService
    token: str = ""


class StoredCheck(Struct, frozen=True):
    """A check as it was registered; no definition for maintenance modes, which nothing runs."""

    check: HealthCheck
    definition: CheckDefinition | None = None
    token: str = ""


class StoredState(Struct, frozen=True):
    """What a check found last, good until `expires` (Unix seconds)."""

    check_id: str
    status: str
    output: str = ""
    expires: int = 0


def stored_service(body: bytes) -> StoredService:
    """A file of `services/`. JsonError if it is none."""
    fields = _stored(body, _STORED_SERVICE)
    service = _node_service(fields.get("Service") or {})
    if not service.id:
        raise JsonError("no service id")
    return StoredService(service, fields.get("Token", ""))


def stored_check(body: bytes) -> StoredCheck:
    """A file of `checks/`. JsonError if it is none."""
    fields = _stored(body, _STORED_CHECK)
    check = _health_check(fields.get("Check"))
    if not check.check_id:
        raise JsonError("no check id")
    definition = fields.get("ChkType")
    return StoredCheck(check, None if definition is None else _check(definition), fields.get("Token", ""))


def stored_state(body: bytes) -> StoredState:
    """A file of `checks/state/`. JsonError if it is none."""
    fields = _stored(body, _STORED_STATE)
    if not fields.get("CheckID"):
        raise JsonError("no check id")
    return StoredState(
        fields["CheckID"], fields.get("Status", ""), fields.get("Output", ""), fields.get("Expires", 0)
    )


def _stored(body: bytes, shape: Object) -> dict[str, Any]:
    fields: dict[str, Any] = gojson.fit(gojson.decode(body), shape, lenient=True) or {}
    return fields
