"""Weights of another balancer kept between bounds."""

import math
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


class ClippedState(NamedTuple):
    """The inner state."""

    names: _types.Names
    inner: Any


def clipped(
    balancer: _types.Balancer,
    lower: float | Array = 0.0,
    upper: float | Array = math.inf,
) -> _types.Balancer:
    """Keeps the weights of a balancer between two bounds.

    ::

        weight_h = min(max(inner weight_h, lower), upper)

    Args:
        balancer: one that answers with weights, not with a direction.
        lower: the least weight of a head that is there; may be -inf.
        upper: the largest; at least `lower`.

    Returns:
        A balancer with the same needs. Absent heads have weight 0 whatever the bounds.

    Raises:
        ValueError: lower > upper; the balancer answers with a direction.
        TypeError: `balancer` is none.

    Example:
        >>> inner = hw.balancers.constant({"a": 0.1, "b": 9.0})
        >>> balancer = hw.balancers.clipped(inner, 0.5, 2.0)
        >>> signals = hw.Signals(values=jnp.ones(2))
        >>> print(balancer.update(signals, balancer.init(["a", "b"]))[0].weights)
        [0.5 2. ]
    """
    _checks.balancer("balancer", balancer)
    _checks.in_range("lower", lower, "a number, not NaN", lambda x: x == x)
    least, expected = -math.inf, "a number, not NaN"
    if _checks.is_static(lower):
        least, expected = float(lower), f"a number >= lower, {lower}"
    _checks.in_range("upper", upper, expected, lambda x: x >= least)

    def init(names: Sequence[str], params: PyTree = None) -> ClippedState:
        names = _types.Names(names, "clipped")
        return ClippedState(names, balancer.init(names, params))

    def update(
        signals: _types.Signals, state: ClippedState
    ) -> tuple[_types.Decision, ClippedState]:
        decision, inner = balancer.update(signals, state.inner)
        weights = jnp.clip(_wrapped.weights_of("clipped", decision), lower, upper)
        weights = weights.astype(decision.weights.dtype)
        weights = _masked.zero_absent(weights, _signals.usable(signals))
        return _types.Decision(weights), state._replace(inner=inner)

    def alone(state: ClippedState) -> Array:
        return jnp.clip(_wrapped.alone(balancer, state), lower, upper)

    return _wrapped.wrapped("clipped", balancer, init, update, alone=alone)
