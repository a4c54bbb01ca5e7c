"""Processes that train one model together (`jax.distributed`): what all of them know.

Whoever calls a function here calls it in all processes, at the same place of the same
program, as any collective of JAX. Alone it costs nothing and changes nothing.
"""

import contextlib
import logging
import pickle
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import jax
import numpy as np

from headwise.typing import PyTree

T = TypeVar("T")

_LOG = logging.getLogger("headwise")


def several() -> bool:
    """Whether this process is one of several; asks no backend unless it may be."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Whether this process is the one that writes and prints."""
    return not several() or jax.process_index() == 0


def spans(tree: PyTree) -> bool:
    """Whether an array of it lies on devices of several processes."""
    return any(map(_is_spread, jax.tree.leaves(tree)))


def shared(value: T) -> T:
    """What the first process has, in all. Anything that can be pickled."""
    if not several():
        return value
    from jax.experimental import multihost_utils

    data = _bytes(value if first() else None)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
    room = _room(size)
    row = np.zeros(room, np.uint8)
    row[: data.size] = data[:room]
    row = np.asarray(multihost_utils.broadcast_one_to_all(row))
    return value if first() else pickle.loads(row[:size].tobytes())


def gathered(value: T) -> list[T]:
    """What each process has, in their order."""
    if not several():
        return [value]
    from jax.experimental import multihost_utils

    data = _bytes(value)
    sizes = np.asarray(multihost_utils.process_allgather(np.int32(data.size)))
    row = np.zeros(_room(int(sizes.max())), np.uint8)
    row[: data.size] = data
    rows = np.asarray(multihost_utils.process_allgather(row))
    pairs = zip(rows, sizes, strict=True)
    return [pickle.loads(row[:size].tobytes()) for row, size in pairs]


def of_first(function: Callable[[], T]) -> T:
    """What a function gives in the first process, which alone calls it.

    What it raises there is raised in all.
    """
    if not several():
        return function()
    result, error = None, None
    if first():
        try:
            result = function()
        except Exception as raised:
            error = raised
    told, failed = shared((result, _sendable(error)))
    if first():
        told, failed = result, error
    if failed is not None:
        raise failed
    return told  # type: ignore[return-value]


def of_each(function: Callable[[], T]) -> list[T]:
    """What a function gives in each process; what it raises in one is raised in all."""
    if not several():
        return [function()]
    value: Any = None
    error: Exception | None = None
    try:
        value = function()
    except Exception as raised:
        error = raised
    agreed(error)
    return gathered(value)


def agreed(error: Exception | None, numbers: Sequence[int] = (0,)) -> np.ndarray:
    """[process, number] the numbers of all, if none of them has failed.

    Raises:
        Exception: the error of a process, in all.
    """
    if not several():
        if error is not None:
            raise error
        return np.asarray([numbers])
    from jax.experimental import multihost_utils

    mine = np.asarray([error is not None, *numbers], np.int32)
    rows = np.asarray(multihost_utils.process_allgather(mine))
    if rows[:, 0].any():
        told = gathered(_sendable(error))
        raise error or next(other for other in told if other is not None)
    return rows[:, 1:]


def fetched(tree: PyTree) -> PyTree:
    """The arrays on the host, whole: `jax.device_get` of what several hold, too."""
    if spans(tree):
        from jax.experimental import multihost_utils

        def whole(x: Any) -> Any:
            if _is_spread(x) and not x.is_fully_replicated:
                return multihost_utils.process_allgather(x, tiled=True)
            return x

        tree = jax.tree.map(whole, tree)
    return jax.device_get(tree)


def placed(x: Any, place: Any) -> jax.Array:
    """An array there; it is the same in all processes."""
    if getattr(place, "is_fully_addressable", True):
        return jax.device_put(x, place)
    return jax.jit(lambda x: x, out_shardings=place)(x)


def everywhere(x: jax.Array) -> jax.Array:
    """An array that all processes hold; whole in each if this one holds it alone."""
    if not several() or _is_spread(x):
        return x
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("all",))
    whole = jax.sharding.PartitionSpec()
    return placed(x, jax.sharding.NamedSharding(mesh, whole))


@contextlib.contextmanager
def quiet(on: bool) -> Iterator[None]:
    """Leaves what is no error to the first process to say (logger `headwise`)."""
    if not on or first():
        yield
        return

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    _LOG.addFilter(is_error)
    try:
        yield
    finally:
        _LOG.removeFilter(is_error)


def _is_spread(x: Any) -> bool:
    return isinstance(x, jax.Array) and not x.is_fully_addressable


def _bytes(value: Any) -> np.ndarray:
    return np.frombuffer(pickle.dumps(value), np.uint8)


def _room(size: int) -> int:
    """Of few sizes, as each is a program."""
    return max(256, 1 << (size - 1).bit_length())


def _sendable(error: Exception | None) -> Exception | None:
    """The error, or its words, where it is none that can be sent."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
