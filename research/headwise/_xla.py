"""Tricks that are played on compilers (draft)."""

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _numerics
from headwise.typing import Array

STACKED_SIZE = 2**18
"""Where a parameter has more entries, heads go one by one on CPU."""

LARGE_PART = 8
"""See `_parts`."""


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def stacks_heads(batched_products: bool, largest_factor: int) -> bool:
    return not on_cpu() or (batched_products and largest_factor <= STACKED_SIZE)


def turns_activations() -> bool:
    return on_cpu()


def after(x: Array, done: Array) -> Array:
    """x, unchanged, but not before `done` is computed.

    Compilers interleave independent backward passes, and then the intermediate arrays
    of all of them are alive at once. `lax.optimization_barrier` alone does not order
    them on every backend, so that x gets a true dependency: it adds the lowest bit of
    n (n + 1), which is 0.
    """
    if _numerics.has_sharding_type(done):
        return lax.optimization_barrier((x, done))[0]
    first = jnp.real(done[(0,) * done.ndim]) if done.size else jnp.zeros(())
    n = jnp.sum(lax.bitcast_convert_type(first, jnp.uint8).astype(jnp.uint32))
    return x + (n * (n + 1) & 1).astype(x.dtype)
