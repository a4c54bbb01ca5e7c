"""What a balancer reads off its signals, and that they are those that it needs."""

from typing import Any

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.balancers._core import _types
from headwise.typing import Array


def require(balancer: str, signals: _types.Signals, *fields: str) -> None:
    """Raises ValueError if a signal that the balancer needs is missing."""
    for field in fields:
        if getattr(signals, field) is None:
            text = f"{balancer}: expected signals.{field}, got None"
            if field in ("key", "step"):
                text += f"; hw.balanced_grad(...)(..., {field}=) takes one for it"
            raise ValueError(text)


def check_heads(balancer: str, state: Any, signals: _types.Signals) -> None:
    """Raises unless the state is the balancer's and about the heads of the signals."""
    names = _types.Names.in_state(balancer, state)
    heads = len(names)
    if signals.names is not None:
        _checks.same_names(f"{balancer}: signals", names, signals.names)
    if jnp.shape(signals.values) != (heads,):
        raise ValueError(
            f"{balancer}: expected signals.values of shape ({heads},), one a head, got "
            f"{jnp.shape(signals.values)}"
        )
    if signals.gram is not None and jnp.shape(signals.gram) != (heads, heads):
        raise ValueError(
            f"{balancer}: expected signals.gram of shape ({heads}, {heads}), got "
            f"{jnp.shape(signals.gram)}"
        )
    if signals.grads is not None and set(signals.grads) != set(names):
        raise ValueError(
            f"{balancer}: expected signals.grads of the {heads} heads "
            f"{_checks.listing(names)}, got {_checks.listing(signals.grads)}"
        )
    if signals.present is not None and jnp.shape(signals.present) != (heads,):
        raise ValueError(
            f"{balancer}: expected signals.present of shape ({heads},), got "
            f"{jnp.shape(signals.present)}"
        )


def presence(signals: _types.Signals) -> Array:
    """Heads that count in this step: they have data and a finite gradient.

    Args:
        signals: the gramian tells whether a gradient is finite, or the gradients if
            there is no gramian; with neither, `signals.present` alone.

    Returns:
        [H] bool.

    Example:
        >>> gram = jnp.array([[1.0, jnp.nan], [jnp.nan, jnp.nan]])
        >>> print(hw.balancers.presence(hw.Signals(jnp.ones(2), gram)))
        [ True False]
    """
    if signals.present is None:
        present = jnp.ones(jnp.shape(signals.values), bool)
    else:
        present = jnp.asarray(signals.present, bool)
    if signals.gram is not None:
        return present & jnp.isfinite(jnp.diagonal(signals.gram))
    if signals.grads is not None:
        finite = [
            jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(grads)])
            for grads in map(signals.grads.__getitem__, sorted(signals.grads))
        ]
        return present & jnp.stack([jnp.all(flags) for flags in finite])
    return present


def usable(signals: _types.Signals) -> Array:
    """[H] bool: heads that are there with a finite value and, if shown, gradient."""
    return presence(signals) & jnp.isfinite(jnp.asarray(signals.values))


def present_gram(signals: _types.Signals, present: Array) -> Array:
    """The gramian, at least float32, with 0 in the rows and columns of absent heads."""
    assert signals.gram is not None
    gram = jnp.asarray(signals.gram)
    gram = gram.astype(_numerics.accumulator(gram))
    return jnp.where(present[:, None] & present[None, :], gram, jnp.zeros_like(gram))


def read(balancer: str, state: Any, signals: _types.Signals) -> tuple[Array, Array]:
    """Values [H] as float32 data, 1 for absent heads, and which heads are there.

    A head whose value is not finite counts as absent, as one whose gradient is not.
    """
    check_heads(balancer, state, signals)
    values = jax.lax.stop_gradient(jnp.asarray(signals.values, jnp.float32))
    present = presence(signals) & jnp.isfinite(values)
    return jnp.where(present, values, 1.0), present
