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
_OF_ALL = "_headwise_of_all"
"""Marks an error that all processes raise: nothing is left to tell of it."""


def several() -> bool:
    """Whether this process is one of several; asks no backend unless it may be."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Whether this process is the one that writes and prints."""
    return not several() or jax.process_index() == 0


def spans(tree: PyTree) -> bool:
    """Whether an array of it lies on devices of several processes."""
    return any(map(_is_spread, jax.tree.leaves(tree)))


def agreed(numbers: Sequence[int] = (), error: Exception | None = None) -> np.ndarray:
    """[process, number] up to three numbers of all, if none of them has failed.

    Everything here begins with it, so that processes that fail while others ask for
    something else understand each other.

    Raises:
        Exception: the error of a process, in all.
    """
    if error is not None and (not several() or getattr(error, _OF_ALL, False)):
        raise error
    if not several():
        return np.asarray([numbers])
    data = _bytes(_sendable(error))
    head = np.zeros(5, np.int32)
    head[:2] = error is not None, data.size
    head[2 : 2 + len(numbers)] = numbers
    rows = _of_all(head)
    if rows[:, 0].any():
        others = _objects(data, rows[:, 1])
        known = error or next(other for other in others if other is not None)
        setattr(known, _OF_ALL, True)
        raise known
    return rows[:, 2 : 2 + len(numbers)]


def gathered(value: T, error: Exception | None = None) -> list[T]:
    """What each process has, in their order. Anything that can be pickled."""
    if not several():
        agreed(error=error)
        return [value]
    data = _bytes(value)
    return _objects(data, agreed([data.size], error)[:, 0])


def shared(value: T, error: Exception | None = None) -> T:
    """What the first process has, in all. Anything that can be pickled."""
    if not several():
        agreed(error=error)
        return value
    from jax.experimental import multihost_utils

    data = _bytes(value if first() else None)
    size = int(agreed([data.size], error)[0, 0])
    row = np.asarray(multihost_utils.broadcast_one_to_all(_padded(data, size)))
    return value if first() else pickle.loads(row[:size].tobytes())


def of_first(function: Callable[[], T]) -> T:
    """What a function gives in the first process, which alone calls it.

    What it raises there is raised in all.
    """
    value, error = _tried(function) if first() else (None, None)
    return shared(value, error)  # type: ignore[return-value]


def of_each(function: Callable[[], T]) -> list[T]:
    """What a function gives in each process; what it raises in one is raised in all."""
    value, error = _tried(function)
    return gathered(value, error)  # type: ignore[arg-type]


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


def _tried(function: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return function(), None
    except Exception as error:
        return None, error


def _of_all(row: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(row))


def _objects(data: np.ndarray, sizes: np.ndarray) -> list[Any]:
    """What each process has written as so many bytes."""
    rows = _of_all(_padded(data, int(sizes.max())))
    pairs = zip(rows, sizes, strict=True)
    return [pickle.loads(row[:size].tobytes()) for row, size in pairs]


def _bytes(value: Any) -> np.ndarray:
    return np.frombuffer(pickle.dumps(value), np.uint8)


def _padded(data: np.ndarray, size: int) -> np.ndarray:
    """With zeros up to one of few sizes, as each is a program."""
    row = np.zeros(max(256, 1 << (size - 1).bit_length()), np.uint8)
    row[: data.size] = data[: row.size]
    return row


def _sendable(error: Exception | None) -> Exception | None:
    """The error, or its words, where it is none that can be sent."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
