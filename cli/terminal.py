"""What a person sees: colour, and tables fitted to the terminal. Loaded only when stdout is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from cli.command import Usage
from cli.output import Table

STYLES = {
    "alive": "green",
    "passing": "green",
    "leaving": "yellow",
    "warning": "yellow",
    "failed": "bold red",
    "critical": "bold red",
    "left": "dim",
    "maintenance": "blue",
    "ok": "green",
    "healthy": "green",
    "unhealthy": "bold red",
    "no leader": "bold red",
    "no member": "bold red",
    "no peer": "yellow",
    "ended": "bold red",
}


def colour(values: Mapping[str, object], stream: str = "stdout") -> bool:
    """Whether to colour: --no-color, then CTL_COLOR, then NO_COLOR, then what the stream is."""
    if values.get("no-color"):
        return False
    wanted = os.environ.get("CTL_COLOR") or "auto"
    if wanted not in ("always", "never", "auto"):
        raise Usage(f'Error: CTL_COLOR is "{wanted}", it must be always, never or auto')
    if wanted != "auto":
        return wanted == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(getattr(sys, stream).isatty())


def width() -> int:
    """Columns of the terminal; wide when stdout is none, so that nothing is cut."""
    if not sys.stdout.isatty():
        return 100_000
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80


def clean(text: str) -> str:
    """`text` without characters that steer a terminal."""
    return "".join(char if char.isprintable() else " " if char in "\n\t\r" else "\ufffd" for char in text)


def ago(seconds: float) -> str:
    """A time span for people, in its largest unit: `5s`, `3m`, `2h`, `4d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(max(0.0, seconds))}s"


def print_table(table: Table, coloured: bool) -> None:
    """A table without borders. Columns in `keep` are never cut; the others give way first."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    if not table.rows:
        return
    needed = 0
    shown = RichTable(
        box=SIMPLE_HEAD if table.header else None,
        show_header=table.header,
        pad_edge=False,
        header_style="bold",
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for position, name in enumerate(table.columns):
        longest = max([len(name), *(len(row[position]) for row in table.rows)])
        kept = name in table.keep or name in table.status
        least = longest if kept else min(longest, 8)
        needed += least + 1
        number = all(row[position].isdigit() for row in table.rows)
        shown.add_column(
            name,
            min_width=least,
            no_wrap=kept,
            overflow="fold",
            justify="right" if number else "left",
        )
    for row in table.rows:
        cells = []
        for name, cell in zip(table.columns, row, strict=True):
            style = STYLES.get(cell, "") if name in table.status else ""
            cells.append(Text(clean(cell), style=style))
        shown.add_row(*cells)
    # A terminal too narrow for what may not be cut gets lines that it wraps itself.
    columns = max(width(), needed + len(table.columns))
    console = Console(file=sys.stdout, force_terminal=coloured, no_color=not coloured, width=columns)
    console.print(shown)
