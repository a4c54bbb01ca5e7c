"""Deciding: signals to the balancer, and from its answer the gradient to apply."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _numerics
from headwise import _traced
from headwise import balancers
from headwise.training import _head_gradients
from headwise.training import _layout
from headwise.typing import Array
from headwise.typing import PyTree


class Outcome(NamedTuple):
    """What was decided, and what it was decided on."""

    total: list[Array]
    """The gradient to apply, leaf by leaf."""
    weights: Array
    """[H], as the balancer answered."""
    state: Any
    """The balancer's."""
    present: Array
    """[H] bool: whether the head counted."""
    gramian: Array | None = None
    conflicts: Array | None = None
    """Both None where only values were looked at."""
    grads: dict[str, PyTree] | None = None
    """The head gradients, where they were kept."""


def signals_of(
    names: balancers.Names,
    values: Mapping[str, Array],
    key: Array | None,
    step: Array | int | None,
    present: Mapping[str, Array] | Array | None,
    heads: balancers.Names | None,
) -> balancers.Signals:
    """What is known before any gradient; raises unless the heads are those expected."""
    if heads is not None:
        _checks.same_names("values_fn", heads, names)
    return balancers.Signals(
        values=jnp.stack([values[name] for name in names]),
        step=step,
        key=key,
        present=present_flags(names, present),
        names=names,
    )


def present_flags(
    names: Sequence[str], present: Mapping[str, Array] | Array | None
) -> Array | None:
    """[H] bool of heads that have data, given by name or as they are; None is all."""
    if isinstance(present, Mapping) or hasattr(present, "keys"):
        assert isinstance(present, Mapping)
        _checks.same_names("present", names, present)
        return jnp.stack([jnp.asarray(present[n], bool) for n in names])
    return present


def by_values(
    balancer: balancers.Balancer,
    signals: balancers.Signals,
    state: Any,
    head_gradients: _head_gradients.HeadGradients,
    own: _layout.Flags | None = None,
) -> Outcome:
    """Shows the balancer the values alone."""
    here = balancers.presence(signals)
    return _decided(balancer, signals, state, head_gradients, here, own)


def by_gradients(
    balancer: balancers.Balancer,
    signals: balancers.Signals,
    state: Any,
    gram: Array,
    head_gradients: _head_gradients.HeadGradients,
    grads: dict[str, PyTree] | None,
    own: _layout.Flags | None = None,
) -> Outcome:
    """Shows the balancer what it needs; a head with a broken gradient is absent.

    Args:
        balancer: of any needs.
        signals: the values and what a caller knows.
        state: the balancer's.
        gram: [H, H] gramian.
        head_gradients: what the gradient to apply is made of.
        grads: the head gradients by name, None where they were not kept.
        own: the leaves that get their own head's gradient; None if none does.
    """
    if balancer.needs == "gramian":
        signals = signals._replace(gram=gram)
    elif balancer.needs == "grads":
        signals = signals._replace(gram=gram, grads=grads)
    here = balancers.presence(signals)
    signals = signals._replace(present=here)
    outcome = _decided(balancer, signals, state, head_gradients, here, own)
    return outcome._replace(gramian=gram, conflicts=conflicts(gram), grads=grads)


def _decided(
    balancer: balancers.Balancer,
    signals: balancers.Signals,
    state: Any,
    head_gradients: _head_gradients.HeadGradients,
    here: Array,
    own: _layout.Flags | None,
) -> Outcome:
    decision, new = balancer.update(signals, state)
    apart = None
    if own is not None:
        apart = _head_gradients.Own(jnp.where(here, jnp.ones(here.shape), 0.0), own)
    total = head_gradients.total(decision, apart)
    return Outcome(total, decision.weights, new, here)


def conflicts(gram: Array) -> Array:
    """Number of pairs of heads whose gradients point apart; float."""
    return jnp.sum(jnp.triu(gram + gram.T, 1) < 0).astype(gram.dtype)


def when_due(
    due: Array,
    refresh: Callable[[], Outcome],
    keep: Callable[[], Outcome],
) -> Outcome:
    """One of the two; between two refreshes gramian and conflicts are NaN.

    Args:
        due: bool scalar, traced.
        refresh: an outcome by gradients.
        keep: an outcome by values.
    """
    refreshed = _traced.traced(lambda: refresh()._replace(grads=None))

    def kept() -> Outcome:
        gram, pairs = (
            _numerics.full(x, jnp.nan)
            for x in (refreshed.types.gramian, refreshed.types.conflicts)
        )
        return keep()._replace(gramian=gram, conflicts=pairs)

    return lax.cond(due, *_traced.branches(refreshed, _traced.traced(kept)))
