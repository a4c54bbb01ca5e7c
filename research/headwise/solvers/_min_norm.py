"""The point of least norm in the convex hull of the head gradients."""

import functools

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.solvers import _box_qp
from headwise.solvers import _scaling
from headwise.typing import Array


def min_norm(gram: Array, present: Array | None = None) -> Array:
    """Weights on the simplex that minimise the norm of the weighted gradient.

    ::

        argmin_w  wᵀ gram w   subject to  w >= 0, Σ w = 1

    Solved as the non-negative problem `min 1/2 aᵀQa - qᵀa, a >= 0` on the gramian of
    the unit gradients (w is a rescaled), exactly, by the active set of `box_qp`: runs
    inside `jit` and `vmap`, and answers the same at every scale of the gradients.

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
        >>> w = hw.solvers.min_norm(jnp.array([[18.0, -22.0], [-22.0, 38.0]]))
        >>> print(np.asarray(w).round(4))
        [0.6 0.4]

    References:
        Désidéri, "Multiple-gradient descent algorithm", C. R. Math. 2012; the
        active set: Nocedal and Wright, "Numerical optimization", 2006, section 16.5.
    """
    gram = _checks.array("gram", gram)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram: expected [H, H], got shape {gram.shape}")
    gram, _ = _scaling.as_problem(gram, gram[0])
    return _solved(gram, _scaling.flags(present, len(gram)))


# Traced once for all problems of one size.
@functools.partial(jax.jit, inline=True)
def _solved(gram: Array, present: Array) -> Array:
    gram = jnp.where(present[:, None] & present[None, :], gram, 0.0)
    unit, lengths, active = _scaling.unit_diagonal(gram)
    zero = present & ~active
    least = jnp.min(jnp.where(active, lengths, jnp.inf))
    q = jnp.where(active, least / lengths, 0.0)
    a = _box_qp.solve_unit(
        unit, q, jnp.zeros_like(q), jnp.full_like(q, jnp.inf), active
    )
    weights = a * q  # a / length, up to scale
    weights = jnp.where(jnp.any(zero), zero.astype(gram.dtype), weights)
    total = jnp.sum(weights)
    return jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), weights)
