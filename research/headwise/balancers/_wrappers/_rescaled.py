"""Weights of another balancer at a fixed sum."""

import math
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _directions
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._wrappers import _wrapped
from headwise.typing import Array
from headwise.typing import PyTree


class RescaledState(NamedTuple):
    """The inner state."""

    names: _types.Names
    inner: Any


def rescaled(
    balancer: _types.Balancer, total: str | float | Array = "heads"
) -> _types.Balancer:
    """Scales the weights of a balancer to a fixed sum.

    ::

        weight_h = inner weight_h * total / Σ inner weight

    Balancers differ in how far they go (weights that sum to 1, to H, or to nothing in
    particular): this makes their learning rates comparable.

    Args:
        balancer: any. A direction is scaled by the same factor as its weights.
        total: "heads": the number of heads that are there, the sum that equal weights
            have; or a positive number.

    Returns:
        A balancer with the same needs. Weights whose sum is not positive stay as they
        are: no factor would give the sum without turning the direction round.

    Raises:
        ValueError: `total` is neither "heads" nor a positive number.
        TypeError: `balancer` is none.

    Example:
        >>> balancer = hw.balancers.rescaled(hw.balancers.mgda())
        >>> signals = hw.Signals(jnp.ones(2), gram=jnp.diag(jnp.array([1.0, 3.0])))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))  # MGDA: 3/4 and 1/4
        [1.5 0.5]
    """
    _checks.balancer("balancer", balancer)
    if not isinstance(total, str) or total != "heads":
        expected = "'heads' or a positive number"
        _checks.in_range("total", total, expected, lambda x: 0 < x < math.inf)

    def init(names: Sequence[str], params: PyTree = None) -> RescaledState:
        names = _types.Names(names, "rescaled")
        return RescaledState(names, balancer.init(names, params))

    def update(
        signals: _types.Signals, state: RescaledState
    ) -> tuple[_types.Decision, RescaledState]:
        decision, inner = balancer.update(signals, state.inner)
        weights, direction = decision
        target = total
        if isinstance(total, str):
            target = _masked.count(_signals.usable(signals))
        # In units of the largest, so that no sum leaves float32.
        largest = jnp.max(jnp.abs(weights))
        unit = weights / jnp.where(largest > 0, largest, 1.0)
        summed = jnp.sum(unit)
        good = summed > 0
        share = jnp.asarray(target, weights.dtype) / jnp.where(good, summed, 1.0)
        if direction is not None:
            factor = jnp.where(good, share / jnp.where(good, largest, 1.0), 1.0)
            direction = _directions.scaled(factor, direction)
        weights = jnp.where(good, unit * share, weights)
        return _types.Decision(weights, direction), state._replace(inner=inner)

    def alone(state: RescaledState) -> Array | float:
        del state
        return 1.0 if isinstance(total, str) else total

    return _wrapped.wrapped("rescaled", balancer, init, update, alone=alone)
