"""The metrics of a run as a table: `metrics.csv`, a row a record, for spreadsheets."""

import csv
import io
import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from headwise import _columns
from headwise import _files

_LEFT_OUT = ("contributions", "changed")
"""Parts of a record that make no columns: too many, or no numbers."""


class Table:
    """Adds rows to a file that shows what `metrics.jsonl` holds.

    A view of it: when a run goes on it is made anew of the records, and nothing is
    read from it. Its header is not known in advance; a record with columns that are new
    (the first validation) adds them at the right, and the file is written again whole.
    Nothing waits in a buffer.
    """

    def __init__(self, path: pathlib.Path, records: Iterable[Mapping[str, Any]]):
        """Makes the file of these records; without any there is none yet."""
        self._path, self._columns = path, {"step": None}
        self._file: io.FileIO | None = None
        rows = [_row(record) for record in records]
        for row in rows:
            self._columns |= dict.fromkeys(row)
        text = _lines([self._columns, *(self._cells(row) for row in rows)])
        if rows and not (path.exists() and path.read_bytes() == text):
            _files.write_atomically(path, text)
        elif not rows:
            path.unlink(missing_ok=True)

    def write(self, record: Mapping[str, Any]) -> None:
        """Adds a row.

        Raises:
            OSError: the disk refuses it; names the file, in one line.
        """
        row = _row(record)
        with _files.writing(self._path):
            if self._file is None or not row.keys() <= self._columns.keys():
                self._begin(row)
            assert self._file is not None
            _files.append(self._file, _lines([self._cells(row)]))

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def _begin(self, row: Mapping[str, Any]) -> None:
        """Opens the file, with the columns of a row in its header."""
        self.close()
        known = len(self._columns)
        self._columns |= dict.fromkeys(row)
        old = self._path.read_bytes().splitlines()[1:] if self._path.exists() else []
        more = b"," * (len(self._columns) - known)
        rows = b"".join(line + more + b"\n" for line in old)
        _files.write_atomically(
            self._path, _lines([self._columns]) + rows, durable=False
        )
        self._file = self._path.open("ab", buffering=0)

    def _cells(self, row: Mapping[str, Any]) -> list[Any]:
        return [row.get(name) for name in self._columns]


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Its numbers by column; what is missing or not finite is an empty cell."""
    parts = {name: x for name, x in record.items() if name not in _LEFT_OUT}
    return {
        name: x
        for name, x in _columns.flat(parts)
        if x is None or _columns.is_number(x)
    }


def _lines(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
