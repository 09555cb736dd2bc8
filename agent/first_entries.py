"""`config_entries.bootstrap`: config entries that a new leader of the primary datacenter writes, each once:
what has been changed since stays as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from core.api import config_entry_rules as rules
from core.api.config_entry import APPLY, ConfigEntryRequest
from core.api.config_entry_kinds import read_entry
from core.api.endpoint import Settled
from core.errors import ConfigError, CtlError

if TYPE_CHECKING:
    from agent.logs import Logger
    from core.api.config_entry_shapes import Entry
    from core.store.state import Store


def first_entries(configured: Sequence[Any]) -> list[Entry]:
    """The entries of the configuration. ConfigError names the one that is none."""
    found = []
    for number, one in enumerate(configured):
        try:
            entry = rules.normalize(read_entry(one))
            rules.validate(entry)
        except CtlError as error:
            raise ConfigError(f"config_entries.bootstrap[{number}]: {error}") from None
        found.append(entry)
    return found


async def write_first(
    entries: Sequence[Entry], store: Store, apply: Callable[[bytes], Awaitable[object]], log: Logger
) -> None:
    """Write those that are not there. The first that is refused ends it, and the log says why."""
    for entry in entries:
        kind, name = entry["Kind"], entry["Name"]
        if store.config_entry(kind, name)[1] is not None:
            continue
        try:
            # With index 0: not over one that somebody writes meanwhile.
            data = APPLY.prepare(store, ConfigEntryRequest("upsert-cas", kind, entry))
            result = data.result if isinstance(data, Settled) else await apply(data)
            if isinstance(result, CtlError):
                raise result
        except CtlError as error:
            log.error("failed to apply configuration entry", kind=kind, name=name, error=str(error))
            return
        log.info("wrote a configuration entry of the configuration", kind=kind, name=name)
