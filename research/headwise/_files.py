"""Files that a killed process leaves whole: written at once, or line after line."""

import io
import json
import os
import pathlib
import secrets
import warnings
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a whole file or nothing: a temporary file, then a rename."""
    # Random: on a shared disk two hosts may have the same process id.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def json_line(line: Mapping[str, Any]) -> str:
    """One line of JSON; numbers at full precision, ValueError for inf and NaN."""
    return json.dumps(line, allow_nan=False) + "\n"


def append_lines(
    path: pathlib.Path, lines: Iterable[Mapping[str, Any]], durable: bool = True
) -> None:
    """Adds lines of JSON at the end of a file, by one write; makes it if need be.

    The system adds what several processes write one after the other, so nothing is
    lost. A last line that a kill has torn is ended first and stays as it is.
    `durable` waits until the disk has the lines, so that a power cut spares them too.
    """
    data = "".join(json_line(line) for line in lines).encode()
    with path.open("a+b", buffering=0) as file:
        whole = _is_start_of_line(file, file.seek(0, os.SEEK_END))
        start = _append(file, data if whole else b"\n" + data)
        if whole and not _is_start_of_line(file, start):
            # Since we looked, another process was killed in the middle of its line.
            _append(file, b"\n" + data)
        if durable:
            os.fsync(file.fileno())


def _is_start_of_line(file: io.FileIO, position: int) -> bool:
    if position == 0:
        return True
    file.seek(position - 1)
    return file.read(1) == b"\n"


def _append(file: io.FileIO, data: bytes) -> int:
    """Adds bytes by one write and returns where they begin."""
    written = file.write(data)
    if written != len(data):
        raise OSError(
            f"{file.name!r}: {written} of {len(data)} bytes written: disk full?"
        )
    return file.tell() - written


def read_lines(
    path: pathlib.Path, wanted: Callable[[dict[str, Any]], bool] = lambda line: True
) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines; [] if there is no file.

    Lines that are torn, that hold something else or that `wanted` refuses are left
    out; a warning names them.
    """
    if not path.exists():
        return []
    kept, skipped = [], []
    for number, text in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and wanted(line):
            kept.append(line)
        else:
            skipped.append(str(number))
    if skipped:
        word = "line" if len(skipped) == 1 else "lines"
        warnings.warn(
            f"{path}: {word} {', '.join(skipped)} skipped: torn, or no record",
            stacklevel=3,
        )
    return kept
