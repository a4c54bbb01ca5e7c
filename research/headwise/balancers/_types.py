"""What a balancer is, what it is shown and what it answers."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.typing import Array
from headwise.typing import PyTree

NEEDS = ("values", "gramian", "grads")


class Signals(NamedTuple):
    """What a balancer may look at in one step; H heads in sorted order of names."""

    values: Array
    """[H] raw values."""
    gram: Array | None = None
    """[H, H] gramian of the head gradients over the shared parameters."""
    grads: Mapping[str, PyTree] | None = None
    """{name: gradient pytree}."""
    step: Array | int | None = None
    """int scalar, counted from 0."""
    key: Array | None = None
    """A key of this step, for balancers that draw."""
    present: Array | None = None
    """[H] bool; False where a head has no data. None means that all are there."""


class Decision(NamedTuple):
    """A balancer's answer."""

    weights: Array
    """[H] factor of each head's value, 0 for absent heads. If there is a direction:
    the part of each head's gradient that it holds, for the log."""
    direction: PyTree | None = None
    """The gradient to apply instead of Σ weight * gradient."""


class Balancer(NamedTuple):
    """A pair of pure functions, as optax's gradient transformations are.

    Example:
        >>> balancer = hw.balancers.constant({"a": 1.0, "b": 0.25})
        >>> state = balancer.init(["a", "b"])
        >>> signals = hw.balancers.Signals(values=jnp.array([3.0, 4.0]))
        >>> decision, state = balancer.update(signals, state)
        >>> print(decision.weights)
        [1.   0.25]
    """

    init: Callable[..., Any]
    """`init(names, params=None)` -> state, a NamedTuple of arrays."""
    update: Callable[[Signals, Any], tuple[Decision, Any]]
    """`update(signals, state)` -> (decision, state)."""
    needs: str = "values"
    """"values", "gramian" or "grads": what `signals` must hold."""
    due: Callable[[Any], Array] | None = None
    """`due(state)` -> bool scalar: whether the next update wants a gramian. If not, it
    gets none and answers with weights from its state. None: it always does."""


def require(balancer: str, signals: Signals, *fields: str) -> None:
    """Raises ValueError if a signal that the balancer needs is missing."""
    for field in fields:
        if getattr(signals, field) is None:
            raise ValueError(f"{balancer}: expected signals.{field}, got None")


def check_heads(balancer: str, heads: int, signals: Signals) -> None:
    """Raises ValueError unless the signals are about as many heads as the state."""
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
    if signals.grads is not None and len(signals.grads) != heads:
        raise ValueError(
            f"{balancer}: expected signals.grads of {heads} heads, got "
            f"{_checks.listing(signals.grads)}"
        )
    if signals.present is not None and jnp.shape(signals.present) != (heads,):
        raise ValueError(
            f"{balancer}: expected signals.present of shape ({heads},), got "
            f"{jnp.shape(signals.present)}"
        )


def presence(signals: Signals) -> Array:
    """[H] bool, all True if the signals do not say."""
    if signals.present is None:
        return jnp.ones(jnp.shape(signals.values), bool)
    return signals.present


def zero_absent(weights: Array, signals: Signals) -> Array:
    """The weights, with 0 for the absent heads."""
    return jnp.where(presence(signals), weights, jnp.zeros_like(weights))


def row(argument: str, given: Mapping[str, Any], names: Sequence[str]) -> Array:
    """[H] float32 of scalars given by name, which must be those of the heads."""
    _checks.same_names(argument, names, given)
    scalars = [_checks.scalar(f"{argument}[{n!r}]", given[n]) for n in names]
    return jnp.stack(scalars).astype(jnp.float32)


def sorted_names(balancer: str, names: Sequence[str]) -> tuple[str, ...]:
    """Sorted names of the heads that a state is made for."""
    if isinstance(names, str):
        raise TypeError(f"{balancer}: expected a sequence of names, got {names!r}")
    return _checks.head_names(f"{balancer}: names", names)
