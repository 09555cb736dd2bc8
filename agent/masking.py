"""Secrets are never written down: what they are replaced by in logs."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, unquote_plus

HIDDEN = "<hidden>"
_SECRET_NAMES = frozenset(("token", "secret", "secretid", "bearertoken", "x-consul-token", "key_secret"))
# Old endpoints that name a token by its secret.
_SECRET_PATHS = ("/v1/acl/info/", "/v1/acl/clone/", "/v1/acl/destroy/", "/v1/acl/rules/translate/")


def mask(url: str) -> str:
    """A request's target without the secrets in it."""
    path, question, query = url.partition("?")
    plain = re.sub("^/+", "/", posixpath.normpath(unquote(path))).lower()  # as it is routed, or redirected
    for prefix in _SECRET_PATHS:
        if plain.startswith(prefix) and len(plain) > len(prefix):
            path = prefix + HIDDEN
    if not question:
        return path
    pieces = []
    for piece in re.split("([&;])", query):
        name, equals, _ = piece.partition("=")
        hides = equals and unquote_plus(name).lower() in _SECRET_NAMES
        pieces.append(f"{name}={HIDDEN}" if hides else piece)
    return f"{path}?{''.join(pieces)}"
