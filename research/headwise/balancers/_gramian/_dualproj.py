"""DualProj: the sum projected onto the cone in which no head loses."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import solvers
from headwise.balancers._core import _named
from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
from headwise.typing import Array


def dualproj(preferences: _named.Given = None) -> _types.Balancer:
    """The summed gradient is projected on the dual cone of all gradients.

    ::

        direction = argmin_d |d - Σ u_h g_h|²  subject to  <g_k, d> >= 0 for all k

    One quadratic program, solved exactly (`hw.solvers.nonnegative_qp`).

    Args:
        preferences: {name: u_h >= 0}; None: 1 / H.

    Returns:
        A balancer that needs the gramian. Scale: a mean over heads.

    Raises:
        ValueError: a preference is negative; `init` gets other names.

    Example:
        >>> balancer = hw.balancers.dualproj()
        >>> gram = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))           # 1/2 * 22 / 18, 1/2
        [0.6111 0.5   ]

    References:
        Lopez-Paz and Ranzato, "Gradient episodic memory for continual learning",
        NeurIPS 2017, equation 11.
    """
    _named.check("preferences", preferences, _checks.nonnegative)

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del present, signals
        pull = -jnp.matmul(gram, preferences, precision=jax.lax.Precision.HIGHEST)
        return preferences + solvers.nonnegative_qp(gram, pull)

    return _from_gram.from_gram("dualproj", solve, preferences)
