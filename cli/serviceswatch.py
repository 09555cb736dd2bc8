"""`ctl services --watch`: the table of services, kept current by one blocking query."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from cli.client import Client, ServerError
from cli.command import Failure
from cli.output import to_json_line
from cli.services import services_of, show_services
from core.watch.progress import back_off

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.call import Call
    from cli.topview import Rows

WAIT = 60
MARGIN = 10.0
_DENIED = (400, 401, 403)

Document = list[dict[str, Any]]


def watch(call: Call) -> int:
    """Draw it on a terminal, until q; elsewhere print it after every change, until an interrupt."""
    if call.out.format == "table" and sys.stdin.isatty():
        return _Show(call).run()
    try:
        for document in _states(call):
            if isinstance(document, Failure):
                _note(document)
            elif call.out.structured:
                call.out.line(to_json_line(document))
            else:
                show_services(call, document)
                call.out.line("")
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    return 0


def _note(failure: Failure) -> None:
    from cli.call import note

    note(f"Error: services: {failure}; trying again")


def _states(call: Call) -> Iterator[Document | Failure]:
    """What is there, then after every change; a Failure when nobody answers, once for each time."""
    index = failures = 0
    last: Document | None = None
    waiting = Client(call.values)
    while True:
        query = [("index", str(index)), ("wait", f"{WAIT}s")] if index else []
        waiting.deadline = time.monotonic() + WAIT * 17 / 16 + MARGIN
        call.client.deadline = waiting.deadline
        try:
            answer = waiting.get("/v1/internal/ui/services", call.query(*query)).checked()
            document = services_of(call)
        except Failure as failure:
            if isinstance(failure, ServerError) and failure.response_status in _DENIED and last is None:
                raise
            failures += 1
            index = 0
            if failures == 1:
                yield failure
            time.sleep(back_off(failures))
            continue
        if document != last or failures:
            yield document
        last, failures = document, 0
        index = answer.index if answer.index >= index else 0
        if not answer.index:
            time.sleep(1.0)  # an agent never says 0; whoever does would have us spin


class _Show:
    """The screen, and a thread that waits for changes."""

    def __init__(self, call: Call) -> None:
        from cli.lease import News

        self._call = call
        self._news: News = News()
        self._document: Document | None = None
        self._changed_at = 0.0
        self._failure: Failure | None = None
        self._end: Failure | None = None

    def run(self) -> int:
        """The exit code. Failure when the token may not ask."""
        from cli.screen import follow

        threading.Thread(target=self._follow, name="services", daemon=True).start()
        return follow(self._call, self._news, self._draw, self._take)

    def _follow(self) -> None:
        try:
            for state in _states(self._call):
                if isinstance(state, Failure):
                    self._failure = state
                else:
                    self._document, self._failure = state, None
                    self._changed_at = time.monotonic()
                self._news.tell()
        except Failure as failure:
            self._end = failure
            self._news.tell()

    def _take(self) -> None:
        if self._end is not None:
            raise self._end

    def _draw(self, width: int, height: int) -> Any:
        from rich.console import Group
        from rich.text import Text

        from cli.terminal import ago, clean

        state = Text("looking ...", "dim")
        if self._failure is not None:
            why = clean(str(self._failure).rpartition(": ")[2])
            state = Text(f"the agent does not answer: {why}", "bold red")
        elif self._document is not None:
            since = ago(time.monotonic() - self._changed_at)
            state = Text(f"{len(self._document)} services, the last change {since} ago")
        state.truncate(width, overflow="ellipsis")
        return Group(state, Text(), _rows(self._document or []).table(height - 4), Text("q: quit", "dim"))


def _rows(document: Document) -> Rows:
    """One line a service, the worst first."""
    from rich.text import Text

    from cli.services import in_words
    from cli.terminal import STYLES, clean
    from cli.topview import Rows

    order = ("critical", "warning", "maintenance", "passing", "-")
    lines = in_words([[*map(str, list(row.values())[:-1]), ",".join(row["Tags"])] for row in document])
    lines.sort(key=lambda line: (order.index(line[1]), line[0]))
    cells = [
        [Text(clean(cell), STYLES.get(cell, "") if cell == line[1] else "") for cell in line]
        for line in lines
    ]
    return Rows(("Service", "Status", "Health", "Tags"), (), cells)
