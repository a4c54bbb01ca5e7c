"""Preference-based MGDA: to a ray, then down it."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise import solvers
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._core import _vectors
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("preferences")
class PmgdaState(NamedTuple):
    """The preferences, which are data: a sweep varies them."""

    names: _types.Names
    preferences: Array
    """[H]"""
    distance: Array
    """How far the values were from the ray in the last step, for the log."""


def pmgda(
    preferences: _named.Given = None,
    sigma: float | Array = 0.95,
    tolerance: float | Array = 0.01,
) -> _types.Balancer:
    """Values in given proportions on the Pareto front: corrects, then descends.

    ::

        p̂ = p / |p|,   h = |value - <value, p̂> p̂|,   ĝ unit gradients, of h too
        h > tolerance * |value| (correct):  argmax_d min_h <g_h, d>
            subject to  <∇h, d> >= sigma |∇h|,   d = Σ μ_h ĝ_h + μ' ∇h / |∇h|,
            μ >= 0, Σ μ + μ' = 1
        else (predict):  MGDA

    A correct step brings the values to the ray along p as fast as sigma asks, and among
    such directions takes the best one for the worst head. As ∇h is a combination of the
    gradients, so is d; weights may be negative.

    Args:
        preferences: {name: positive scalar p}, one for every head: the values' wanted
            proportions, as in `pbi`, so that a larger one asks for a larger value. None
            means equal values.
        sigma: in (0, 1], part of the fastest way to the ray.
        tolerance: >= 0, relative distance up to which values count as on the ray.

    Returns:
        A balancer that needs the gramian. A correct step is at most as long as the mean
        gradient; a predict step has weights that sum to 1. Answers the same in any
        common unit of the values or of the gradients.

    Raises:
        ValueError: `init` gets other names; a number is out of its range.

    Example:
        >>> balancer = hw.balancers.pmgda({"a": 1.0, "b": 1.0}, sigma=1.0)
        >>> signals = hw.Signals(values=jnp.array([3.0, 1.0]), gram=jnp.eye(2))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(np.asarray(decision.weights).round(4))  # ∇h = (g_a - g_b) / √2
        [ 0.7071 -0.7071]

    References:
        Zhang, Lin and Zhang, "PMGDA: a preference-based multiple gradient descent
        algorithm", arXiv:2402.09492, equations 18 and 20. There and in LibMOON d is as
        long as unit gradients and the tolerance is in the values' unit.
    """
    _named.check("preferences", preferences, _checks.positive)
    _checks.in_range("sigma", sigma, "a number in (0, 1]", lambda x: 0 < x <= 1)
    _checks.nonnegative("tolerance", tolerance)

    def init(names: Sequence[str], params: PyTree = None) -> PmgdaState:
        del params
        names = _types.Names(names, "pmgda")
        row = _named.row("preferences", preferences, names, 1.0)
        return PmgdaState(names, row, jnp.zeros((), jnp.float32))

    def update(
        signals: _types.Signals, state: PmgdaState
    ) -> tuple[_types.Decision, PmgdaState]:
        _signals.require("pmgda", signals, "gram")
        _signals.check_heads("pmgda", state, signals)
        present = _signals.usable(signals)
        gram = _signals.present_gram(signals, present)
        values = jnp.where(present, signals.values, 0.0).astype(jnp.float32)
        # In units of their length; `off` is the way to the ray, of length h.
        values = _vectors.unit_vector(values)
        ray = _vectors.unit_vector(_masked.zero_absent(state.preferences, present))
        off = values - jnp.sum(values * ray) * ray
        distance = _vectors.length(off)
        # Below it, the way is rounding.
        least = jnp.maximum(tolerance, 8 * jnp.finfo(jnp.float32).eps)
        correct = _correct(gram, _vectors.unit_vector(off), present, sigma)
        predict = solvers.min_norm(gram, present)
        weights = jnp.where(distance > least, correct, predict)
        weights = _masked.zero_absent(weights, present).astype(jnp.float32)
        return _types.Decision(weights), state._replace(distance=distance)

    return _types.Balancer(init, update, "gramian")


def _correct(gram: Array, slope: Array, present: Array, sigma: float | Array) -> Array:
    """Weights of the step towards the ray; `slope` is the derivative of h."""
    heads, dtype = gram.shape[0], gram.dtype
    longest = jnp.sqrt(jnp.max(jnp.diagonal(gram)))
    longest = jnp.where(longest > 0, longest, 1.0)
    gram = (gram / longest) / longest
    # The gradients, and that of h below.
    rows = jnp.concatenate([jnp.eye(heads, dtype=dtype), slope[None, :].astype(dtype)])
    every = jnp.matmul(rows, gram, precision="highest")
    every = jnp.matmul(every, rows.T, precision="highest")
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(every), 0.0))
    known = lengths > 8 * jnp.finfo(dtype).eps
    inverse = _numerics.safe_divide(
        jnp.ones((), dtype), jnp.where(known, lengths, 0.0), 0.0
    )
    onto = every * inverse[None, :]  # of every gradient, on the unit ones
    there = jnp.append(present, True)
    # The variables: μ, μ', and 1 + the least <g, d>, which is >= 0.
    level = jnp.append(jnp.ones(heads, dtype), 0.0)
    one = jnp.append(there.astype(dtype), 0.0)
    matrix = jnp.concatenate(
        [jnp.concatenate([-onto, level[:, None]], axis=1), jnp.stack([one, -one])]
    )
    bound = jnp.where(jnp.append(present, known[-1]), 1.0, jnp.inf).astype(dtype)
    bound = bound.at[-1].multiply(-sigma * lengths[-1])
    bound = jnp.where(known[-1] | (jnp.arange(heads + 1) < heads), bound, jnp.inf)
    x, _ = solvers.linear_program(
        # An absent head has no part in it.
        jnp.append(jnp.where(there, 0.0, -1.0), 1.0),
        matrix,
        jnp.append(bound, jnp.array([1.0, -1.0], dtype)),
    )
    mu = _masked.zero_absent(x[:-1], there) * inverse
    mean = _masked.total(lengths[:-1], present) / jnp.maximum(_masked.count(present), 1)
    return mean * (mu[:-1] + mu[-1] * slope)
