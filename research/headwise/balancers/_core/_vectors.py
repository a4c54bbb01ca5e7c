"""Lengths and directions of vectors of H numbers, at any scale."""

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise.typing import Array

_SMALL = 1e-30
"""A vector that is smaller everywhere counts as 0: its direction is not known."""


def length(x: Array) -> Array:
    """Euclidean length; 0 has derivative 0, and no square leaves float32."""
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    known = scale > _SMALL
    safe = jnp.where(known, scale, 1.0)
    squares = jnp.where(known, jnp.sum((x / safe) ** 2), 1.0)
    return jnp.where(known, safe * jnp.sqrt(squares), 0.0)


def unit_vector(x: Array) -> Array:
    """The vector by its length; 0 for 0."""
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    scale = jnp.where(scale > _SMALL, scale, 0.0)
    x = _numerics.safe_divide(x, jnp.broadcast_to(scale, x.shape), 0.0)
    size = length(x)
    return _numerics.safe_divide(x, jnp.broadcast_to(size, x.shape), 0.0)
