"""Orbax as it is wanted here: no long waits, any path, files that are sealed."""

import functools
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

from headwise import _files
from headwise.training import _whole
from headwise.training import _workdir

_LOG = logging.getLogger("headwise")


def open_checkpointer(
    folder: pathlib.Path, keep: int, when_written: Callable[[], None]
) -> Any:
    """A checkpointer of a folder that is made if need be.

    Args:
        folder: absolute.
        keep: how many of the newest checkpoints stay.
        when_written: called when all files of a checkpoint are there, before their
            folder gets its last name; what it raises ends the save.

    Raises:
        WorkdirError: the folder is a file, cannot be made, or has a backslash in its
            path.
    """
    # Imported here: orbax costs every `import headwise` 0.2 s otherwise.
    from orbax.checkpoint import v1 as ocp

    _workdir.check_kinds(folders=[folder])
    if os.sep == "/" and "\\" in str(folder):
        raise _workdir.WorkdirError(
            f"{folder}: expected a path without backslash: checkpoints there could "
            "not be read (give another folder)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _workdir.not_writable(folder, error) from error
    context = ocp.Context()
    # Where a folder cannot be made, orbax's threads wait five minutes for each other.
    # The thread that saves makes it in no time.
    context.async_options.create_directories_asynchronously = False
    context.async_options.post_finalization_callback = when_written
    # Orbax looks for the parts of its one file of arrays by a pattern, and takes the
    # path for a part of it; without that file each array has its own.
    context.array_options.saving.use_ocdbt = "[" not in str(folder)
    policy = ocp.training.preservation_policies.LatestN(keep)
    opened = functools.partial(
        ocp.training.Checkpointer, folder, context=context, preservation_policy=policy
    )
    try:
        return opened()
    except Exception:  # it reads what is kept beside every checkpoint
        for path in [path for path in folder.iterdir() if path.name.isdigit()]:
            look = _whole.look(path, functools.partial(ocp.metadata, path))
            if (reason := look.damage) is not None:
                _LOG.warning("%s: is damaged (%s), moved aside", path, reason)
                path.rename(_whole.aside(path))
    with _files.writing(folder):
        return opened()


def metadata(checkpointer: Any, step: int) -> Any:
    """What orbax says of a checkpoint; an OSError if an array cannot be opened."""
    found = checkpointer.metadata(step)
    if found.metadata is None:
        raise OSError("its arrays cannot be read")
    return found
