"""How `ctl dev cluster` tells what happens: a line for each change, or one document when all is ready."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cli.members import STATES

if TYPE_CHECKING:
    from cli.call import Call
    from cli.devcluster import DevCluster


class View:
    """Lines on stdout; with --exec on stderr, since stdout is the command's then."""

    def __init__(self, call: Call, agents: DevCluster) -> None:
        self.call, self.agents = call, agents
        self._states: dict[str, str] = {}
        self._leader = ""
        self._silent = call.out.structured or call.out.quiet

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def update(self, members: list[dict[str, Any]], leader: str) -> None:
        """Take in what the agents say now."""
        states = {member["Name"]: STATES[member["Status"]] for member in members}
        for agent in self.agents.agents:
            state = states.get(agent.name, "")
            if state and state != self._states.get(agent.name):
                self._states[agent.name] = state
                kind = "server" if agent.server else "client"
                self._line(f"{agent.name}  {agent.address}  {kind}  {state}")
        if leader != self._leader:
            self._leader = leader
            self._line(f"leader: {self.name_of(leader)}")

    def name_of(self, leader: str) -> str:
        """`s1 (127.1.2.3:8300)` for an RPC address."""
        for agent in self.agents.servers:
            if leader == f"{agent.address}:8300":
                return f"{agent.name} ({leader})"
        return leader or "none"

    def ready(self) -> None:
        """All agents agree: say how to talk to them."""
        if self.call.out.structured:
            self.call.out.document(self._document())
        elif not self._silent and not (self.call.text("exec") or self.call.yes("once")):
            self._line(how_to_talk(self.agents))
        sys.stdout.flush()

    def pause(self) -> None:
        """Somebody else writes from here on."""

    def note(self, text: str) -> None:
        if not self.call.out.quiet:
            sys.stderr.write(text + "\n")

    def _line(self, text: str) -> None:
        if self._silent:
            return
        if self.call.text("exec"):
            sys.stderr.write(text + "\n")
            return
        self.call.out.line(text)
        sys.stdout.flush()

    def _document(self) -> dict[str, Any]:
        return {
            "Folder": str(self.agents.folder),
            "Leader": self._leader,
            "Agents": [
                {
                    "Name": agent.name,
                    "Address": agent.address,
                    "Server": agent.server,
                    "HTTP": agent.http,
                    "Socket": agent.socket,
                    "Log": str(agent.log),
                    "Pid": agent.pid,
                }
                for agent in self.agents.agents
            ],
        }


def how_to_talk(agents: DevCluster) -> str:
    """Addresses, socket and logs, ready to be copied."""
    first = agents.servers[0]
    lines = [
        "",
        "All agents see each other. In another shell:",
        f"  export CTL_HTTP_ADDR={first.http}",
        f"  # or the socket: CTL_HTTP_ADDR={first.socket}",
        "  ctl members",
        f"Logs: {agents.folder}/*/agent.log",
        "Ctrl-C ends all agents.",
    ]
    return "\n".join(lines)
