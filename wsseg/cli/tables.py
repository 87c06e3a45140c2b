"""Tables on standard output, and how their cells write numbers."""

import io
import os
import sys
import textwrap
from collections.abc import Sequence

import click

_UNLIMITED = 100_000  # columns


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """Print an aligned table without borders.

    On a terminal, long cells are wrapped to its width and the header is bold. Elsewhere each row is one line of plain
    text. ``NO_COLOR`` and ``TERM=dumb`` disable all styles.

    Args:
        header: names of the columns.
        rows: their cells.
        numbers: names of the columns that are aligned to the right.
    """
    from rich.console import Console
    from rich.table import Table

    terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        color_system="auto" if terminal and not os.environ.get("NO_COLOR") else None,
        width=None if terminal else _UNLIMITED,
        markup=False,
        highlight=False,
        emoji=False,
    )
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())  # not written by rich: standard output may lack a character such as an arrow


def wrapped(text: str, indent: str = "") -> list[str]:
    """Return a text in lines of at most 80 columns; longer words stay whole, so that they can be copied.

    Args:
        text: one paragraph.
        indent: of all lines but the first.
    """
    return textwrap.wrap(text, 80, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def mebibytes(size: float) -> str:
    """Return a size in bytes as MiB."""
    return f"{size / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """Return a time with a readable unit."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
