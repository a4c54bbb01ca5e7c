"""Parts of a batch: how it is cut, and how what they give is put together again."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _means
from headwise import _numerics
from headwise import _traced
from headwise.typing import Array
from headwise.typing import PyTree

Part = Callable[[PyTree, Any], tuple[dict[str, PyTree], tuple[Any, _means.Tally]]]
"""(params, part of the batch) -> ({name: arrays, all means}, (aux, tally))."""


def parted(argument: str, parts: int, batch: Any) -> Any:
    """The batch with a new leading axis of so many equal parts.

    Part i holds the examples i, i + parts, i + 2 parts and so on, so that devices among
    which the batch is split have an equal share of every part and send nothing.
    """

    def cut(array: Array) -> Array:
        if not jnp.ndim(array) or array.shape[0] % parts:
            raise ValueError(
                f"{argument}: expected a number that divides the leading axis of "
                f"every array of the batch, got {parts} and shape {jnp.shape(array)}"
            )
        shape = (array.shape[0] // parts, parts, *array.shape[1:])
        return jnp.swapaxes(jnp.reshape(array, shape), 0, 1)

    return jax.tree.map(cut, batch)


def of_whole(
    argument: str, one: Part, params: PyTree, parts: Any, remat: bool = False
) -> tuple[dict[str, PyTree], Any, _means.Tally]:
    """What each part gives, one after the other, as of the whole batch.

    Means are Σ count * mean / Σ count, plain means where there is no count; a head is
    present if it is in any part; aux is that of the last.

    Args:
        argument: that asked for parts, for errors.
        one: what is done with a part.
        params: what it is done at.
        parts: of `parted`.
        remat: compute a part's activations again when it is differentiated.

    Raises:
        ValueError: the value of a head is no mean over examples.
    """
    like: dict[str, PyTree] = {}

    def sums(params: PyTree, part: Any) -> tuple[tuple[dict, _means.Tally], Any]:
        trees, (aux, tally) = one(params, part)
        tally.refuse_coupled(argument)
        like.update(
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), trees)
        )
        return (_means.weighed(trees, tally), tally), aux

    first = jax.tree.map(lambda a: a[0], parts)
    program = _traced.traced(sums, params, first)
    run = jax.checkpoint(program) if remat else program
    (trees, tally), aux = summed(
        lambda part: run(params, part), program.types[0], parts
    )
    return _means.divided(trees, tally, like), aux, _totals(tally, parts)


def summed(
    run: Callable[[Any], tuple[PyTree, Any]], types: PyTree, parts: Any
) -> tuple[PyTree, Any]:
    """The mean over the parts of what `run` gives first, and its last second result.

    Sums are at least float32; the means have the types that one part's have.

    Args:
        run: a part of the batch to (what is averaged, aux).
        types: of what is averaged.
        parts: arrays whose leading axis counts the parts.
    """

    def add(total: PyTree, part: Any) -> tuple[PyTree, Any]:
        more, aux = run(part)
        return jax.tree.map(jnp.add, total, more), aux

    count = _number(parts)
    zeros = jax.tree.map(
        lambda x: _numerics.full(x, 0, _numerics.accumulator(x)), types
    )
    total, aux = lax.scan(add, zeros, parts)
    mean = jax.tree.map(lambda x, like: (x / count).astype(like.dtype), total, types)
    return mean, jax.tree.map(lambda a: a[-1], aux)


def _number(parts: Any) -> int:
    return jax.tree.leaves(parts)[0].shape[0]


def _totals(tally: _means.Tally, parts: Any) -> _means.Tally:
    """Of the whole batch, from means over its parts."""
    counts = {n: c * _number(parts) for n, c in tally.counts.items()}
    present = {n: (x != 0).astype(x.dtype) for n, x in tally.present.items()}
    return _means.Tally(counts, present, weights=tally.weights)
