"""What a balancer is, what it is shown and what it answers."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.typing import Array
from headwise.typing import PyTree

NEEDS = ("values", "gramian", "grads")


class Signals(NamedTuple):
    """What a balancer may look at in one step; H heads in sorted order of names."""

    values: Array
    """[H] raw values."""
    gram: Array | None = None
    """[H, H] gramian of the head gradients over the shared parameters. For a balancer
    of several `batches`: inner products of the gradients of the first with those of
    the second, not symmetric."""
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
    after: Callable[[Array, Any], Any] | None = None
    """`after(values, state)` -> state, with the [H] values of the same batch once the
    parameters have moved; `hw.training.make_step` then runs the model forward again."""
    batches: int = 1
    """Independent parts of the batch that it wants: 2, and `gram` is between the
    gradients of two halves, those of the second being combined; 3, and the gradients of
    a third part are combined."""


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


def present_gram(signals: Signals, present: Array) -> Array:
    """The gramian, at least float32, with 0 in the rows and columns of absent heads."""
    assert signals.gram is not None
    gram = jnp.asarray(signals.gram)
    gram = gram.astype(_numerics.accumulator(gram))
    return jnp.where(present[:, None] & present[None, :], gram, jnp.zeros_like(gram))


def positive(values: Array) -> Array:
    """The values in float32, those that are not positive as the least normal number."""
    values = jnp.asarray(values, jnp.float32)
    return jnp.maximum(values, jnp.finfo(jnp.float32).tiny)


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
