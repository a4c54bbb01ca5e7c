"""Aligned-MTL: the gradients made orthogonal and equally long."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.balancers._core import _named
from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
from headwise.typing import Array


def aligned_mtl(
    scale: str = "min", preferences: _named.Given = None
) -> _types.Balancer:
    """The nearest orthogonal set of gradients, summed.

    With the eigenvalues λ and eigenvectors V of the gramian::

        w = σ V Λ^(-1/2) Vᵀ preferences

    so that the condition number of the summed system is 1 and no head dominates.
    Eigenvalues that are rounding of 0 are left out; the direction is 0 along them.

    Args:
        scale: σ². "min": the least eigenvalue (the paper); "median" or "rmse" (the
            mean) of the eigenvalues.
        preferences: {name: scalar >= 0}; None: 1 / H (LibMTL: 1 each).

    Returns:
        A balancer that needs the gramian. Scale: a mean over heads. Weights may be
        negative. A head whose gradient is zero, among others, gets weight 0.

    Raises:
        ValueError: unknown `scale`; a preference is negative; `init` gets other names
            than `preferences` has.

    Example:
        >>> balancer = hw.balancers.aligned_mtl()
        >>> gram = jnp.array([[4.0, 0.0], [0.0, 1.0]])  # the longer one is cut to 1
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)
        [0.25 0.5 ]

    References:
        Senushkin et al., "Independent component alignment for multi-task learning",
        CVPR 2023, algorithm 1.
    """
    _named.check("preferences", preferences, _checks.nonnegative)
    _checks.choice("scale", ["min", "median", "rmse"], scale)

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del present, signals
        trace = jnp.max(jnp.diagonal(gram))  # the weights do not depend on it
        unit = _numerics.safe_divide(gram, jnp.broadcast_to(trace, gram.shape), 0.0)
        values, vectors, kept = _from_gram.spectrum(unit)
        known = jnp.where(kept, values, jnp.nan)
        size = {
            "min": jnp.nanmin(known),
            "median": jnp.nanmedian(known),
            "rmse": jnp.nanmean(known),
        }[scale]
        inverse = jnp.where(kept, jnp.sqrt(size / jnp.where(kept, values, 1.0)), 0.0)
        dot = jax.lax.Precision.HIGHEST
        along = jnp.matmul(vectors.T, preferences, precision=dot)
        weights = jnp.matmul(vectors, inverse * along, precision=dot)
        return jnp.where(jnp.any(kept), weights, preferences)

    return _from_gram.from_gram("aligned_mtl", solve, preferences)
