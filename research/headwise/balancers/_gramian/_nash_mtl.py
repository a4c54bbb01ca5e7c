"""Nash-MTL: the heads bargain over the step."""

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import solvers
from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
from headwise.typing import Array


def nash_mtl(
    max_norm: float | Array | None = 1.0, normalized: bool = True
) -> _types.Balancer:
    """Nash-MTL: the heads bargain over the direction.

    ::

        G α = 1 / α,  α > 0,   w = √|G| α  (Frobenius norm),   |Σ w g| <= max_norm

    The direction is the one whose product of decreases Π <g_h, d> is largest in a ball.
    Solved by damped Newton steps (`hw.solvers.fair`) instead of a sequence of conic
    programs with a fallback to the weights of the step before. For a solution every k
    steps, as the paper does, use `every(k, nash_mtl())`.

    Args:
        max_norm: of the direction; None: unlimited. As |Σ w g|² = H |G|, the limit of 1
            acts whenever gradients are not tiny.
        normalized: take the problem of G / |G|, as the published code does; False:
            w = α, the paper's equation.

    Returns:
        A balancer that needs the gramian. A head with a zero gradient gets weight 0.

    Raises:
        ValueError: `max_norm` is a number that is not positive.
        TypeError: `normalized` is not a bool.

    Example:
        >>> balancer = hw.balancers.nash_mtl(max_norm=None)
        >>> gram = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(3))
        [4.278 2.944]

    References:
        Navon et al., "Multi-task learning as a bargaining game", ICML 2022, claim 3.1
        and section 3.2.
    """
    if max_norm is not None:  # inf is as good as None
        _checks.in_range("max_norm", max_norm, "a positive number", lambda x: x > 0)
    _checks.boolean("normalized", normalized)

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del present, preferences, signals
        weights = solvers.fair(gram)
        if normalized:
            largest = jnp.max(jnp.abs(gram))
            unit = _numerics.safe_divide(
                gram, jnp.broadcast_to(largest, gram.shape), 0.0
            )
            size = jnp.sqrt(jnp.sqrt(jnp.sum(unit * unit)))
            weights = weights * size * jnp.sqrt(largest)
        if max_norm is None:
            return weights
        pull = jnp.matmul(gram, weights, precision=jax.lax.Precision.HIGHEST)
        norm = jnp.sqrt(jnp.maximum(jnp.sum(weights * pull), 0.0))
        limit = jnp.asarray(max_norm, gram.dtype)
        return weights * jnp.where(norm > limit, limit / norm, 1.0)

    return _from_gram.from_gram("nash_mtl", solve)
