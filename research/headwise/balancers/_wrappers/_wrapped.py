"""How a balancer is put around another one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


def wrapped(
    name: str,
    inner: _types.Balancer,
    init: Callable[..., Any],
    update: Callable[[_types.Signals, Any], tuple[_types.Decision, Any]],
    **changed: Any,
) -> _types.Balancer:
    """The inner balancer with other functions; what is not named is passed on.

    The state of the wrapper must hold the inner one as `inner`: the inner `due`,
    `after` and `alone` act on that. It is looked at before anything else: whose it is,
    and of which heads.

    Args:
        name: of the wrapper, for errors.
        inner: the balancer that is wrapped.
        init, update: of the wrapper; they call the inner ones.
        **changed: other fields of `Balancer` in which the wrapper differs, None among
            them.
    """
    due, after, alone = inner.due, inner.after, inner.alone
    passed: dict[str, Any] = {}
    if due is not None:
        passed["due"] = lambda state: due(state.inner)
    if after is not None:
        passed["after"] = lambda values, state: state._replace(
            inner=after(values, state.inner)
        )
    if alone is not None:
        passed["alone"] = lambda state: alone(state.inner)
    made = inner._replace(init=init, update=update, **{**passed, **changed})

    def checked_update(
        signals: _types.Signals, state: Any
    ) -> tuple[_types.Decision, Any]:
        _signals.check_heads(name, state, signals)
        return made.update(signals, state)

    if made.due is None:
        return made._replace(update=checked_update)

    def checked_due(state: Any) -> Array:
        assert made.due is not None
        _types.Names.in_state(name, state)
        return made.due(state)

    return made._replace(update=checked_update, due=checked_due)


def alone(inner: _types.Balancer, state: Any) -> Array | float:
    """The inner weight of heads that share nothing, from the wrapper's state."""
    return 1.0 if inner.alone is None else inner.alone(state.inner)


def weights_of(wrapper: str, decision: _types.Decision) -> Array:
    """The weights; raises ValueError if the inner balancer answers with a direction."""
    if decision.direction is not None:
        raise ValueError(
            f"{wrapper}: expected a balancer that answers with weights, got one that "
            "answers with a direction"
        )
    return decision.weights


def chosen(first: Array, one: PyTree, other: PyTree) -> PyTree:
    """The one tree where the flag is True, else the other."""
    return jax.tree.map(lambda a, b: jnp.where(first, a, b), one, other)
