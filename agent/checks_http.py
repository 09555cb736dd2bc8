"""HTTP checks: ask a URL, judge by the status of the answer, show the end of its body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urljoin

from agent.checks_client import (
    BadRequest,
    Connecting,
    Exchange,
    Response,
    Target,
    build_request,
    fetch,
    host_and_port,
)
from agent.checks_net import Dialer, NetError, TlsOptions
from core.codec.duration import quote
from core.node.checks import Result, Tail, status_of_http
from core.node.definitions import CheckDefinition
from core.store.structs import CRITICAL

USER_AGENT = "Consul Health Check"
ACCEPT = "text/plain, text/*, */*"

_DEFAULTED = ("user-agent", "accept")
_REDIRECTS_MAX = 10
_TO_GET = (301, 302, 303)
_AS_IS = (307, 308)
_PRIVATE = ("authorization", "cookie", "cookie2", "www-authenticate")


class HttpProbe:
    """One HTTP check. `run` makes the request and follows its redirects, all within the timeout."""

    def __init__(self, definition: CheckDefinition, dialer: Dialer, timeout: float, output_size: int) -> None:
        self._url = definition.http
        self._method = definition.method or "GET"
        self._body = definition.body.encode()
        self._follow = not definition.disable_redirects
        self._tls = TlsOptions(definition.tls_skip_verify, definition.tls_server_name)
        self._dialer = dialer
        self._timeout = timeout
        self._output_size = output_size
        self._host = ""
        self._headers: list[tuple[str, str]] = []
        given = {name.lower() for name, values in definition.header.items() if next(iter(values), "")}
        if "user-agent" not in given:
            self._headers.append(("User-Agent", USER_AGENT))
        for name, values in definition.header.items():
            if name.lower() == "host":
                self._host = next(iter(values), "")
            elif name.lower() in given or name.lower() not in _DEFAULTED:
                self._headers += [(name, value) for value in values]
        if "accept" not in given:
            self._headers.append(("Accept", ACCEPT))

    async def run(self) -> Result:
        """Ask once."""
        shown = self._url
        method, body, host, headers = self._method, self._body, self._host, self._headers
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            target = Target(self._url)
            for _ in range(_REDIRECTS_MAX):
                shown = target.shown
                response, tail = await self._ask(method, target, headers, host, body, deadline)
                if not self._follow or response.location is None:
                    return self._judge(response, tail)
                if response.code in _TO_GET:
                    method, body = "HEAD" if method == "HEAD" else "GET", b""
                elif response.code not in _AS_IS:
                    return self._judge(response, tail)
                shown = _moved(target, response.location)
                before, target = target, Target(shown)
                if "//" in response.location:  # Go keeps the Host header for relative locations only
                    host = ""
                if not _same_site(before.host, target.host):
                    headers = [pair for pair in headers if pair[0].lower() not in _PRIVATE]
                shown = response.location
            raise NetError(f"stopped after {_REDIRECTS_MAX} redirects")
        except BadRequest as error:
            return Result(CRITICAL, str(error))
        except NetError as error:
            verb = self._method[:1] + self._method[1:].lower()
            return Result(CRITICAL, f"{verb} {quote(shown)}: {error}")

    async def _ask(
        self,
        method: str,
        target: Target,
        headers: list[tuple[str, str]],
        host: str,
        body: bytes,
        deadline: float,
    ) -> tuple[Response, Tail]:
        tail = Tail(self._output_size)
        credentials = target.credentials()
        if credentials and not any(name.lower() == "authorization" for name, _ in headers):
            headers = [*headers, ("Authorization", credentials)]
        exchange = Exchange(build_request(method, target, headers, host, body), method == "HEAD", tail.write)

        def opener(factory: Callable[[], Exchange]) -> Connecting:
            return self._dialer.connect(
                target.host, target.port, factory, self._tls if target.secure else None
            )

        return await fetch(exchange, opener, deadline, target.dialed), tail

    def _judge(self, response: Response, tail: Tail) -> Result:
        output = f"HTTP {self._method} {self._url}: {response.status_text} Output: {tail.text()}"
        return Result(status_of_http(response.code), output)


def _moved(before: Target, location: str) -> str:
    """The URL that a Location header leads to."""
    try:
        host_and_port(location)
        return urljoin(before.url, location)
    except (BadRequest, ValueError) as error:
        why = error if isinstance(error, BadRequest) else f"parse {quote(location)}: {error}"
        raise NetError(f"failed to parse Location header {quote(location)}: {why}") from error


def _same_site(before: str, after: str) -> bool:
    """May headers with secrets go along? To the same host and to hosts below it."""
    return after == before or after.endswith("." + before)
