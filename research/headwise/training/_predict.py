"""Outputs of a model for a whole data set, gathered on the host."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from headwise import _checks
from headwise import _hosts
from headwise import _trees
from headwise.training import _data
from headwise.typing import PyTree

_AHEAD = 2
"""Batches whose outputs the device may hold while the host copies older ones."""


def predict(
    predict_fn: Callable[..., Any],
    params: PyTree,
    batches: Iterable[Any] | PyTree,
    *,
    rest: PyTree = (),
    batch_size: int | None = None,
    own: bool = False,
) -> PyTree:
    """The outputs of a model for all data, one row an example, in their order.

    A smaller batch is padded to the size of the largest so far (its last example is
    repeated) and the rows too many are cut off, so that one program serves all. Outputs
    go to the host while the next batches are computed.

    Args:
        predict_fn: `(params, batch) -> outputs`, or `(params, rest, batch)` if there
            is a `rest`: a pytree of arrays [B, ...], such as {head: array}. A
            row is of its example alone. May be jitted; give the same function each
            time.
        params, batches, rest, batch_size: as in `hw.training.evaluate`.
        own: of several processes each gives data of its own, and gets the outputs of
            these. False: as there, and all get all outputs.

    Returns:
        The outputs [N, ...] as NumPy arrays, with the dtypes of the model.

    Raises:
        ValueError: no batch; arrays of a batch that differ in length; an output whose
            leading axis is not the batch's. TypeError: as `hw.training.evaluate`.

    Example:
        >>> def predict_fn(params, batch):
        ...     return {"double": 2 * batch, "sum": batch @ params["w"]}
        >>> data = np.arange(6.0).reshape(3, 2)
        >>> outputs = hw.training.predict(
        ...     predict_fn, {"w": jnp.ones(2)}, data, batch_size=2
        ... )
        >>> print(outputs["double"].shape, outputs["sum"])
        (3, 2) [1. 5. 9.]
    """
    _checks.boolean("own", own)
    if own:
        params, rest = _data.own((params, rest))
    program = _data.compiled("predict_fn", predict_fn, params, rest)
    parts: list[PyTree] = []
    waiting: collections.deque[Any] = collections.deque()
    size = 0
    for batch in _data.batches_of(batches, batch_size):
        count = _data.examples("batch", batch)
        size = max(size, count)
        outputs = program(_data.padded(batch, count, size))
        _check(outputs, size if count else 0)
        for x in jax.tree.leaves(outputs):
            if x.is_fully_addressable:
                x.copy_to_host_async()
        waiting.append((outputs, count))
        if len(waiting) > _AHEAD:
            parts.append(_rows(*waiting.popleft()))
    parts += [_rows(*pair) for pair in waiting]
    if not parts:
        raise ValueError("batches: expected one or more, got none")
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def _rows(outputs: PyTree, count: int) -> PyTree:
    return jax.tree.map(lambda x: x[:count], _hosts.fetched(outputs))


def _check(outputs: PyTree, size: int) -> None:
    """Raises unless every output has a row an example."""
    for path, x in zip(_trees.paths(outputs), jax.tree.leaves(outputs), strict=True):
        if x.shape[:1] != (size,):
            raise ValueError(
                f"predict_fn: expected outputs with a row for each of {size} examples, "
                f"got shape {x.shape} as {'/'.join(path) or 'the output'}"
            )
