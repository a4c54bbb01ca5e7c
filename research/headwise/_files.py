"""Files that a killed process leaves whole: atomic writes, records line by line."""

import json
import os
import pathlib
from typing import Any


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a whole file or nothing: a temporary file, then a rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_records(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines, up to a torn one; [] if there is no file."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def write_records(path: pathlib.Path, records: list[dict[str, Any]]) -> None:
    """Replaces a file of JSON lines, atomically."""
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in records))
