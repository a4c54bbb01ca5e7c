"""Weights from how values change: SoftAdapt, ReLoBRaLo."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise.balancers import _masked
from headwise.balancers import _types
from headwise.typing import Array
from headwise.typing import PyTree


class SoftAdaptState(NamedTuple):
    """The values of the last update."""

    last: Array
    """[H]"""
    seen: Array
    """[H] bool, whether there is one."""


def softadapt(
    beta: float = 0.1, normalized: bool = False, loss_weighted: bool = False
) -> _types.Balancer:
    """SoftAdapt: a softmax of how fast each value rises.

    ::

        rate_h = value_h - last value_h
        weight = softmax(beta rate)                             plain
        weight = softmax(beta rate / Σ |rate|)                  normalized
        weight_h = value_h weight_h / Σ (value weight)          loss_weighted

    A positive beta helps the heads that fall least, a negative one the best. A head
    seen for the first time has rate 0. For loss_weighted a value that is not positive
    counts as the least normal float32.

    Args:
        beta: any number; 0.1 in the paper.
        normalized: rates relative to the sum of their sizes. The authors' code divides
            by the signed sum, which may be 0 and turns the order round when negative.
        loss_weighted: multiply by the values; goes with either.

    Returns:
        A balancer that needs the values. The weights sum to 1. The rate is the plain
        difference of two updates; the authors' code can fit over more.

    Example:
        >>> balancer = hw.balancers.softadapt(beta=float(np.log(3)))
        >>> state = balancer.init(["a", "b"])
        >>> for values in ([1.0, 1.0], [2.0, 1.0]):  # a rose by 1
        ...     decision, state = balancer.update(hw.Signals(jnp.array(values)), state)
        ...     print(np.asarray(decision.weights).round(4))
        [0.5 0.5]
        [0.75 0.25]

    References:
        Heydari, Thompson and Mehmood, "SoftAdapt: techniques for adaptive loss
        weighting of neural networks with multi-part loss functions", 2019 (arXiv
        1912.12355), section 3.1.
    """

    def init(names: Sequence[str], params: PyTree = None) -> SoftAdaptState:
        del params
        heads = len(_types.sorted_names("softadapt", names))
        return SoftAdaptState(jnp.zeros(heads, jnp.float32), jnp.zeros(heads, bool))

    def update(
        signals: _types.Signals, state: SoftAdaptState
    ) -> tuple[_types.Decision, SoftAdaptState]:
        heads = state.last.shape[0]
        values, present = _masked.read("softadapt", heads, signals)
        rate = _masked.zero_absent(values - state.last, present & state.seen)
        if normalized:
            size = jnp.broadcast_to(jnp.sum(jnp.abs(rate)), rate.shape)
            rate = _numerics.safe_divide(rate, size, 0.0)
        logits = beta * rate
        if loss_weighted:
            logits = logits + jnp.log(_types.positive(values))
        weights = _masked.softmax(logits, present)
        last = jnp.where(present, values, state.last)
        return _types.Decision(weights), SoftAdaptState(last, state.seen | present)

    return _types.Balancer(init, update)


class ReLoBRaLoState(NamedTuple):
    """The smoothed weights, and what values are compared with."""

    weights: Array
    """[H]"""
    first: Array
    """[H] values of the first update of each head."""
    last: Array
    """[H] values of the last update."""
    seen: Array
    """[H] bool, whether there are such."""


def relobralo(
    alpha: float = 0.999, temperature: float = 0.1, rho: float = 0.999
) -> _types.Balancer:
    """Relative loss balancing with random look-back.

    With balance(v) = H softmax(value / (temperature v)) and one coin in each step for
    all heads, r = 1 with probability rho, else 0::

        history = r weights + (1 - r) balance(first values)
        weights <- alpha history + (1 - alpha) balance(last values)

    The weights are smoothed over steps; now and then they look back to the very start.
    In its first update a head has weight 1. A value that is not positive counts as the
    least normal float32.

    Args:
        alpha: in [0, 1], the smoothing. The authors' code has 1 in the first step, as
            here, and 0 in the second, which here (as in the paper) is like the rest.
        temperature: the paper's τ > 0.
        rho: in [0, 1], the probability of not looking back.

    Returns:
        A balancer that needs the values and a key. The weights sum to the number of
        heads present.

    Raises:
        ValueError: an argument out of its range; the key is missing.

    Example:
        >>> balancer = hw.balancers.relobralo(0.5, 1 / np.log(3), rho=1.0)
        >>> state = balancer.init(["a", "b"])
        >>> for values in ([1.0, 1.0], [2.0, 1.0]):  # balance is 2 * (9, 3) / 12
        ...     signals = hw.Signals(jnp.array(values), key=jax.random.key(0))
        ...     decision, state = balancer.update(signals, state)
        ...     print(np.asarray(decision.weights).round(4))
        [1. 1.]
        [1.25 0.75]

    References:
        Bischof and Kraus, "Multi-objective loss balancing for physics-informed deep
        learning", 2021 (arXiv 2110.09813), section on ReLoBRaLo.
    """
    for argument, got in (("alpha", alpha), ("rho", rho)):
        _masked.check_number(
            argument, got, "a number in [0, 1]", lambda number: 0 <= number <= 1
        )
    _masked.check_positive("temperature", temperature)

    def init(names: Sequence[str], params: PyTree = None) -> ReLoBRaLoState:
        del params
        heads = len(_types.sorted_names("relobralo", names))
        ones = jnp.ones(heads, jnp.float32)
        return ReLoBRaLoState(ones, ones, ones, jnp.zeros(heads, bool))

    def update(
        signals: _types.Signals, state: ReLoBRaLoState
    ) -> tuple[_types.Decision, ReLoBRaLoState]:
        _types.require("relobralo", signals, "key")
        assert signals.key is not None
        heads = state.last.shape[0]
        values, present = _masked.read("relobralo", heads, signals)
        values = _types.positive(values)
        first = jnp.where(state.seen, state.first, values)
        last = jnp.where(state.seen, state.last, values)
        many = _masked.count(present)

        def balance(reference: Array) -> Array:
            ratio = values / reference / temperature
            return many * _masked.softmax(ratio, present)

        stay = jax.random.bernoulli(signals.key, rho)
        history = jnp.where(stay, state.weights, balance(first))
        moved = alpha * history + (1.0 - alpha) * balance(last)
        moved = jnp.where(state.seen, moved, state.weights)
        new = ReLoBRaLoState(
            jnp.where(present, moved, state.weights),
            jnp.where(present, first, state.first),
            jnp.where(present, values, state.last),
            state.seen | present,
        )
        # The sum changes when heads come and go.
        weights = many * _masked.normalized(moved, present)
        return _types.Decision(weights), new

    return _types.Balancer(init, update)
