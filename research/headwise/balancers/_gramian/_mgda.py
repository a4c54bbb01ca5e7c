"""MGDA: the common descent direction of least norm."""

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import solvers
from headwise.balancers._core import _masked
from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
from headwise.typing import Array


def mgda(
    normalization: str = "none", normalized_update: bool = False
) -> _types.Balancer:
    """Multiple-gradient descent: weights of the least-norm convex combination.

    ::

        w = argmin |Σ w_h g_h / n_h|²  subject to  w >= 0, Σ w = 1

    The direction Σ w_h g_h (n = 1) lowers every head's value to first order, or is 0 at
    a Pareto-stationary point. Solved exactly (`hw.solvers.min_norm`) on the gramian;
    Frank-Wolfe, as the peers have it, is not exact.

    Args:
        normalization: n_h. "none": 1; "l2": |g_h|; "loss": the value; "loss+": value
            times |g_h|. A head whose value is not positive has the largest n of all; a
            positive one counts as 1e-12 at least.
        normalized_update: the weights act on g_h / n_h (LibMTL), so that those of g_h
            are w_h / n_h and do not sum to 1; False: on g_h (Sener and Koltun).

    Returns:
        A balancer that needs the gramian. The weights sum to 1.

    Raises:
        ValueError: unknown `normalization`.
        TypeError: `normalized_update` is not a bool.

    Example:
        >>> balancer = hw.balancers.mgda()
        >>> gram = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))
        [0.6 0.4]

    References:
        Sener and Koltun, "Multi-task learning as multi-objective optimization",
        NeurIPS 2018, equation 4; the normalisations: its published code.
    """
    choices = ["none", "l2", "loss", "loss+"]
    _checks.choice("normalization", choices, normalization)
    _checks.boolean("normalized_update", normalized_update)

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del preferences
        if normalization == "none":
            return solvers.min_norm(gram, present)
        lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
        values = jnp.where(present, signals.values, 1.0).astype(gram.dtype)
        values = jnp.where(values > 0, jnp.maximum(values, _masked.LEAST), 0.0)
        size = {"l2": lengths, "loss": values, "loss+": values * lengths}[normalization]
        size = jnp.where(present & (size > 0), size, jnp.max(size))
        # In units of the least: only their relations matter.
        least = jnp.min(jnp.where(size > 0, size, jnp.inf))
        factor = _numerics.safe_divide(jnp.full_like(size, least), size, 1.0)
        scaled = (gram * factor[:, None]) * factor[None, :]
        weights = solvers.min_norm(scaled, present)
        if not normalized_update:
            return weights
        return _numerics.safe_divide(weights, size, 0.0)

    return _from_gram.from_gram("mgda", solve)
