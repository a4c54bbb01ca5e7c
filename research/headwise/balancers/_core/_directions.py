"""Directions made of head gradients, in at least float32."""

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise import _products
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


def weighted_sum(weights: Array, signals: _types.Signals) -> PyTree:
    """Σ weight * gradient; a head of weight 0 counts for nothing, even if it is NaN."""
    assert signals.grads is not None
    rows = [signals.grads[name] for name in sorted(signals.grads)]

    def leaf(*heads: Array) -> Array:
        arrays = list(map(jnp.asarray, heads))
        return _products.weighted_sum(weights, arrays, range(len(heads)))

    return jax.tree.map(leaf, *rows)


def scaled(factor: Array, tree: PyTree) -> PyTree:
    """Every leaf times a scalar, multiplied in at least float32."""

    def leaf(x: Array) -> Array:
        x = jnp.asarray(x)
        dtype = _numerics.accumulator(x)
        return (x.astype(dtype) * factor.astype(dtype)).astype(x.dtype)

    return jax.tree.map(leaf, tree)
