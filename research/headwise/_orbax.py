"""Orbax as it is wanted here: no long waits, any path, files that are sealed."""

import functools
import logging
import os
import pathlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _described
from headwise import _files
from headwise import _hosts
from headwise import _whole
from headwise.typing import PyTree

_LOG = logging.getLogger("headwise")


def refused(folder: pathlib.Path) -> str | None:
    """Why checkpoints in a folder could not be read, in words; None if they can."""
    if os.sep == "/" and "\\" in str(folder):
        return (
            "expected a path without backslash: checkpoints there could not be read "
            "(give another folder)"
        )
    return None


def open_checkpointer(
    folder: pathlib.Path, keep: int, when_written: Callable[[], None]
) -> Any:
    """A checkpointer of a folder.

    Args:
        folder: absolute; it is there, and not `refused`.
        keep: how many of the newest checkpoints stay.
        when_written: called when all files of a checkpoint are there, before their
            folder gets its last name; what it raises ends the save.
    """
    # Imported here: orbax costs every `import headwise` 0.2 s otherwise.
    from orbax.checkpoint import v1 as ocp

    context = ocp.Context()
    # Where a folder cannot be made, orbax's threads wait five minutes for each other.
    # The thread that saves makes it in no time.
    context.async_options.create_directories_asynchronously = False
    context.async_options.post_finalization_callback = when_written
    # Processes wait for each other under names; those of two folders must differ.
    context.multiprocessing_options.barrier_sync_key_prefix = str(folder)
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

        def put_aside() -> None:
            for path in [path for path in folder.iterdir() if path.name.isdigit()]:
                look = _whole.look(path, functools.partial(ocp.metadata, path))
                if (reason := look.damage) is not None:
                    _LOG.warning("%s: is damaged (%s), moved aside", path, reason)
                    path.rename(_whole.aside(path))

        _hosts.of_first(put_aside)
    with _files.writing(folder):
        return opened()


def metadata(checkpointer: Any, step: int) -> Any:
    """What orbax says of a checkpoint; an OSError if an array cannot be opened."""
    found = checkpointer.metadata(step)
    if found.metadata is None:
        raise OSError("its arrays cannot be read")
    return found


def by_name(tree: PyTree, leaves: Sequence[Any]) -> dict[str, Any]:
    """{name: leaf}. What is empty is left out: the files could not hold it."""
    named = zip(_described.names(tree), leaves, strict=True)
    return {name: x for name, x in named if x.size}


def like(x: Any) -> jax.ShapeDtypeStruct:
    """What is to be read: an array like this one, in its place or the usual one."""
    place = getattr(x, "sharding", None)
    if place is None:
        place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)


def free(x: jax.Array, like: Any) -> jax.Array:
    """What was read, free to move if `like` is: orbax ties it to its device.

    For JAX those are two programs: a run that goes on would compile anew what it has
    compiled before, also where that is kept on disk.
    """
    if getattr(like, "committed", True) or not x.is_fully_addressable:
        return x
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = jnp.array(np.asarray(jax.random.key_data(x)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    return jnp.array(np.asarray(x))
