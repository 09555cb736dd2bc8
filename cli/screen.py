"""A full screen that follows something until a key ends it, and leaves the terminal as it was."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.live import Live

from cli.supervise import Signals, exit_status
from cli.terminal import colour

if TYPE_CHECKING:
    from cli.call import Call
    from cli.lease import News

LONGEST = 1.0  # seconds between pictures: times grow, terminals are resized


def follow(
    call: Call, news: News, draw: Callable[[int, int], RenderableType], take: Callable[[], None]
) -> int:
    """Draw for a width and a height, again after every `news`, which `take` takes in first; the exit code:
    0 after a key or an interrupt."""
    console = Console(no_color=not colour(call.values), highlight=False)
    with (
        Signals() as signals,
        _Keys() as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(draw(console.width, console.height), refresh=True)
            watched: list[Any] = [news.readable, signals.wakeup, keys.descriptor]
            ready = select.select(watched, [], [], LONGEST)[0]
            for number in signals.take():
                return 0 if number == signal.SIGINT else exit_status(-number)
            if keys.descriptor in ready and keys.quit():
                return 0
            news.clear()
            take()


class _Keys:
    """Keys one by one, without echo, while entered."""

    def __init__(self) -> None:
        self.descriptor = sys.stdin.fileno()

    def __enter__(self) -> _Keys:
        self._before = termios.tcgetattr(self.descriptor)
        mode = termios.tcgetattr(self.descriptor)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        mode[6][termios.VSUSP] = b"\0"  # a stop would leave the terminal as it is drawn
        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, mode)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self._before)

    def quit(self) -> bool:
        """Whether a key that ends it was pressed (q, Ctrl-D, escape alone), or the terminal is gone."""
        try:
            typed = os.read(self.descriptor, 64)
        except OSError:
            return True
        return not typed or typed == b"\x1b" or any(key in b"qQ\x04" for key in typed)
