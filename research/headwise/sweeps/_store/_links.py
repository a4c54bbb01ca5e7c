"""Names that can be taken once: whoever takes one first has it, for all processes.

No lock is needed for that, nor does anything foreign have to be removed: a file that is
wholly written and on disk is linked to its name. `link` refuses a name that is taken,
on one host and between those of a shared disk. Its answer may be lost on the way, so
that the file is asked: it has two names if the link was made. Absence of a name proves
nothing (another host may see it late); a name that was taken proves everything.
"""

import contextlib
import errno
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from headwise import _files

_LOG = logging.getLogger("headwise")

Take = Callable[[pathlib.Path, bytes], bool]
"""Gives a name to these bytes; False, with nothing changed, if it is taken."""


def way(folder: pathlib.Path) -> Take:
    """How names are taken in a folder: what is there is tried.

    Args:
        folder: is there. A disk without links is told (logger `headwise`).

    Raises:
        OSError: it cannot be written, or the disk is full; one line.
    """
    first, second = _files.temporary(folder / "try"), _files.temporary(folder / "try")
    with _files.writing(folder):
        try:
            _files.write(first, b"", durable=False)
            _files.write(second, b"", durable=False)
            name = first.with_name(f"{first.name}.name")
            try:
                found = [_linked(first, name)[0], _linked(second, name)[0]]
            finally:
                name.unlink(missing_ok=True)
        finally:
            first.unlink(missing_ok=True)
            second.unlink(missing_ok=True)
    if found == [True, False]:
        return by_link
    _LOG.warning(
        "%s: this disk has no links: names in it are taken by renaming folders, which "
        "is as safe where the disk renames them at once (one for objects does not)",
        folder,
    )
    return by_folder


def by_link(path: pathlib.Path, data: bytes) -> bool:
    """Takes a name by a link; see the top of this file.

    Raises:
        OSError: the disk refuses it; names the path and why, in one line.
    """
    with _files.writing(path):
        made = _files.temporary(path)
        try:
            _files.write(made, data)
            taken, refused = _linked(made, path)
        finally:
            with contextlib.suppress(OSError):  # it changes nothing that it stays
                made.unlink(missing_ok=True)
        if taken:
            _files.settle(path.parent)
            return True
        if refused is None or refused.errno == errno.EEXIST:
            return False
        raise refused


def by_folder(path: pathlib.Path, data: bytes) -> bool:
    """Takes a name by the rename of a folder, where there are no links.

    A folder that holds a file cannot be replaced, so that one process alone succeeds;
    what the file holds is then given the name. If that process was killed between, the
    next one that asks does it.
    """
    with _files.writing(path):
        made = _files.temporary(path)
        mine = _files.temporary(path).name
        taken = path.with_name(f".{path.name}.taken")
        refused: OSError | None = None
        try:
            made.mkdir()
            _files.write(made / mine, data)
            try:
                made.rename(taken)
            except OSError as error:
                refused = error
        finally:
            shutil.rmtree(made, ignore_errors=True)
        if not taken.is_dir() and refused is not None:
            raise refused
        if not path.exists():
            (whole,) = taken.iterdir()
            _files.write_atomically(path, whole.read_bytes())
            _files.settle(path.parent)
        return (taken / mine).exists()


def names(folder: pathlib.Path, prefix: str = "") -> list[str]:
    """Names in a folder that begin so, in order, none hidden; [] without the folder."""
    found: list[str] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = os.listdir(folder)
    return sorted(n for n in found if n.startswith(prefix) and not n.startswith("."))


def text(value: Mapping[str, Any]) -> bytes:
    """What a file of JSON holds, as a person reads it."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def read(path: pathlib.Path) -> dict[str, Any] | None:
    """What a file of JSON holds; None if it is not there.

    Raises:
        ValueError: it cannot be read, or holds something else; says why, in one line.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path}: {_files.reason(error)[1]}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is damaged ({str(error)[:200]})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object of JSON, got something else")
    return value


def _linked(made: pathlib.Path, path: pathlib.Path) -> tuple[bool, OSError | None]:
    """Whether a file now has this name too; and what the system said against it."""
    refused = None
    try:
        os.link(made, path)
    except OSError as error:
        refused = error
    # Opened: of a file that is only looked at a host may tell what it knew before.
    with made.open("rb") as file:
        return os.fstat(file.fileno()).st_nlink == 2, refused
