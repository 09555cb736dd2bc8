"""Documents that auth methods point to: the keys of an issuer, and where it has them.

An issuer that is slow or broken must not hold a login longer than the timeout, nor fill the memory; one
that is asked for fresh keys with every forged token must not be flooded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from core.errors import Unavailable

if TYPE_CHECKING:
    from agent.world import World

TIMEOUT = 10.0  # seconds for the whole of it
KEPT = 300.0  # seconds that a document is good for
LEAST = 10.0  # seconds between two fetches of the same document
LARGEST = 1 << 20  # bytes
_MOST = 64  # documents remembered


class Documents:
    """Fetches documents over HTTP and remembers them."""

    def __init__(self, world: World, timeout: float = TIMEOUT) -> None:
        self._world = world
        self._timeout = timeout
        self._known: dict[tuple[str, str], tuple[float, bytes]] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    async def fetch(self, url: str, ca: str, fresh: bool = False) -> bytes:
        """The document at `url`, whose server `ca` (PEM; "": the system's authorities) vouches for; with
        `fresh` one that was fetched just now, or at most LEAST seconds ago. Unavailable."""
        key = (url, ca)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # those who ask at the same time share one fetch
            found = self._known.get(key)
            if found is not None and self._world.now() - found[0] < (LEAST if fresh else KEPT):
                return found[1]
            body = await self._fetched(url, ca)
            if len(self._known) >= _MOST:
                self._known.clear()
                self._locks = {key: lock}
            self._known[key] = (self._world.now(), body)
            return body

    async def _fetched(self, url: str, ca: str) -> bytes:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(None, _get, url, ca, self._timeout)
        try:
            return await asyncio.wait_for(work, self._timeout)
        except TimeoutError:
            raise Unavailable(f"{url}: no answer within {self._timeout:g} s") from None
        except (OSError, ValueError) as error:  # urllib's errors are OSErrors, bad URLs ValueErrors
            raise Unavailable(f"{url}: {error}") from None


def _get(url: str, ca: str, timeout: float) -> bytes:
    """On a thread: one GET. OSError, ValueError."""
    import http.client
    import ssl
    import urllib.request

    if not url.startswith(("http://", "https://")):  # urllib would read files, too
        raise ValueError("not an http or https URL")
    context = ssl.create_default_context(cadata=ca or None) if url.startswith("https:") else None
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=context) as response:
            body: bytes = response.read(LARGEST + 1)
    except http.client.HTTPException as error:
        raise ValueError(f"not HTTP: {error or type(error).__name__}") from None
    if len(body) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    return body
