"""How many calls a server takes a second (limits.request_limits of Consul 1.21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.logs import get_logger
from agent.relay import Bucket
from core.errors import TooManyRequests

if TYPE_CHECKING:
    from agent.world import World
    from core.config.settings import Config

DISABLED, PERMISSIVE, ENFORCING = "disabled", "permissive", "enforcing"

_BURST = 10  # seconds of calls that may come at once, as in Consul
_LOG_SECONDS = 10.0
_ELSEWHERE = "rate limit exceeded, try again later or against a different server"
_LATER = "rate limit exceeded for operation that can only be performed by the leader, try again later"

_log = get_logger("agent.server.rpc-rate-limit")


class RequestLimits:
    """Counts reads and writes; what is beyond the limit is refused, or in permissive mode only logged."""

    def __init__(self, world: World, config: Config) -> None:
        self._world = world
        self._reads = self._writes = Bucket(-1, 0, world.now())
        self._logged_at = world.now() - _LOG_SECONDS
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take over what the configuration says now."""
        self._mode = config["limits.request_limits.mode"]
        self._reads = self._bucket(self._reads, config["limits.request_limits.read_rate"])
        self._writes = self._bucket(self._writes, config["limits.request_limits.write_rate"])

    def _bucket(self, known: Bucket, rate: float) -> Bucket:
        if rate == known.rate:
            return known
        return Bucket(rate, max(1, int(rate * _BURST)), self._world.now())

    def check(self, write: bool, is_leader: bool) -> None:
        """Count a call. TooManyRequests when it is one too many."""
        if self._mode == DISABLED:
            return
        now = self._world.now()
        if (self._writes if write else self._reads).take(now):
            return
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            _log.warn("more RPC calls than request_limits allow", write=write, mode=self._mode)
        if self._mode == ENFORCING:
            raise TooManyRequests(_LATER if write and is_leader else _ELSEWHERE)
