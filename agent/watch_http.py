"""Handlers of watches that are told by HTTP (reference/watch.md section 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agent.checks_client import Connecting, Exchange, Target, build_request, fetch
from agent.checks_net import Dialer, NetError, TlsOptions
from core.codec import duration
from core.node.checks import Tail

USER_AGENT = "Consul Watch Handler"
_TIMEOUT = "10s"
_OUTPUT = 4096  # bytes of the answer that an error shows


class HandlerFailed(Exception):
    """The handler could not be told, or did not like it. `output`: the end of its answer."""

    def __init__(self, text: str, output: str = "") -> None:
        super().__init__(text)
        self.output = output


class HttpHandler:
    """Sends payloads to a URL."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`http_handler_config`, which has been found right."""
        self.url: str = config["path"]
        self._method = config.get("method") or "POST"
        self._timeout = duration.parse(config.get("timeout") or _TIMEOUT) / duration.SECOND
        self._tls = TlsOptions(bool(config.get("tls_skip_verify")))
        self._dialer = Dialer()
        self._host = ""
        self._headers: list[tuple[str, str]] = []
        for name, values in (config.get("header") or {}).items():
            for value in [values] if isinstance(values, str) else values:
                if name.lower() == "host":
                    self._host = value
                else:
                    self._headers.append((name, value))
        given = {name.lower() for name, _ in self._headers}
        defaults = (("User-Agent", USER_AGENT), ("Content-Type", "application/json"))
        self._headers += [(name, value) for name, value in defaults if name.lower() not in given]

    async def send(self, index: int, payload: bytes) -> None:
        """Hand a payload over. HandlerFailed."""
        tail = Tail(_OUTPUT)
        headers = [*self._headers, ("X-Consul-Index", str(index))]
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            target = Target(self.url)
            request = build_request(self._method, target, headers, self._host, payload)
            exchange = Exchange(request, self._method == "HEAD", tail.write)

            def opener(factory: Any) -> Connecting:
                tls = self._tls if target.secure else None
                return self._dialer.connect(target.host, target.port, factory, tls)

            response = await fetch(exchange, opener, deadline)
        except NetError as error:
            raise HandlerFailed(str(error)) from None
        if not 200 <= response.code < 300:
            raise HandlerFailed(response.status_text, tail.text())
