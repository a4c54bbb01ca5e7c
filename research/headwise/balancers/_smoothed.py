"""Weights of another balancer, averaged over time."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise.balancers import _inner
from headwise.balancers import _masked
from headwise.balancers import _types
from headwise.typing import Array
from headwise.typing import PyTree


class SmoothedState(NamedTuple):
    """The inner state and the averages."""

    inner: Any
    weights: Array
    """[H] averages so far."""
    seen: Array
    """[H] bool, whether a head was there yet."""


def smoothed(balancer: _types.Balancer, decay: float | Array = 0.9) -> _types.Balancer:
    """An exponential moving average of the weights of a balancer.

    ::

        weight_t = decay weight_{t-1} + (1 - decay) * (inner weight_t)

    The first weight of a head is the inner one. Weights that jump with every batch,
    as those of solvers do, correlate with the gradients that they weigh and bias the
    step; averaged ones hardly do.

    Args:
        balancer: one that answers with weights, not with a direction.
        decay: in [0, 1); 0 changes nothing.

    Returns:
        A balancer with the same needs. An absent head has weight 0 and keeps its
        average until it is back; the sum of the weights is that of the inner ones only
        while no head comes or goes.

    Raises:
        ValueError: decay is outside [0, 1); the balancer answers with a direction.

    Example:
        >>> balancer = hw.balancers.smoothed(hw.balancers.mgda(), decay=0.5)
        >>> state = balancer.init(["a", "b"])
        >>> for diagonal in ([1.0, 1.0], [1.0, 3.0]):  # MGDA: 1/2, 1/2; then 3/4, 1/4
        ...     signals = hw.Signals(jnp.ones(2), gram=jnp.diag(jnp.array(diagonal)))
        ...     decision, state = balancer.update(signals, state)
        ...     print(np.asarray(decision.weights).round(4))
        [0.5 0.5]
        [0.625 0.375]

    References:
        Zhou et al., "On the convergence of stochastic multi-objective gradient
        manipulation and beyond", NeurIPS 2022, algorithm 1.
    """
    return _build("smoothed", "decay", balancer, decay)


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
    return _build("cr_mogm", "smoothing", balancer, smoothing)


def _build(
    name: str, argument: str, balancer: _types.Balancer, decay: float | Array
) -> _types.Balancer:
    _masked.check_number(argument, decay, "a number in [0, 1)", lambda x: 0 <= x < 1)

    def init(names: Sequence[str], params: PyTree = None) -> SmoothedState:
        names = _types.sorted_names(name, names)
        heads = len(names)
        return SmoothedState(
            balancer.init(names, params),
            jnp.zeros(heads, jnp.float32),
            jnp.zeros(heads, bool),
        )

    def update(
        signals: _types.Signals, state: SmoothedState
    ) -> tuple[_types.Decision, SmoothedState]:
        _types.check_heads(name, state.weights.shape[0], signals)
        decision, inner = balancer.update(signals, state.inner)
        fresh = _inner.weights_of(name, decision).astype(jnp.float32)
        usable = _inner.usable(signals)
        kept = jnp.asarray(decay, jnp.float32)
        average = kept * state.weights + (1 - kept) * fresh
        average = jnp.where(state.seen, average, fresh)
        average = jnp.where(usable, average, state.weights)
        new = SmoothedState(inner, average, state.seen | usable)
        return _types.Decision(_masked.zero_absent(average, usable)), new

    return _types.Balancer(
        init,
        update,
        balancer.needs,
        _inner.due_of(balancer),
        _inner.after_of(balancer),
        balancer.batches,
    )
