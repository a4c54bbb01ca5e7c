"""CAGrad: near the mean gradient, the direction that serves the worst head best."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import solvers
from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
from headwise.typing import Array


def cagrad(c: float | Array = 0.5, rescale: str = "none") -> _types.Balancer:
    """Conflict-averse gradient descent.

    ::

        d = argmax_d  min_h <g_h, d>  subject to  |d - g0| <= c |g0|,   g0 = Σ g_h / H

    c = 0 is the mean gradient; large c approaches MGDA. Solved exactly and at any scale
    (`hw.solvers.conflict_averse`), where the peers call a general solver on the host.
    Within reach of a Pareto-stationary point, where the paper's formula is 0 / 0, d is
    the point nearest to g0 that lowers no head.

    Args:
        c: radius, >= 0; the paper uses 0.2 to 0.8. May be traced.
        rescale: of d. "none": 1 (the paper, TorchJD); "square": 1 / (1 + c²) (LibMTL's
            default); "linear": 1 / (1 + c).

    Returns:
        A balancer that needs the gramian. Scale: a mean over heads.

    Raises:
        ValueError: c < 0; unknown `rescale`.

    Example:
        >>> balancer = hw.balancers.cagrad(c=0.5)
        >>> gram = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))
        [0.7041 0.5   ]

    References:
        Liu et al., "Conflict-averse gradient descent for multi-task learning", NeurIPS
        2021, equation 3 and algorithm 1.
    """
    _checks.nonnegative("c", c)
    _checks.choice("rescale", ["none", "square", "linear"], rescale)

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del present, signals
        radius = jnp.asarray(c, gram.dtype)
        pull = jnp.matmul(gram, preferences, precision=jax.lax.Precision.HIGHEST)
        mean = jnp.sqrt(jnp.maximum(jnp.sum(preferences * pull), 0.0))
        weights = preferences + solvers.conflict_averse(
            gram, preferences, radius * mean
        )
        one = jnp.ones_like(radius)
        size = {"none": one, "square": one + radius**2, "linear": one + radius}
        return weights / size[rescale]

    return _from_gram.from_gram("cagrad", solve)
