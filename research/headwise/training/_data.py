"""The batches of a data set: cut from its arrays or read one by one, padded to a size.

For what goes once over all data, of which the last batch is smaller than the others.
"""

import functools
import inspect
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _checks
from headwise import _hosts
from headwise import _trees

_ONE = "which stands for one batch: give batch_size= to cut it, or a list of batches"


def batches_of(batches: Any, batch_size: int | None) -> Iterator[Any]:
    """The batches, in order; with `batch_size` those of arrays, the last one smaller.

    Raises:
        TypeError: neither an iterable of batches nor arrays with `batch_size`.
        ValueError: arrays whose leading axes differ; a size that is no positive int.
    """
    if batch_size is not None:
        size = _checks.positive_int("batch_size", batch_size)
        starts = range(0, examples("batches", batches), size)
        return (_cut(batches, at, at + size) for at in starts)
    if isinstance(batches, Mapping | tuple | str) or hasattr(batches, "shape"):
        raise TypeError(
            "batches: expected an iterable of batches, got "
            f"{_checks.kind(batches)}, {_ONE}"
        )
    if not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__"):
        hint = ": map(batches, range(n)) is n of them" if callable(batches) else ""
        raise TypeError(
            "batches: expected an iterable of batches that ends, or arrays with "
            f"batch_size=, got {_checks.kind(batches)}{hint}"
        )
    return iter(batches)


def _cut(arrays: Any, start: int, stop: int) -> Any:
    return jax.tree.map(lambda x: x[start:stop], arrays)


def examples(argument: str, batch: Any) -> int:
    """The length of the leading axis, which all arrays of the batch share.

    Raises:
        ValueError: they do not (some are named). TypeError: a leaf that is no array.
    """
    leaves = jax.tree.leaves(batch)
    paths = ["/".join(path) or "the array" for path in _trees.paths(batch)]
    for path, leaf in zip(paths, leaves, strict=True):
        if not hasattr(leaf, "shape"):
            raise TypeError(
                f"{argument}: expected arrays, got {_checks.kind(leaf)} as {path}"
            )
    found = length(batch)
    if found is None:
        firsts = {x.shape[:1]: path for path, x in zip(paths, leaves, strict=True)}
        shapes = ", ".join(f"{path} {first}" for first, path in firsts.items())
        raise ValueError(
            f"{argument}: expected arrays with one leading axis, the examples, got "
            f"{shapes or 'no array'}"
        )
    return found


def length(batch: Any) -> int | None:
    """The length of the leading axis, None where the arrays share none."""
    lengths = {np.shape(x)[:1] for x in jax.tree.leaves(batch)}
    return lengths.pop()[0] if len(lengths) == 1 and () not in lengths else None


def padded(batch: Any, count: int, size: int) -> Any:
    """A batch of `count` examples with the last one repeated, up to `size`."""
    if count in (0, size):
        return batch
    rows = np.minimum(np.arange(size), count - 1)
    return jax.tree.map(lambda x: _host(x)[rows], batch)


def _host(x: Any) -> Any:
    """On the host, where a gather of another length needs no program of its own."""
    if isinstance(x, jax.Array) and (
        jnp.issubdtype(x.dtype, jax.dtypes.prng_key) or not x.is_fully_addressable
    ):
        return x
    return np.asarray(x)


def own(tree: Any) -> Any:
    """The arrays as this process alone can compute with them, whole."""
    return (
        jax.tree.map(jnp.asarray, _hosts.fetched(tree)) if _hosts.spans(tree) else tree
    )


def takes(function: Callable[..., Any], parameter: str) -> bool:
    """Whether a function says that it has a parameter of this name."""
    try:
        return parameter in inspect.signature(function).parameters
    except (TypeError, ValueError):  # it does not tell
        return False


def compiled(
    argument: str,
    function: Callable[..., Any],
    params: Any,
    rest: Any,
    **others: Any,
) -> Callable[..., Any]:
    """The function, with all that comes before the batch: `rest` unless that is ().

    It is jitted if it was not; JAX knows it again by the function itself. `others` are
    what it is given beside the batch.

    Raises:
        TypeError: it takes other arguments.
    """
    _checks.function(argument, function)
    without = isinstance(rest, tuple) and not rest
    names = ("params", "batch") if without else ("params", "rest", "batch")
    try:
        signature = inspect.signature(function)
        signature.bind(*names, **others)
    except ValueError:  # it does not tell
        pass
    except TypeError:
        hint = "; rest= gives it the other state of a model" if without else ""
        raise TypeError(
            f"{argument}: expected {argument}({', '.join(names)}), got "
            f"{argument}{signature}{hint}"
        ) from None
    program = function if hasattr(function, "lower") else jax.jit(function)
    return functools.partial(program, *((params,) if without else (params, rest)))
