"""Nash-MTL and FairGrad: weights by which every head gets its fair share."""

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise import solvers
from headwise.balancers import _from_gram
from headwise.balancers import _types
from headwise.typing import Array


def fairgrad(alpha: float | Array = 1.0) -> _types.Balancer:
    """Fair resource allocation: α-fair weights.

    ::

        G w = w^(-1/α),  w > 0

    Then each head's decrease <g_h, Σ w g> is w_h^(-1/α) > 0. Solved by damped Newton
    steps on the convex function behind it (`hw.solvers.fair`), right at any scale of
    the gradients; with α = 1 the step has length √H at any scale: wrap it in `rescaled`
    or clip it where steps should shrink with the gradients.

    Args:
        alpha: > 0; 1 is proportional fairness, larger ones approach max-min fairness.
            May be traced.

    Returns:
        A balancer that needs the gramian. Scale: the paper's; see above. A head with a
        zero gradient gets weight 0.

    Raises:
        ValueError: `alpha` is a number that is not positive.

    Example:
        >>> balancer = hw.balancers.fairgrad()
        >>> gram = jnp.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> signals = hw.balancers.Signals(values=jnp.ones(2), gram=gram)
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))
        [0.5915 0.4071]

    References:
        Ban and Ji, "Fair resource allocation in multi-task learning", ICML 2024,
        equation 6.
    """
    if isinstance(alpha, int | float) and not alpha > 0:
        raise ValueError(f"alpha: expected a positive number, got {alpha}")

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del present, preferences, signals
        return solvers.fair(gram, alpha)

    return _from_gram.from_gram("fairgrad", solve)


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
    if isinstance(max_norm, int | float) and not max_norm > 0:
        raise ValueError(f"max_norm: expected a positive number, got {max_norm}")

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
