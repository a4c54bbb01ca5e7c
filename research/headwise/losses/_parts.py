"""A weighted sum of losses: what `mix` and `deep_supervision` have in common.

A part of weight 0 is not there: it adds nothing to value and gradient, NaN or not, and
what it counts does not count.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import _reduction
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree


class Part(NamedTuple):
    """One loss with its weight and its arguments."""

    name: str
    loss: Loss
    weight: float | Array
    preds: PyTree
    targets: PyTree
    where: Array | None


def seen(weight: float | Array, preds: PyTree) -> PyTree:
    """Predictions for a part with this weight: zeros for weight 0.

    Without its predictions a part has no gradient, not even NaN.
    """
    if _checks.is_static(weight) and weight != 0:
        return preds

    def hide(x: Array) -> Array:
        return _numerics.zero_where(jnp.asarray(weight) == 0, jnp.asarray(x))

    return jax.tree.map(hide, preds)


def add(*parts: tuple[float | Array, Array]) -> Array:
    """Σ weight * value of (weight, value); what has weight 0 adds 0, NaN or not."""

    def times(weight: float | Array, value: Array) -> Array:
        if _checks.is_static(weight) and weight != 0:
            return weight * value
        return _numerics.drop_zero_weight(jnp.asarray(weight, value.dtype), value)

    return functools.reduce(jnp.add, [times(*part) for part in parts])


def entries(parts: Sequence[Part]) -> _reduction.Entries:
    """Σ weight * mean over the entries of a part, [B], and which examples count.

    An example counts if it does in a part that has a weight.
    """
    means, counts = [], []
    for part in parts:
        _checks.scalar(f"weight of {part.name!r}", part.weight)
        preds = seen(part.weight, part.preds)
        values, valid = _reduction.entries(
            part.name, part.loss, preds, part.targets, part.where
        )
        if values.ndim < 1:
            raise ValueError(
                f"{part.name!r}: expected values with the batch as leading axis, got "
                "a scalar"
            )
        axes = tuple(range(1, values.ndim))
        means.append((part.weight, _reduction.mean(values, valid, axes)))
        counts.append(None if valid is None else jnp.any(valid, axes))
    total = add(*means)
    if all(valid is None for valid in counts):
        return total, None
    there = [
        jnp.broadcast_to(jnp.asarray(weight) != 0, total.shape)
        if valid is None
        else valid & (jnp.asarray(weight) != 0)
        for valid, (weight, _) in zip(counts, means, strict=True)
    ]
    return total, functools.reduce(jnp.logical_or, there)
