"""What an agent keeps in its data directory, read: the JSON files of Consul's agents.

Unknown fields are ignored, since other versions may have written them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.api.decode import CHECK, CHECK_DEFINITION, CHECK_ID, SERVICE, check_of, health_check, node_service
from core.codec import gojson
from core.codec.gojson import JsonError
from core.codec.shapes import INT, STRING, Object, fit
from core.node.definitions import CheckDefinition
from core.store.structs import HealthCheck, NodeService

_STORED_SERVICE = Object("agent.persistedService", {"Token": STRING, "Service": SERVICE, "Source": STRING})
_STORED_CHECK = Object(
    "agent.persistedCheck",
    {"Token": STRING, "Check": CHECK, "ChkType": CHECK_DEFINITION, "Source": STRING},
)
_STORED_STATE = Object(
    "agent.persistedCheckState",
    {"CheckID": CHECK_ID, "Output": STRING, "Status": STRING, "Expires": INT},
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
    given = fields.get("Service") or {}
    # Consul writes the mesh's parts always; a service that has none would be shown with empty ones.
    service = node_service({name: value for name, value in given.items() if not _is_blank(name, value)})
    if not service.id:
        raise JsonError("no service id")
    return StoredService(service, fields.get("Token", ""))


def _is_blank(name: str, value: Any) -> bool:
    return name in ("Proxy", "Connect") and _says_nothing(value)


def _says_nothing(value: Any) -> bool:
    return all(map(_says_nothing, value.values())) if isinstance(value, dict) else not value


def stored_check(body: bytes) -> StoredCheck:
    """A file of `checks/`. JsonError if it is none."""
    fields = _stored(body, _STORED_CHECK)
    check = health_check(fields.get("Check"))
    if not check.check_id:
        raise JsonError("no check id")
    definition = fields.get("ChkType")
    return StoredCheck(check, None if definition is None else check_of(definition), fields.get("Token", ""))


def stored_state(body: bytes) -> StoredState:
    """A file of `checks/state/`. JsonError if it is none."""
    fields = _stored(body, _STORED_STATE)
    if not fields.get("CheckID"):
        raise JsonError("no check id")
    return StoredState(
        fields["CheckID"], fields.get("Status", ""), fields.get("Output", ""), fields.get("Expires", 0)
    )


def _stored(body: bytes, shape: Object) -> dict[str, Any]:
    fields: dict[str, Any] = fit(gojson.decode(body), shape, lenient=True) or {}
    return fields
