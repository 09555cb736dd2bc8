"""How far a long command is, on stderr where that is a terminal; elsewhere nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli.call import Call

Advance = Callable[[int], None]


def _nowhere(_: int) -> None:
    """Nobody looks."""


@contextmanager
def progress(
    call: Call, text: str, total: int | None = None, unit: str = "bytes", *, shown: bool = True
) -> Iterator[Advance]:
    """A bar while entered, gone after; the count goes up by what the yielded function is given. Without a
    `total` it shows that something happens, and for how long. `unit`: bytes or another plural."""
    if not (shown and sys.stderr.isatty()):
        yield _nowhere
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from cli.terminal import colour

    coloured = colour(call.values, "stderr")
    console = Console(file=sys.stderr, no_color=not coloured, highlight=False)
    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
    if total:
        columns += [
            BarColumn(),
            count,
            *([] if unit == "bytes" else [TextColumn(unit)]),
            TimeRemainingColumn(),
        ]
    else:
        columns += [*([DownloadColumn()] if unit == "bytes" else []), TimeElapsedColumn()]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda more: bar.advance(task, more)
