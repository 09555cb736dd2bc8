"""Bodies of the ACL endpoints as the objects that they stand for; errors have Consul's texts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from core.codec import duration, gojson, msgpack
from core.codec.duration import quote
from core.codec.gojson import JsonError
from core.codec.shapes import (
    ANY,
    BOOL,
    STRING,
    STRING_MAP,
    STRINGS,
    UINT,
    Errors,
    ListOf,
    MapOf,
    Object,
    Shape,
    fit,
)
from core.errors import BadRequest
from core.store.acl_structs import ACLAuthMethod, ACLBindingRule, ACLPolicy, ACLRole, ACLToken, LegacyACL

S = TypeVar("S", bound=Struct)

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII
)  # RFC 3339
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class _Time(Shape):
    """A time in Go's binary form, from RFC 3339."""

    def fit(self, value: Any, errors: Errors) -> Any:
        try:
            return parse_time(value)
        except ValueError:
            shown = gojson.encode(value).decode()
            layout = '"2006-01-02T15:04:05Z07:00"'
            raise JsonError(f"parsing time {quote(shown)} as {quote(layout)}: not a time") from None


class _Ttl(Shape):
    """Nanoseconds from `"24h"` or a number."""

    zero = 0

    def fit(self, value: Any, errors: Errors) -> Any:
        if isinstance(value, str):
            try:
                return duration.parse(value)
            except ValueError as error:
                raise JsonError(str(error)) from None
        if not isinstance(value, int | float) or isinstance(value, bool):
            return 0  # what is neither is passed over
        if abs(value) <= duration.MAX:
            return int(value)
        errors.mismatch(value, "time.Duration")
        return 0


class _Neutral(Shape):
    """An enterprise field: only what it is without the edition may be said."""

    def fit(self, value: Any, errors: Errors) -> Any:
        if value not in ("", "default"):
            field = errors.path[-1]
            edition = " - Namespaces are a Consul Enterprise feature" if field == "Namespace" else ""
            errors.note(f"json: unknown field {quote(field)}{edition}")
        return None


_COMMON: dict[str, Shape] = {
    "CreateIndex": UINT,
    "ModifyIndex": UINT,
    "Namespace": _Neutral("string"),
    "Partition": _Neutral("string"),
}
_LINK = Object("structs.ACLLink", {"ID": STRING, "Name": STRING})
_VARIABLES = Object("structs.ACLTemplatedPolicyVariables", {"Name": STRING})
_GIVES: dict[str, Shape] = {
    "Description": STRING,
    "Policies": ListOf(_LINK, "[]structs.ACLLink"),
    "ServiceIdentities": ListOf(
        Object("structs.ACLServiceIdentity", {"ServiceName": STRING, "Datacenters": STRINGS})
    ),
    "NodeIdentities": ListOf(Object("structs.ACLNodeIdentity", {"NodeName": STRING, "Datacenter": STRING})),
    "TemplatedPolicies": ListOf(
        Object(
            "structs.ACLTemplatedPolicy",
            {
                "TemplateID": STRING,
                "TemplateName": STRING,
                "TemplateVariables": _VARIABLES,
                "Datacenters": STRINGS,
            },
        )
    ),
    "Hash": ANY,  # the leader computes it
    **_COMMON,
}
_TOKEN = Object(
    "structs.ACLToken",
    {
        "AccessorID": STRING,
        "SecretID": STRING,
        "Roles": ListOf(_LINK, "[]structs.ACLLink"),
        "Rules": STRING,
        "Local": BOOL,
        "AuthMethod": STRING,
        "AuthMethodNamespace": _Neutral("string"),
        "ExpirationTime": _Time("time.Time"),
        "ExpirationTTL": _Ttl("time.Duration"),
        "CreateTime": _Time("time.Time"),
        **_GIVES,
    },
)
_ROLE = Object("structs.ACLRole", {"ID": STRING, "Name": STRING, **_GIVES})
_POLICY = Object(
    "structs.ACLPolicy",
    {
        "ID": STRING,
        "Name": STRING,
        "Description": STRING,
        "Rules": STRING,
        "Datacenters": STRINGS,
        "Hash": ANY,
        **_COMMON,
    },
)
_METHOD = Object(
    "structs.ACLAuthMethod",
    {
        "Name": STRING,
        "Type": STRING,
        "DisplayName": STRING,
        "Description": STRING,
        "MaxTokenTTL": _Ttl("time.Duration"),
        "TokenLocality": STRING,
        "TokenNameFormat": STRING,
        "Config": MapOf(ANY),
        **_COMMON,
    },
)
_BINDING_RULE = Object(
    "structs.ACLBindingRule",
    {
        "ID": STRING,
        "Description": STRING,
        "AuthMethod": STRING,
        "Selector": STRING,
        "BindType": STRING,
        "BindName": STRING,
        "BindVars": _VARIABLES,
        **_COMMON,
    },
)
_LOGIN = Object(
    "structs.ACLLoginParams",
    {"AuthMethod": STRING, "BearerToken": STRING, "Meta": STRING_MAP, "Namespace": _Neutral("string")},
)
_LEGACY = Object(
    "structs.ACL",
    {
        "ID": STRING,
        "Name": STRING,
        "Type": STRING,
        "Rules": STRING,
        "CreateIndex": UINT,
        "ModifyIndex": UINT,
    },
)
_BOOTSTRAP = Object("structs.ACLInitialTokenBootstrapRequest", {"BootstrapSecret": STRING})
_QUESTIONS = ListOf(
    Object("structs.ACLAuthorizationRequest", {"Resource": STRING, "Segment": STRING, "Access": STRING})
)


def _read(body: bytes, shape: Shape, wrong: str) -> Any:
    try:
        return fit(gojson.decode(body), shape)
    except JsonError as error:
        raise BadRequest(f"{wrong}: {error}") from None


def _made(kind: type[S], body: bytes, shape: Object, what: str) -> S:
    """An object from a body. BadRequest has Consul's text."""
    fields: dict[str, Any] = _read(body, shape, f"Bad request: {what} decoding failed") or {}
    fields.pop("Hash", None)
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = [{} if item is None else item for item in value]
    return msgspec.convert(fields, kind, builtin_types=(bytes,))


def token(body: bytes) -> ACLToken:
    """The body of `/v1/acl/token`."""
    made = _made(ACLToken, body, _TOKEN, "Token")
    return msgspec.structs.replace(made, expiration_time=_unless_zero(made.expiration_time))


def _unless_zero(time: bytes | None) -> bytes | None:
    return None if time is None or time[1:13] == bytes(12) else time


def policy(body: bytes) -> ACLPolicy:
    """The body of `/v1/acl/policy`."""
    return _made(ACLPolicy, body, _POLICY, "Policy")


def role(body: bytes) -> ACLRole:
    """The body of `/v1/acl/role`."""
    return _made(ACLRole, body, _ROLE, "Role")


def auth_method(body: bytes) -> ACLAuthMethod:
    """The body of `/v1/acl/auth-method`."""
    return _made(ACLAuthMethod, body, _METHOD, "AuthMethod")


def binding_rule(body: bytes) -> ACLBindingRule:
    """The body of `/v1/acl/binding-rule`."""
    return _made(ACLBindingRule, body, _BINDING_RULE, "BindingRule")


def legacy(body: bytes) -> LegacyACL:
    """The body of `/v1/acl/create` and `update`, which may be missing."""
    fields = _read(body, _LEGACY, "Request decode failed") if body else {}
    return msgspec.convert({"Type": "client", **(fields or {})}, LegacyACL)


def login(body: bytes) -> tuple[str, str, dict[str, str]] | None:
    """Auth method, bearer token and meta in the body of `/v1/acl/login`, None where that is null."""
    fields = _read(body, _LOGIN, "Bad request: Failed to decode request body")
    if fields is None:
        return None
    return fields.get("AuthMethod", ""), fields.get("BearerToken", ""), fields.get("Meta") or {}


def bootstrap_secret(body: bytes) -> str:
    """The secret that the first token should have, "" for any."""
    fields = _read(body, _BOOTSTRAP, "Bad request: Request decode failed") if body else None
    secret: str = (fields or {}).get("BootstrapSecret", "")
    return secret


def template_name(body: bytes) -> str:
    """The variable that a template is previewed with, "" for none."""
    wrong = "Bad request: Failed to decode request body"
    fields = _read(body, _VARIABLES, wrong) if body else None
    name: str = (fields or {}).get("Name", "")
    return name


def questions(body: bytes) -> list[tuple[str, str, str]]:
    """Resource, name and access of each question in the body of `/v1/internal/acl/authorize`."""
    found = _read(body, _QUESTIONS, "Bad request: Failed to decode request body") or []
    rows = [item or {} for item in found]
    return [(one.get("Resource", ""), one.get("Segment", ""), one.get("Access", "")) for one in rows]


def parse_time(value: Any) -> bytes:
    """A time in Go's binary form, from RFC 3339. ValueError."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a time")
    moment = datetime(*(int(part) for part in match.groups()[:6]), tzinfo=UTC)  # type: ignore[misc, arg-type]
    nanoseconds = int((match[7] or "0")[:9].ljust(9, "0"))
    offset = None
    if match[8] != "Z":
        hours, minutes = int(match[8][1:3]), int(match[8][4:6])
        if hours > 23 or minutes > 59:
            raise ValueError("not a time zone")
        offset = (hours * 60 + minutes) * (-1 if match[8][0] == "-" else 1)
    seconds = (moment - _EPOCH) // _SECOND - (offset or 0) * 60
    return msgpack.encode_time(seconds, nanoseconds, offset)


def show_time(raw: bytes) -> str:
    """RFC 3339 of a time in Go's binary form."""
    seconds, nanoseconds, offset = msgpack.decode_time(raw)
    moment = _EPOCH + timedelta(seconds=seconds + (offset or 0) * 60)
    text = f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}"
    if nanoseconds:
        text += f".{nanoseconds:09}".rstrip("0")
    if not offset:
        return text + "Z"
    sign, ahead = ("+", offset) if offset > 0 else ("-", -offset)
    return f"{text}{sign}{ahead // 60:02}:{ahead % 60:02}"
