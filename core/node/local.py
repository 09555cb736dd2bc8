"""The agent's own services and checks, and how they differ from the catalog.

An agent owns what was registered at it: the catalog has a copy, which anti-entropy keeps like the
original (protocols/rpc.md section 6). Every service and check here is in sync with its copy, out of
sync, or deleted while the copy is still there. `compare` finds out after a look at the catalog, and
`pushes` gives the requests that mend what is out of sync.

A change of a check's output alone is not sent at once: outputs change with every run, and each would be
a write to the log of the whole cluster. It waits for half to one and a half of `check_update_interval`.

Pure: `now` is monotonic seconds. Values are those of the store and are replaced, never changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from random import Random
from typing import Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from core.codec.duration import SECOND
from core.store.structs import DeregisterRequest, HealthCheck, Node, NodeService, RegisterRequest, Weights
from core.store.watch import Watch

_SERVERS_OWN_SERVICE = "consul"
_SERVERS_OWN_CHECK = "serfHealth"

_Value = TypeVar("_Value", NodeService, HealthCheck)


class Push(Struct, frozen=True):
    """A request that mends the catalog, with the values that it speaks for. Its token is that which they
    were registered with, if any; `from_file`: they are of the agent's own configuration."""

    request: RegisterRequest | DeregisterRequest
    service_id: str = ""
    check_ids: tuple[str, ...] = ()
    from_file: bool = False


class _Entry(Generic[_Value]):
    """A service or a check. `value` None: only the catalog has it, and should not."""

    __slots__ = ("deferred", "deleted", "from_file", "in_sync", "token", "value")

    def __init__(self, value: _Value | None, token: str = "", from_file: bool = False) -> None:
        self.value: _Value | None = value
        self.token = token
        self.from_file = from_file
        self.in_sync = False
        self.deleted = value is None
        self.deferred: float | None = None  # when a change of the output alone is to be sent

    def is_same(self, value: _Value, token: str, from_file: bool) -> bool:
        """Whether registering this again changes nothing."""
        known = (self.value, self.token, self.from_file)
        return known == (value, token, from_file) and not self.deleted


def _ignore() -> None:
    """Nobody listens."""


class LocalState:
    """Services and checks of this agent. `on_change` is called whenever there is something to push,
    `on_wait` when something will be: `deadline()` may be earlier than before."""

    def __init__(
        self, node: Node, random: Random, check_update_interval: int = 0, discard_check_output: bool = False
    ) -> None:
        """`check_update_interval` in nanoseconds; 0: outputs are sent at once."""
        self.node = node
        self.discard_check_output = discard_check_output
        self.on_change: Callable[[], None] = _ignore
        self.on_wait: Callable[[], None] = _ignore
        self._random = random
        self._update_interval = check_update_interval / SECOND
        self._services: dict[str, _Entry[NodeService]] = {}
        self._checks: dict[str, _Entry[HealthCheck]] = {}
        self._node_in_sync = False
        self._watches: dict[Hashable, set[Watch]] = {}
        self._aliases: dict[str, list[Callable[[], None]]] = {}  # by the service looked at; "" the node

    # --- what there is ---------------------------------------------------------------------------

    @property
    def services(self) -> dict[str, NodeService]:
        """By id, sorted."""
        return _living(self._services)

    @property
    def checks(self) -> dict[str, HealthCheck]:
        """By id, sorted."""
        return _living(self._checks)

    def service(self, service_id: str, watch: Watch | None = None) -> NodeService | None:
        """A service; `watch` fires when it changes, comes or goes."""
        if watch is not None:
            watch.enter(self._watches, service_id)
        return _value(self._services.get(service_id))

    def check(self, check_id: str) -> HealthCheck | None:
        return _value(self._checks.get(check_id))

    def checks_of(self, service_id: str, with_node: bool = False) -> list[HealthCheck]:
        """The checks of a service by id; of the node with `` or, beside others, `with_node`."""
        wanted = (service_id, "") if with_node else (service_id,)
        values = (_value(entry) for entry in self._checks.values())
        found = [check for check in values if check is not None and check.service_id in wanted]
        return sorted(found, key=lambda check: check.check_id)

    def service_token(self, service_id: str) -> str:
        """The token that the service was registered with."""
        return self._services[service_id].token if service_id in self._services else ""

    def in_sync(self) -> bool:
        """Whether nothing is to be pushed now."""
        entries: tuple[_Entry[NodeService] | _Entry[HealthCheck], ...]
        entries = (*self._services.values(), *self._checks.values())
        return self._node_in_sync and all(entry.in_sync for entry in entries)

    def listen(self, service_id: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when the health of a service (or, with ``, the node) may have changed.
        The function returned ends that."""
        listeners = self._aliases.setdefault(service_id, [])
        listeners.append(wake)
        return lambda: listeners.remove(wake) if wake in listeners else None

    # --- changes ---------------------------------------------------------------------------------

    def add_service(self, service: NodeService, token: str = "", from_file: bool = False) -> None:
        """Add or replace a service."""
        known = self._services.get(service.id)
        if known is not None and known.is_same(service, token, from_file):
            return
        self._services[service.id] = _Entry(service, token, from_file)
        self._service_changed(service.id)

    def remove_service(self, service_id: str) -> bool:
        """Remove a service and its checks. False if there is none."""
        entry = self._services.get(service_id)
        if entry is None or entry.deleted:
            return False
        for check in self.checks_of(service_id):
            self.remove_check(check.check_id)
        entry.deleted, entry.in_sync = True, False
        self._service_changed(service_id)
        return True

    def add_check(self, check: HealthCheck, token: str = "", from_file: bool = False) -> None:
        """Add or replace a check. Its service gives it name and tags, if there is one."""
        service = self.service(check.service_id) if check.service_id else None
        if service is not None:
            check = replace(check, service_name=service.service, service_tags=service.tags)
        if self.discard_check_output:
            check = replace(check, output="")
        known = self._checks.get(check.check_id)
        if known is not None and known.is_same(check, token, from_file):
            return
        self._checks[check.check_id] = _Entry(check, token, from_file)
        self._check_changed(check)

    def remove_check(self, check_id: str) -> bool:
        """Remove a check. False if there is none."""
        entry = self._checks.get(check_id)
        if entry is None or entry.deleted or entry.value is None:
            return False
        entry.deleted, entry.in_sync, entry.deferred = True, False, None
        self._check_changed(entry.value)
        return True

    def update_check(self, check_id: str, status: str, output: str, now: float) -> None:
        """Record what a check found. No error if the check is gone."""
        entry = self._checks.get(check_id)
        if entry is None or entry.deleted or entry.value is None:
            return
        output = "" if self.discard_check_output else output
        before = entry.value
        if before.status == status and before.output == output:
            return
        entry.value = replace(before, status=status, output=output)
        if self._update_interval and before.status == status:
            if entry.deferred is None:
                delay = self._update_interval * (0.5 + self._random.random())
                entry.deferred = now + delay
                self.on_wait()
            return
        entry.in_sync = False
        self._check_changed(entry.value)

    def deadline(self) -> float | None:
        """When the first deferred output is due."""
        times = [entry.deferred for entry in self._checks.values() if entry.deferred is not None]
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Put deferred outputs that are due out of sync."""
        due = False
        for entry in self._checks.values():
            if entry.deferred is not None and entry.deferred <= now:
                entry.deferred, entry.in_sync, due = None, False, True
        if due:
            self.on_change()

    def set_node(self, node: Node) -> None:
        """The node's addresses or metadata have changed."""
        if node != self.node:
            self.node = node
            self._node_in_sync = False
            self.on_change()

    def _service_changed(self, service_id: str) -> None:
        for watch in list(self._watches.get(service_id, ())):
            watch.fire()
        self._wake_aliases(service_id)
        self.on_change()

    def _check_changed(self, check: HealthCheck) -> None:
        self._wake_aliases(check.service_id)
        self.on_change()

    def _wake_aliases(self, service_id: str) -> None:
        """A check of the node concerns every service on it."""
        for looked_at, listeners in self._aliases.items():
            if not service_id or looked_at == service_id:
                for wake in list(listeners):
                    wake()

    # --- anti-entropy ----------------------------------------------------------------------------

    def compare(
        self, node: Node | None, services: Iterable[NodeService], checks: Iterable[HealthCheck]
    ) -> None:
        """Learn what the catalog has of this node, and put what differs out of sync."""
        self._node_in_sync = node is not None and (
            node.id == self.node.id
            and node.address == self.node.address
            and node.tagged_addresses == self.node.tagged_addresses
            and node.meta == self.node.meta
        )
        self._compare_services({service.id: service for service in services})
        self._compare_checks({check.check_id: check for check in checks})

    def _compare_services(self, theirs: dict[str, NodeService]) -> None:
        for service_id, entry in list(self._services.items()):
            if service_id not in theirs:
                entry.in_sync = False
                if entry.deleted:  # gone here and there
                    del self._services[service_id]
        for service_id, copy in theirs.items():
            known = self._services.get(service_id)
            if known is None:
                if service_id != _SERVERS_OWN_SERVICE:
                    self._services[service_id] = _Entry[NodeService](None)
            elif known.deleted or known.value is None:
                known.in_sync = False  # it is still there
            else:
                if known.value.enable_tag_override and known.value.tags != copy.tags:
                    known.value = replace(known.value, tags=copy.tags)
                    for watch in list(self._watches.get(service_id, ())):
                        watch.fire()
                known.in_sync = _same_service(known.value, copy)

    def _compare_checks(self, theirs: dict[str, HealthCheck]) -> None:
        for check_id, entry in list(self._checks.items()):
            if check_id not in theirs:
                entry.in_sync = False
                if entry.deleted:
                    del self._checks[check_id]
        for check_id, copy in theirs.items():
            known = self._checks.get(check_id)
            if known is None:
                if check_id != _SERVERS_OWN_CHECK:
                    self._checks[check_id] = _Entry[HealthCheck](None)
            elif known.deleted or known.value is None:
                known.in_sync = False
            else:
                waits = known.deferred is not None
                known.in_sync = _same_check(known.value, copy, not waits)

    def pushes(self) -> Iterator[Push]:
        """What mends the catalog, one request after the other: each is made when it is asked for, so tell
        what became of one (`pushed`, `dropped`, or nothing for a failure) before asking for the next."""
        if not self._node_in_sync:
            yield Push(self._register())
        for service_id in list(self._services):
            entry = self._services.get(service_id)
            if entry is None or entry.in_sync:
                continue
            if entry.deleted:
                gone = self._deregister(entry.token, service_id=service_id)
                yield Push(gone, service_id, from_file=entry.from_file)
            else:
                yield self._push_service(service_id, entry)
        for check_id in list(self._checks):
            check = self._checks.get(check_id)
            if check is None or check.in_sync:
                continue
            request: RegisterRequest | DeregisterRequest
            if check.deleted:
                request = self._deregister(check.token, check_id=check_id)
            else:
                request = self._register(check.token, checks=[check])
            yield Push(request, check_ids=(check_id,), from_file=check.from_file)

    def _push_service(self, service_id: str, entry: _Entry[NodeService]) -> Push:
        """A service travels with its checks that are out of sync, so that it never shows without them;
        checks of another token travel alone, with their own rights."""
        riders = {
            check_id: check
            for check_id, check in self._checks.items()
            if check.value is not None
            and check.value.service_id == service_id
            and not check.in_sync
            and not check.deleted
            and (check.token, check.from_file) == (entry.token, entry.from_file)
        }
        request = self._register(entry.token, entry.value, list(riders.values()))
        return Push(request, service_id, tuple(riders), entry.from_file)

    def _register(
        self, token: str = "", service: NodeService | None = None, checks: Iterable[_Entry[HealthCheck]] = ()
    ) -> RegisterRequest:
        values = [entry.value for entry in checks if entry.value is not None]
        for entry in checks:
            entry.deferred = None
        return RegisterRequest(
            datacenter=self.node.datacenter,
            id=self.node.id,
            node=self.node.node,
            address=self.node.address,
            tagged_addresses=self.node.tagged_addresses,
            node_meta=self.node.meta,
            service=service,
            check=values[0] if len(values) == 1 else None,
            checks=values if len(values) > 1 else None,
            skip_node_update=self._node_in_sync,
            token=token,
        )

    def _deregister(self, token: str, service_id: str = "", check_id: str = "") -> DeregisterRequest:
        return DeregisterRequest(
            datacenter=self.node.datacenter,
            node=self.node.node,
            service_id=service_id,
            check_id=check_id,
            token=token,
        )

    def pushed(self, push: Push) -> None:
        """The catalog has taken a push. What has changed here meanwhile stays out of sync."""
        request = push.request
        if isinstance(request, DeregisterRequest):
            self._forget(self._services, push.service_id)
            for check_id in push.check_ids:
                self._forget(self._checks, check_id)
            for check_id, check in list(self._checks.items()):  # the catalog drops them with the service
                if push.service_id and check.value is not None and check.value.service_id == push.service_id:
                    self._forget(self._checks, check_id)
            return
        if not request.skip_node_update:
            self._node_in_sync = (
                request.id,
                request.address,
                request.tagged_addresses,
                request.node_meta,
            ) == (
                self.node.id,
                self.node.address,
                self.node.tagged_addresses,
                self.node.meta,
            )
        service = self._services.get(push.service_id)
        if service is not None and service.value is request.service and not service.deleted:
            service.in_sync = True
        for value in request.checks or ([request.check] if request.check is not None else []):
            known = self._checks.get(value.check_id)
            if known is not None and known.value is value and not known.deleted:
                known.in_sync = True

    def dropped(self, push: Push) -> None:
        """The catalog refuses a push for good (its token may not): wait for a change, or a full sync."""
        if push.service_id in self._services:
            self._services[push.service_id].in_sync = True
        for check_id in push.check_ids:
            if check_id in self._checks:
                self._checks[check_id].in_sync = True

    @staticmethod
    def _forget(entries: dict[str, _Entry[_Value]], name: str) -> None:
        """Drop a deleted entry, unless it was registered again meanwhile."""
        if name in entries and entries[name].deleted:
            del entries[name]


def _value(entry: _Entry[_Value] | None) -> _Value | None:
    return None if entry is None or entry.deleted else entry.value


def _living(entries: dict[str, _Entry[_Value]]) -> dict[str, _Value]:
    living = ((name, _value(entry)) for name, entry in sorted(entries.items()))
    return {name: value for name, value in living if value is not None}


def _same_service(mine: NodeService, copy: NodeService) -> bool:
    """Whether the catalog's copy says the same; nil and empty are the same, indexes do not count. A file
    of the data directory has an empty proxy written out, and so has a copy that came over the wire."""
    return _plain_service(mine) == _plain_service(copy)


def _plain_service(service: NodeService) -> NodeService:
    return replace(
        service,
        tags=service.tags or None,
        tagged_addresses=service.tagged_addresses or None,
        meta=service.meta or None,
        weights=service.weights or Weights(),
        proxy=_said(service.proxy),
        connect=_said(service.connect),
        locally_registered_as_sidecar=False,
        create_index=0,
        modify_index=0,
    )


def _said(value: Any) -> Any:
    """What is left of a value without all that is empty; None when that is nothing."""
    if isinstance(value, dict):
        value = {name: left for name, each in value.items() if (left := _said(each)) is not None}
    return value or None


def _same_check(mine: HealthCheck, copy: HealthCheck, with_output: bool) -> bool:
    return _plain_check(mine, with_output) == _plain_check(copy, with_output)


def _plain_check(check: HealthCheck, with_output: bool) -> HealthCheck:
    """The fields that Consul compares: type and definition are not among them."""
    return HealthCheck(
        node=check.node,
        check_id=check.check_id,
        name=check.name,
        status=check.status,
        notes=check.notes,
        output=check.output if with_output else "",
        service_id=check.service_id,
        service_name=check.service_name,
        service_tags=check.service_tags or None,
        definition=check.definition,
    )
