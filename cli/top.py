"""`ctl top`: a live view of the cluster, until q."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from cli.command import Command, Failure, Flag, Usage

if TYPE_CHECKING:
    from cli.call import Call
    from cli.lease import News
    from cli.topdata import Eyes, Feed, Frame
    from cli.topview import Scene


def top(call: Call) -> int:
    """`top`: follow, or one frame with --once."""
    from cli.topdata import Eyes

    if call.yes("once"):
        return _once(call, Eyes(call))
    if call.out.format != "table" or not sys.stdin.isatty():
        raise Usage("Error: top draws on a terminal; --once prints one frame, with -o json for programs")
    interval = call.number("interval", 1_000_000_000) / 1e9
    if interval < 0.1:
        raise Usage("Error: top: --interval must be at least 100ms")
    return _Show(call, Eyes(call), interval).run()


def _once(call: Call, eyes: Eyes) -> int:
    from contextlib import suppress

    from cli.client import ServerError
    from cli.lease import News
    from cli.topdata import Feed

    frame = eyes.look()
    if call.out.structured:
        call.out.document(frame.document())
        return 0
    if call.out.quiet:
        call.out.line(frame.leader)
        return 0
    from rich.console import Console

    from cli.terminal import colour, width
    from cli.topview import Scene

    scene = Scene()
    scene.frame = frame
    feed = Feed(call, News(), frame.catalog_index)
    with suppress(ServerError):  # Consul's agents know no such stream
        feed.read_once()
    scene.events = feed.latest()[:10]
    coloured = colour(call.values)
    columns = width() if sys.stdout.isatty() else 80
    console = Console(width=columns, force_terminal=coloured, no_color=not coloured, highlight=False)
    console.print(scene.draw(columns, len(frame.members) + len(frame.services) + 25, keys=False))
    return 0


class _Show:
    """The screen, and a thread that looks."""

    def __init__(self, call: Call, eyes: Eyes, interval: float) -> None:
        from cli.lease import News
        from cli.topview import Scene

        self._call, self._eyes, self._interval = call, eyes, interval
        self._news: News = News()
        self._scene: Scene = Scene()
        self._seen: Frame | Failure | None = None
        self._feed: Feed | None = None

    def run(self) -> int:
        """The exit code."""
        from cli.screen import follow

        threading.Thread(target=self._look_on, name="look", daemon=True).start()
        return follow(self._call, self._news, self._scene.draw, self._take)

    def _take(self) -> None:
        """Put what was seen into the scene."""
        scene, seen = self._scene, self._seen
        if isinstance(seen, Failure):
            if not scene.silent:
                scene.silent_since = time.monotonic()
            scene.silent = str(seen)
        elif seen is not None:
            scene.silent, scene.frame = "", seen
            if self._feed is None:
                self._begin_feed(seen.catalog_index)
        if self._feed is not None:
            scene.events = self._feed.latest()

    def _begin_feed(self, index: int) -> None:
        from cli.topdata import Feed

        self._feed = Feed(self._call, self._news, index)
        self._feed.follow()

    def _look_on(self) -> None:
        """On a thread: an agent that hangs must not hang the screen."""
        while True:
            try:
                self._seen = self._eyes.look()
            except Failure as failure:
                self._seen = failure
            self._news.tell()
            time.sleep(self._interval)


COMMANDS = (
    Command(
        "top",
        "Watch members, servers, services and events live",
        top,
        flags=(
            Flag("once", "bool", "Print one frame and end."),
            Flag("interval", "duration", "Time between looks.", default="1s"),
        ),
        text="Members that are not well and services that do not pass come first. Lag is the number of log "
        "entries that a server is behind the leader. Requests are those that this agent answers, in the last "
        "whole ten seconds, without those of this command. The view goes on when the agent is restarted. "
        "Keys: q ends.",
        example=("ctl top", "ctl top --once", "ctl top --once -o json"),
        server=True,
    ),
)
