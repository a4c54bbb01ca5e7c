"""Weights of another balancer, averaged over time."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._wrappers import _wrapped
from headwise.typing import Array
from headwise.typing import PyTree


class SmoothedState(NamedTuple):
    """The inner state and the averages."""

    names: _types.Names
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
        TypeError: `balancer` is none.

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
    return averaged("smoothed", "decay", balancer, decay)


def averaged(
    name: str, argument: str, balancer: _types.Balancer, decay: float | Array
) -> _types.Balancer:
    """`smoothed`, under the name of a factory and of its option."""
    _checks.balancer("balancer", balancer)
    _checks.below_one(argument, decay)

    def init(names: Sequence[str], params: PyTree = None) -> SmoothedState:
        names = _types.Names(names, name)
        heads = len(names)
        return SmoothedState(
            names,
            balancer.init(names, params),
            jnp.zeros(heads, jnp.float32),
            jnp.zeros(heads, bool),
        )

    def update(
        signals: _types.Signals, state: SmoothedState
    ) -> tuple[_types.Decision, SmoothedState]:
        decision, inner = balancer.update(signals, state.inner)
        fresh = _wrapped.weights_of(name, decision).astype(jnp.float32)
        usable = _signals.usable(signals)
        kept = jnp.asarray(decay, jnp.float32)
        average = kept * state.weights + (1 - kept) * fresh
        average = jnp.where(state.seen, average, fresh)
        average = jnp.where(usable, average, state.weights)
        new = SmoothedState(state.names, inner, average, state.seen | usable)
        return _types.Decision(_masked.zero_absent(average, usable)), new

    return _wrapped.wrapped(name, balancer, init, update)
