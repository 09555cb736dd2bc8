"""How `ctl top` looks: fitted to the width and the height of the terminal, worst things first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.members import STATES
from cli.terminal import STYLES, ago, clean

if TYPE_CHECKING:
    from cli.topdata import Event, Frame, Server

WIDE = 120  # columns from which on members and services stand side by side
_ORDER = {"failed": 0, "leaving": 1, "left": 3}
_SECTION = 2  # lines of a section beside its rows: the heading, and an empty one


class Scene:
    """What is to be drawn: the last frame, the events, and for how long the agent has been silent."""

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.events: list[Event] = []
        self.silent = ""  # why the agent does not answer, if so
        self.silent_since = 0.0

    def draw(self, width: int, height: int, keys: bool = True) -> Group:
        """The picture, at most `height` lines."""
        lines: list[RenderableType] = [self._title(width), self._state(width), Text()]
        left = height - len(lines) - (1 if keys else 0)
        if self.frame is not None:
            members, services = _members(self.frame, width), _services(self.frame)
            if width >= WIDE:
                lines += self._beside(members, services, width, left)
            else:
                lines += self._stacked(members, services, width, left)
        if keys:
            lines.append(Text("q: quit", "dim"))
        return Group(*lines)

    def _title(self, width: int) -> Text:
        frame = self.frame
        if frame is None:
            return Text("ctl top", "bold")
        count = len(frame.members)
        parts = [
            f"{clean(frame.datacenter)} via {clean(frame.node)}",
            f"{count} member" + ("" if count == 1 else "s"),
            f"{frame.rate:.1f} req/s",
            f"{frame.blocked} blocking",
            time.strftime("%H:%M:%S"),
        ]
        while len(parts) > 1 and len("ctl top  " + "  ".join(parts)) > width:
            parts.pop(-2)
        return _line(Text.assemble(("ctl top", "bold"), "  ", "  ".join(parts)), width)

    def _state(self, width: int) -> Text:
        if self.silent:
            since = ago(time.monotonic() - self.silent_since)
            why = clean(self.silent.rpartition(": ")[2])  # without the address, which is known
            return _line(Text(f"the agent does not answer, for {since}: {why}", "bold red"), width)
        frame = self.frame
        if frame is None:
            return Text("looking ...", "dim")
        if not frame.leader:
            return Text("no leader", STYLES["no leader"])
        text = Text.assemble("leader ", (clean(frame.leader), "bold"))
        if frame.servers is not None:
            well = all(one.healthy for one in frame.servers.values())
            word = "healthy" if well else "unhealthy"
            text.append("  servers ").append(word, STYLES[word])
            text.append(f"  {frame.tolerance} may fail")
        for refusal in frame.refused:
            text.append(f"  {clean(refusal)}", "yellow")
        return _line(text, width)

    def _beside(self, members: Rows, services: Rows, width: int, height: int) -> list[RenderableType]:
        most = max(len(members.rows), len(services.rows))
        shown = max(1, min(most, height * 6 // 10 - _SECTION))
        halves = Table.grid(padding=(0, 3, 0, 0), expand=False)
        halves.add_row(members.table(shown), services.table(shown))
        rest = height - min(shown, most) - 2 * _SECTION + 1
        return [halves, Text(), *_events(self.events, width, rest)]

    def _stacked(self, members: Rows, services: Rows, width: int, height: int) -> list[RenderableType]:
        rows = height - 3 * _SECTION + 1  # nothing follows the last one
        wanted = [len(members.rows), len(services.rows), len(self.events)]
        one, two, three = shares(rows, wanted)
        return [
            members.table(one),
            Text(),
            services.table(two),
            Text(),
            *_events(self.events, width, three),
        ]


def shares(rows: int, wanted: Sequence[int]) -> list[int]:
    """`rows` lines divided among sections: to each what it wants, or at least an equal share."""
    given = [0] * len(wanted)
    left = max(rows, len(wanted))
    waiting = list(range(len(wanted)))
    while waiting:
        share = left // len(waiting)
        modest = [at for at in waiting if wanted[at] <= share]
        if not modest:
            for at in waiting:
                given[at] = share
            given[waiting[-1]] += left - share * len(waiting)
            break
        for at in modest:
            given[at] = wanted[at]
            left -= wanted[at]
            waiting.remove(at)
    return given


class Rows:
    """A section: headings, and rows of which the first matter most."""

    def __init__(self, columns: Sequence[str], right: Sequence[str], rows: list[list[Text]]) -> None:
        self.columns, self.right, self.rows = columns, right, rows

    def table(self, most: int) -> Table:
        """As many rows as fit; the last line says how many do not."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
        for position, name in enumerate(self.columns):
            table.add_column(
                name,
                no_wrap=True,
                overflow="ellipsis",
                justify="right" if name in self.right else "left",
                max_width=28 if position == 0 else None,
            )
        most = max(most, 1)
        fits = len(self.rows) <= most
        for row in self.rows if fits else self.rows[: most - 1]:
            table.add_row(*row)
        if not fits:
            table.add_row(Text(f"and {len(self.rows) - most + 1} more", "dim"))
        return table


def _members(frame: Frame, width: int) -> Rows:
    servers = frame.servers or {}
    rows = []
    for member in sorted(frame.members, key=lambda one: _rank(one, servers)):
        name, state = member["Name"], STATES[member["Status"]]
        server = servers.get(name) if member["Tags"].get("role") == "consul" else None
        cells = [Text(clean(name)), Text(clean(member["Addr"])), Text(state, STYLES.get(state, ""))]
        rows.append([*cells, *_raft(server, member, frame, width)])
    columns = ["Node", "Address", "Status", "Raft", "Index", "Lag"]
    return Rows([*columns, "Contact"], ("Index", "Lag", "Contact"), rows)


def _rank(member: dict[str, Any], servers: dict[str, Server]) -> tuple[int, int, str]:
    state = _ORDER.get(STATES[member["Status"]], 2)
    return state, 0 if member["Tags"].get("role") == "consul" else 1, member["Name"]


def _raft(server: Server | None, member: dict[str, Any], frame: Frame, width: int) -> list[Text]:
    if server is None:
        role = "server" if member["Tags"].get("role") == "consul" else ""
        word = "leader" if role and member["Name"] == frame.leader else role
        return [Text(word, "bold" if word == "leader" else ""), Text(), Text(), Text()]
    role = "leader" if server.leader else "voter" if server.voter else "non-voter"
    style = "bold" if server.leader else "" if server.healthy else "bold red"
    lag = Text(str(server.lag), "" if server.lag < 100 else "yellow")
    return [Text(role, style), Text(str(server.last_index)), lag, Text(contact(server.contact))]


def contact(text: str) -> str:
    """A duration without the digits that nobody looks at."""
    from core.codec import duration

    try:
        return duration.show(round(duration.parse(text), -6))
    except ValueError:
        return text


def _services(frame: Frame) -> Rows:
    rows = []
    for one in sorted(frame.services, key=_service_rank):
        state = service_state(one)
        counts = [one["ChecksPassing"], one["ChecksWarning"], one["ChecksCritical"]]
        styles = ("green", "yellow", "bold red")
        cells = [
            Text(str(count), style if count else "dim") for count, style in zip(counts, styles, strict=True)
        ]
        state_cell = Text(state, STYLES.get(state, ""))
        rows.append([Text(clean(one["Name"])), state_cell, Text(str(one["InstanceCount"])), *cells])
    right = ("Instances", "Pass", "Warn", "Crit")
    return Rows(["Service", "Status", *right], right, rows)


def service_state(service: dict[str, Any]) -> str:
    """The worst state that anything of a service is in."""
    return "critical" if service["ChecksCritical"] else "warning" if service["ChecksWarning"] else "passing"


def _service_rank(service: dict[str, Any]) -> tuple[int, str]:
    return ("critical", "warning", "passing").index(service_state(service)), service["Name"]


def _events(events: Sequence[Event], width: int, most: int) -> list[RenderableType]:
    if most < 1:
        return []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    table.add_column("Ago", justify="right", no_wrap=True)
    table.add_column("Event", no_wrap=True, overflow="ellipsis", max_width=width - 9)
    now = time.monotonic()
    for event in events[:most]:
        when = ago(now - event.at) if event.at else "-"
        text = Text(clean(event.text) + (" " if event.status else ""))
        text.append(event.status, STYLES.get(event.status, ""))
        table.add_row(Text(when, "dim"), text)
    if not events:
        table.add_row(Text("-", "dim"), Text("nothing yet", "dim"))
    return [table]


def _line(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    text.no_wrap = True
    return text
