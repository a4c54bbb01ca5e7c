"""Means over parts, put together to those of the whole: Σ count * mean / Σ count.

The parts are microbatches, independent batches, or what each device has of one batch.
"""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _means
from headwise import _numerics
from headwise.typing import Array
from headwise.typing import PyTree


def weighed(trees: Mapping[str, PyTree], tally: _means.Tally) -> dict[str, PyTree]:
    """Each head's arrays times its count, to be added up; in at least float32.

    Those of heads without a count stay as they are, and a count of 0 leaves no trace
    of NaN.
    """

    def times(count: Array, x: Array) -> Array:
        dtype = _numerics.accumulator(x)
        return _numerics.drop_zero_weight(count.astype(dtype), x.astype(dtype))

    return {
        name: jax.tree.map(lambda x, c=tally.counts[name]: times(c, x), tree)
        if name in tally.counts
        else tree
        for name, tree in trees.items()
    }


def divided(
    trees: Mapping[str, PyTree], tally: _means.Tally, like: Mapping[str, PyTree]
) -> dict[str, PyTree]:
    """Sums of what `weighed` gives, over the summed counts, with the types of `like`.

    Those of heads without a count stay as they are: they are plain means already.
    """

    def over(count: Array, x: Array, like: Any) -> Array:
        mean = _numerics.safe_divide(x, count.astype(x.dtype), 0.0)
        return mean.astype(like.dtype)

    return {
        name: jax.tree.map(
            lambda x, like, c=tally.counts[name]: over(c, x, like), tree, like[name]
        )
        if name in tally.counts
        else tree
        for name, tree in trees.items()
    }


def added(
    parts: Sequence[tuple[Mapping[str, Array], _means.Tally]],
) -> tuple[dict, _means.Tally]:
    """Values of parts of one batch, of one size, to those of the batch.

    A head is present if it is in every part.
    """
    like, first = parts[0]
    sums = [weighed(values, tally) for values, tally in parts]
    counts = {
        n: sum((t.counts[n] for _, t in parts[1:]), c) for n, c in first.counts.items()
    }
    present = {
        n: math.prod((t.present[n] for _, t in parts[1:]), start=here)
        for n, here in first.present.items()
    }
    tally = _means.Tally(counts, present, weights=first.weights)
    values = {
        n: sum((s[n] for s in sums[1:]), sums[0][n])
        if n in counts
        else _numerics.mean_of([s[n] for s in sums])
        for n in like
    }
    return divided(values, tally, like), tally


def joined(first: _means.Means, second: _means.Means) -> _means.Means:
    """Means over two parts of the data to those over both, by counts.

    Raises:
        ValueError: a head has no count, or its value is no mean over examples.
    """
    both = [(dict(means), _means.tally_of(means)) for means in (first, second)]
    for values, tally in both:
        tally.refuse_coupled("means")
        if uncounted := set(values) - set(tally.counts):
            raise ValueError(
                "means: expected the counts of all heads, to add them up by; there are "
                f"none of {_checks.listing(uncounted)}"
            )
    (values, mine), (others, theirs) = both
    counts = {n: c + theirs.counts[n] for n, c in mine.counts.items()}
    present = {n: jnp.maximum(x, theirs.present[n]) for n, x in mine.present.items()}
    whole = _means.Tally(counts, present)
    like = {n: jnp.asarray(x) for n, x in values.items()}
    sums, more = weighed(like, mine), weighed(jax.tree.map(jnp.asarray, others), theirs)
    means = divided({n: sums[n] + more[n] for n in sums}, whole, like)
    return _means.together(means, whole, True).with_weights(first.weights)


def pmean(values: Mapping[str, Array], axis_name: Any) -> dict[str, Array]:
    """The values of a whole batch from those of every device's part of it.

    For use inside of `jax.shard_map`, `jax.pmap` or a named `jax.vmap`, at the end of a
    `values_fn`. With counts, so that labels may be spread unevenly and batches padded::

        value = psum(count * value) / psum(count)

    A head is present if it is on any device. A value without a count, as in a plain
    dict, is a plain mean over the devices.

    Args:
        values: {name: scalar}, of this device: of `hw.Objective.values`, or by hand.
        axis_name: of the devices' axis, or several.

    Returns:
        {name: scalar}, the same on all devices; `hw.Means` if `values` is.

    Raises:
        ValueError: the value of a head is no mean over examples (Dice over the batch).

    Example:
        >>> objective = hw.Objective({"y": optax.losses.squared_error})
        >>> def values_fn(preds, where):
        ...     zeros = {"y": jnp.zeros(2)}
        ...     local = objective.values({"y": preds}, zeros, where=where)
        ...     return hw.objective.pmean(local, "devices")
        >>> preds = jnp.array([[1.0, 2.0], [4.0, 5.0]])           # two devices
        >>> where = jnp.array([[True, True], [True, False]])
        >>> print(jax.vmap(values_fn, axis_name="devices")(preds, where)["y"])
        [7. 7.]
    """
    _checks.mapping("values", values)
    tally = _means.tally_of(values)
    tally.refuse_coupled("pmean")
    like = {n: jnp.asarray(v) for n, v in values.items()}
    counts = {n: lax.psum(c, axis_name) for n, c in tally.counts.items()}
    present = {n: lax.pmax(here, axis_name) for n, here in tally.present.items()}
    whole = _means.Tally(counts, present)
    sums = {
        n: lax.psum(x, axis_name) if n in counts else lax.pmean(x, axis_name)
        for n, x in weighed(like, tally).items()
    }
    means: _means.Means = _means.together(
        divided(sums, whole, like), whole, tally.weights is not None
    )
    return means.with_weights(tally.weights) if tally.weights else means
