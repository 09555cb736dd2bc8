"""Where results go: Consul's exact text in a pipe, tables on a terminal, JSON and YAML on request.

Results go to stdout, everything else to stderr. reference/cli.md section 4.2."""

from __future__ import annotations

import os
import sys

from cli.command import FORMATS, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class Table:
    """Rows under headings. `status` names the columns whose words are coloured by what they mean,
    `keep` those that a narrow terminal may not cut (ids, names, addresses)."""

    __slots__ = ("columns", "header", "keep", "rows", "status")

    def __init__(
        self,
        columns: Iterable[str],
        rows: Iterable[Iterable[str]],
        *,
        header: bool = True,
        status: tuple[str, ...] = ("Status",),
        keep: tuple[str, ...] = (),
    ) -> None:
        self.columns = list(columns)
        self.rows = [list(row) for row in rows]
        self.header = header
        self.status = status
        self.keep = keep

    def plain(self) -> str:
        """Columns two spaces apart, the last one not padded: the layout of Consul's tables."""
        lines = [self.columns, *self.rows] if self.header else self.rows
        lines = [[cell.strip() for cell in line] for line in lines]
        if not lines:
            return ""
        widths = [max([len(cell) for cell in column]) for column in zip(*lines, strict=True)][:-1]
        text = []
        for line in lines:
            padded = [cell + " " * (width - len(cell)) for cell, width in zip(line, widths, strict=False)]
            text.append("  ".join([*padded, line[-1]]))
        return "\n".join(text) + "\n"


class Output:
    """Stdout in the format that was asked for."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self._format = ""

    @property
    def format(self) -> str:
        """`table`, `plain`, `json` or `yaml`: the flag, CTL_FORMAT, or by what stdout is."""
        if not self._format:
            self._format = self._choose()
        return self._format

    @property
    def quiet(self) -> bool:
        return bool(self._values.get("quiet"))

    @property
    def structured(self) -> bool:
        return self.format in ("json", "yaml")

    def _choose(self) -> str:
        wanted = str(self._values.get("format") or "")
        if not wanted:
            wanted = os.environ.get("CTL_FORMAT", "")
            if wanted and wanted not in FORMATS:
                raise Usage(f'Error: CTL_FORMAT is "{wanted}", it must be one of {", ".join(FORMATS)}')
        if not wanted:
            wanted = "table" if sys.stdout.isatty() else "plain"
        return "plain" if wanted == "pretty" else wanted

    def write(self, data: str | bytes) -> None:
        """Bytes as they are; text in UTF-8 (bytes of arguments that are not come back unchanged)."""
        raw = data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape")
        sys.stdout.buffer.write(raw)

    def line(self, text: str) -> None:
        self.write(text + "\n")

    def document(self, document: Any) -> None:
        """A whole document as JSON or YAML."""
        if self.format == "yaml":
            from cli.yamltext import to_yaml

            self.write(to_yaml(document))
        else:
            self.write(to_json(document) + "\n")

    def show(self, document: Any, table: Table, names: Iterable[str], wide: Table | None = None) -> None:
        """One result in the chosen form. `wide` replaces `table` on a terminal."""
        if self.structured:
            self.document(document)
        elif self.quiet:
            self.write("".join([name + "\n" for name in names]))
        elif self.format == "table" and not (wide or table).rows:
            sys.stderr.write("None.\n")  # a person wonders about silence, a script counts lines
        elif self.format == "table":
            from cli import terminal

            terminal.print_table(wide or table, terminal.colour(self._values))
        else:
            self.write(table.plain())

    def done(self, text: str, document: dict[str, Any]) -> None:
        """A deed is done: its line, or a small document when one is wanted."""
        if self.structured:
            self.document(document)
        elif not self.quiet:
            self.line(text)


def to_json(document: Any) -> str:
    """Indented by four spaces, as Consul's `-format=json`."""
    import json

    return json.dumps(document, indent=4, ensure_ascii=False)


def to_json_line(document: Any) -> str:
    """One document on one line, as Go's encoder writes it."""
    import json

    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
