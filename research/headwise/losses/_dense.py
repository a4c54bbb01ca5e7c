"""What the dense regression losses do first: checks, mask, float32."""

from typing import NamedTuple

import jax.numpy as jnp

from headwise import _numerics
from headwise.losses import _arrays
from headwise.typing import Array


class Pair(NamedTuple):
    """Predictions and targets of one shape, 0 where nothing counts."""

    preds: Array
    """[B, ...] float32 or float64"""
    targets: Array
    """[B, ...] of the same dtype"""
    where: Array | None
    """bool that broadcasts to preds, or None"""

    @property
    def valid(self) -> Array:
        """Of the shape of preds."""
        if self.where is None:
            return jnp.ones(self.preds.shape, bool)
        return jnp.broadcast_to(self.where, self.preds.shape)


def prepare(preds: Array, targets: Array, where: Array | None) -> Pair:
    """Checks the arguments and puts 0 where nothing counts.

    Args:
        preds: [B, ...] floating.
        targets: of the same shape, floating or integer.
        where: None, or bool from the batch on, as `_arrays.prepare`.

    Raises:
        ValueError, TypeError: they do not fit; names what was expected and what came.
    """
    preds, targets = jnp.asarray(preds), jnp.asarray(targets)
    if preds.ndim < 1:
        raise ValueError("preds: expected [B, ...], got a scalar")
    if not jnp.issubdtype(preds.dtype, jnp.floating):
        raise TypeError(f"preds: expected floating values, got {preds.dtype}")
    if preds.shape != targets.shape:
        raise ValueError(
            f"targets: expected the shape of preds {preds.shape}, got {targets.shape}"
        )
    _arrays.check_not_empty(preds)
    dtype = _numerics.accumulator(preds)
    p, t = preds.astype(dtype), targets.astype(dtype)
    if where is not None:
        where = _arrays.align_where(where, preds)
        p, t = jnp.where(where, p, 0), jnp.where(where, t, 0)
    return Pair(p, t, where)


def magnitude(x: Array) -> Array:
    """|x| with slope 0 at 0, where that of `jnp.abs` is 1."""
    return x * jnp.sign(x)


def inner_axes(array: Array) -> tuple[int, ...]:
    """All axes but the batch."""
    return tuple(range(1, array.ndim))


def mean(values: Array, valid: Array, axes: tuple[int, ...]) -> Array:
    """Mean over what is valid; 0 where nothing is. Other values must be 0."""
    count = jnp.sum(valid, axes, dtype=values.dtype)
    return _numerics.safe_divide(jnp.sum(values, axes), count, 0.0)
