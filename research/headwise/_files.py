"""Files that a killed process leaves whole: written at once, or line after line."""

import contextlib
import errno
import io
import json
import os
import pathlib
import platform
import re
import secrets
import warnings
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

_REASONS = (
    errno.ENOSPC,
    errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.ENOTDIR,
    errno.ENOENT,
)
"""What a disk may say, for texts of libraries that hold it somewhere."""


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local(path: str | os.PathLike) -> pathlib.Path:
    """The path of a folder of this machine, as the user means it.

    Raises:
        ValueError: an address (`gs://bucket/run`), or the home of nobody.
    """
    if _ADDRESS.match(os.fspath(path)):
        raise ValueError(
            f"{os.fspath(path)}: expected a folder of this machine, got an address "
            "(mount it, and give the folder)"
        )
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """What the disk refuses inside is an OSError of one line: the path and why.

    So is any error where the folder of the path is gone: libraries tell it in words of
    their own.
    """
    try:
        yield
    except Exception as error:
        code, text = reason(error)
        if code is None and not isinstance(error, OSError):
            code = _lost(pathlib.Path(path).parent)
            if code is None:
                raise
            text = os.strerror(code)
        told = OSError(f"{path}: {text.removeprefix(f'{path}: ')}")
        told.errno = code
        raise told from error


def _lost(folder: pathlib.Path) -> int | None:
    """Why nothing can be written into a folder that is none; None: it is one."""
    if folder.is_dir():
        return None
    return errno.ENOTDIR if folder.exists() else errno.ENOENT


def reason(error: BaseException) -> tuple[int | None, str]:
    """The number and words of the disk's own error, which others may stand around."""
    chain = [error]
    while (deeper := chain[-1].__cause__) is not None:
        chain.append(deeper)
    for one in reversed(chain):
        if isinstance(one, OSError) and one.errno is not None:
            return one.errno, one.strerror or os.strerror(one.errno)
    for code in _REASONS:
        if any(os.strerror(code) in str(one) for one in chain):
            return code, os.strerror(code)
    text = " ".join(str(chain[-1]).split())[:200]
    kind = "" if isinstance(error, OSError) else f"{type(chain[-1]).__name__}: "
    return None, kind + text


def write_atomically(
    path: pathlib.Path, data: str | bytes, durable: bool = True
) -> None:
    """Writes a whole file or nothing: a temporary file, then a rename.

    Unless `durable` it does not wait for the disk: a power cut may leave an empty file.
    """
    data = data.encode() if isinstance(data, str) else data
    made = temporary(path)
    try:
        write(made, data, durable)
        made.replace(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def temporary(path: pathlib.Path) -> pathlib.Path:
    """A hidden name beside a path that no other process on any host has."""
    host = re.sub(r"[^0-9A-Za-z-]", "-", platform.node())[:40]
    rest = f".{host}.{os.getpid()}.{secrets.token_hex(8)}"
    return path.with_name(f".{path.name[: 200 - len(rest)]}{rest}")


def write(path: pathlib.Path, data: bytes, durable: bool = True) -> None:
    """Writes a file; `durable` waits until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def settle(folder: pathlib.Path) -> None:
    """Waits until the disk has the names in a folder, where it can be asked to."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def json_line(line: Mapping[str, Any]) -> str:
    """One line of JSON; numbers at full precision, ValueError for inf and NaN."""
    return json.dumps(line, allow_nan=False) + "\n"


def append_lines(
    path: pathlib.Path,
    lines: Iterable[Mapping[str, Any]],
    durable: bool = True,
    make: bool = True,
) -> None:
    """Adds lines of JSON at the end of a file, by one write.

    The system adds what several processes write one after the other, so nothing is
    lost. A last line that a kill has torn is ended first and stays as it is.
    `durable` waits until the disk has the lines, so that a power cut spares them too.
    A file that is not there is made, or, without `make`, a FileNotFoundError.
    """
    data = "".join(json_line(line) for line in lines).encode()

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags if make else flags & ~os.O_CREAT, 0o666)

    with open(path, "a+b", buffering=0, opener=opener) as file:
        whole = _is_start_of_line(file, file.seek(0, os.SEEK_END))
        start = append(file, data if whole else b"\n" + data)
        if whole and not _is_start_of_line(file, start):
            # Since we looked, another process was killed in the middle of its line.
            append(file, b"\n" + data)
        if durable:
            os.fsync(file.fileno())


def _is_start_of_line(file: io.FileIO, position: int) -> bool:
    if position == 0:
        return True
    file.seek(position - 1)
    return file.read(1) == b"\n"


def append(file: io.FileIO, data: bytes) -> int:
    """Adds bytes by one write and returns where they begin."""
    written = file.write(data)
    if written != len(data):
        text = f"{file.name}: {written} of {len(data)} bytes written: disk full?"
        try:
            file.write(data[written:])
        except OSError as error:  # which says why
            raise OSError(error.errno, text) from error
        raise OSError(text)
    return file.tell() - written


class Line(NamedTuple):
    """A line of a file: its number, its bytes and the object that they stand for."""

    number: int
    text: bytes
    value: dict[str, Any] | None
    """None for what is torn, no JSON object, or not wanted."""


def lines(
    path: pathlib.Path, wanted: Callable[[dict[str, Any]], bool] = lambda line: True
) -> list[Line]:
    """The lines of a file of JSON that are not empty; [] if there is no file."""
    if not path.exists():
        return []
    found = []
    for number, text in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        whole = isinstance(value, dict) and wanted(value)
        found.append(Line(number, text, value if whole else None))
    return found


def read_lines(
    path: pathlib.Path, wanted: Callable[[dict[str, Any]], bool] = lambda line: True
) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines; [] if there is no file.

    Lines that are torn, that hold something else or that `wanted` refuses are left
    out; a warning names them.
    """
    found = lines(path, wanted)
    bad = [line for line in found if line.value is None]
    if bad:
        warnings.warn(f"{numbered(path, bad)} skipped: {NO_RECORD}", stacklevel=3)
    return [line.value for line in found if line.value is not None]


NO_RECORD = "torn, or no record"


def numbered(path: pathlib.Path, bad: Iterable[Line]) -> str:
    """A file and the numbers of some of its lines, in words."""
    numbers = [str(line.number) for line in bad]
    return f"{path}: {'line' if len(numbers) == 1 else 'lines'} {', '.join(numbers)}"
