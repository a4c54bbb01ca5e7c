"""The folder of a run: made, checked and owned by one configuration."""

import contextlib
import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from headwise import _files
from headwise import _hosts
from headwise import _orbax
from headwise.training import _hold


class WorkdirError(ValueError):
    """The folder cannot be used: not writable, in use, or it holds another run."""


_LOG = logging.getLogger("headwise")

_OWN = (".lock", ".run.json.", ".trials.lock", ".DS_Store", ".nfs")
"""What names begin with that a killed process of ours leaves, or the system makes."""

_TOLD = "told, not compared"
"""The key of `run.json` beside those of the configuration."""


def claim_workdir(
    workdir: str | os.PathLike,
    config: Mapping[str, Any],
    *,
    told: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Makes the folder of a run, or takes it up again if it is this run's.

    `run.json` in it holds the configuration. A folder with the same one is resumed;
    with another, or with other files in it, nothing is touched. Where several processes
    train (`jax.distributed`) all of them call it: the first acts for them, and what it
    raises is raised in all.

    Args:
        workdir: path; parents are made too, and `~` is the home folder.
        config: what identifies the run; anything that JSON can hold.
        told: {name: text}, such as a hash of the source: also kept; where it differs
            from what the folder was made with, a line says so (logger `headwise`).

    Returns:
        The path. `hold_workdir` keeps other processes out of it.

    Raises:
        WorkdirError: not writable, not a folder, or of another run (it names the
            settings that differ).

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> path = claim_workdir(folder + "/run", {"seed": 0})
        >>> path = claim_workdir(folder + "/run", {"seed": 0})          # resumes
        >>> try:
        ...     claim_workdir(folder + "/run", {"seed": 1})
        ... except WorkdirError as error:
        ...     print(str(error).split(": ", 1)[1])
        belongs to another run: seed was 0, is 1 (give another folder)
    """
    return claim(workdir, config, told or {}, alone=True)


def claim(
    workdir: str | os.PathLike,
    config: Mapping[str, Any],
    told: Mapping[str, str],
    *,
    alone: bool,
) -> pathlib.Path:
    """`claim_workdir`; unless `alone`, the folder may hold other files at first."""
    return _hosts.of_first(lambda: _claimed(folder_of(workdir), config, told, alone))


def _claimed(
    path: pathlib.Path, config: Mapping[str, Any], told: Mapping[str, str], alone: bool
) -> pathlib.Path:
    wanted = json.loads(json.dumps(dict(config), sort_keys=True))
    whole = wanted | ({_TOLD: dict(told)} if told else {})
    record = path / "run.json"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            others = (not file.name.startswith(_OWN) for file in path.iterdir())
            if alone and any(others):
                raise WorkdirError(
                    f"workdir {path}: holds files that are no run of Headwise; give an "
                    "empty or new folder"
                )
            with _held(path):
                if not record.exists():  # nor has another process made it since
                    text = json.dumps(whole, indent=2, sort_keys=True)
                    _files.write_atomically(record, text + "\n")
                    return path
        _compare(record, wanted, told)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise not_writable(path, error) from error


def settings_of(path: pathlib.Path) -> dict[str, Any]:
    """What `run.json` holds, of a folder that was claimed; {} without it."""
    try:
        owner = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(owner, dict):
        return {}
    return {name: value for name, value in owner.items() if name != _TOLD}


def not_writable(path: pathlib.Path, error: OSError) -> WorkdirError:
    """The error for a folder that the system refuses."""
    return WorkdirError(f"workdir {path}: not writable ({error.strerror or error})")


def _compare(
    record: pathlib.Path, wanted: Mapping[str, Any], told: Mapping[str, str]
) -> None:
    path = record.parent
    try:
        owner = json.loads(record.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, too deep
        reason = str(error)[:200]
        raise WorkdirError(f"workdir {path}: run.json is damaged ({reason})") from error
    before = owner.pop(_TOLD, {}) if isinstance(owner, dict) else None
    if not isinstance(before, dict):
        raise WorkdirError(f"workdir {path}: run.json is damaged (no object)")
    if owner != wanted:
        raise WorkdirError(f"workdir {path}: {_difference(owner, wanted)}")
    for name, text in told.items():
        if before.get(name, text) != text:
            _LOG.warning("%s: %s has changed since it was made", path, name)


@contextlib.contextmanager
def hold_workdir(workdir: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Keeps other processes out of a folder for as long as a block lasts.

    `fit` does it by itself while it runs; a command that also reads or writes beside
    it holds the folder for longer. The system lets go when the process ends, whatever
    ends it. Within a block the same thread may hold the folder again. Every process
    on machines that share the folder is kept out where the file system passes on
    `flock` (Linux does over NFS); where there is none (Windows) nobody is. Processes
    that train together enter the block together, and the first holds it for all.

    Args:
        workdir: path of a folder, made if need be. The hidden file `.lock` in it says
            which process holds it.

    Returns:
        A context manager; it gives the path.

    Raises:
        WorkdirError: another process, or another thread of this one, holds it; not
            writable. Raised when the block is entered.

    Example:
        >>> import tempfile
        >>> with hold_workdir(tempfile.mkdtemp()) as path:
        ...     with hold_workdir(path):
        ...         print((path / ".lock").exists())
        True
    """
    path = folder_of(workdir)
    with contextlib.ExitStack() as stack:
        _hosts.of_first(lambda: stack.enter_context(_held(path)))
        yield path


@contextlib.contextmanager
def _held(path: pathlib.Path) -> Iterator[pathlib.Path]:
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_hold.held(path))
        except _hold.InUseError as error:
            raise WorkdirError(f"workdir {path}: is in use ({error})") from None
        except OSError as error:
            raise not_writable(path, error) from error
        yield path


def folder_of(workdir: str | os.PathLike) -> pathlib.Path:
    """The path of a folder of this machine, as the user means it.

    Raises:
        WorkdirError: an address (`gs://bucket/run`), or the home of nobody.
    """
    try:
        return _files.local(workdir)
    except ValueError as error:
        raise WorkdirError(f"workdir {error}") from error


def check_kinds(
    *, files: Iterable[pathlib.Path] = (), folders: Iterable[pathlib.Path] = ()
) -> None:
    """Raises WorkdirError if something else stands where a file or folder shall be."""
    for path in files:
        if path.exists() and not path.is_file():
            raise WorkdirError(f"{path}: expected a file, found a folder (move it)")
    for path in folders:
        if path.exists() and not path.is_dir():
            raise WorkdirError(f"{path}: expected a folder, found a file (move it)")


def for_checkpoints(folder: pathlib.Path) -> pathlib.Path:
    """The folder of checkpoints, there and fit for them."""
    check_kinds(folders=[folder])
    if (reason := _orbax.refused(folder)) is not None:
        raise WorkdirError(f"{folder}: {reason}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(folder, error) from error
    return folder


def _difference(owner: dict, config: Mapping[str, Any]) -> str:
    parts = []
    for name in sorted(set(owner) | set(config)):
        old, new = owner.get(name, "not set"), config.get(name, "not set")
        if old != new:
            parts.append(f"{name} was {old}, is {new}")
    return "belongs to another run: " + "; ".join(parts) + " (give another folder)"
