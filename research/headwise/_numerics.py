"""Arithmetic that is safe at the edges: no NaN from 0 / 0, float32 accumulation."""

import jax.numpy as jnp

from headwise.typing import Array


def accumulator(*arrays: Array) -> jnp.dtype:
    """The dtype to sum in: at least float32, float64 where an input is float64."""
    return jnp.result_type(jnp.float32, *(array.dtype for array in arrays))


def safe_divide(numerator: Array, denominator: Array, empty: float) -> Array:
    """Numerator / denominator, and `empty` where the denominator is 0.

    The double `where` keeps the gradient finite (and zero) there too.
    """
    zero = denominator == 0
    ratio = numerator / jnp.where(zero, jnp.ones_like(denominator), denominator)
    return jnp.where(zero, jnp.full_like(ratio, empty), ratio)


def drop_zero_weight(weight: Array, value: Array) -> Array:
    """Weight * value, and 0 where the weight is 0 even if the value is NaN."""
    absent = weight == 0
    return weight * jnp.where(absent, jnp.zeros_like(value), value)
