"""Whole or damaged: sums of a checkpoint's files, made with it and compared later."""

import itertools
import json
import pathlib
import zlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from headwise import _files

_SUMS = "sums.json"
_REWRITTEN = "_CHECKPOINT_METADATA"
"""Orbax writes it until the very end; what we keep in it has a sum of its own."""
_ASIDE = "damaged"


class Look(NamedTuple):
    """What a look at a checkpoint found."""

    damage: str | None
    """Why it is not as it was written, in words; None if it is."""
    kept: Mapping[str, Any]
    """What is kept beside the arrays."""


def summed(kept: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept beside the arrays, with its sum."""
    return dict(kept) | {"sum": _sum_of(kept)}


def seal(folder: pathlib.Path, step: int) -> None:
    """Writes beside the files of a checkpoint what their bytes add up to.

    Called when all of them are there, and before their folder has its last name.
    """
    found = [
        path
        for path in folder.iterdir()
        if path.name.split(".")[0] == str(step) and f".{_ASIDE}" not in path.name
    ]
    checkpoint = max(found, key=lambda path: path.stat().st_mtime_ns)
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    names = [path.relative_to(checkpoint).as_posix() for path in files]
    sums = {n: _sum_of_file(checkpoint / n) for n in names if n != _REWRITTEN}
    _files.write_atomically(checkpoint / _SUMS, json.dumps(sums, indent=1) + "\n")


def look(checkpoint: pathlib.Path, read: Callable[[], Any]) -> Look:
    """Compares a checkpoint with its sums, and reads what is kept beside the arrays.

    Args:
        checkpoint: its folder.
        read: gives what orbax says of it (what is kept is `.custom_metadata`).
    """
    reason = damage(checkpoint)
    if reason is not None:
        return Look(reason, {})
    try:
        kept = read().custom_metadata or {}
    except Exception as error:
        return Look(_files.reason(error)[1], {})
    expected = _sum_of({name: x for name, x in kept.items() if name != "sum"})
    sealed = (checkpoint / _SUMS).exists()
    if kept.get("sum", None if sealed else expected) != expected:
        return Look("what is kept beside the arrays is not as it was written", {})
    return Look(None, kept)


def aside(checkpoint: pathlib.Path) -> pathlib.Path:
    """A new name for a damaged checkpoint, by which orbax takes it for none."""
    names = (f"{checkpoint.name}.{_ASIDE}{n or ''}" for n in itertools.count())
    paths = (checkpoint.with_name(name) for name in names)
    return next(path for path in paths if not path.exists())


def put_aside(checkpoint: pathlib.Path) -> None:
    """Renames a damaged checkpoint; an OSError of one line if that cannot be."""
    with _files.writing(checkpoint):
        checkpoint.rename(aside(checkpoint))


def damage(checkpoint: pathlib.Path) -> str | None:
    """Why a checkpoint is not as it was written, in words; None if it is.

    One without sums, of an older version, is looked at by those who read it.
    """
    if not checkpoint.is_dir() or not any(checkpoint.iterdir()):
        return "nothing is in it"
    name = _REWRITTEN
    try:
        if (checkpoint / name).exists():
            json.loads((checkpoint / name).read_bytes())
        name = _SUMS
        there = (checkpoint / name).exists()
        sums = json.loads((checkpoint / name).read_bytes()) if there else {}
        for name, expected in sums.items():
            if _sum_of_file(checkpoint / name) != expected:
                return f"{name} is not as it was written"
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        return f"{name}: {_files.reason(error)[1]}"
    return None


def _sum_of(value: Any) -> int:
    """The same before JSON is written and after."""
    plain = json.loads(json.dumps(value))
    return zlib.crc32(json.dumps(plain, sort_keys=True).encode())


def _sum_of_file(path: pathlib.Path) -> int:
    total = 0
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            total = zlib.crc32(data, total)
    return total
