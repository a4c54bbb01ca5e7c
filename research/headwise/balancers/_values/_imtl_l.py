"""IMTL-L: every weighted value is driven to 1."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp
import optax

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _optimizer
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class ImtlLState(NamedTuple):
    """Learned log weights and the state of their own optimiser."""

    names: _types.Names
    log_weight: Array
    """[H] s"""
    optimizer: Any


def imtl_l(
    optimizer: optax.GradientTransformation | None = None, initial: float = 0.0
) -> _types.Balancer:
    """Impartial learning of the loss scales: log weights s_h are learned.

    ::

        total = Σ exp(s_h) value_h - s_h,   weight_h = exp(s_h)

    s_h goes down its own derivative exp(s_h) value_h - 1, and is at rest where every
    weighted value is 1, whatever the scale of the loss. The weights have no fixed sum.
    A value that is not positive has no such point: the head keeps its s. s stays within
    ±14, weights between 1e-6 and 1e6, and its derivative within ±100, so that a head
    whose value was next to 0 comes back.

    Args:
        optimizer: of s; None means `optax.adam(1e-2)`. LibMTL and TorchJD hand s to the
            optimiser of the model, with its weight decay.
        initial: s at the start, within ±14.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: `initial` is out of its range.
        TypeError: `optimizer` is not one of optax.

    Example:
        >>> balancer = hw.balancers.imtl_l(optax.sgd(0.5))
        >>> state = balancer.init(["a", "b"])
        >>> signals = hw.Signals(values=jnp.array([1.0, 3.0]))
        >>> decision, state = balancer.update(signals, state)
        >>> print(decision.weights, state.log_weight)  # s - 0.5 * (value - 1)
        [1. 1.] [ 0. -1.]

    References:
        Liu et al., "Towards impartial multi-task learning", ICLR 2021, section 3.2.
    """
    optimizer = _optimizer.given_or(optimizer, optax.adam(1e-2))
    _checks.between("initial", -_optimizer.LIMIT, _optimizer.LIMIT, initial)

    def init(names: Sequence[str], params: PyTree = None) -> ImtlLState:
        del params
        names = _types.Names(names, "imtl_l")
        s = jnp.full(len(names), initial, jnp.float32)
        return ImtlLState(names, s, optimizer.init(s))

    def update(
        signals: _types.Signals, state: ImtlLState
    ) -> tuple[_types.Decision, ImtlLState]:
        values, present = _signals.read("imtl_l", state, signals)
        s = state.log_weight
        weights = jnp.exp(s)
        slope = weights * values - 1.0
        s, moved = _optimizer.descend_log(
            optimizer, slope, s, state.optimizer, present & (values > 0)
        )
        decision = _types.Decision(_masked.zero_absent(weights, present))
        return decision, ImtlLState(state.names, s, moved)

    return _types.Balancer(init, update)
