"""Projections."""

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.solvers import _scaling
from headwise.typing import Array


def project_simplex(point: Array, present: Array | None = None) -> Array:
    """The point of the simplex that is nearest.

    ::

        argmin_w |w - point|²   subject to  w >= 0, Σ w = 1

    Exact, by sorting: w = max(point - τ, 0) with the τ that makes the sum 1.

    Args:
        point: [H].
        present: [H] bool; the others get 0 and do not count.

    Returns:
        [H], >= 0, sum 1 (0 if none is present).

    Example:
        >>> print(hw.solvers.project_simplex(jnp.array([0.5, 1.0, -2.0])))
        [0.25 0.75 0.  ]

    References:
        Duchi et al., "Efficient projections onto the l1-ball for learning in high
        dimensions", ICML 2008, figure 1.
    """
    point = _checks.array("point", point)
    if point.ndim != 1 or not point.size:
        raise ValueError(f"point: expected [H], got shape {point.shape}")
    point = point.astype(_numerics.accumulator(point))
    present = _scaling.flags(present, len(point))
    low = jnp.where(present, point, -jnp.inf)
    top = jnp.max(jnp.where(present, point, jnp.finfo(point.dtype).min))
    # Relative to the largest: nothing is lost where all are large.
    shifted = jnp.where(present, point - top, -jnp.inf)
    ordered = -jnp.sort(-shifted)
    finite = jnp.isfinite(ordered)
    sums = jnp.cumsum(jnp.where(finite, ordered, 0.0))
    counts = jnp.arange(1, point.shape[0] + 1, dtype=point.dtype)
    thresholds = (sums - 1.0) / counts
    inside = finite & (ordered > thresholds)
    last = jnp.maximum(jnp.sum(inside) - 1, 0)
    w = jnp.maximum(shifted - thresholds[last], 0.0)
    return jnp.where(present & jnp.isfinite(low), w, 0.0)
