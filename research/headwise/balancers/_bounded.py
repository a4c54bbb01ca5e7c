"""Weights of another balancer kept between bounds, or at a fixed sum."""

import math
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise.balancers import _inner
from headwise.balancers import _masked
from headwise.balancers import _types
from headwise.typing import Array
from headwise.typing import PyTree


class ClippedState(NamedTuple):
    """The inner state."""

    inner: Any


class RescaledState(NamedTuple):
    """The inner state."""

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

    Example:
        >>> inner = hw.balancers.constant({"a": 0.1, "b": 9.0})
        >>> balancer = hw.balancers.clipped(inner, 0.5, 2.0)
        >>> signals = hw.Signals(values=jnp.ones(2))
        >>> print(balancer.update(signals, balancer.init(["a", "b"]))[0].weights)
        [0.5 2. ]
    """
    _masked.check_number("lower", lower, "a number, not NaN", lambda x: x == x)
    if isinstance(lower, int | float):
        _masked.check_number(
            "upper", upper, f"a number >= lower, {lower}", lambda x: x >= lower
        )

    def init(names: Sequence[str], params: PyTree = None) -> ClippedState:
        return ClippedState(balancer.init(names, params))

    def update(
        signals: _types.Signals, state: ClippedState
    ) -> tuple[_types.Decision, ClippedState]:
        decision, inner = balancer.update(signals, state.inner)
        weights = jnp.clip(_inner.weights_of("clipped", decision), lower, upper)
        weights = weights.astype(decision.weights.dtype)
        weights = _masked.zero_absent(weights, _inner.usable(signals))
        return _types.Decision(weights), ClippedState(inner)

    return _types.Balancer(
        init,
        update,
        balancer.needs,
        _inner.due_of(balancer),
        _inner.after_of(balancer),
        balancer.batches,
    )


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

    Example:
        >>> balancer = hw.balancers.rescaled(hw.balancers.mgda())
        >>> signals = hw.Signals(jnp.ones(2), gram=jnp.diag(jnp.array([1.0, 3.0])))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))  # MGDA: 3/4 and 1/4
        [1.5 0.5]
    """
    if isinstance(total, str) and total != "heads":
        raise ValueError(f"total: expected 'heads' or a positive number, got {total!r}")
    _masked.check_number(
        "total", total, "'heads' or a positive number", lambda x: 0 < x < math.inf
    )

    def init(names: Sequence[str], params: PyTree = None) -> RescaledState:
        return RescaledState(balancer.init(names, params))

    def update(
        signals: _types.Signals, state: RescaledState
    ) -> tuple[_types.Decision, RescaledState]:
        decision, inner = balancer.update(signals, state.inner)
        weights, direction = decision
        target = total
        if isinstance(total, str):
            target = _masked.count(_inner.usable(signals))
        # In units of the largest, so that no sum leaves float32.
        largest = jnp.max(jnp.abs(weights))
        unit = weights / jnp.where(largest > 0, largest, 1.0)
        summed = jnp.sum(unit)
        good = summed > 0
        share = jnp.asarray(target, weights.dtype) / jnp.where(good, summed, 1.0)
        if direction is not None:
            factor = jnp.where(good, share / jnp.where(good, largest, 1.0), 1.0)
            direction = _inner.scaled(factor, direction)
        weights = jnp.where(good, unit * share, weights)
        return _types.Decision(weights, direction), RescaledState(inner)

    return _types.Balancer(
        init,
        update,
        balancer.needs,
        _inner.due_of(balancer),
        _inner.after_of(balancer),
        balancer.batches,
    )
