"""Logins by JSON Web Token: whether a token is good, and what its claims are for this auth method.

Pure: the keys of an issuer are fetched by whoever asks, and the time is an argument. Signatures are
checked by PyJWT; everything that depends on the clock is judged here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from core.codec import duration
from core.codec.duration import SECOND, quote
from core.errors import Invalid

if TYPE_CHECKING:
    from jwt import PyJWK

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
_ALSO_VERIFIED = (*ALGORITHMS, "EdDSA")  # where nothing is said of it; never those with a shared secret
_LEEWAY = 150.0  # seconds: of tokens that lack `exp` or `nbf`
_SKEW = 60.0
MAX_TOKEN = 64 * 1024
_NO_KEY = "no known key successfully validated the token signature"
_JOSE = "square/go-jose/jwt"  # begins the texts of that library, which clients know
_POINTER_ESCAPES = (("~1", "/"), ("~0", "~"))
_TEXTS = ("BoundIssuer", "JWKSCACert", "JWKSURL", "OIDCDiscoveryCACert", "OIDCDiscoveryURL")
_LISTS = ("BoundAudiences", "JWTSupportedAlgs", "JWTValidationPubKeys")
_MAPS = ("ClaimMappings", "ListClaimMappings")
_TIMES = ("ClockSkewLeeway", "ExpirationLeeway", "NotBeforeLeeway")
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


class JwtConfig(Struct, frozen=True):
    """The configuration of an auth method of type jwt. Leeways in seconds."""

    pub_keys: tuple[str, ...] = ()
    jwks_url: str = ""
    jwks_ca: str = ""
    discovery_url: str = ""
    discovery_ca: str = ""
    algorithms: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    issuer: str = ""
    claims: dict[str, str] = {}
    list_claims: dict[str, str] = {}
    expiration_leeway: float = _LEEWAY
    not_before_leeway: float = _LEEWAY
    skew: float = _SKEW


class Identity(Struct, frozen=True):
    """What a login proved: the claims that the auth method maps."""

    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {}

    @property
    def variables(self) -> dict[str, str]:
        """What names may be made of: `value.NAME`."""
        return {f"value.{name}": value for name, value in self.values.items()}


def blank(config: JwtConfig) -> Identity:
    """An identity with all that the method maps, empty: to try selectors and names with."""
    lists: dict[str, list[str]] = {name: [] for name in config.list_claims.values()}
    return Identity(dict.fromkeys(config.claims.values(), ""), lists)


# --- configuration -----------------------------------------------------------------------------------


def read_config(given: dict[str, Any] | None) -> JwtConfig:
    """The configuration in an auth method. Invalid says what is wrong with it."""
    fields = {name.lower(): (name, value) for name, value in (given or {}).items() if value is not None}
    known = {name.lower(): name for name in (*_TEXTS, *_LISTS, *_MAPS, *_TIMES)}
    strange = sorted(name for key, (name, _) in fields.items() if key not in known)
    if strange:
        text = f"1 error(s) decoding:\n\n* '' has invalid keys: {', '.join(strange)}"
        raise _wrong(f"error decoding config: {text}")
    values = {known[key]: _fitted(known[key], value) for key, (_, value) in fields.items()}
    config = JwtConfig(
        pub_keys=values.get("JWTValidationPubKeys", ()),
        jwks_url=values.get("JWKSURL", ""),
        jwks_ca=values.get("JWKSCACert", ""),
        discovery_url=values.get("OIDCDiscoveryURL", ""),
        discovery_ca=values.get("OIDCDiscoveryCACert", ""),
        algorithms=values.get("JWTSupportedAlgs", ()),
        audiences=values.get("BoundAudiences", ()),
        issuer=values.get("BoundIssuer", ""),
        claims=values.get("ClaimMappings", {}),
        list_claims=values.get("ListClaimMappings", {}),
        expiration_leeway=_leeway(values.get("ExpirationLeeway", 0), _LEEWAY),
        not_before_leeway=_leeway(values.get("NotBeforeLeeway", 0), _LEEWAY),
        skew=_leeway(values.get("ClockSkewLeeway", 0), _SKEW),
    )
    _check(config)
    return config


def _fitted(name: str, value: Any) -> Any:
    if name in _TEXTS and isinstance(value, str):
        return value
    if name in _LISTS and isinstance(value, str):  # one instead of a list of one
        return (value,)
    if name in _LISTS and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if name in _MAPS and isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return value
    if name in _TIMES:
        return _duration(name, value)
    kind = "a string" if name in _TEXTS else "a list of strings" if name in _LISTS else "a map of strings"
    raise _wrong(f"{name} must be {kind}")


def _duration(name: str, value: Any) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= duration.MAX:
        return int(value)
    try:
        if isinstance(value, str):
            return duration.parse(value)
    except ValueError as error:
        raise _wrong(f"{name}: {error}") from None
    raise _wrong(f"{name} must be a duration")


def _leeway(given: int, default: float) -> float:
    """Seconds: 0 stands for the default, and what is negative for none."""
    return default if given == 0 else max(given / SECOND, 0.0)


def _check(config: JwtConfig) -> None:
    sources = sum(map(bool, (config.pub_keys, config.jwks_url, config.discovery_url)))
    if sources != 1:
        raise _wrong(
            "exactly one of 'JWTValidationPubKeys', 'JWKSURL', or 'OIDCDiscoveryURL' must be set"
            ' for type "jwt"'
        )
    if config.jwks_ca and not config.jwks_url:
        raise _wrong("'JWKSCACert' should not be set unless 'JWKSURL' is set")
    if config.discovery_ca and not config.discovery_url:
        raise _wrong("'OIDCDiscoveryCACert' should not be set unless 'OIDCDiscoveryURL' is set")
    for name, url in (("JWKSURL", config.jwks_url), ("OIDCDiscoveryURL", config.discovery_url)):
        if url and not url.startswith(("http://", "https://")):
            raise _wrong(f"error checking {name}: {quote(url)} is not an http or https URL")
    for number, text in enumerate(config.pub_keys):
        public_key(text, f"JWTValidationPubKeys[{number}]")
    for algorithm in config.algorithms:
        if algorithm not in ALGORITHMS:
            raise _wrong(f"Invalid supported algorithm: {algorithm}")
    for name, mappings in (("ClaimMappings", config.claims), ("ListClaimMappings", config.list_claims)):
        targets = list(mappings.values())
        for target in targets:
            if targets.count(target) > 1:
                raise _wrong(f"{name} contains multiple mappings for key {quote(target)}")


def public_key(text: str, where: str) -> Any:
    """The key in a PEM text: a public key or a certificate. Invalid."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    if _PRIVATE.search(text):
        raise _wrong(f"error parsing public key {where}: this is a private key; keep it to yourself")
    raw = text.encode("utf-8", "replace")
    try:
        key: Any = (
            load_pem_x509_certificate(raw).public_key()
            if b"BEGIN CERTIFICATE" in raw
            else load_pem_public_key(raw)
        )
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return key
    raise _wrong(
        f"error parsing public key {where}: data does not contain any valid RSA, ECDSA, or ED25519"
        " public keys"
    )


def _wrong(text: str) -> Invalid:
    return Invalid(f"Invalid Auth Method: {text}")


# --- judgement ---------------------------------------------------------------------------------------


class UnknownKey(Invalid):
    """No key fits; newer ones may."""


def read_key_set(document: bytes, url: str) -> list[PyJWK]:
    """The keys in a JWKS. Those of kinds that are not known are left out. Invalid."""
    import json

    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    try:
        found = json.loads(document)
        rows = found["keys"]
        if not isinstance(rows, list):
            raise TypeError("keys: a list was expected")
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Invalid(f"error verifying token: {url} does not answer with a set of keys (JWKS)") from None
    keys = []
    for row in rows:
        try:
            keys.append(PyJWK(row))
        except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return keys


def verify(token: str, config: JwtConfig, keys: Sequence[PyJWK], now: float) -> dict[str, Any]:
    """The claims of a token that is signed by one of the method's keys (or of `keys`, where those are
    fetched) and holds now. Invalid says why it does not; UnknownKey when no key fits."""
    token = "".join(token.split())
    if not token:
        raise Invalid("missing jwt")
    if len(token) > MAX_TOKEN:
        raise Invalid(f"error parsing token: longer than {MAX_TOKEN} bytes")
    claims = _signed(token, config, keys)
    _check_time(config, claims, now)
    if config.issuer and claims.get("iss") != config.issuer:
        raise _invalid(f"{_JOSE}: validation failed, invalid issuer claim (iss)")
    _check_audience(config, claims)
    return claims


def _signed(token: str, config: JwtConfig, keys: Sequence[PyJWK]) -> dict[str, Any]:
    """The claims, if the signature is good."""
    import json

    from jwt import PyJWS
    from jwt.exceptions import PyJWTError

    allowed = config.algorithms or (("RS256",) if config.discovery_url else _ALSO_VERIFIED)
    work = PyJWS()
    if token.count(".") != 2:
        raise Invalid("error parsing token: square/go-jose: compact JWS format must have three parts")
    try:
        header = work.get_unverified_header(token)
    except (PyJWTError, ValueError, RecursionError) as error:
        raise Invalid(f"error parsing token: {error}") from None
    algorithm = header.get("alg")
    if algorithm not in allowed:
        wrong = _NO_KEY if config.pub_keys else "error verifying token"
        raise Invalid(f"{wrong}: algorithm {quote(str(algorithm))} is not accepted")
    candidates: list[Any] = [
        public_key(text, f"JWTValidationPubKeys[{number}]") for number, text in enumerate(config.pub_keys)
    ]
    wanted = header.get("kid")
    named = [key for key in keys if wanted and key.key_id == wanted]
    candidates += [key.key for key in named or keys]
    for key in candidates:
        try:
            payload = work.decode(token, key, algorithms=[algorithm])
        except (PyJWTError, ValueError, TypeError, AttributeError):  # a key of another kind is no fit either
            continue
        try:
            claims = json.loads(payload)
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise Invalid("failed to unmarshal claims")
        return claims
    raise UnknownKey(_NO_KEY)


def _check_time(config: JwtConfig, claims: dict[str, Any], now: float) -> None:
    """RFC 7519 4.1.4 to 4.1.6; what a token does not say is reckoned from what it says."""
    issued, expires, starts = (_moment(claims, name) for name in ("iat", "exp", "nbf"))
    if not (issued or expires or starts):
        raise _invalid("no issue time, notbefore, or expiration time encoded in token", "")
    if not expires:
        expires = max(issued, starts) + config.expiration_leeway
    if not starts:
        starts = issued or expires - config.not_before_leeway
    if now < starts - config.skew:
        raise _invalid(f"{_JOSE}: validation failed, token not valid yet (nbf)")
    if now > expires + config.skew:
        raise _invalid(f"{_JOSE}: validation failed, token is expired (exp)")
    if now < issued - config.skew:
        raise _invalid(f"{_JOSE}: validation field, token issued in the future (iat)")


def _moment(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name, 0)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value)
    raise _invalid(f"{name} is not a time in seconds", "failed to unmarshal claims: ")


def _check_audience(config: JwtConfig, claims: dict[str, Any]) -> None:
    given = claims.get("aud", [])
    named = [given] if isinstance(given, str) else given
    if not isinstance(named, list) or not all(isinstance(item, str) for item in named):
        raise _invalid("aud is no list of strings", "failed to unmarshal claims: ")
    if config.audiences and not set(config.audiences) & set(named):
        raise _invalid("aud claim does not match any bound audience")
    if named and not config.audiences and not config.discovery_url:
        raise _invalid("audience claim found in JWT but no audiences are bound")


def _invalid(text: str, before: str = "error validating claims: ") -> Invalid:
    return Invalid(before + text)


# --- claims ------------------------------------------------------------------------------------------


def identity(claims: dict[str, Any], config: JwtConfig) -> Identity:
    """What the method maps of a token's claims. Invalid when a claim has no form that can be mapped."""
    empty = blank(config)
    values, lists = dict(empty.values), dict(empty.lists)
    for claim, name in config.claims.items():
        value = _claim(claims, claim)
        if value is not None:
            values[name] = _text(value, claim)
    for claim, name in config.list_claims.items():
        value = _claim(claims, claim)
        if isinstance(value, dict):
            raise Invalid(f"{quote(claim)} list claim could not be converted to string list")
        if value is not None:
            items = value if isinstance(value, list) else [value]
            lists[name] = [_text(item, claim) for item in items if item is not None]
    return Identity(values, lists)


def _claim(claims: dict[str, Any], name: str) -> Any:
    """A claim by name, or by JSON pointer (RFC 6901): `/realm/roles`."""
    if not name.startswith("/"):
        return claims.get(name)
    found: Any = claims
    for step in name[1:].split("/"):
        for escape, char in _POINTER_ESCAPES:
            step = step.replace(escape, char)
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and step.isascii() and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


def _text(value: Any, claim: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and isfinite(value):
        return str(int(value))  # what is behind the point does not count
    if isinstance(value, str | int):
        return str(value)
    what = "[]interface {}" if isinstance(value, list) else "map[string]interface {}"
    raise Invalid(f"error converting claim '{claim}' to string from unknown type {what}")
