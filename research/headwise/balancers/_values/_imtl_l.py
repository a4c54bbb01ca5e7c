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

_LIMIT = 80.0


class ImtlLState(NamedTuple):
    """Learned log weights and the state of their own optimiser."""

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
    A value that is not positive counts as the least normal float32; s is kept within
    ±80, so that exp(s) stays in float32.

    Args:
        optimizer: of s; None means `optax.adam(1e-2)`. LibMTL and TorchJD hand s to the
            optimiser of the model, with its weight decay.
        initial: s at the start.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: `initial` is not a finite number.
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
    _checks.number("initial", initial)

    def init(names: Sequence[str], params: PyTree = None) -> ImtlLState:
        del params
        heads = len(_checks.head_names("imtl_l: names", names))
        s = jnp.full(heads, initial, jnp.float32)
        return ImtlLState(s, optimizer.init(s))

    def update(
        signals: _types.Signals, state: ImtlLState
    ) -> tuple[_types.Decision, ImtlLState]:
        s = state.log_weight
        values, present = _signals.read("imtl_l", s.shape[0], signals)
        weights = jnp.exp(s)
        slope = weights * _masked.positive(values) - 1.0
        s, moved = _optimizer.descend(optimizer, slope, s, state.optimizer, present)
        new = ImtlLState(jnp.clip(s, -_LIMIT, _LIMIT), moved)
        return _types.Decision(_masked.zero_absent(weights, present)), new

    return _types.Balancer(init, update)
