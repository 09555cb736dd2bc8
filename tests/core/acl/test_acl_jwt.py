"""Tokens of issuers: which are good, and when; what an auth method can be; which claims come out."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from core.acl import jwt
from core.acl.jwt import Identity, JwtConfig, UnknownKey
from core.errors import CtlError, Invalid

NOW = 1_700_000_000.0


@cache
def key(kind: str) -> Any:
    if kind.startswith("ec"):
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed" else rsa.generate_private_key(65537, 2048)


def pem(kind: str) -> str:
    return key(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[no-any-return]


def key_set(*kinds: str) -> bytes:
    rows = []
    for kind in kinds:
        row = pyjwt.algorithms.ECAlgorithm.to_jwk(key(kind).public_key(), as_dict=True)
        rows.append({**row, "kid": kind, "use": "sig"})
    return json.dumps({"keys": [*rows, {"kty": "future"}, {"kty": "RSA", "n": 1}, 5]}).encode()


def signed(claims: dict[str, Any], kind: str = "ec", algorithm: str = "ES256", **headers: Any) -> str:
    return pyjwt.encode(claims, key(kind), algorithm=algorithm, headers=headers or None)


def config(**given: Any) -> JwtConfig:
    return jwt.read_config({"JWTValidationPubKeys": [pem("ec")], **given})


GOOD = {"iat": NOW - 10, "exp": NOW + 600, "sub": "x"}

# claims, more configuration, what is wrong ("" for nothing)
TABLE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (GOOD, {}, ""),
    ({"exp": NOW - 61}, {}, "token is expired (exp)"),
    ({"exp": NOW - 59}, {}, ""),  # a minute of skew
    ({"exp": NOW - 5}, {"ClockSkewLeeway": -1}, "token is expired (exp)"),
    ({"exp": NOW - 119}, {"ClockSkewLeeway": "2m"}, ""),
    ({"nbf": NOW + 61, "exp": NOW + 600}, {}, "token not valid yet (nbf)"),
    ({"nbf": NOW + 59, "exp": NOW + 600}, {}, ""),
    ({"iat": NOW + 100, "nbf": NOW - 100, "exp": NOW + 600}, {}, "token issued in the future (iat)"),
    ({"sub": "x"}, {}, "no issue time, notbefore, or expiration time encoded in token"),
    ({"exp": 0, "nbf": 0, "iat": 0}, {}, "no issue time, notbefore, or expiration time encoded in token"),
    ({"iat": NOW - 209}, {}, ""),  # lasts 150 s, and the skew
    ({"iat": NOW - 211}, {}, "token is expired (exp)"),
    ({"iat": NOW - 61}, {"ExpirationLeeway": -1}, "token is expired (exp)"),
    ({"nbf": NOW - 900}, {"ExpirationLeeway": "15m"}, ""),
    ({"exp": NOW + 250}, {}, "token not valid yet (nbf)"),  # begins 150 s before its end
    ({"exp": NOW + 250}, {"NotBeforeLeeway": "5m"}, ""),
    ({"exp": "soon"}, {}, "exp is not a time in seconds"),
    ({"exp": True}, {}, "exp is not a time in seconds"),
    ({**GOOD, "iss": "me"}, {"BoundIssuer": "me"}, ""),
    ({**GOOD, "iss": "you"}, {"BoundIssuer": "me"}, "invalid issuer claim (iss)"),
    (GOOD, {"BoundIssuer": "me"}, "invalid issuer claim (iss)"),
    ({**GOOD, "iss": ["me"]}, {"BoundIssuer": "me"}, "invalid issuer claim (iss)"),
    ({**GOOD, "aud": "ctl"}, {"BoundAudiences": ["ctl", "b"]}, ""),
    ({**GOOD, "aud": ["x", "ctl"]}, {"BoundAudiences": ["ctl"]}, ""),
    ({**GOOD, "aud": ["x"]}, {"BoundAudiences": ["ctl"]}, "aud claim does not match any bound audience"),
    (GOOD, {"BoundAudiences": ["ctl"]}, "aud claim does not match any bound audience"),
    ({**GOOD, "aud": "x"}, {}, "audience claim found in JWT but no audiences are bound"),
    ({**GOOD, "aud": 5}, {}, "aud is no list of strings"),
    ({**GOOD, "aud": [5]}, {"BoundAudiences": ["ctl"]}, "aud is no list of strings"),
]


@pytest.mark.parametrize(("claims", "more", "wrong"), TABLE)
def test_claims(claims: dict[str, Any], more: dict[str, Any], wrong: str) -> None:
    # PyJWT checks the types of registered claims when it signs; a hostile issuer does not
    token = pyjwt.api_jws.encode(json.dumps(claims).encode(), key("ec"), algorithm="ES256")
    if not wrong:
        assert jwt.verify(token, config(**more), [], NOW) == claims
        return
    with pytest.raises(Invalid) as caught:
        jwt.verify(token, config(**more), [], NOW)
    assert wrong in str(caught.value)


def _unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    return b".".join((*parts, b"")).decode()


def test_signatures_that_are_none() -> None:
    one = config()
    for header in ({"alg": "none"}, {"alg": "None"}, {"alg": "HS256"}, {"alg": None}, {"alg": ["ES256"]}, {}):
        with pytest.raises(Invalid):
            jwt.verify(_unsigned(header, GOOD), one, [], NOW)
    with pytest.raises(UnknownKey):
        jwt.verify(_unsigned({"alg": "ES256"}, GOOD), one, [], NOW)
    head, body, signature = signed(GOOD).split(".")
    other = signed({**GOOD, "sub": "admin"}).split(".")[1]
    with pytest.raises(UnknownKey):
        jwt.verify(f"{head}.{other}.{signature}", one, [], NOW)
    assert jwt.verify(f"{head}.{body}.{signature}", one, [], NOW)["sub"] == "x"


def test_the_public_key_is_no_shared_secret() -> None:
    """An old attack: the public key, known to all, as the secret of an HMAC (CVE-2015-9235)."""
    import hashlib
    import hmac

    head = _unsigned({"alg": "HS256", "typ": "JWT"}, GOOD)[:-1]
    mac = hmac.new(pem("ec").encode(), head.encode(), hashlib.sha256).digest()
    forged = f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    for more in ({}, {"JWTSupportedAlgs": ["ES256"]}):
        with pytest.raises(Invalid, match='algorithm "HS256" is not accepted'):
            jwt.verify(forged, config(**more), [], NOW)


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("ec", "ES256"), ("rsa", "RS256"), ("rsa", "PS384"), ("ed", "EdDSA")]
)
def test_kinds_of_keys(kind: str, algorithm: str) -> None:
    token = signed(GOOD, kind, algorithm)
    keys = [pem("ec2"), pem(kind)]
    assert jwt.verify(token, config(JWTValidationPubKeys=keys), [], NOW)["sub"] == "x"
    with pytest.raises(UnknownKey, match="no known key successfully validated the token signature"):
        jwt.verify(token, config(JWTValidationPubKeys=[pem("ec2")]), [], NOW)
    with pytest.raises(Invalid, match="is not accepted"):
        jwt.verify(token, config(JWTValidationPubKeys=keys, JWTSupportedAlgs=["ES512"]), [], NOW)


def test_keys_by_their_id() -> None:
    one = jwt.read_config({"JWKSURL": "http://x/keys"})
    keys = jwt.read_key_set(key_set("ec", "ec2"), "http://x/keys")
    assert len(keys) == 2  # what has an unknown kind is left out
    assert jwt.verify(signed(GOOD, kid="ec"), one, keys, NOW)
    assert jwt.verify(signed(GOOD), one, keys, NOW)
    assert jwt.verify(signed(GOOD, kid="unheard"), one, keys, NOW)
    with pytest.raises(UnknownKey):
        jwt.verify(signed(GOOD, kid="ec2"), one, keys, NOW)
    with pytest.raises(UnknownKey):
        jwt.verify(signed(GOOD), one, [], NOW)


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b'{"keys": 5}', b"[" * 5000, b"\xff", b'{"keys": null}']
)
def test_documents_that_hold_no_keys(document: bytes) -> None:
    with pytest.raises(Invalid, match="does not answer with a set of keys"):
        jwt.read_key_set(document, "http://x")


@given(
    st.text() | st.binary().map(lambda raw: raw.decode("latin-1")) | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*")
)
def test_nonsense_is_refused(token: str) -> None:
    with pytest.raises(CtlError):
        jwt.verify(token, config(), [], NOW)


def test_a_token_has_bounds() -> None:
    with pytest.raises(Invalid, match="missing jwt"):
        jwt.verify("", config(), [], NOW)
    with pytest.raises(Invalid, match="longer than"):
        jwt.verify("a" * (jwt.MAX_TOKEN + 1), config(), [], NOW)


PRIVATE = key("ec").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("given_config", "wrong"),
    [
        (None, "exactly one of 'JWTValidationPubKeys', 'JWKSURL', or 'OIDCDiscoveryURL' must be set"),
        ({"JWKSURL": "http://x", "OIDCDiscoveryURL": "http://x"}, "exactly one of"),
        ({"JWKSURL": "ftp://x"}, "is not an http or https URL"),
        ({"JWKSURL": "file:///etc/passwd"}, "is not an http or https URL"),
        ({"JWKSURL": 5}, "JWKSURL must be a string"),
        ({"JWTValidationPubKeys": [pem("ec")], "JWKSCACert": "x"}, "'JWKSCACert' should not be set unless"),
        ({"JWKSURL": "http://x", "OIDCDiscoveryCACert": "x"}, "'OIDCDiscoveryCACert' should not be set"),
        ({"JWTValidationPubKeys": ["x"]}, "error parsing public key JWTValidationPubKeys[0]"),
        ({"JWTValidationPubKeys": [pem("ec"), PRIVATE]}, "JWTValidationPubKeys[1]: this is a private key"),
        ({"JWTValidationPubKeys": [5]}, "JWTValidationPubKeys must be a list of strings"),
        ({"JWKSURL": "http://x", "JWTSupportedAlgs": ["none"]}, "Invalid supported algorithm: none"),
        ({"JWKSURL": "http://x", "JWTSupportedAlgs": ["HS256"]}, "Invalid supported algorithm: HS256"),
        ({"JWKSURL": "http://x", "ClaimMappings": {"a": "n", "b": "n"}}, 'multiple mappings for key "n"'),
        ({"JWKSURL": "http://x", "ListClaimMappings": ["a"]}, "ListClaimMappings must be a map of strings"),
        ({"JWKSURL": "http://x", "ClockSkewLeeway": "x"}, "ClockSkewLeeway: time: invalid duration"),
        ({"JWKSURL": "http://x", "ClockSkewLeeway": []}, "ClockSkewLeeway must be a duration"),
        (
            {"JWKSURL": "http://x", "Colour": 1},
            "error decoding config: 1 error(s) decoding:\n\n* '' has invalid keys: Colour",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_an_auth_method_cannot_be(given_config: dict[str, Any] | None, wrong: str) -> None:
    with pytest.raises(Invalid, match=r"^Invalid Auth Method: ") as caught:
        jwt.read_config(given_config)
    assert wrong in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


CLAIMS = {
    "name": "Ann",
    "age": 5,
    "big": 1e3,
    "half": 0.5,
    "yes": True,
    "groups": ["a", 1, False, None],
    "one": "only",
    "realm": {"roles": ["x"], "a/b": {"~c": "deep"}},
    "none": None,
}


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        *(("name", "Ann"), ("age", "5"), ("big", "1000"), ("half", "0"), ("yes", "true")),
        *(("/realm/roles/0", "x"), ("/realm/a~1b/~0c", "deep")),
        *(("missing", ""), ("none", ""), ("/realm/none/x", ""), ("/realm/roles/9", ""), ("/name/x", "")),
    ],
)
def test_claims_as_values(claim: str, text: str) -> None:
    found = jwt.identity(CLAIMS, config(ClaimMappings={claim: "it"}))
    assert found == Identity({"it": text}, {})
    assert found.variables == {"value.it": text}


def test_claims_as_lists() -> None:
    maps = {"groups": "g", "one": "o", "missing": "m", "/realm/roles": "r"}
    found = jwt.identity(CLAIMS, config(ListClaimMappings=maps))
    assert found.lists == {"g": ["a", "1", "false"], "o": ["only"], "m": [], "r": ["x"]}


@pytest.mark.parametrize(
    ("maps", "text"),
    [
        (
            {"ClaimMappings": {"realm": "x"}},
            "error converting claim 'realm' to string from unknown type map[string]interface {}",
        ),
        ({"ListClaimMappings": {"realm": "x"}}, '"realm" list claim could not be converted to string list'),
    ],
)
def test_claims_that_have_no_text(maps: dict[str, Any], text: str) -> None:
    with pytest.raises(Invalid) as caught:
        jwt.identity(CLAIMS, config(**maps))
    assert caught.value.text == text
