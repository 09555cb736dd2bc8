"""Documents of issuers over a real network: TLS, time-outs, what is remembered; and a login with them."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.jwt_documents import KEPT, LARGEST, LEAST, Documents
from agent.world import World
from core.errors import Unavailable
from tests.agent.rpc_certs import Authority
from tests.harness import Agent, own_address


class Issuer:
    """An HTTP server that counts what it is asked for."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "") -> None:
        issuer = self
        self.documents: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.hold = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                if self.path == "/slow":
                    issuer.hold.wait(10)
                if self.path == "/broken":
                    self.wfile.write(b"\x00\x01\x02\r\n\r\n")
                    return
                body = issuer.documents.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                if self.path == "/away":
                    self.send_header("Location", "file:///etc/passwd")
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((host or own_address(), 0), Handler)
        self.server.daemon_threads = True
        port = self.server.server_address[1]
        host = str(self.server.server_address[0])
        self.url = f"http://{host}:{port}"
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


class Standing(World):
    """A world whose time is told."""

    at = 1000.0

    def now(self) -> float:
        return self.at


def test_documents_are_remembered(issuer: Issuer) -> None:
    issuer.documents["/keys"] = b"1"
    world = Standing()

    async def steps() -> None:
        documents = Documents(world)
        url = f"{issuer.url}/keys"
        assert await asyncio.gather(*(documents.fetch(url, "") for _ in range(5))) == [b"1"] * 5
        issuer.documents["/keys"] = b"2"
        assert await documents.fetch(url, "", fresh=True) == b"1"  # only just fetched
        world.at += LEAST
        assert await documents.fetch(url, "") == b"1"
        assert await documents.fetch(url, "", fresh=True) == b"2"
        issuer.documents["/keys"] = b"3"
        world.at += KEPT
        assert await documents.fetch(url, "") == b"3"

    asyncio.run(steps())
    assert len(issuer.asked) == 3


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/missing", "HTTP Error 404"),
        ("/slow", "no answer within 0.3 s"),
        ("/broken", "not HTTP: "),
        ("/large", f"larger than {LARGEST} bytes"),
    ],
)
def test_issuers_that_fail(issuer: Issuer, path: str, text: str) -> None:
    issuer.documents |= {"/large": bytes(LARGEST + 1), "/slow": b"", "/broken": b""}
    began = time.monotonic()
    with pytest.raises(Unavailable, match=text) as caught:
        asyncio.run(_fetched(issuer, issuer.url + path))
    assert path in str(caught.value)
    assert time.monotonic() - began < 5


async def _fetched(issuer: Issuer, url: str, ca: str = "") -> bytes:
    timeout = 0.3 if url.endswith("/slow") else 10.0
    try:
        return await Documents(World(), timeout).fetch(url, ca)
    finally:
        issuer.hold.set()  # asyncio.run waits for the thread


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "", "http://", "http://127.0.0.1:x/"]
)
def test_urls_that_are_none(issuer: Issuer, url: str) -> None:
    with pytest.raises(Unavailable):
        asyncio.run(_fetched(issuer, url))


def test_an_authority_that_is_none(issuer: Issuer) -> None:
    url = issuer.url.replace("http:", "https:")
    for ca in ("", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(Unavailable):
            asyncio.run(_fetched(issuer, url, ca))


def test_the_authority_that_vouches_counts(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    host = own_address()
    tls.load_cert_chain(*authority.issue("issuer", host))
    issuer = Issuer(tls, host)
    issuer.documents["/keys"] = b"1"
    try:
        url = f"{issuer.url}/keys"
        assert asyncio.run(_fetched(issuer, url, Path(authority.ca_file).read_text())) == b"1"
        for ca in ("", Path(other.ca_file).read_text()):
            with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                asyncio.run(_fetched(issuer, url, ca))
    finally:
        issuer.close()


def test_a_login_at_a_real_agent(issuer: Issuer, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    row = pyjwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    issuer.documents["/keys"] = json.dumps({"keys": [{**row, "kid": "k"}]}).encode()
    root = "11111111-2222-3333-4444-555555555555"
    acl = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": root}}
    with Agent(tmp_path, config={"acl": acl}, token=root) as agent:

        def put(path: str, body: Any, method: str = "PUT", token: str = root) -> Any:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            return agent.http(method, path, raw, {"X-Consul-Token": token})

        config = {"JWKSURL": f"{issuer.url}/keys", "ClaimMappings": {"team": "team"}}
        made = put("/v1/acl/auth-method", {"Name": "corp", "Type": "jwt", "Config": config})
        assert made.status == 200, made.text
        rules = 'key_prefix "ops/" { policy = "write" }'
        assert put("/v1/acl/policy", {"Name": "ops", "Rules": rules}).status == 200
        rule = {"AuthMethod": "corp", "BindType": "policy", "BindName": "${value.team}"}
        assert put("/v1/acl/binding-rule", rule).status == 200
        claims = {"exp": time.time() + 60, "team": "ops"}
        bearer = pyjwt.encode(claims, key, algorithm="ES256", headers={"kid": "k"})
        login = put("/v1/acl/login", {"AuthMethod": "corp", "BearerToken": bearer}, "POST", "")
        assert login.status == 200, login.text
        secret = login.json()["SecretID"]
        assert put("/v1/kv/ops/a", b"1", token=secret).json() is True
        assert put("/v1/kv/other", b"1", token=secret).status == 403
        assert put("/v1/acl/logout", b"", "POST", secret).json() is True
        assert put("/v1/kv/ops/a", b"1", token=secret).text == "ACL not found"
        assert bearer not in agent.log_path.read_text() and secret not in agent.log_path.read_text()
    assert issuer.asked == ["/keys"]
