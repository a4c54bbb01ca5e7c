"""Arithmetic over the heads that are there, as if the others did not exist."""

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise.typing import Array

LARGEST = 1e6
"""The largest weight, or part of one, that a method makes of a tiny value.

Of two gradients that far apart one digit of the smaller one is left in their sum in
float32; a larger weight would do no more than throw the parameters.
"""

LEAST = 1e-12
"""A positive value counts as at least that where a method divides by it alone.

The square of what float32 rounds off of 1 is 1e-14: a smaller value is noise.
"""

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


def beside(weights: Array, counted: Array, present: Array) -> Array:
    """Weights of a mean over `counted`, and an equal part, 1 / H, for the others.

    H heads are there. Those that do not count, since a method has no answer for their
    value, leave the sum of all weights as it is.
    """
    many = jnp.maximum(count(present), 1.0)
    equal = present.astype(weights.dtype) / many
    return jnp.where(counted, weights * (count(counted) / many), equal)


def counted_on(counts: Array, present: Array) -> Array:
    """Counts of int32 with one more for the heads that are there."""
    return counts + present.astype(counts.dtype)


def positive(values: Array) -> Array:
    """The values in float32, those that are not positive as the least normal number."""
    values = jnp.asarray(values, jnp.float32)
    return jnp.maximum(values, jnp.finfo(jnp.float32).tiny)
