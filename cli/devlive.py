"""`ctl dev cluster` on a terminal: one table that follows the members."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.devview import View, how_to_talk
from cli.members import STATES
from cli.terminal import STYLES, colour

if TYPE_CHECKING:
    from cli.call import Call
    from cli.devcluster import DevAgent, DevCluster


class LiveView(View):
    """The table is drawn again on every change."""

    def __init__(self, call: Call, agents: DevCluster) -> None:
        super().__init__(call, agents)
        self._console = Console(no_color=not colour(call.values), highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._members: dict[str, dict[str, Any]] = {}
        self._leading = ""
        self._done = False

    def __enter__(self) -> LiveView:
        self._live.start()
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, members: list[dict[str, Any]], leader: str) -> None:
        self._members = {member["Name"]: member for member in members}
        self._leading = leader
        self._draw()

    def ready(self) -> None:
        self._done = True
        self._draw()

    def pause(self) -> None:
        self._live.stop()

    def _draw(self) -> None:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        for name in ("Node", "Address", "Type", "Pid", "Status", "Raft"):
            table.add_column(name, no_wrap=True, justify="right" if name == "Pid" else "left")
        for agent in self.agents.agents:
            table.add_row(*self._row(agent))
        text = how_to_talk(self.agents) if self._done else "\nStarting ..."
        self._live.update(Group(table, Text(text)), refresh=True)

    def _row(self, agent: DevAgent) -> list[Text]:
        member = self._members.get(agent.name)
        state = STATES[member["Status"]] if member else "starting"
        if agent.process is not None and agent.process.poll() is not None:
            state = "ended" if state in ("alive", "starting") else state
        raft = ""
        if agent.server:
            raft = "leader" if self._leading == f"{agent.address}:8300" else "follower"
            raft = raft if self._leading else "no leader"
        kind = "server" if agent.server else "client"
        cells = [agent.name, agent.address, kind, str(agent.pid or ""), state, raft]
        styles = ["", "", "", "", STYLES.get(state, ""), "bold" if raft == "leader" else STYLES.get(raft, "")]
        return [Text(cell, style=style) for cell, style in zip(cells, styles, strict=True)]
