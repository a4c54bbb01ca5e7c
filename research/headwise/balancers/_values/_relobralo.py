"""ReLoBRaLo: values relative to those of before, now and then to the first."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class ReLoBRaLoState(NamedTuple):
    """The smoothed weights, and what values are compared with."""

    names: _types.Names
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
    In its first update a head has weight 1, and whenever its value is not positive:
    what is known of it stays then.

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
    _checks.fraction("alpha", alpha)
    _checks.positive("temperature", temperature)
    _checks.fraction("rho", rho)

    def init(names: Sequence[str], params: PyTree = None) -> ReLoBRaLoState:
        del params
        names = _types.Names(names, "relobralo")
        heads = len(names)
        return ReLoBRaLoState(
            names,
            weights=jnp.ones(heads, jnp.float32),
            first=jnp.ones(heads, jnp.float32),
            last=jnp.ones(heads, jnp.float32),
            seen=jnp.zeros(heads, bool),
        )

    def update(
        signals: _types.Signals, state: ReLoBRaLoState
    ) -> tuple[_types.Decision, ReLoBRaLoState]:
        _signals.require("relobralo", signals, "key")
        assert signals.key is not None
        values, present = _signals.read("relobralo", state, signals)
        counted = present & (values > 0)
        values = _masked.positive(jnp.where(counted, values, 1.0))
        first = jnp.where(state.seen, state.first, values)
        last = jnp.where(state.seen, state.last, values)
        many = _masked.count(counted)

        def balance(reference: Array) -> Array:
            ratio = values / reference / temperature
            return many * _masked.softmax(ratio, counted)

        stay = jax.random.bernoulli(signals.key, jnp.asarray(rho, float))
        history = jnp.where(stay, state.weights, balance(first))
        moved = alpha * history + (1.0 - alpha) * balance(last)
        moved = jnp.where(state.seen, moved, state.weights)
        new = ReLoBRaLoState(
            state.names,
            weights=jnp.where(counted, moved, state.weights),
            first=jnp.where(counted, first, state.first),
            last=jnp.where(counted, values, state.last),
            seen=state.seen | counted,
        )
        # The sum changes when heads come and go.
        weights = many * _masked.normalized(moved, counted)
        weights = jnp.where(counted, weights, present.astype(weights.dtype))
        return _types.Decision(weights), new

    return _types.Balancer(init, update)
