"""What was registered at this agent, kept over restarts: files in the data directory, as Consul has them.

    services/HASH       {"Token", "Service", "Source"}
    checks/HASH         {"Token", "Check", "ChkType", "Source"}
    checks/state/HASH   {"CheckID", "Output", "Status", "Expires"}

HASH is the SHA-256 of the id in hex (Consul before 1.12 had MD5; such files are read and renamed). A
file that cannot be read is set aside as `HASH.damaged` and reported; it never keeps the agent from
starting. All functions may block on the disk: call them from a thread once the agent serves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from agent.logs import Logger
from agent.world import World
from core.api import decode_stored, render
from core.api.decode_stored import StoredCheck, StoredService, StoredState
from core.codec import gojson
from core.node.definitions import CheckDefinition
from core.store.structs import NodeService, go_name

_Stored = TypeVar("_Stored", StoredService, StoredCheck, StoredState)
_DAMAGED = ".damaged"


def file_name(name: str) -> str:
    """The name of the file that is about the service or check `name`."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


class LocalFiles:
    """The three folders. `folder` is the data directory, which exists."""

    def __init__(self, world: World, folder: Path, log: Logger) -> None:
        self._world = world
        self._log = log
        self._services = folder / "services"
        self._checks = folder / "checks"
        self._states = folder / "checks" / "state"

    # reading, once at the start

    def services(self) -> list[StoredService]:
        """The services that were registered."""
        return self._load(self._services, decode_stored.stored_service, lambda stored: stored.service.id)

    def checks(self) -> list[StoredCheck]:
        """The checks that were registered."""
        return self._load(self._checks, decode_stored.stored_check, lambda stored: stored.check.check_id)

    def states(self) -> dict[str, StoredState]:
        """What checks found last, as far as it is still good; the rest is deleted."""
        states = {}
        for state in self._load(self._states, decode_stored.stored_state, lambda stored: stored.check_id):
            if state.expires > self._world.wall():
                states[state.check_id] = state
            else:
                self.drop_state(state.check_id)
        return states

    def _load(
        self, folder: Path, read: Callable[[bytes], _Stored], name: Callable[[_Stored], str]
    ) -> list[_Stored]:
        found: dict[str, _Stored] = {}
        try:
            paths = sorted(folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            self._log.error("cannot read what was registered", folder=folder, error=error)
            return []
        for path in paths:
            if path.is_dir() or path.suffix == _DAMAGED:
                continue
            if path.suffix == ".tmp":  # a write that was cut off; the file itself is whole
                self._remove(path)
                continue
            try:
                stored = read(path.read_bytes())
            except (OSError, ValueError) as error:
                self._set_aside(path, error)
                continue
            right = path.with_name(file_name(name(stored)))
            if path != right:
                self._rename(path, right)
            found[name(stored)] = stored
        return list(found.values())

    def _set_aside(self, path: Path, error: Exception) -> None:
        self._log.error("set aside an unreadable file", file=path, error=error)
        self._rename(path, path.with_name(path.name + _DAMAGED))

    def _rename(self, path: Path, to: Path) -> None:
        try:
            path.rename(to)
        except OSError as error:
            self._log.warn("cannot rename a file", file=path, error=error)

    # writing

    def save_service(self, service: NodeService, token: str) -> None:
        """Keep a service. OSError when the disk does not take it."""
        body = {"Token": token, "Service": render.node_service(service), "Source": "remote"}
        self._write(self._services, service.id, body)

    def save_check(self, stored: StoredCheck) -> None:
        """Keep a check. OSError when the disk does not take it."""
        definition = None if stored.definition is None else definition_json(stored.definition)
        body = {
            "Check": render.health_check(stored.check),
            "ChkType": definition,
            "Token": stored.token,
            "Source": "local" if stored.definition is None else "remote",
        }
        self._write(self._checks, stored.check.check_id, body)

    def save_state(self, state: StoredState) -> None:
        """Keep what a check found. OSError when the disk does not take it."""
        body = {
            "CheckID": state.check_id,
            "Output": state.output,
            "Status": state.status,
            "Expires": state.expires,
        }
        self._write(self._states, state.check_id, body)

    def drop_service(self, service_id: str) -> None:
        """Forget a service, if it was kept."""
        self._remove(self._services / file_name(service_id))

    def drop_check(self, check_id: str) -> None:
        """Forget a check and what it found, if it was kept."""
        self._remove(self._checks / file_name(check_id))
        self.drop_state(check_id)

    def drop_state(self, check_id: str) -> None:
        """Forget what a check found."""
        self._remove(self._states / file_name(check_id))

    def _write(self, folder: Path, name: str, body: dict[str, Any]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._world.write_file(folder / file_name(name), gojson.encode(body))

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._log.warn("cannot delete a file", file=path, error=error)


def definition_json(definition: CheckDefinition) -> dict[str, Any]:
    """A check's definition under the names that Consul keeps it with, durations in nanoseconds. Consul
    throws a file away that has names it does not know. (The token is kept beside the definition.)"""
    plain = CheckDefinition()
    out = {}
    for attribute in definition.__struct_fields__:
        value = getattr(definition, attribute)
        if value != getattr(plain, attribute) and attribute != "token":
            out["CheckID" if attribute == "id" else go_name(attribute)] = value
    return out
