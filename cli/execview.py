"""What `ctl exec` shows: a live table on a terminal, a line of JSON for each node elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from cli.output import to_json_line

if TYPE_CHECKING:
    from rich.console import Group

    from cli.call import Call
    from cli.exec import Row

_ORDER = (
    "failed",
    "timeout",
    "refused",
    "no answer",
    "lost",
    "running",
    "waiting",
    "passed",
    "absent",
    "not run",
)
_STYLES = {
    **dict.fromkeys(("failed", "timeout", "refused", "no answer", "lost"), "bold red"),
    "passed": "green",
    "running": "yellow",
    "absent": "dim",
    "not run": "dim",
}
_QUIET = ("passed", "absent", "not run")
_FRAME = 5  # lines beside the rows: title, heading, line, and the last two


def view_of(call: Call, name: str, rows: Mapping[str, Row]) -> View:
    """The view for where the output goes."""
    if call.out.quiet:
        return View(call)
    return LiveView(call, name, rows) if call.out.format == "table" else Lines(call)


class View:
    """Names of the nodes where it passed."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open."""

    def update(self) -> None:
        """Something may have changed."""

    def ended(self, row: Row) -> None:
        """It has ended on a node."""
        if row.state == "passed":
            self.call.out.line(row.node)

    def finish(self) -> None:
        """All is over."""


class Lines(View):
    """One document a line, as each node ends."""

    def ended(self, row: Row) -> None:
        self.call.out.line(to_json_line(row.document()))
        sys.stdout.flush()


class LiveView(View):
    """One table that follows, and after it what those that failed have to say."""

    def __init__(self, call: Call, name: str, rows: Mapping[str, Row]) -> None:
        super().__init__(call)
        from rich.console import Console
        from rich.live import Live

        from cli.terminal import colour

        self._name, self._rows = name, rows
        self._console = Console(no_color=not colour(call.values), highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if isinstance(error, KeyboardInterrupt):
            going = [row.node for row in self._rows.values() if row.open]
            self._console.print(f"{self._name} goes on where it was begun: {', '.join(going)}", markup=False)

    def update(self) -> None:
        self._live.update(self._picture(self._console.height - _FRAME), refresh=True)

    def ended(self, row: Row) -> None:
        """It is in the table."""

    def finish(self) -> None:
        self._live.stop()
        self._console.print(self._picture(len(self._rows)))
        for row in self._rows.values():
            told = row.output or row.error
            if told and (row.state not in _QUIET or (row.state == "passed" and self.call.yes("verbose"))):
                self._tell(row)

    def _tell(self, row: Row) -> None:
        from rich.padding import Padding
        from rich.text import Text

        from cli.terminal import clean

        self._console.print(Text(f"\n{clean(row.node)}: {row.error or _ending(row)}", style="bold"))
        for line in row.output.splitlines():
            self._console.print(Padding(Text(clean(line)), (0, 0, 0, 4)))

    def _picture(self, most: int) -> Group:
        """The rows that matter most, as many as fit, and how many there are of each state."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        from cli.terminal import clean

        rows = sorted(self._rows.values(), key=lambda row: (_ORDER.index(row.state), row.node))
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        for name in ("Node", "State", "Time"):
            table.add_column(name, no_wrap=True, justify="right" if name == "Time" else "left")
        table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
        for row in rows[: max(most, 1)]:
            last = row.error or next(iter(row.output.rstrip().splitlines()[-1:]), "")
            cells = (
                clean(row.node),
                Text(row.state, _STYLES.get(row.state, "")),
                _time(row),
                Text(clean(last)),
            )
            table.add_row(*cells)
        counts = Counter(row.state for row in rows)
        summary = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
        return Group(table, Text(f"\n{self._name}: {summary}"))


def _time(row: Row) -> str:
    if row.open:
        return f"{time.monotonic() - row.began:.0f}s"
    return f"{row.took:.1f}s" if row.took else ""


def _ending(row: Row) -> str:
    return f"{row.state}, exit code {row.code}" if row.code else row.state
