"""FairGrad: every head gets its fair share of the step."""

from headwise import _checks
from headwise import solvers
from headwise.balancers._core import _types
from headwise.balancers._gramian import _from_gram
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
    _checks.positive("alpha", alpha)

    def solve(
        gram: Array, present: Array, preferences: Array, signals: _types.Signals
    ) -> Array:
        del present, preferences, signals
        return solvers.fair(gram, alpha)

    return _from_gram.from_gram("fairgrad", solve)
