"""The log of a gossip pool: whoever can send packets can make it speak, so it says only so much a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.logs import DEBUG, INFO, WARN

if TYPE_CHECKING:
    from agent.logs import Logger

LINES_PER_SECOND = 20

_LEVELS = {"debug": DEBUG, "info": INFO, "warn": WARN}


class GossipLog:
    """A Logger for what peers do. What is beyond the limit is counted, and told of when there is room."""

    def __init__(self, log: Logger, now: Callable[[], float]) -> None:
        self._log, self._now = log, now
        self._second = 0
        self._said = self._unsaid = 0

    def debug(self, message: str, /, **fields: Any) -> None:
        self.say("debug", message, **fields)

    def info(self, message: str, /, **fields: Any) -> None:
        self.say("info", message, **fields)

    def warn(self, message: str, /, **fields: Any) -> None:
        self.say("warn", message, **fields)

    def error(self, message: str, /, **fields: Any) -> None:
        """A defect of our own: always told."""
        self._log.error(message, **fields)

    def say(self, level: str, message: str, /, **fields: Any) -> None:
        """A line of a level by its name."""
        if not self._log.wants(_LEVELS[level]):
            return
        second = int(self._now())
        if second != self._second:
            if self._unsaid:
                self._log.warn("more was not logged", lines=self._unsaid)
            self._second, self._said, self._unsaid = second, 0, 0
        if self._said >= LINES_PER_SECOND:
            self._unsaid += 1
            return
        self._said += 1
        getattr(self._log, level)(message, **fields)
