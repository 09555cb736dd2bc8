"""The actions of this agent's configuration, run when the leader orders one (core/api/actions.py).

An order comes as a gossip event with an id and nothing else. What to run is then asked of the leader, over
RPC; the program and its arguments stand in our own configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from agent.process import Child, SpawnError, spawn
from core.api.actions import EVENT, REPORT, TAKE, ReportRequest, RunRequest
from core.api.endpoint import Errand, Reply
from core.codec.duration import SECOND, show
from core.config.actions import actions
from core.errors import CtlError
from core.gossip.member import UserEvent
from core.node.definitions import ActionDefinition
from core.node.jobs import OUTPUT, Order, Part

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.logs import Logger
    from core.gossip.member import GossipEvent

HEARTBEAT = 3.0  # seconds between words to the leader while an action runs
_TRIES = 5  # to tell how it ended, a second apart
_ID_LENGTH = 36


def _nothing(_: object) -> Reply:
    return Reply()


class Actions:
    """Runs what is ordered, each action at most once at a time."""

    def __init__(self, agent: Agent, log: Logger) -> None:
        self._agent, self._log = agent, log
        self._running: dict[str, Child] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, event: GossipEvent) -> None:
        """Take part in what an event announces."""
        if isinstance(event, UserEvent) and event.name == EVENT and len(event.payload) == _ID_LENGTH:
            self._spawn(self._take(event.payload.decode("ascii", "replace")))

    async def stop(self) -> None:
        """End what runs."""
        for task in self._tasks:
            task.cancel()
        for child in list(self._running.values()):
            await child.terminate()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, identity: str) -> None:
        agent = self._agent
        token = agent.tokens.for_agent
        request = RunRequest(agent.datacenter, token, identity, agent.node_name)
        try:
            order: Order | None = await agent.run(Errand(TAKE, request, _nothing, "", token))
        except CtlError as error:
            self._log.warn("cannot ask what to run", id=identity, error=error.text)
            return
        if order is None:
            return  # it is for others
        part = await self._carry_out(order)
        await self._tell(order, part)

    async def _carry_out(self, order: Order) -> Part:
        """What came of it on this node."""
        node, config = self._agent.node_name, self._agent.config
        action = actions(config["actions"]).get(order.action)
        refusal = self._refusal(order, action)
        if action is None or refusal:
            state = "absent" if action is None else "refused"
            self._log.warn("an action was not run", action=order.action, id=order.id, reason=refusal)
            return Part(node, state, error=refusal)
        variables = {"CTL_ACTION": action.name, "CTL_EXEC_ID": order.id, "CTL_NODE": node}
        self._log.info("running an action", action=action.name, id=order.id, accessor=order.accessor)
        began = self._agent.world.now()
        try:
            child = spawn([*action.args, *order.args], env=variables, output_limit=OUTPUT, user=action.user)
        except SpawnError as error:
            self._log.error("an action cannot start", action=action.name, error=str(error))
            return Part(node, "failed", 127, error=str(error))
        self._running[action.name] = child
        try:
            part = await self._wait(order, action, child)
        finally:
            del self._running[action.name]
        part.took = self._agent.world.now() - began
        self._log.info(
            "an action has ended", action=action.name, id=order.id, state=part.state, code=part.code
        )
        return part

    def _refusal(self, order: Order, action: ActionDefinition | None) -> str:
        """Why it is not run here; "" if it is."""
        if action is None:
            return f"no action {order.action} is configured here"
        if not order.judged and not self._agent.config["actions_without_acl"]:
            return "ACLs are off and actions_without_acl is not set here"
        if order.args and not action.parameters:
            return f"the action {action.name} takes no parameters"
        if action.name in self._running:
            return f"the action {action.name} is running already"
        return ""

    async def _wait(self, order: Order, action: ActionDefinition, child: Child) -> Part:
        """Until it has ended, or its time is up; the leader hears meanwhile that it runs."""
        node, world = self._agent.node_name, self._agent.world
        deadline = world.now() + action.timeout / SECOND
        state, error = "", ""
        while not await child.wait(max(0.0, min(HEARTBEAT, deadline - world.now()))):
            if world.now() >= deadline:
                state, error = "timeout", f"ended after {show(action.timeout)}"
                await child.terminate()
                break
            self._spawn(self._tell(order, Part(node, "running")))
        code = child.code or 0
        code = code if code >= 0 else 128 - code
        return Part(node, state or ("passed" if code == 0 else "failed"), code, child.output.report(), error)

    async def _tell(self, order: Order, part: Part) -> None:
        """Report to the leader. How it ended is worth another try; that it runs is said again soon."""
        agent = self._agent
        request = ReportRequest(agent.datacenter, agent.tokens.for_agent, order.id, part)
        for _ in range(1 if part.state == "running" else _TRIES):
            try:
                known = await agent.run(Errand(REPORT, request, _nothing, "", agent.tokens.for_agent))
            except CtlError as error:
                self._log.warn("cannot report on an action", action=order.action, error=error.text)
                await asyncio.sleep(1.0)
                continue
            if not known:
                self._log.warn("nobody waits for this action any more", action=order.action, id=order.id)
            return
