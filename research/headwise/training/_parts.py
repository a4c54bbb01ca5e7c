"""Parts of a batch: how it is cut, and how what they give is put together again."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _means
from headwise import _means_of_parts
from headwise import _numerics
from headwise import _traced
from headwise.typing import Array
from headwise.typing import PyTree

Part = Callable[..., tuple[dict[str, PyTree], tuple[Any, _means.Tally]]]
"""(params, part of the batch, *others) -> ({name: arrays, all means}, (aux, tally))."""


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


def first(parts: Any) -> Any:
    """The first part of the batch."""
    return jax.tree.map(lambda a: a[0], parts)


def number(parts: Any) -> int:
    """How many parts there are."""
    return jax.tree.leaves(parts)[0].shape[0]


def others_of(part: Array | int, others: tuple, stateful: bool) -> tuple:
    """What a part is given beside its examples.

    Args:
        part: which.
        others: the same for every part; or, of a stateful model, (rest, key): what the
            part before has left, and a key of which every part gets one of its own.
        stateful: which of the two.
    """
    if not stateful:
        return others
    rest, key = others
    _checks.key("key", key)
    return rest, jax.random.fold_in(key, part)


def in_turn(
    run: Callable[..., tuple[PyTree, PyTree, Any]],
    total: PyTree,
    parts: Any,
    others: tuple,
    stateful: bool,
) -> tuple[PyTree, PyTree, Any]:
    """Goes through the parts one after the other (`lax.scan`).

    Args:
        run: `(total, part, *others) -> (total, told, aux)`.
        total: before the first part.
        parts: arrays whose leading axis counts the parts.
        others, stateful: as in `others_of`; the rest of a part is its aux.

    Returns:
        (total, told, aux): what each part told, stacked, and the aux of the last.
    """

    def one(carry: tuple, numbered: tuple) -> tuple[tuple, tuple]:
        total, rest = carry
        i, part = numbered
        mine = others_of(i, (rest, others[1]), True) if stateful else others
        total, told, aux = run(total, part, *mine)
        return ((total, aux), (told, ())) if stateful else ((total, ()), (told, aux))

    start = (total, others[0] if stateful else ())
    (total, rest), (told, auxes) = lax.scan(
        one, start, (jnp.arange(number(parts)), parts)
    )
    aux = rest if stateful else jax.tree.map(lambda a: a[-1], auxes)
    return total, told, aux


def zeros_of(types: PyTree) -> PyTree:
    """Where sums begin: at least float32."""
    return jax.tree.map(lambda x: _numerics.full(x, 0, _numerics.accumulator(x)), types)


def add(total: PyTree, more: PyTree) -> PyTree:
    """Sums with the arrays of one more part."""
    return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, more)


def mean(total: PyTree, parts: Any, like: PyTree) -> PyTree:
    """The mean over the parts, with the dtypes that one part's have."""
    count = number(parts)
    return jax.tree.map(lambda x, one: (x / count).astype(one.dtype), total, like)


def of_whole(
    argument: str,
    one: Part,
    params: PyTree,
    parts: Any,
    *others: Any,
    stateful: bool = False,
    remat: bool = False,
) -> tuple[dict[str, PyTree], Any, _means.Tally]:
    """What each part gives, one after the other, as of the whole batch.

    Means are Σ count * mean / Σ count, plain means where there is no count; a head is
    present if it is in any part; aux is that of the last.

    Args:
        argument: that asked for parts, for errors.
        one: what is done with a part.
        params: what it is done at.
        parts: of `parted`.
        *others: further arguments of `one`, as in `others_of`.
        stateful: as there.
        remat: compute a part's activations again when it is differentiated.

    Raises:
        ValueError: the value of a head is no mean over examples.
    """
    like: dict[str, PyTree] = {}

    def sums(
        params: PyTree, part: Any, *others: Any
    ) -> tuple[tuple[dict, _means.Tally], Any]:
        trees, (aux, tally) = one(params, part, *others)
        tally.refuse_coupled(argument)
        like.update(
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), trees)
        )
        return (_means_of_parts.weighed(trees, tally), tally), aux

    begin = others_of(0, others, stateful)
    program = _traced.traced(sums, params, first(parts), *begin)
    run = jax.checkpoint(program) if remat else program

    def more(total: PyTree, part: Any, *others: Any) -> tuple[PyTree, tuple, Any]:
        pair, aux = run(params, part, *others)
        return add(total, pair), (), aux

    types = program.types[0]
    total, _, aux = in_turn(more, zeros_of(types), parts, others, stateful)
    trees, tally = mean(total, parts, types)
    return _means_of_parts.divided(trees, tally, like), aux, _totals(tally, parts)


def of_stacked(
    values: dict[str, Array], tally: _means.Tally, parts: Any
) -> tuple[dict[str, Array], _means.Tally]:
    """Values of the whole batch and what is told of them, from [n] of its parts."""
    one = (_means_of_parts.weighed(values, tally), tally)
    total = jax.tree.map(
        lambda x: jnp.sum(x, axis=0, dtype=_numerics.accumulator(x)), one
    )
    means, told = mean(total, parts, one)
    return _means_of_parts.divided(means, told, values), _totals(told, parts)


def shares(names: Any, tally: _means.Tally, parts: Any) -> Array | None:
    """[n, H] what a part counts in the mean of each head, 1 on average; None: 1 each.

    Args:
        names: of the heads.
        tally: of all parts, stacked.
        parts: of the batch.
    """
    if not tally.counts:
        return None
    count = number(parts)

    def share(name: str) -> Array:
        if name not in tally.counts:
            return jnp.ones(count)
        mine = tally.counts[name]
        return _numerics.safe_divide(count * mine, jnp.sum(mine), 0.0)

    return jnp.stack([share(name).astype(jnp.float32) for name in names], axis=1)


def _totals(tally: _means.Tally, parts: Any) -> _means.Tally:
    """Of the whole batch, from means over its parts."""
    counts = {n: c * number(parts) for n, c in tally.counts.items()}
    present = {n: (x != 0).astype(x.dtype) for n, x in tally.present.items()}
    return _means.Tally(counts, present, weights=tally.weights)
