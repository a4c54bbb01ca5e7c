"""MGDA: the common descent direction of least norm."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import solvers
from headwise.balancers import _types
from headwise.typing import Array
from headwise.typing import PyTree


class MgdaState(NamedTuple):
    """The weights of the last step, for the log; MGDA itself has no memory."""

    weights: Array
    """[H]"""


def mgda() -> _types.Balancer:
    """Multiple-gradient descent: weights of the least-norm convex combination.

    ::

        w = argmin |Σ w_h g_h|²  subject to  w >= 0, Σ w = 1

    The direction Σ w_h g_h lowers every head's value to first order, or is 0 at a
    Pareto-stationary point. Solved exactly (`hw.solvers.min_norm`) on the gramian
    of the raw gradients; Frank-Wolfe, as the peers have it, is not exact.

    Returns:
        A balancer that needs the gramian. The weights sum to 1.

    Example:
        >>> balancer = hw.balancers.mgda()
        >>> gram = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))
        [0.6 0.4]

    References:
        Sener and Koltun, "Multi-task learning as multi-objective optimization",
        NeurIPS 2018, equation 4.
    """

    def init(names: Sequence[str], params: PyTree = None) -> MgdaState:
        del params
        heads = len(_types.sorted_names("mgda", names))
        return MgdaState(jnp.full(heads, 1.0 / heads, jnp.float32))

    def update(
        signals: _types.Signals, state: MgdaState
    ) -> tuple[_types.Decision, MgdaState]:
        _types.require("mgda", signals, "gram")
        _types.check_heads("mgda", state.weights.shape[0], signals)
        assert signals.gram is not None
        weights = solvers.min_norm(signals.gram, _types.presence(signals))
        weights = weights.astype(state.weights.dtype)
        return _types.Decision(weights), MgdaState(weights)

    return _types.Balancer(init, update, "gramian")
