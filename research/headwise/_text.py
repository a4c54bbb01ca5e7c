"""Texts for a terminal: tables, and the weight of a head."""

import io
import shutil
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.console
import rich.table
import rich.text


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = ""
) -> str:
    """A plain-text table: first column left, the others right.

    It is as wide as it needs to be and never wider than the terminal (at least 80; a
    file counts as 100).
    """
    grid = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for i, column in enumerate(columns):
        grid.add_column(
            rich.text.Text(column),
            justify="left" if i == 0 else "right",
            overflow="fold",
            min_width=min(len(column), 12),
        )
    for row in rows:
        grid.add_row(*(rich.text.Text(cell) for cell in row))
    width = max(shutil.get_terminal_size(fallback=(100, 24)).columns, 80)
    text = io.StringIO()
    rich.console.Console(file=text, width=width, color_system=None).print(grid)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    if title:
        lines.insert(0, title)
    return "\n".join(line for line in lines if line)


def printable(text: Any) -> str:
    """A name in one line that no terminal takes for a command.

    Example:
        >>> from headwise import _text
        >>> len(_text.printable("depth" + chr(10)))  # a backslash, and n
        7
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def weight(given: Any) -> str:
    """A weight of a head with the digits of a float32, or a schedule by its name."""
    try:
        return f"{float(given):.7g}"
    except TypeError:  # a schedule, or traced
        return getattr(given, "__name__", str(given))
