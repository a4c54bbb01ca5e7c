"""Gradient surgery on coefficients, for PCGrad and GradVac."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise.balancers._gramian import _from_gram
from headwise.typing import Array


def operate(
    gram: Array,
    present: Array,
    key: Array,
    edit: Callable[[Array, Array, Array], tuple[Array, Array]],
    memory: Array,
) -> tuple[Array, Array]:
    """Gradient surgery on coefficients.

    Args:
        gram: [H, H] with zeros for absent heads.
        present: [H].
        key: of the orders.
        edit: (cosine of p_i and g_j, |p_i|, memory_ij), [H] each over i -> (how much of
            the unit vector along g_j is added to p_i, new memory_ij).
        memory: [H, H].

    Returns:
        [H] weights of Σ p_i, and the memory.
    """
    heads = gram.shape[0]
    unit, lengths, active = _from_gram.unit_rows(gram)
    largest = jnp.max(jnp.where(active, lengths, 0.0))
    scale = jnp.where(largest > 0, largest, 1.0)
    draws = jax.random.uniform(key, (heads, heads), jnp.float32)  # also under x64
    orders = jnp.argsort(draws, axis=1)
    rows = jnp.arange(heads)
    precise = jax.lax.Precision.HIGHEST

    def visit(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        parts, memory = carry  # parts: [H, H], of unit gradients
        j = orders[:, k]
        pulls = jnp.matmul(parts, unit, precision=precise)
        squared = jnp.sum(parts * pulls, axis=1)
        length = jnp.sqrt(jnp.maximum(squared, 0.0))
        along = pulls[rows, j]
        safe = jnp.where(length > 0, length, 1.0)
        cosine = jnp.clip(jnp.where(length > 0, along / safe, 0.0), -1.0, 1.0)
        added, kept = edit(cosine, length, memory[rows, j])
        real = (j != rows) & active & active[j]
        parts = parts.at[rows, j].add(jnp.where(real, added, 0.0))
        seen = memory.at[rows, j].set(jnp.where(real, kept, memory[rows, j]))
        return parts, seen

    start = jnp.diag(jnp.where(active, lengths / scale, 0.0))
    first = _numerics.alike((start, memory), unit, active)
    parts, memory = jax.lax.fori_loop(0, heads, visit, first)
    weights = jnp.sum(parts, axis=0) * (scale / lengths)
    return jnp.where(active, weights, present.astype(gram.dtype)), memory
