"""Equal weights for a while, then those of a balancer."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _directions
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._wrappers import _wrapped
from headwise.typing import Array
from headwise.typing import PyTree


class WarmUpState(NamedTuple):
    """The inner state and how far the warm-up is."""

    names: _types.Names
    inner: Any
    updates: Array
    """int32, number of updates done."""


def warm_up(
    balancer: _types.Balancer, steps: int, observe: bool = True
) -> _types.Balancer:
    """Weights of 1 in the first updates, then those of a balancer.

    Args:
        balancer: any. If it answers with a direction, that of the warm-up is the plain
            sum of the gradients.
        steps: how many updates; 0 for none.
        observe: the balancer sees these updates too, so that its averages and its
            baselines are there when its turn comes. If not, its state stays as `init`
            made it, and no gramian is computed for it meanwhile (`lax.cond`, as
            `every` does; on CPU slow for convolutions).

    Returns:
        A balancer with the same needs. An absent head has weight 0 in the warm-up too.

    Raises:
        ValueError: `steps` is no int >= 0.
        TypeError: `balancer` is none; `observe` is not a bool.

    Example:
        >>> inner = hw.balancers.constant({"a": 0.5, "b": 2.0})
        >>> balancer = hw.balancers.warm_up(inner, steps=1)
        >>> state = balancer.init(["a", "b"])
        >>> for _ in range(2):
        ...     decision, state = balancer.update(hw.Signals(jnp.ones(2)), state)
        ...     print(decision.weights)
        [1. 1.]
        [0.5 2. ]
    """
    _checks.balancer("balancer", balancer)
    steps = _checks.nonnegative_int("steps", steps)
    _checks.boolean("observe", observe)
    idle = not observe and balancer.needs == "gramian" and steps > 0

    def init(names: Sequence[str], params: PyTree = None) -> WarmUpState:
        names = _types.Names(names, "warm_up")
        inner = balancer.init(names, params)
        return WarmUpState(names, inner, jnp.zeros((), jnp.int32))

    def due(state: WarmUpState) -> Array:
        wanted = jnp.asarray(True)
        if balancer.due is not None:
            wanted = balancer.due(state.inner)
        return wanted & (state.updates >= steps) if idle else wanted

    def update(
        signals: _types.Signals, state: WarmUpState
    ) -> tuple[_types.Decision, WarmUpState]:
        over = state.updates >= steps
        new = state._replace(updates=jnp.minimum(state.updates + 1, steps + 1))
        if idle and balancer.due is None and signals.gram is None:
            return _types.Decision(_signals.usable(signals).astype(jnp.float32)), new
        decision, fresh = balancer.update(signals, state.inner)
        equal = _signals.usable(signals).astype(jnp.float32)
        weights = jnp.where(over, decision.weights, equal)
        direction = decision.direction
        if direction is not None:
            plain = _directions.weighted_sum(equal, signals)
            direction = _wrapped.chosen(over, direction, plain)
        if not observe:
            fresh = _wrapped.chosen(over, fresh, state.inner)
        return _types.Decision(weights, direction), new._replace(inner=fresh)

    def after(values: Array, state: WarmUpState) -> WarmUpState:
        assert balancer.after is not None
        fresh = balancer.after(values, state.inner)
        if not observe:
            # The update that it belongs to is counted already.
            fresh = _wrapped.chosen(state.updates > steps, fresh, state.inner)
        return state._replace(inner=fresh)

    def alone(state: WarmUpState) -> Array:
        # The update that it belongs to is counted already.
        return jnp.where(state.updates > steps, _wrapped.alone(balancer, state), 1.0)

    return _wrapped.wrapped(
        "warm_up",
        balancer,
        init,
        update,
        due=due if idle or balancer.due is not None else None,
        after=None if balancer.after is None else after,
        alone=None if balancer.alone is None else alone,
    )
