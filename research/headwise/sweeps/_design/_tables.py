"""Designs in files: a table of weightings, seeds and other settings becomes trials."""

import csv
import json
import os
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from headwise import _checks
from headwise.sweeps._design import _product
from headwise.sweeps._design import _weightings
from headwise.sweeps._design._trials import Trial

_Row = tuple[int, dict[str, Any]]
"""The line on which it ends, and its cells by column."""


def table(
    path: str | os.PathLike,
    heads: Iterable[str] | None = None,
    *,
    seeds: Sequence[int] | None = None,
) -> list[Trial]:
    r"""The trials that a file lists, a line each: CSV, or JSON Lines.

    A CSV file begins with the names of its columns; a line of JSON Lines is an object
    of them, the same in every line. The columns that are named like a head hold its
    weights; `seed` the seed; all others what else varies: numbers, texts, true, false.

    Args:
        path: of the file.
        heads: names of the heads, all of which need a column; () where a balancer
            finds the weights. None: every column is one but `seed`.
        seeds: where there is no column `seed`, every line is trained with each of
            these; None: with 0.

    Returns:
        `Trial`s in the order of the lines, the seeds innermost. `trials` crosses them
        with what else varies.

    Raises:
        ValueError: what cannot be read as such, or lists a trial twice: names the file,
            the line and the column.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "design.csv"
        >>> _ = file.write_text("left,right,lr\n1,0.1,0.003\n0.5,1,0.01\n")
        >>> for trial in hw.sweeps.table(file, heads=["left", "right"]):
        ...     print(trial.weights, trial.seed, trial.varied)
        {'left': 1.0, 'right': 0.1} 0 {'lr': 0.003}
        {'left': 0.5, 'right': 1.0} 0 {'lr': 0.01}
    """
    file = pathlib.Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: expected a text file (UTF-8), {error}") from error
    lines = _json_lines if text.lstrip().startswith("{") else _csv_lines
    rows = list(lines(str(file), text))
    if not rows:
        raise ValueError(f"{file}: expected one or more trials, got none")
    columns = list(rows[0][1])
    if heads is None:
        heads = [name for name in columns if name != "seed"]
    named = _checks.head_names("heads", heads) if heads != () else ()
    if missing := set(named) - set(columns):
        raise ValueError(
            f"{file}:1: expected a column for every head, missing "
            f"{_checks.listing(missing)}, got {_checks.listing(columns)}"
        )
    if "seed" in columns and seeds is not None:
        raise ValueError(f"seeds: {file} has a column 'seed': leave one of them out")
    found: list[Trial] = []
    first: dict[str, int] = {}
    for line, row in rows:
        trial = _trial(f"{file}:{line}", row, named)
        if (before := first.setdefault(trial.key, line)) != line:
            raise ValueError(f"{file}:{line}: the same trial as line {before}")
        found.append(trial)
    return _product.trials(found, seeds)


def _trial(where: str, row: dict[str, Any], heads: Sequence[str]) -> Trial:
    weights = {
        name: _weightings.weight(f"{where}: column {name!r}", row[name])
        for name in heads
    }
    others = {n: x for n, x in row.items() if n not in weights and n != "seed"}
    _product.check_varied(f"{where}: columns", others)
    varied = {
        name: _product.level(f"{where}: column {name!r}", value)
        for name, value in others.items()
    }
    seed = _product.seed(f"{where}: column 'seed'", row.get("seed", 0))
    return Trial(weights, seed, varied)


def _csv_lines(file: str, text: str) -> Iterator[_Row]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            where = f"{file}:{reader.line_num}"
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not columns:
                columns = cells
                _check_columns(where, columns)
                continue
            if len(cells) != len(columns):
                raise ValueError(
                    f"{where}: expected {len(columns)} cells "
                    f"({', '.join(columns)}), got {len(cells)}"
                )
            for name, cell in zip(columns, cells, strict=True):
                if not cell:
                    raise ValueError(
                        f"{where}: column {name!r}: expected a value, got nothing"
                    )
            row = {n: _typed(c) for n, c in zip(columns, cells, strict=True)}
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{file}:{reader.line_num}: {error}") from error


def _check_columns(where: str, columns: Sequence[str]) -> None:
    if twice := {name for name in columns if columns.count(name) > 1}:
        raise ValueError(
            f"{where}: expected distinct columns, got {_checks.listing(twice)} twice"
        )
    if "" in columns:
        raise ValueError(
            f"{where}: expected a name for every column, got none for column "
            f"{columns.index('') + 1}"
        )


def _typed(cell: str) -> Any:
    """A cell as an int, a float or a bool where it is one, else as text."""
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    for kind in (int, float):
        try:
            number = kind(cell)
        except ValueError:
            continue
        return cell if "_" in cell else number
    return cell


def _json_lines(file: str, text: str) -> Iterator[_Row]:
    columns: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{file}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=lambda pairs: pairs)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: expected a line of JSON: {error}") from error
        if not isinstance(row, list) or not all(isinstance(x, tuple) for x in row):
            raise ValueError(f"{where}: expected an object, {{column: value}}")
        _check_columns(where, [name for name, _ in row])
        row = dict(row)
        columns = columns or set(row)
        if differing := columns ^ set(row):
            raise ValueError(
                f"{where}: expected the columns of the first line, "
                f"{_checks.listing(columns)}; {_checks.listing(differing)} differ"
            )
        yield number, row
