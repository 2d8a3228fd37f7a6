"""Tables on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.text import printable

NARROWEST = 8  # characters of a column and its border; on a narrower terminal words fall apart, and rows become lists


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    right: Sequence[str] = (),
    width: int = 140,
) -> None:
    """Print a table, or on a narrow terminal a list of each row; text is shown as it is, without rich's markup and control characters.

    Args:
        title: above the table; empty for none.
        columns: titles of the columns.
        rows: cells in the order of the columns; a Text keeps its style.
        right: titles of the columns that are aligned to the right.
        width: in characters, where the output is no terminal.
    """
    console = Console(width=None if sys.stdout.isatty() else width, highlight=False)
    if console.width < NARROWEST * len(columns):
        for text in (printable(title), *_listed(columns, rows)):
            console.print(Text(text), soft_wrap=True)
        return
    table = Table(title=Text(printable(title)) if title else None, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name in right else "left")
    for cells in rows:
        table.add_row(*(c if isinstance(c, Text) else Text(printable(c)) for c in cells))
    console.print(table)


def _listed(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Iterator[str]:
    """Yield a line for each cell that is not empty, with an empty line after each row."""
    for cells in rows:
        yield from (f"{name}: {printable(str(cell))}" for name, cell in zip(columns, cells, strict=True) if str(cell))
        yield ""
