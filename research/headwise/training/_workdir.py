"""The folder of a run: made, checked and owned by one configuration."""

import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from headwise import _files


class WorkdirError(ValueError):
    """The folder cannot be used: not writable, or it holds another run."""


_LOG = logging.getLogger("headwise")

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
    with another, or with other files in it, nothing is touched.

    Args:
        workdir: path; parents are made too.
        config: what identifies the run; anything that JSON can hold.
        told: {name: text}, such as a hash of the source: also kept; where it differs
            from what the folder was made with, a line says so (logger `headwise`).

    Returns:
        The path.

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
    path = pathlib.Path(workdir)
    wanted = json.loads(json.dumps(dict(config), sort_keys=True))
    record = path / "run.json"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if record.exists():
            owner = json.loads(record.read_text())
            if not isinstance(owner, dict):
                raise WorkdirError(f"workdir {path}: run.json is damaged (no object)")
            before = owner.pop(_TOLD, {})
            if owner != wanted:
                raise WorkdirError(f"workdir {path}: {_difference(owner, wanted)}")
            for name, text in told.items():
                if before.get(name, text) != text:
                    _LOG.warning("%s: %s has changed since it was made", path, name)
            with tempfile.TemporaryFile(dir=path):
                return path
        if alone and any(not file.name.startswith(".") for file in path.iterdir()):
            raise WorkdirError(
                f"workdir {path}: holds files that are no run of Headwise; give an "
                "empty or new folder"
            )
        whole = wanted | ({_TOLD: dict(told)} if told else {})
        _files.write_atomically(
            record, json.dumps(whole, indent=2, sort_keys=True) + "\n"
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WorkdirError(f"workdir {path}: run.json is damaged ({error})") from error
    except OSError as error:
        raise WorkdirError(
            f"workdir {path}: not writable ({error.strerror or error})"
        ) from error
    return path


def _difference(owner: dict, config: dict) -> str:
    parts = []
    for name in sorted(set(owner) | set(config)):
        old, new = owner.get(name, "not set"), config.get(name, "not set")
        if old != new:
            parts.append(f"{name} was {old}, is {new}")
    return "belongs to another run: " + "; ".join(parts) + " (give another folder)"
