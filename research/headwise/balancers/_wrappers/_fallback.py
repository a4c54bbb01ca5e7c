"""Something simple while a head is missing or broken."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _directions
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._values import _equal
from headwise.balancers._wrappers import _wrapped
from headwise.typing import Array
from headwise.typing import PyTree


class FallbackState(NamedTuple):
    """The states of both balancers."""

    names: _types.Names
    inner: Any
    otherwise: Any
    sound: Array
    """bool, whether the last update was the inner balancer's."""


def fallback(
    balancer: _types.Balancer, otherwise: _types.Balancer | None = None
) -> _types.Balancer:
    """Asks another balancer while any head is absent or has lost its numbers.

    A head is usable if it is there with a finite value and a finite gradient (as far as
    a gradient is shown). If all are, the balancer decides. If not, its state stays as
    it was, so that no broken step leaves a trace in its averages, and `otherwise`
    decides among the usable heads; the others have weight 0.

    Args:
        balancer: any.
        otherwise: any; its state moves only when it decides. None means equal weights.

    Returns:
        A balancer that needs what both need. If one of the two answers with a
        direction, so does this one.

    Raises:
        ValueError: the two want the batch in different numbers of parts.
        TypeError: `balancer` or `otherwise` is none.

    Example:
        >>> inner = hw.balancers.constant({"a": 0.25, "b": 4.0})
        >>> balancer = hw.balancers.fallback(inner)
        >>> state = balancer.init(["a", "b"])
        >>> for values in (jnp.array([1.0, 1.0]), jnp.array([1.0, jnp.nan])):
        ...     decision, state = balancer.update(hw.Signals(values), state)
        ...     print(decision.weights)
        [0.25 4.  ]
        [1. 0.]
    """
    _checks.balancer("balancer", balancer)
    if otherwise is not None:
        _checks.balancer("otherwise", otherwise)
    other = _equal.equal() if otherwise is None else otherwise
    needs = max(balancer.needs, other.needs, key=_types.NEEDS.index)
    demanding = [b for b in (balancer, other) if b.needs != "values"]
    if len({b.batches for b in demanding}) > 1:
        raise ValueError(
            f"otherwise: expected a balancer of batches={balancer.batches}, got "
            f"batches={other.batches}"
        )

    def init(names: Sequence[str], params: PyTree = None) -> FallbackState:
        names = _types.Names(names, "fallback")
        return FallbackState(
            names,
            balancer.init(names, params),
            other.init(names, params),
            jnp.ones((), bool),
        )

    def due(state: FallbackState) -> Array:
        wanted = jnp.zeros((), bool)
        for b, s in ((balancer, state.inner), (other, state.otherwise)):
            if b.due is not None:
                wanted |= b.due(s)
        return wanted

    def update(
        signals: _types.Signals, state: FallbackState
    ) -> tuple[_types.Decision, FallbackState]:
        decision, inner = balancer.update(signals, state.inner)
        usable = _signals.usable(signals)
        sound = jnp.all(usable if signals.asked is None else usable | ~signals.asked)
        rest, moved = other.update(signals._replace(present=usable), state.otherwise)
        rest = rest._replace(weights=_masked.zero_absent(rest.weights, usable))
        weights = jnp.where(sound, decision.weights, rest.weights)
        direction = None
        if decision.direction is not None or rest.direction is not None:
            direction = _wrapped.chosen(
                sound, _direction(decision, signals), _direction(rest, signals)
            )
        new = FallbackState(
            state.names,
            _wrapped.chosen(sound, inner, state.inner),
            _wrapped.chosen(sound, state.otherwise, moved),
            sound,
        )
        return _types.Decision(weights, direction), new

    def after(values: Array, state: FallbackState) -> FallbackState:
        inner, moved = state.inner, state.otherwise
        if balancer.after is not None:
            inner = balancer.after(values, inner)
        if other.after is not None:
            moved = other.after(values, moved)
        return state._replace(
            inner=_wrapped.chosen(state.sound, inner, state.inner),
            otherwise=_wrapped.chosen(state.sound, state.otherwise, moved),
        )

    sometimes = demanding and all(b.due is not None for b in demanding)
    ever = balancer.after is not None or other.after is not None
    return _wrapped.wrapped(
        "fallback",
        balancer,
        init,
        update,
        needs=needs,
        due=due if sometimes else None,
        after=after if ever else None,
        batches=max(balancer.batches, other.batches),
    )


def _direction(decision: _types.Decision, signals: _types.Signals) -> PyTree:
    """What a decision comes to, also if it is weights."""
    if decision.direction is not None:
        return decision.direction
    return _directions.weighted_sum(decision.weights, signals)
