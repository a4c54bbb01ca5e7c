"""What happened in a study: a file of lines a worker, each line with a sum of its own.

A torn line (a kill, a full disk) costs itself and no other.
"""

import datetime
import json
import math
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np

from headwise import _files


class Events(NamedTuple):
    """The events of one worker, of which it alone writes the file."""

    path: pathlib.Path

    def add(self, kind: str, **fields: Any) -> None:
        """Adds a line: kind, time (UTC, for people), and what JSON can hold of fields.

        Raises:
            OSError: the disk refuses it; one line.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = {"kind": kind, "time": now} | plain(fields)
        with _files.writing(self.path):
            _files.append_lines(self.path, [sealed(line)], durable=False)


def sealed(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line with its sum at the end."""
    return {**line, "crc": _sum(line)}


def is_whole(line: Mapping[str, Any]) -> bool:
    """Whether a line is as it was written."""
    rest = {name: value for name, value in line.items() if name != "crc"}
    return line.get("crc") == _sum(rest) and {"kind", "time"} <= rest.keys()


def read(folder: pathlib.Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The events of all workers of a study by their times; which lines are torn."""
    found, torn = [], []
    for path in sorted((folder / "events").glob("*.jsonl")):
        lines = _files.lines(path, is_whole)
        found += [{"worker": path.stem} | x.value for x in lines if x.value is not None]
        if bad := [line for line in lines if line.value is None]:
            torn.append(f"{_files.numbered(path, bad)}: torn")
    return sorted(found, key=lambda line: line["time"]), torn


def _sum(line: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(line).encode())


def plain(value: Any) -> Any:
    """What JSON can hold: numbers of Python, None for those that are not finite."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | bool | int | None) else str(value)
