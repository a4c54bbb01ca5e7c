"""PCGrad: every gradient loses what conflicts with the others."""

import jax.numpy as jnp

from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
from headwise.balancers._gramian import _surgery
from headwise.typing import Array


def pcgrad() -> _types.Balancer:
    """Projecting conflicting gradients, then summing.

    For every head i, over the others j in random order::

        if <p_i, g_j> < 0:   p_i = p_i - <p_i, g_j> / |g_j|² g_j,     p_i = g_i at first
        direction = Σ_i p_i

    All on the gramian: p_i is a row of coefficients. The order matters from three heads
    on; it is drawn from the step's key.

    Returns:
        A balancer that needs the gramian and a key. Scale: a sum over heads. A head
        with a zero gradient has weight 1 and no effect.

    Example:
        >>> balancer = hw.balancers.pcgrad()
        >>> gram = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> signals = hw.balancers.Signals(jnp.ones(2), gram, key=jax.random.key(0))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))      # 1 + 22 / 18, 1 + 22 / 38
        [2.2222 1.5789]

    References:
        Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020,
        algorithm 1.
    """

    def project(cosine: Array, length: Array, state: Array) -> tuple[Array, Array]:
        return jnp.where(cosine < 0, -cosine * length, 0.0), state

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del preferences
        assert signals.key is not None
        memory = jnp.zeros_like(gram)
        return _surgery.operate(gram, present, signals.key, project, memory)[0]

    return _from_gram.from_gram("pcgrad", solve, signals=["key"])
