"""The services and checks of this agent, at work: registered, run, kept on disk, and told to the catalog.

    local = LocalAgent(world, node, catalog, tokens, data_dir, settings, log)
    await local.start(services, checks)       # definitions from files; then what was registered before
    await local.add_service(definition, False, token)
    await local.reload(services, checks)      # what files define is replaced, the rest stays
    await local.stop()

A registration is on disk before it is answered. Registering again what is there keeps the status of its
checks, so nothing flaps. Definitions in files win over registrations of the same id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from agent.aliases import Aliases
from agent.checks import CheckRunner, CheckSettings
from agent.logs import Logger
from agent.persist import LocalFiles
from agent.sync import AgentTokensDoor, CatalogDoor, Sync
from agent.world import World
from core.api.decode_stored import StoredCheck, StoredState
from core.codec.duration import SECOND, quote
from core.errors import ConfigError, Invalid, StorageFull
from core.node import registration
from core.node.definitions import CheckDefinition, ServiceDefinition
from core.node.local import LocalState
from core.store.structs import CRITICAL, HealthCheck, Node, NodeService
from core.store.watch import Watch

_STATE_DELAY = 1.0  # seconds that the state of a TTL check may be newer than its file
_STATE_AGE = 60  # seconds for which a restart believes what a check found before it


class LocalSettings(Struct, kw_only=True):
    """What the configuration says about services and checks."""

    scripts_from_files: bool = False
    """`enable_script_checks` or `enable_local_script_checks`."""
    scripts_from_api: bool = False
    """`enable_script_checks`."""
    check_update_interval: int = 300 * SECOND
    discard_check_output: bool = False
    checks: CheckSettings = field(default_factory=CheckSettings)


class LocalAgent:
    """Owns the local state. Fulfils LocalDoor of core/api/endpoint.py."""

    def __init__(
        self,
        world: World,
        node: Node,
        catalog: CatalogDoor,
        tokens: AgentTokensDoor,
        data_dir: Path | None,
        settings: LocalSettings,
        log: Logger,
    ) -> None:
        """`data_dir` None: nothing is kept (dev mode)."""
        self.state = LocalState(
            node, world.random, settings.check_update_interval, settings.discard_check_output
        )
        self.sync = Sync(world, self.state, catalog, tokens, log)
        self.runner = CheckRunner(
            world,
            self._checked,
            replace(settings.checks, alias=Aliases(self.state, catalog), on_overdue=self._overdue),
        )
        self._world = world
        self._settings = settings
        self._log = log
        self._files = LocalFiles(world, data_dir, log) if data_dir is not None else None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._file_services: set[str] = set()
        self._file_checks: set[str] = set()
        self._definitions: dict[str, CheckDefinition] = {}
        self._remembered: dict[str, StoredState] = {}  # from before the start, until the check is there
        self._unsaved: set[str] = set()  # TTL checks whose state is newer than its file
        self._saver: asyncio.TimerHandle | None = None

    # --- life --------------------------------------------------------------------------------------

    async def start(self, services: Iterable[ServiceDefinition], checks: Iterable[CheckDefinition]) -> None:
        """Take the definitions of files, then what was registered before; begin to sync.
        ConfigError for a definition that cannot be."""
        if self._files is not None:
            self._remembered = self._files.states()
        await self.reload(services, checks)
        if self._files is not None:
            self._restore(self._files)
        self._remembered.clear()
        self.sync.start()

    async def stop(self) -> None:
        """End checks and sync, and keep what the checks found for a start soon after."""
        await self.sync.stop()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._saver is not None:
            self._saver.cancel()
        if self._files is not None:
            self._save_states(self._files, [self._stored_state(check_id) for check_id in self._definitions])
        await self.runner.stop_all()

    def server_up(self) -> None:
        """There is a server, or a leader: sync soon."""
        self.sync.server_up()

    def set_nodes(self, count: int) -> None:
        """How many agents are alive: in large clusters each looks at the catalog less often."""
        self.sync.set_nodes(count)

    def counts(self) -> dict[str, str]:
        """How many there are of what, as `consul info` shows it."""
        return {
            "check_monitors": str(self.runner.monitors),
            "check_ttls": str(self.runner.ttls),
            "checks": str(len(self.state.checks)),
            "services": str(len(self.state.services)),
        }

    def _restore(self, files: LocalFiles) -> None:
        for service in files.services():
            if service.service.id in self._file_services:
                self._log.info("a file defines this service now", service=service.service.id)
                files.drop_service(service.service.id)
            else:
                self.state.add_service(service.service, service.token)
        for stored in files.checks():
            check = stored.check
            gone = check.service_id and self.state.service(check.service_id) is None
            if check.check_id in self._file_checks or gone:
                self._log.info("a check is not restored", check=check.check_id)
                files.drop_check(check.check_id)
                continue
            problem = "" if stored.definition is None else self._problem(stored.definition, from_file=False)
            if problem:
                self._log.warn("a check is not restored", check=check.check_id, error=problem)
                continue
            node = self.state.node.node  # it may have another name now
            check = replace(check, node=node, status=CRITICAL, output="")
            self._begin(check, stored.definition, stored.token)

    # --- definitions in files ----------------------------------------------------------------------

    async def reload(self, services: Iterable[ServiceDefinition], checks: Iterable[CheckDefinition]) -> None:
        """Replace what files define. Checks that stay as they are go on undisturbed, and keep their status
        when they change. ConfigError, and nothing is changed, for a definition that cannot be."""
        services, checks = list(services), list(checks)
        self._vet(services, checks)
        node = self.state.node.node
        async with self._changing:
            old_services, old_checks = self._file_services, self._file_checks
            self._file_services, self._file_checks = set(), set()
            for definition in services:
                service = registration.node_service(definition)
                self._file_services.add(service.id)
                self.state.add_service(service, definition.token, from_file=True)
                for check, of_check in registration.service_checks(definition, node):
                    self._file_checks.add(check.check_id)
                    token = of_check.token or definition.token
                    self._begin(check, of_check, token, from_file=True)
            for of_check in checks:
                check = registration.health_check(of_check, node)
                self._file_checks.add(check.check_id)
                self._begin(check, of_check, of_check.token, from_file=True)
            for check_id in old_checks - self._file_checks:
                self._end_check(check_id)
            for service_id in old_services - self._file_services:
                self._end_service(service_id)

    def _vet(self, services: list[ServiceDefinition], checks: list[CheckDefinition]) -> None:
        known = {service.id or service.name for service in services}
        known.update(self.state.services.keys() - self._file_services)
        for service in services:
            problem = self._service_problem(service)
            if problem:
                raise ConfigError(
                    f"Failed to register service {quote(service.id or service.name)}: {problem}"
                )
            for name in (service.name, *(service.tags or [])):
                if not registration.is_dns_name(name):
                    self._log.warn(
                        "Service name or tag will not be discoverable via DNS due to invalid characters. "
                        "Valid characters include all alpha-numerics and dashes.",
                        name=name,
                    )
        for check in checks:
            check_id = check.id or check.name
            problem = "" if check_id else "CheckID missing"
            problem = problem or self._problem(check, from_file=True)
            if not problem and check.service_id and check.service_id not in known:
                problem = f"ServiceID {quote(check.service_id)} does not exist"
            if problem:
                raise ConfigError(f"Failed to register check '{check_id}': {problem}")

    def _service_problem(self, service: ServiceDefinition) -> str:
        if not service.name:
            return "Service name missing"
        problem = registration.weights_problem(service.weights)
        if problem:
            return f"Invalid Weights: {problem}"
        problem = registration.metadata_problem(service.meta)
        if problem:
            return f"Invalid Service Meta: {problem}"
        problems = (self._problem(check, from_file=True) for check in service.checks)
        return next((problem for problem in problems if problem), "")

    def _problem(self, check: CheckDefinition, from_file: bool) -> str:
        """Why a check may not be registered, `` if it may."""
        problem = registration.check_problem(check)
        if problem:
            return f"Check is not valid: {problem}"
        if registration.is_script(check):
            if from_file and not self._settings.scripts_from_files:
                return (
                    "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or "
                    "'enable_local_script_checks' to true"
                )
            if not from_file and not self._settings.scripts_from_api:
                return (
                    "Scripts are disabled on this agent from remote calls; to enable, configure "
                    "'enable_script_checks' to true"
                )
        return ""

    # --- registrations -----------------------------------------------------------------------------

    async def add_service(self, service: ServiceDefinition, replace_checks: bool, token: str) -> None:
        """Register a service with its checks, or replace it; `replace_checks` ends the checks that it has
        and that are not named again. Invalid for a check that may not run, StorageFull."""
        self._refuse(service.checks)
        value = registration.node_service(service)
        checks = registration.service_checks(service, self.state.node.node)
        async with self._changing:
            stored = [StoredCheck(check, of_check, token) for check, of_check in checks]
            await self._keep(value, token, stored)
            self.state.add_service(value, token)
            for item in stored:
                self._begin(item.check, item.definition, item.token)
            if replace_checks:
                named = {check.check_id for check, _ in checks}
                for check in self.state.checks_of(value.id):
                    if check.check_id not in named:
                        self._end_check(check.check_id)
                        await self._drop(LocalFiles.drop_check, check.check_id)

    async def remove_service(self, service_id: str) -> None:
        """Deregister a service and its checks; no error if there is none."""
        async with self._changing:
            if self.state.service(service_id) is None:
                self._log.warn("Failed to deregister service: there is none", service=service_id)
                return
            checks = self.state.checks_of(service_id)
            self._end_service(service_id)
            await self._drop(LocalFiles.drop_service, service_id)
            for check in checks:
                await self._drop(LocalFiles.drop_check, check.check_id)

    async def add_check(self, check: CheckDefinition, token: str) -> None:
        """Register a check, or replace it. Invalid if it may not run or its service is not there,
        StorageFull."""
        self._refuse([check])
        value = registration.health_check(check, self.state.node.node)
        async with self._changing:
            if value.service_id and self.state.service(value.service_id) is None:
                raise Invalid(f"ServiceID {quote(value.service_id)} does not exist")
            stored = StoredCheck(value, check, token)
            await self._keep(None, "", [stored])
            self._begin(value, check, stored.token)

    async def remove_check(self, check_id: str) -> None:
        """Deregister a check; no error if there is none."""
        async with self._changing:
            self._end_check(check_id)
            await self._drop(LocalFiles.drop_check, check_id)

    async def maintain_service(self, service_id: str, enable: bool, reason: str, token: str) -> None:
        """Put a service out of use, or back. Invalid if there is none."""
        service = self.state.service(service_id)
        if service is None:
            raise Invalid(f"No service registered with ID {quote(service_id)}")
        await self._maintain(service, enable, reason, token)

    async def maintain_node(self, enable: bool, reason: str, token: str) -> None:
        """Put the node with all its services out of use, or back."""
        await self._maintain(None, enable, reason, token)

    async def _maintain(self, service: NodeService | None, enable: bool, reason: str, token: str) -> None:
        check = registration.maintenance_check(self.state.node.node, service, reason)
        if not enable:
            await self.remove_check(check.check_id)
            return
        async with self._changing:
            if self.state.check(check.check_id) is not None:
                return
            await self._keep(None, "", [StoredCheck(check, None, token)])
            self._begin(check, None, token)
        self._log.info("Entering maintenance mode", service=service.id if service is not None else "")

    def update_ttl_check(self, check_id: str, status: str, output: str) -> None:
        """Speak for a TTL check. Invalid if it is none."""
        before = self.state.check(check_id)
        self.runner.ttl_update(check_id, status, output)
        if self._files is None:
            return
        self._unsaved.add(check_id)
        if before is None or before.status != status:  # what others act on; outputs alone may wait
            if self._saver is not None:
                self._saver.cancel()
            self._save_unsaved()
        elif self._saver is None:
            self._saver = asyncio.get_running_loop().call_later(_STATE_DELAY, self._save_unsaved)

    def _refuse(self, checks: Iterable[CheckDefinition]) -> None:
        for check in checks:
            problem = self._problem(check, from_file=False)
            if problem:
                raise Invalid(problem)

    # --- checks ------------------------------------------------------------------------------------

    def _begin(
        self, check: HealthCheck, definition: CheckDefinition | None, token: str, from_file: bool = False
    ) -> None:
        """Add a check to the state and run it. It keeps the status that it has, or had before a restart;
        one of a file goes on undisturbed unless its definition has changed."""
        before = self.state.check(check.check_id)
        remembered = self._remembered.get(check.check_id)
        if before is not None:
            check = replace(check, status=before.status, output=before.output)
        elif remembered is not None and definition is not None:
            check = replace(check, status=remembered.status, output=remembered.output)
        self.state.add_check(check, token, from_file)
        if definition is None:
            return
        if not from_file or self._definitions.get(check.check_id) != definition:
            self.runner.start(check.check_id, definition, check.status)
            self._definitions[check.check_id] = definition

    def _end_check(self, check_id: str) -> None:
        self.runner.stop(check_id)
        self._definitions.pop(check_id, None)
        self._unsaved.discard(check_id)
        self._file_checks.discard(check_id)
        self.state.remove_check(check_id)

    def _end_service(self, service_id: str) -> None:
        for check in self.state.checks_of(service_id):
            self._end_check(check.check_id)
        self._file_services.discard(service_id)
        self.state.remove_service(service_id)

    def _checked(self, check_id: str, status: str, output: str) -> None:
        self.state.update_check(check_id, status, output, self._world.now())

    def _overdue(self, check_id: str) -> None:
        check = self.state.check(check_id)
        if check is None or not check.service_id:
            return
        self._log.info(
            "Check has been critical for too long; deregistering service",
            check=check_id,
            service=check.service_id,
        )
        task = asyncio.get_running_loop().create_task(self.remove_service(check.service_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- disk --------------------------------------------------------------------------------------

    async def _keep(self, service: NodeService | None, token: str, checks: list[StoredCheck]) -> None:
        """Have a registration on disk before anyone is told of it."""
        files = self._files
        if files is None:
            return

        def write() -> None:
            for check in checks:
                files.save_check(check)
            if service is not None:
                files.save_service(service, token)

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise StorageFull(f"failed to persist the registration: {error}") from None

    async def _drop(self, drop: Callable[[LocalFiles, str], None], name: str) -> None:
        if self._files is not None:
            await asyncio.to_thread(drop, self._files, name)

    def _save_unsaved(self) -> None:
        self._saver = None
        states = [self._stored_state(check_id) for check_id in self._unsaved]
        self._unsaved.clear()
        if self._files is not None and states:
            task = asyncio.get_running_loop().create_task(
                asyncio.to_thread(self._save_states, self._files, states)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _save_states(self, files: LocalFiles, states: Iterable[StoredState | None]) -> None:
        for state in states:
            if state is None:
                continue
            try:
                files.save_state(state)
            except OSError as error:
                self._log.warn("cannot keep what a check found", check=state.check_id, error=error)

    def _stored_state(self, check_id: str) -> StoredState | None:
        check, definition = self.state.check(check_id), self._definitions.get(check_id)
        if check is None or definition is None:
            return None
        age = -(-definition.ttl // SECOND) or max(_STATE_AGE, 2 * definition.interval // SECOND)
        return StoredState(check_id, check.status, check.output, int(self._world.wall()) + age)

    # --- waiting -----------------------------------------------------------------------------------

    async def wait(self, watch: Watch, wait_time: int) -> bool:
        """Whether `watch` fired within `wait_time` ns (and up to a sixteenth more, by chance)."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        seconds = wait_time / SECOND * (1 + self._world.random.random() / 16)
        timer = loop.call_later(seconds, end)
        watch.on_fire(end)
        try:
            await over
        finally:
            timer.cancel()
            watch.close()
        return watch.fired
