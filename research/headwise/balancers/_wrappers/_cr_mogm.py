"""CR-MOGM: averaged weights, under the name of its paper."""

from headwise.balancers._core import _types
from headwise.balancers._wrappers import _smoothed
from headwise.typing import Array


def cr_mogm(
    balancer: _types.Balancer, smoothing: float | Array = 0.9
) -> _types.Balancer:
    """Correlation-reduced multi-objective gradient manipulation: `smoothed` weights.

    ::

        λ_t = α λ_{t-1} + (1 - α) λ̂_t,   direction Σ λ_t,h g_h

    with λ̂ the weights of the wrapped method (the paper: MGDA, CAGrad, PCGrad) and λ_0
    the first of them.

    Args:
        balancer: one that answers with weights, not with a direction.
        smoothing: the paper's α, in [0, 1).

    Returns:
        A balancer with the same needs, the same as `smoothed(balancer, α)`.

    Raises:
        ValueError: smoothing is outside [0, 1); the balancer answers with a direction.
        TypeError: `balancer` is none.

    Example:
        >>> balancer = hw.balancers.cr_mogm(hw.balancers.mgda(), smoothing=0.9)
        >>> signals = hw.Signals(jnp.ones(2), gram=jnp.diag(jnp.array([1.0, 3.0])))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))
        [0.75 0.25]

    References:
        Zhou et al., "On the convergence of stochastic multi-objective gradient
        manipulation and beyond", NeurIPS 2022, algorithm 1. TorchJD starts at the
        first weights too; earlier versions of it started at 1 / H.
    """
    return _smoothed.averaged("cr_mogm", "smoothing", balancer, smoothing)
