"""Deciding: signals to the balancer, and from its answer the gradient to apply."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _means
from headwise import _numerics
from headwise import _traced
from headwise import balancers
from headwise.training import _head_gradients
from headwise.training import _layout
from headwise.typing import Array
from headwise.typing import PyTree


class Outcome(NamedTuple):
    """What was decided, and what it was decided on."""

    total: Any
    """The gradient to apply, leaf by leaf; or what a pass that is to come weighs."""
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
    broken: Array | None = None
    """[H] bool: whether it had data, and a value or gradient that is not finite; None
    for a balancer of static weights, which hides nothing."""


def signals_of(
    names: balancers.Names,
    values: Mapping[str, Array],
    key: Array | None,
    step: Array | int | None,
    present: Array | None,
    heads: balancers.Names | None,
) -> balancers.Signals:
    """What is known before any gradient; raises unless the heads are those expected."""
    if heads is not None:
        _checks.same_names("values_fn", heads, names)
    return balancers.Signals(
        values=jnp.stack([values[name] for name in names]),
        step=step,
        key=key,
        present=present,
        names=names,
    )


def present_flags(
    names: Sequence[str], present: Mapping[str, Array] | Array | None
) -> Array | None:
    """[H] bool of heads that have data, given by name or as they are; None is all."""
    if hasattr(present, "keys"):
        return _means.flags(names, present)
    return present


def data(
    names: Sequence[str],
    told: Array | None,
    present: Mapping[str, Array] | Array | None,
) -> Array | None:
    """[H] bool of heads that have data, as the values tell and as the caller knows."""
    given = present_flags(names, present)
    if told is None or given is None:
        return told if given is None else given
    return told & jnp.asarray(given, bool)


def by_values(
    balancer: balancers.Balancer,
    signals: balancers.Signals,
    state: Any,
    head_gradients: _head_gradients.HeadGradients,
    own: _layout.Flags | None = None,
) -> Outcome:
    """Shows the balancer the values alone."""
    broken = None
    if not balancer.static:
        broken = balancers.presence(signals) & ~jnp.isfinite(signals.values)
    return _decided(balancer, _sane(signals), state, head_gradients, broken, own)


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
    gram = _without_absent(gram, signals.present)
    broken = None
    if not balancer.static:
        finite = jnp.isfinite(signals.values) & jnp.isfinite(jnp.diagonal(gram))
        broken = balancers.presence(signals) & ~finite
    if balancer.needs == "gramian":
        signals = signals._replace(gram=gram)
    elif balancer.needs == "grads":
        signals = signals._replace(gram=gram, grads=grads)
    if balancer.needs != "values":
        signals = signals._replace(present=balancers.presence(signals))
    outcome = _decided(balancer, _sane(signals), state, head_gradients, broken, own)
    return outcome._replace(gramian=gram, conflicts=conflicts(gram), grads=grads)


def _without_absent(gram: Array, here: Array | None) -> Array:
    """[H, H] with 0 in the rows and columns of heads that are not here."""
    if here is None:
        return gram
    both = here[:, None] & here[None, :]
    return jnp.where(both, gram, jnp.zeros_like(gram))


def _sane(signals: balancers.Signals) -> balancers.Signals:
    """Signals with 0 for absent heads, for a balancer that does not ask who is here."""
    here = signals.present
    if here is None:
        return signals
    values = jnp.where(here, signals.values, jnp.zeros_like(signals.values))
    signals = signals._replace(values=values)
    if signals.gram is not None:
        signals = signals._replace(gram=_without_absent(signals.gram, here))
    if signals.grads is not None:
        signals = signals._replace(grads=_means.without_absent(signals.grads, here))
    return signals


def _decided(
    balancer: balancers.Balancer,
    signals: balancers.Signals,
    state: Any,
    head_gradients: _head_gradients.HeadGradients,
    broken: Array | None,
    own: _layout.Flags | None,
) -> Outcome:
    decision, new = balancer.update(signals, state)
    here = balancers.presence(signals)
    if signals.present is not None:
        weights = jnp.where(here, decision.weights, jnp.zeros_like(decision.weights))
        decision = decision._replace(weights=weights)
    if broken is not None:
        here = here & ~(broken & (decision.weights == 0))
    apart = None
    if own is not None:
        apart = _head_gradients.Own(here.astype(jnp.float32), own)
    total = head_gradients.total(decision, apart)
    return Outcome(total, decision.weights, new, here, broken=broken)


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
