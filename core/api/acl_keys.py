"""The keys of an issuer, from where its auth method says that they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec.structs import replace

from core.acl import jwt
from core.acl.jwt import JwtConfig
from core.api.endpoint import ServerDoor
from core.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from jwt import PyJWK

_DISCOVERY = "/.well-known/openid-configuration"  # OpenID Connect Discovery 1.0, section 4


async def find(server: ServerDoor, config: JwtConfig, fresh: bool = False) -> tuple[list[PyJWK], JwtConfig]:
    """The keys that are to be fetched, none where the method has them itself; and the method with the
    issuer that discovery named. Invalid when they cannot be had."""
    if config.jwks_url:
        return await _keys(server, config.jwks_url, config.jwks_ca, "JWKSURL", fresh), config
    if not config.discovery_url:
        return [], config
    url = config.discovery_url.rstrip("/") + _DISCOVERY
    document = await _document(server, url, config.discovery_ca, "OIDCDiscoveryURL", fresh)
    try:
        found = json.loads(document)
        issuer, keys_url = found["issuer"], found["jwks_uri"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _unchecked("OIDCDiscoveryURL", f"{url} does not answer with issuer and jwks_uri") from None
    if issuer != config.discovery_url:
        text = f"the issuer names itself {issuer!r}, not {config.discovery_url!r}"
        raise _unchecked("OIDCDiscoveryURL", text)
    if not isinstance(keys_url, str) or not keys_url.startswith(("http://", "https://")):
        raise _unchecked("OIDCDiscoveryURL", f"{url}: jwks_uri is not an http or https URL")
    keys = await _keys(server, keys_url, config.discovery_ca, "OIDCDiscoveryURL", fresh)
    return keys, config if config.issuer else replace(config, issuer=issuer)


async def _keys(server: ServerDoor, url: str, ca: str, what: str, fresh: bool) -> list[PyJWK]:
    return jwt.read_key_set(await _document(server, url, ca, what, fresh), url)


async def _document(server: ServerDoor, url: str, ca: str, what: str, fresh: bool) -> bytes:
    try:
        return await server.fetch(url, ca, fresh)
    except Unavailable as error:
        raise _unchecked(what, str(error)) from None


def _unchecked(what: str, text: str) -> Invalid:
    return Invalid(f"Invalid Auth Method: error checking {what}: {text}")
