"""Records as a table: a row a trial, nested names joined by dots."""

import collections
import csv
import io
import json
import os
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from headwise import _files
from headwise import _records

Path = tuple[str, ...]


def to_pandas(records: Sequence[_records.Record]) -> Any:
    """Records as a data frame, a row a trial.

    Args:
        records: of `hw.sweeps.read` or `run`.

    Returns:
        `pandas.DataFrame` with the columns `weights.NAME`, `seed`, `settings.NAME`,
        `metrics.NAME`, `finite`, `stopped`, `error`, `seconds`, `mode`,
        `made_with.NAME`; what is nested deeper has more dots. What a record lacks, and
        a metric that is not finite, is missing. A list is JSON, and so are `digests`.

    Raises:
        TypeError, ValueError: something that is no record.
        ModuleNotFoundError: pandas is not installed (`pip install "headwise[tables]"`).

    Example:
        >>> records = [hw.sweeps.record({"a": 1.0}, 0, {"dice": {"liver": 0.5}})]
        >>> frame = hw.sweeps.to_pandas(records)
        >>> print(frame[["weights.a", "seed", "metrics.dice.liver"]].to_string())
           weights.a  seed  metrics.dice.liver
        0        1.0     0                 0.5
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise _needs("to_pandas", "pandas") from error
    return pandas.DataFrame(columns(_records.given(records)))


def to_csv(records: Sequence[_records.Record], path: str | os.PathLike) -> None:
    """Writes records as a CSV file, a row a trial.

    Args:
        records: of `hw.sweeps.read` or `run`.
        path: of the file; one that is there is replaced.

    Returns:
        Nothing. Columns are those of `to_pandas`; numbers at full precision, nothing
        between the commas for what is missing.

    Raises:
        TypeError, ValueError: something that is no record.
        OSError: the disk refuses it; one line.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "study.csv"
        >>> hw.sweeps.to_csv([hw.sweeps.record({"a": 0.1}, 0, {"dice": 0.5})], path)
        >>> print(path.read_text()[:27])
        weights.a,seed,metrics.dice
    """
    table = columns(_records.given(records))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    with _files.writing(path):
        _files.write_atomically(pathlib.Path(path), text.getvalue())


def to_parquet(records: Sequence[_records.Record], path: str | os.PathLike) -> None:
    """Writes records as a Parquet file, a row a trial.

    Args:
        records: of `hw.sweeps.read` or `run`.
        path: of the file; one that is there is replaced.

    Returns:
        Nothing. Columns are those of `to_pandas`; one that holds texts and numbers is
        of texts.

    Raises:
        TypeError, ValueError: something that is no record.
        ModuleNotFoundError: pyarrow is not installed (`pip install
            "headwise[tables]"`).
        OSError: the disk refuses it; one line.

    Example:
        >>> import tempfile
        >>> record = hw.sweeps.record({"a": 0.1}, 0, {"dice": 0.5})
        >>> try:
        ...     hw.sweeps.to_parquet([record], tempfile.mkdtemp() + "/study.parquet")
        ... except ModuleNotFoundError:
        ...     pass  # without pyarrow
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise _needs("to_parquet", "pyarrow") from error
    found = columns(_records.given(records))
    table = {name: _one_type(column) for name, column in found.items()}
    data = io.BytesIO()
    parquet.write_table(pyarrow.table(table), data)
    with _files.writing(path):
        _files.write_atomically(pathlib.Path(path), data.getvalue())


def columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """{name of column: a value a record}, None where a record has none.

    Example:
        >>> from headwise.sweeps._store import _export
        >>> _export.columns([{"m": {"a": 1.0}}, {"m": {"b": [1, 2]}, "n": "x"}])
        {'m.a': [1.0, None], 'm.b': [None, '[1, 2]'], 'n': [None, 'x']}
        >>> _export.columns([{"digests": {"10": "a3", "20": "7f"}}])
        {'digests': ['{"10": "a3", "20": "7f"}']}
    """
    rows = [dict(_leaves(record)) for record in records]
    tops = {path[0]: None for row in rows for path in row}
    paths = {path: None for row in rows for path in row}
    ordered = [path for top in tops for path in paths if path[0] == top]
    names = _names(ordered)
    return {names[path]: [row.get(path) for row in rows] for path in ordered}


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    whole = isinstance(value, list) or path == ("digests",)  # of many steps, by step
    if isinstance(value, Mapping) and not whole:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, str(name)))
    else:
        yield path, json.dumps(value) if whole else value


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Paths joined by dots; a dot inside of a name is %2E where two would be alike."""
    plain = {path: ".".join(path) for path in paths}
    counts = collections.Counter(plain.values())
    return {
        path: name
        if counts[name] == 1
        else ".".join(part.replace(".", "%2E") for part in path)
        for path, name in plain.items()
    }


def _one_type(column: Sequence[Any]) -> list[Any]:
    """A column of one type: floats if there are any and only numbers, else texts."""
    types = {type(value) for value in column if value is not None}
    if types == {int, float}:
        return [None if value is None else float(value) for value in column]
    large = any(isinstance(value, int) and abs(value) >= 2**63 for value in column)
    if len(types) > 1 or large:
        return [None if value is None else str(value) for value in column]
    return list(column)


def _needs(name: str, package: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f'{name} needs {package}: pip install "headwise[tables]"'
    )
