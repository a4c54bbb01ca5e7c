"""Preferences among the heads, for any balancer."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.balancers._core import _directions
from headwise.balancers._core import _named
from headwise.balancers._core import _types
from headwise.balancers._wrappers import _wrapped
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("preferences")
class WithPreferencesState(NamedTuple):
    """The inner state and the preferences, which are data: a sweep varies them."""

    names: _types.Names
    inner: Any
    preferences: Array
    """[H]"""


def with_preferences(
    balancer: _types.Balancer, preferences: Mapping[str, float | Array]
) -> _types.Balancer:
    """Shows a balancer p_h value_h in place of value_h, with the gradients of that.

    ::

        values p_h value_h,   gram p_i p_j gram_ij,   gradients p_h g_h
        weight_h = p_h * (the inner balancer's weight)

    So any balancer is told what matters more, or in what units the values are. What
    does not depend on the lengths of the gradients is not changed by it.

    Args:
        balancer: any.
        preferences: {name: positive scalar}, one for every head; may be traced.

    Returns:
        A balancer with the same needs. A direction of the inner one is passed on: it
        is made of the scaled gradients already.

    Raises:
        ValueError: `init` gets other names; a preference is not a positive scalar.
        TypeError: `balancer` is none.

    Example:
        >>> balancer = hw.balancers.with_preferences(
        ...     hw.balancers.mgda(), {"a": 1.0, "b": 2.0}
        ... )
        >>> signals = hw.Signals(jnp.ones(2), gram=jnp.diag(jnp.array([1.0, 0.25])))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)  # MGDA sees two unit gradients: 1/2 and 2 * 1/2
        [0.5 1. ]

    References:
        Momma, Dong and Liu, "A multi-objective / multi-task learning framework induced
        by Pareto stationarity", ICML 2022, does it to MGDA.
    """
    _checks.balancer("balancer", balancer)
    _checks.mapping("preferences", preferences)
    _named.check("preferences", preferences, _checks.positive)

    def init(names: Sequence[str], params: PyTree = None) -> WithPreferencesState:
        names = _types.Names(names, "with_preferences")
        row = _named.row("preferences", preferences, names)
        return WithPreferencesState(names, balancer.init(names, params), row)

    def wide(values: Array, factors: Array) -> Array:
        values = jnp.asarray(values)
        return values.astype(_numerics.accumulator(values)) * factors

    def update(
        signals: _types.Signals, state: WithPreferencesState
    ) -> tuple[_types.Decision, WithPreferencesState]:
        p = state.preferences
        shown = signals._replace(values=wide(signals.values, p))
        if signals.gram is not None:
            gram = wide(wide(signals.gram, p[:, None]), p[None, :])
            shown = shown._replace(gram=gram)
        if signals.grads is not None:
            grads = {
                name: _directions.scaled(p[h], signals.grads[name])
                for h, name in enumerate(sorted(signals.grads))
            }
            shown = shown._replace(grads=grads)
        decision, inner = balancer.update(shown, state.inner)
        weights = p * decision.weights
        return decision._replace(weights=weights), state._replace(inner=inner)

    def after(values: Array, state: WithPreferencesState) -> WithPreferencesState:
        assert balancer.after is not None
        inner = balancer.after(wide(values, state.preferences), state.inner)
        return state._replace(inner=inner)

    def alone(state: WithPreferencesState) -> Array:
        return state.preferences * _wrapped.alone(balancer, state)

    after_or_none = None if balancer.after is None else after
    return _wrapped.wrapped(
        "with_preferences", balancer, init, update, after=after_or_none, alone=alone
    )
