"""Uncertainty weighting: each head's noise is learned and divides its value."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
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


class UncertaintyState(NamedTuple):
    """Learned log variances and the state of their own optimiser."""

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
    is 1 / (2 value_h), and values must be positive for it to exist.

    Conventions: the paper has 1/(2σ²) for regression and 1/σ² for classification.
    LibMTL and TorchJD use 1/2 for all, LibMTL starts at -0.5 and decays s with the
    model's weights; here s has its own optimiser and no decay.

    Args:
        kinds: {name: "regression" or "classification"}, or one for all heads.
        initial: s at the start.
        optimizer: of s; None means `optax.adam(1e-2)`.

    Returns:
        A balancer that needs the values. A sum over heads, not a mean.

    Raises:
        ValueError: unknown kind; `initial` is not a finite number; `init` gets other
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
    _checks.number("initial", initial)
    optimizer = _optimizer.given_or(optimizer, optax.adam(1e-2))

    def init(names: Sequence[str], params: PyTree = None) -> UncertaintyState:
        del params
        names = _checks.head_names("uncertainty: names", names)
        of_head = dict.fromkeys(names, kinds) if isinstance(kinds, str) else kinds
        _checks.same_names("kinds", names, of_head)
        s = jnp.full(len(names), initial, jnp.float32)
        factor = jnp.array([_FACTOR[of_head[n]] for n in names], jnp.float32)
        return UncertaintyState(s, factor, optimizer.init(s))

    def update(
        signals: _types.Signals, state: UncertaintyState
    ) -> tuple[_types.Decision, UncertaintyState]:
        s = state.log_variance
        _signals.check_heads("uncertainty", s.shape[0], signals)
        present = _signals.presence(signals)
        values = jnp.where(present, jax.lax.stop_gradient(signals.values), 0.0)
        weights = state.factor * jnp.exp(-s)
        slope = 0.5 - weights * values.astype(s.dtype)
        s, moved = _optimizer.descend(optimizer, slope, s, state.optimizer, present)
        decision = _types.Decision(_masked.zero_absent(weights, present))
        return decision, UncertaintyState(s, state.factor, moved)

    return _types.Balancer(init, update)
