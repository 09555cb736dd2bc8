"""What endpoints of the mesh look at before they say that there is none, as Consul 1.9.8 does."""

from __future__ import annotations

from typing import Any

import pytest

from core.api import mesh
from core.api.endpoint import Query, Request
from core.errors import CtlError

CONNECT, DECODE = "/v1/connect/", "400 Bad request: Request decode failed"
HANDLERS = {route.path: route.handler for route in mesh.ROUTES}
AGENT: Any = None  # it is not asked


def refused(method: str, path: str, body: bytes = b"") -> str:
    """Status and text of the refusal."""
    path, _, raw = path.partition("?")
    prefix = max((one for one in HANDLERS if path.startswith(one)), key=len)
    request = Request(method, path, path.removeprefix(prefix), Query(raw.encode()), {}, body, "")
    with pytest.raises(CtlError) as caught:
        HANDLERS[prefix](AGENT, request)
    return f"{caught.value.status} {caught.value.text}"


@pytest.mark.parametrize(
    ("method", "path", "body", "text"),
    [
        ("GET", CONNECT + "intentions/match", b"", "500 required query parameter 'by' not set"),
        (
            "GET",
            CONNECT + "intentions/match?by=x",
            b"",
            "500 'by' parameter must be one of 'source' or 'destination'",
        ),
        ("GET", CONNECT + "intentions/match?by=source", b"", "500 required query parameter 'name' not set"),
        ("GET", CONNECT + "intentions/check", b"", "500 required query parameter 'source' not set"),
        (
            "DELETE",
            CONNECT + "intentions/exact?source=a",
            b"",
            "500 required query parameter 'destination' not set",
        ),
        ("PUT", CONNECT + "intentions/exact?source=a&destination=b", b"", f"{DECODE}: EOF"),
        ("PUT", CONNECT + "intentions/x", b"", f"{DECODE}: EOF"),
        ("PUT", CONNECT + "ca/configuration", b"", f"{DECODE}: EOF"),
        ("POST", CONNECT + "intentions", b"", "500 Failed to decode request body: EOF"),
        ("POST", "/v1/agent/connect/authorize", b"", f"{DECODE}: EOF"),
        ("GET", "/v1/discovery-chain/", b"", "400 Bad request: Missing chain name"),
        ("POST", "/v1/discovery-chain/x", b"", "400 Bad request: Request decoding failed: EOF"),
    ],
)
def test_what_is_wrong_with_the_request_comes_first(method: str, path: str, body: bytes, text: str) -> None:
    assert refused(method, path, body) == text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", CONNECT + "ca/configuration"),
        ("PUT", CONNECT + "ca/configuration"),
        ("GET", CONNECT + "intentions/match?by=source&name=a"),
        ("PUT", CONNECT + "intentions/exact?source=a&destination=b"),
        ("DELETE", CONNECT + "intentions/x"),
        ("GET", "/v1/discovery-chain/web"),
    ],
)
def test_then_that_there_is_no_mesh(method: str, path: str) -> None:
    assert refused(method, path, b"{}") == f"500 {mesh.DISABLED}"
