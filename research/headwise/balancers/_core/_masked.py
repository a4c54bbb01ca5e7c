"""Arithmetic over the heads that are there, as if the others did not exist."""

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise.typing import Array

_LARGE = 1e38
"""Logits are kept within it, so that no difference of two leaves float32."""


def zero_absent(x: Array, present: Array) -> Array:
    """The entries, with 0 for absent heads, also where the entry is NaN."""
    return jnp.where(present, x, jnp.zeros_like(x))


def count(present: Array) -> Array:
    """How many heads are there, as float32."""
    return jnp.sum(present.astype(jnp.float32))


def total(x: Array, present: Array) -> Array:
    """Sum over the heads that are there."""
    return jnp.sum(zero_absent(x, present))


def highest(x: Array, present: Array) -> Array:
    """Largest entry of the heads that are there; a least number if there is none."""
    return jnp.max(jnp.where(present, x, -_LARGE))


def log_sum_exp(x: Array, present: Array) -> Array:
    """Log of the sum of exp(x) over the heads that are there."""
    shift = jax.lax.stop_gradient(highest(x, present))
    # The inner `where` keeps the derivative finite at absent heads.
    shifted = jnp.where(present, x, shift) - shift
    summed = total(jnp.exp(shifted), present)
    return shift + jnp.log(jnp.where(jnp.any(present), summed, 1.0))


def softmax(logits: Array, present: Array) -> Array:
    """Softmax over the heads that are there, 0 elsewhere."""
    logits = jnp.clip(logits, -_LARGE, _LARGE)
    shifted = jnp.where(present, logits - highest(logits, present), 0.0)
    return normalized(jnp.exp(shifted), present)


def normalized(x: Array, present: Array) -> Array:
    """Divided by the sum over the heads that are there, 0 elsewhere."""
    x = zero_absent(x, present)
    return _numerics.safe_divide(x, jnp.broadcast_to(jnp.sum(x), x.shape), 0.0)


def positive(values: Array) -> Array:
    """The values in float32, those that are not positive as the least normal number."""
    values = jnp.asarray(values, jnp.float32)
    return jnp.maximum(values, jnp.finfo(jnp.float32).tiny)
