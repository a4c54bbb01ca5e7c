"""The point of least norm in the convex hull of the head gradients."""

import functools

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise.typing import Array


def min_norm(gram: Array, present: Array | None = None) -> Array:
    """Weights on the simplex that minimise the norm of the weighted gradient.

    ::

        argmin_w  wᵀ gram w   subject to  w >= 0, Σ w = 1

    Solved as the non-negative problem `min 1/2 aᵀQa - qᵀa, a >= 0` on the gramian of
    the unit gradients (w is a rescaled), by an active set with a fixed number of
    iterations: runs inside `jit` and `vmap`, and answers the same at every scale of
    the gradients. A ridge of 3e-6 (6e-15 in float64) of the unit diagonal keeps
    singular problems solvable.

    Args:
        gram: [H, H], positive semi-definite; float32 or float64, H up to 64.
        present: [H] bool; the others get weight 0 and do not count.

    Returns:
        [H] weights, >= 0, sum 1 (0 if none is present). Heads with zero gradient
        share all the weight: the least norm is then 0. One head gets 1; equal heads
        get equal weights; antiparallel ones those that cancel.

    Raises:
        ValueError: `gram` is not [H, H].

    Example:
        >>> w = hw.balancers.min_norm(jnp.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(np.asarray(w).round(4))
        [0.6 0.4]

    References:
        Désidéri, "Multiple-gradient descent algorithm", C. R. Math. 2012; the
        active set: Nocedal and Wright, "Numerical optimization", 2006, section 16.5.
    """
    gram = jnp.asarray(gram)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram: expected [H, H], got shape {gram.shape}")
    gram = gram.astype(_numerics.accumulator(gram))
    heads, dtype = gram.shape[0], gram.dtype
    if present is None:
        present = jnp.ones(heads, bool)
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
    zero = present & (lengths == 0)
    active = present & (lengths > 0)
    lengths = jnp.where(active, lengths, jnp.ones_like(lengths))
    both = active[:, None] & active[None, :]
    identity = jnp.eye(heads, dtype=dtype)
    ridge = jnp.asarray(25 * jnp.finfo(dtype).eps, dtype)
    # Two divisions: a product of lengths would leave the range of float32.
    unit = (gram / lengths[:, None]) / lengths[None, :]
    q_matrix = jnp.where(both, unit, jnp.zeros_like(unit)) * (1 - identity)
    q_matrix = q_matrix + identity * (1 + ridge)
    q = jnp.where(active, jnp.min(jnp.where(active, lengths, jnp.inf)) / lengths, 0.0)
    iterations = 30 + 2 * heads
    # Accelerators would round the factors to fewer bits than the answer needs.
    dot = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

    def objective(x: Array) -> Array:
        return 0.5 * dot(x, dot(q_matrix, x)) - dot(q, x)

    def body(i: Array, carry: tuple) -> tuple:
        fixed, best, least = carry
        either = fixed[:, None] | fixed[None, :]
        free = jnp.where(either, identity, q_matrix)
        x = jnp.linalg.solve(free, jnp.where(fixed, jnp.zeros_like(q), q))
        feasible = jnp.maximum(x, 0.0)
        value = objective(feasible)
        best = jnp.where(value < least, feasible, best)
        least = jnp.minimum(value, least)
        slope = dot(q_matrix, x) - q
        violation = jnp.where(fixed, -slope, -x)
        # All violated constraints change sides at first; later one at a time, which
        # cannot cycle.
        all_at_once = jnp.where(fixed, slope >= 0, x < 0)
        worst = jnp.argmax(violation)
        flipped = jnp.where(violation[worst] > 0, ~fixed[worst], fixed[worst])
        fixed = jnp.where(
            i < iterations // 2, all_at_once, fixed.at[worst].set(flipped)
        )
        return fixed | ~active, best, least

    start = (~active, jnp.zeros_like(q), jnp.asarray(jnp.inf, dtype))
    _, best, _ = jax.lax.fori_loop(0, iterations, body, start)
    weights = best * q  # best / length, up to scale
    weights = jnp.where(jnp.any(zero), zero.astype(dtype), weights)
    total = jnp.sum(weights)
    return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), weights)
