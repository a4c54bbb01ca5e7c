"""SoftAdapt: heads whose value rises get more."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class SoftAdaptState(NamedTuple):
    """The values of the last update."""

    names: _types.Names
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
    seen for the first time has rate 0. For loss_weighted a head whose value is not
    positive has an equal part of the weights, 1 / H.

    Args:
        beta: any number; 0.1 in the paper.
        normalized: rates relative to the sum of their sizes. The authors' code divides
            by the signed sum, which may be 0 and turns the order round when negative.
        loss_weighted: multiply by the values; goes with either.

    Returns:
        A balancer that needs the values. The weights sum to 1. The rate is the plain
        difference of two updates; the authors' code can fit over more.

    Raises:
        ValueError: `beta` is not a finite number.
        TypeError: `normalized` or `loss_weighted` is not a bool.

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
    _checks.number("beta", beta)
    _checks.boolean("normalized", normalized)
    _checks.boolean("loss_weighted", loss_weighted)

    def init(names: Sequence[str], params: PyTree = None) -> SoftAdaptState:
        del params
        names = _types.Names(names, "softadapt")
        heads = len(names)
        return SoftAdaptState(
            names, jnp.zeros(heads, jnp.float32), jnp.zeros(heads, bool)
        )

    def update(
        signals: _types.Signals, state: SoftAdaptState
    ) -> tuple[_types.Decision, SoftAdaptState]:
        values, present = _signals.read("softadapt", state, signals)
        rate = _masked.zero_absent(values - state.last, present & state.seen)
        if normalized:
            size = jnp.broadcast_to(jnp.sum(jnp.abs(rate)), rate.shape)
            rate = _numerics.safe_divide(rate, size, 0.0)
        logits, counted = beta * rate, present
        if loss_weighted:
            counted = present & (values > 0)
            values_or_one = _masked.positive(jnp.where(counted, values, 1.0))
            logits = logits + jnp.log(values_or_one)
        weights = _masked.softmax(logits, counted)
        weights = _masked.beside(weights, counted, present)
        last = jnp.where(present, values, state.last)
        new = SoftAdaptState(state.names, last, state.seen | present)
        return _types.Decision(weights), new

    return _types.Balancer(init, update)
