"""Uncertainty weighting: each head's noise is learned and divides its value."""

from collections.abc import Mapping
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

_FACTOR = {"regression": 0.5, "classification": 1.0}


@_types.settings("factor")
class UncertaintyState(NamedTuple):
    """Learned log variances and the state of their own optimiser."""

    names: _types.Names
    log_variance: Array
    """[H] s = log σ²"""
    factor: Array
    """[H] 1/2 for regression, 1 for classification."""
    optimizer: Any


def uncertainty(
    kinds: Mapping[str, str] | str = "regression",
    initial: float = 0.0,
    optimizer: optax.GradientTransformation | None = None,
) -> _types.Balancer:
    """Homoscedastic uncertainty weighting, with s_h = log σ_h² learned.

    ::

        total = Σ c_h exp(-s_h) value_h + s_h / 2,   c = 1/2 (regression), 1 (classes)

    so that the weight is c_h exp(-s_h), and s_h goes down its own derivative
    1/2 - c_h exp(-s_h) value_h; at rest exp(s_h) = 2 c_h value_h: a head's weight
    is 1 / (2 value_h).

    A value that is not positive (nothing to learn in this batch, or a policy loss) has
    no such point: the head keeps its s and is trained with the weight that it has. s
    stays within ±14, exp(-s) between 1e-6 and 1e6, and its derivative within ±100, so
    that a head whose value was next to 0, and is 1/2, is at rest after 5,400 steps.

    Conventions: the paper has 1/(2σ²) for regression and 1/σ² for classification.
    LibMTL and TorchJD use 1/2 for all, LibMTL starts at -0.5 and decays s with the
    model's weights; here s has its own optimiser and no decay.

    Args:
        kinds: {name: "regression" or "classification"}, or one for all heads.
        initial: s at the start, within ±14.
        optimizer: of s; None means `optax.adam(1e-2)`.

    Returns:
        A balancer that needs the values. A sum over heads, not a mean.

    Raises:
        ValueError: unknown kind; `initial` is out of its range; `init` gets other
            names than `kinds`.
        TypeError: `optimizer` is not one of optax.

    Example:
        >>> balancer = hw.balancers.uncertainty(optimizer=optax.sgd(1.0))
        >>> state = balancer.init(["a", "b"])
        >>> signals = hw.balancers.Signals(values=jnp.array([1.0, 3.0]))
        >>> decision, state = balancer.update(signals, state)
        >>> print(decision.weights, state.log_variance)  # s - (1/2 - value / 2)
        [0.5 0.5] [0. 1.]

    References:
        Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh
        losses for scene geometry and semantics", CVPR 2018, equations 7 and 10.
    """
    given = kinds.values() if isinstance(kinds, Mapping) else [kinds]
    for kind in given:
        _checks.choice("kinds", list(_FACTOR), kind)
    _checks.between("initial", -_optimizer.LIMIT, _optimizer.LIMIT, initial)
    optimizer = _optimizer.given_or(optimizer, optax.adam(1e-2))

    def init(names: Sequence[str], params: PyTree = None) -> UncertaintyState:
        del params
        names = _types.Names(names, "uncertainty")
        of_head = dict.fromkeys(names, kinds) if isinstance(kinds, str) else kinds
        _checks.same_names("kinds", names, of_head)
        s = jnp.full(len(names), initial, jnp.float32)
        factor = jnp.array([_FACTOR[of_head[n]] for n in names], jnp.float32)
        return UncertaintyState(names, s, factor, optimizer.init(s))

    def update(
        signals: _types.Signals, state: UncertaintyState
    ) -> tuple[_types.Decision, UncertaintyState]:
        values, usable = _signals.read("uncertainty", state, signals)
        # A value that is not finite keeps its weight, so that nobody trains past it.
        present = _signals.presence(signals)
        s = state.log_variance
        weights = state.factor * jnp.exp(-s)
        slope = 0.5 - weights * values
        s, moved = _optimizer.descend_log(
            optimizer, slope, s, state.optimizer, usable & (values > 0)
        )
        decision = _types.Decision(_masked.zero_absent(weights, present))
        return decision, state._replace(log_variance=s, optimizer=moved)

    return _types.Balancer(init, update)
