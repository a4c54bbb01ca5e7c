"""Exact Pareto optimal search: the point of the front with given relations."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import solvers
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("preferences")
class EpoState(NamedTuple):
    """The preferences, which are data: a sweep varies them."""

    names: _types.Names
    preferences: Array
    """[H]"""
    non_uniformity: Array
    """μ of the last step, for the log: 0 on the ray."""


def epo(
    preferences: _named.Given = None,
    epsilon: float | Array = 1e-4,
    relaxed: bool = False,
) -> _types.Balancer:
    """Goes to the point of the Pareto front at which all r_h value_h are equal.

    ::

        l̂ = r * value / Σ r value,   μ = Σ l̂_h log(H l̂_h)
        a_h = r_h (log(H l̂_h) - μ),   C the gramian,   r scaled to mean 1
        μ > epsilon (balance):  argmax_w wᵀ C a    subject to  C w >= rhs
        else        (descent):  argmax_w Σ_h (C w)_h   subject to  C w >= 0,
                                wᵀ C a >= min(max C a, 0)

    with w on the simplex. In a balance step the heads that going along a would lower,
    C a > 0, are left free; those that it would raise may rise, no faster than along a
    (rhs C a); the one whose r value is largest may not rise (rhs 0). If a would lower
    none, none may rise (rhs 0). So it is μ that falls, not every value.

    A limit of the method: where the gradients agree and a head is already far below its
    part, a would raise all; the step then goes to that head's own minimum, and stays
    there. Start with `warm_up`, or use `pmgda`.

    Args:
        preferences: {name: positive scalar r}, one for every head; a larger one asks
            for a smaller value. None means 1 each: equal values.
        epsilon: >= 0, μ up to which the values count as balanced.
        relaxed: leave out the last condition, which keeps a descent step from undoing
            the balance.

    Returns:
        A balancer that needs the gramian. The weights sum to 1 over the present heads.
        Where rounding leaves no such w, the one that breaks the conditions least. A
        head whose value is not positive has an equal part of the weights, 1 / H.
        Answers the same in any unit of the values and gradients.

    Raises:
        ValueError: `init` gets other names; a number is out of its range.
        TypeError: `relaxed` is not a bool.

    Example:
        >>> balancer = hw.balancers.epo({"a": 1.0, "b": 1.0})
        >>> signals = hw.Signals(values=jnp.array([4.0, 1.0]), gram=jnp.eye(2))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)  # a is too large: all for it
        [1. 0.]

    References:
        Mahapatra and Rajan, "Multi-task learning with user preferences: gradient
        descent with controlled ascent in Pareto optimization", ICML 2020, equations 12
        to 24 and algorithm 1. LibMOON clips H l̂ at 0.001.
    """
    _named.check("preferences", preferences, _checks.positive)
    _checks.nonnegative("epsilon", epsilon)
    _checks.boolean("relaxed", relaxed)

    def init(names: Sequence[str], params: PyTree = None) -> EpoState:
        del params
        names = _types.Names(names, "epo")
        row = _named.row("preferences", preferences, names, 1.0)
        return EpoState(names, row, jnp.zeros((), jnp.float32))

    def update(
        signals: _types.Signals, state: EpoState
    ) -> tuple[_types.Decision, EpoState]:
        _signals.require("epo", signals, "gram")
        _signals.check_heads("epo", state, signals)
        here = _signals.usable(signals)
        values = jnp.asarray(signals.values, jnp.float32)
        present = here & (values > 0)
        values = _masked.positive(jnp.where(present, values, 1.0))
        gram = _signals.present_gram(signals, present)
        scaled = _masked.zero_absent(state.preferences * values, present)
        share = scaled / jnp.where(jnp.any(present), jnp.max(scaled), 1.0)
        share = _masked.normalized(share, present)
        heads = jnp.maximum(_masked.count(present), 1.0)
        logs = jnp.log(_masked.positive(share)) + jnp.log(heads)
        mu = _masked.total(share * logs, present)
        r = heads * _masked.normalized(state.preferences, present)
        anchor = _masked.zero_absent(r * (logs - mu), present)
        weights = _step(gram, anchor, scaled, mu > epsilon, present, relaxed)
        weights = _masked.beside(weights.astype(jnp.float32), present, here)
        return _types.Decision(weights), state._replace(non_uniformity=mu)

    return _types.Balancer(init, update, "gramian")


def _step(
    gram: Array,
    anchor: Array,
    scaled: Array,
    balance: Array,
    present: Array,
    relaxed: bool,
) -> Array:
    """The weights of a balance or of a descent step: one program, other numbers."""
    anchor = anchor.astype(gram.dtype)
    largest = jnp.max(jnp.diagonal(gram))
    gram = gram / jnp.where(largest > 0, largest, 1.0)
    along = jnp.matmul(gram, anchor, precision="highest")
    # What is left where all terms cancel is rounding, of no sign.
    noise = jnp.matmul(jnp.abs(gram), jnp.abs(anchor), precision="highest")
    up = along > 4 * jnp.finfo(gram.dtype).eps * noise
    worst = present & (scaled >= jnp.max(scaled))
    floor = jnp.where(up, -jnp.inf, along)
    floor = jnp.where(jnp.any(up), jnp.where(worst, 0.0, floor), 0.0)
    floor = jnp.where(balance, floor, 0.0)
    keep = jnp.minimum(jnp.max(jnp.where(present, along, -jnp.inf)), 0.0)
    keep = jnp.where(balance | ~jnp.any(present) | relaxed, -jnp.inf, keep)
    goal = jnp.where(balance, along, jnp.sum(gram, axis=0))
    one = present.astype(gram.dtype)
    x, _ = solvers.linear_program(
        # Nothing asks for an absent head.
        jnp.where(present, goal, -1.0),
        jnp.concatenate([jnp.stack([one, -one, -along]), -gram]),
        jnp.concatenate([jnp.stack([1.0, -1.0, -keep]), -floor]),
    )
    return _masked.normalized(x, present)
