"""Texts for a terminal: tables, names as they can be printed, the weight of a head."""

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
    file counts as 100). Its texts stand as they are, made `printable`.
    """
    grid = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for i, column in enumerate(columns):
        grid.add_column(
            rich.text.Text(printable(column)),
            justify="left" if i == 0 else "right",
            overflow="fold",
            min_width=min(len(column), 12),
        )
    for row in rows:
        grid.add_row(*(rich.text.Text(printable(cell)) for cell in row))
    width = max(shutil.get_terminal_size(fallback=(100, 24)).columns, 80)
    text = io.StringIO()
    rich.console.Console(file=text, width=width, color_system=None).print(grid)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    if title:
        lines.insert(0, title)
    return "\n".join(line for line in lines if line)


def printable(text: str) -> str:
    r"""The text on one line, without what moves the cursor or cannot be encoded.

    Line ends, ESC, marks of direction and lone surrogates are written out.

    Example:
        >>> from headwise import _text
        >>> print(_text.printable("a" + chr(10) + "b" + chr(27) + "[31m é 日本"))
        a\nb\x1b[31m é 日本
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def some(names: Sequence[str], most: int = 8) -> str:
    """The names in a row; of more than `most`, the first ones and how many are left.

    Example:
        >>> from headwise import _text
        >>> print(_text.some("abcde", 3))
        a, b, ... 3 more
    """
    if len(names) <= most:
        return ", ".join(names)
    return ", ".join([*names[: most - 1], f"... {len(names) - most + 1} more"])


def fitting(late: Sequence[bool], most: int) -> list[int]:
    """At most so many rows, in order; those that are late only where there is room.

    Example:
        >>> from headwise import _text
        >>> _text.fitting([True, False, True, False], 3)
        [0, 1, 3]
    """
    return sorted(sorted(range(len(late)), key=lambda i: late[i])[:most])


def weight(given: Any) -> str:
    """A weight of a head with the digits of a float32, or a schedule by its name."""
    try:
        return f"{float(given):.7g}"
    except TypeError:  # a schedule, or traced
        return getattr(given, "__name__", str(given))
