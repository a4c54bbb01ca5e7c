"""What the balancers that wrap another one have in common."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from headwise import _numerics
from headwise import _products
from headwise.balancers import _types
from headwise.typing import Array
from headwise.typing import PyTree


def due_of(balancer: _types.Balancer) -> Callable[[Any], Array] | None:
    """`due` of the inner balancer, for a state that holds its state as `inner`."""
    due = balancer.due
    return None if due is None else lambda state: due(state.inner)


def after_of(balancer: _types.Balancer) -> Callable[[Array, Any], Any] | None:
    """`after` of the inner balancer, for a state that holds its state as `inner`."""
    after = balancer.after
    if after is None:
        return None
    return lambda values, state: state._replace(inner=after(values, state.inner))


def usable(signals: _types.Signals) -> Array:
    """[H] bool: heads that are there with a finite value and, if shown, gradient."""
    return _types.presence(signals) & jnp.isfinite(jnp.asarray(signals.values))


def weights_of(wrapper: str, decision: _types.Decision) -> Array:
    """The weights; raises ValueError if the inner balancer answers with a direction."""
    if decision.direction is not None:
        raise ValueError(
            f"{wrapper}: expected a balancer that answers with weights, got one that "
            "answers with a direction"
        )
    return decision.weights


def weighted_sum(weights: Array, signals: _types.Signals) -> PyTree:
    """Σ weight * gradient; a head of weight 0 counts for nothing, even if it is NaN."""
    assert signals.grads is not None
    rows = [signals.grads[name] for name in sorted(signals.grads)]

    def leaf(*heads: Array) -> Array:
        arrays = list(map(jnp.asarray, heads))
        return _products.weighted_sum(weights, arrays, range(len(heads)))

    return jax.tree.map(leaf, *rows)


def scaled(factor: Array, tree: PyTree) -> PyTree:
    """Every leaf times a scalar, multiplied in at least float32."""

    def leaf(x: Array) -> Array:
        x = jnp.asarray(x)
        dtype = _numerics.accumulator(x)
        return (x.astype(dtype) * factor.astype(dtype)).astype(x.dtype)

    return jax.tree.map(leaf, tree)


def chosen(first: Array, one: PyTree, other: PyTree) -> PyTree:
    """The one tree where the flag is True, else the other."""
    return jax.tree.map(lambda a, b: jnp.where(first, a, b), one, other)
