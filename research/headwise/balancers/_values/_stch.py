"""Smooth Tchebycheff: the worst head counts most."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.balancers._values import _derivatives
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("preferences", "reference")
class StchState(NamedTuple):
    """What the user wants, and the values at the end of the warm-up."""

    names: _types.Names
    preferences: Array
    """[H]"""
    reference: Array
    """[H]"""
    nadir_sum: Array
    """[H] sum of the values seen in the last window of the warm-up."""
    nadir_count: Array
    """[H] how many those are."""
    updates: Array
    """int32, number of updates done."""


def stch(
    smoothness: float,
    preferences: _named.Given = None,
    reference: _named.Given = None,
    warm_up: int = 0,
    window: int = 1,
) -> _types.Balancer:
    """Smooth Tchebycheff: a soft maximum over heads.

    ::

        total = μ log Σ_h exp(p_h (value_h - z_h) / μ)
        weight_h = p_h softmax(p (value - z) / μ)_h

    which tends to `tchebycheff` as μ goes to 0 and to the weighted sum as it grows. The
    weights sum to a mean of p, so to 1 / H where p is uniform.

    With `warm_up` it is LibMTL's form, on logs and relative to a nadir: for the first
    `warm_up` updates total = Σ_h log value_h, and then, H heads being present, ::

        total = H μ log Σ_h exp(q_h log(value_h / nadir_h) / μ),   q = H p / Σ p
        weight_h = H q_h softmax(q log(value / nadir) / μ)_h / value_h

    The nadir of a head is its mean value over the last `window` updates of the warm-up
    in which it was present (else its next value). A head whose value is not positive
    has weight 1 here and counts nowhere else. In LibMTL "4 epochs" of warm-up are 5:
    that is `warm_up` = 5 * steps per epoch, `window` = steps per epoch.

    Args:
        smoothness: μ > 0; LibMTL has 1, the paper's toy problems 0.1.
        preferences: {name: scalar >= 0}, one for every head; None means 1 / H each.
        reference: {name: scalar}, one for every head: z; None means 0.
        warm_up: updates of the warm-up; 0 for the paper's plain form.
        window: the last updates of the warm-up that make the nadir, 1 to `warm_up`.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: smoothness <= 0; a window outside 1 to warm_up; a reference together
            with a warm-up; `init` gets other names.

    Example:
        >>> balancer = hw.balancers.stch(0.5, {"a": 1.0, "b": 1.0})
        >>> signals = hw.Signals(values=jnp.array([1.0, 1.0]))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)
        [0.5 0.5]

    References:
        Lin et al., "Smooth Tchebycheff scalarization for multi-objective
        optimization", ICML 2024, section 3; LibMTL's `STCH`.
    """
    _checks.positive("smoothness", smoothness)
    _named.check("preferences", preferences, _checks.nonnegative)
    warm_up = _checks.nonnegative_int("warm_up", warm_up)
    window = _checks.positive_int("window", window)

    def soft_worst(values: Array, wanted: Array, z: Array, present: Array) -> Array:
        x = wanted * (values - z) / smoothness
        return smoothness * _masked.log_sum_exp(x, present)

    if not warm_up:
        return _derivatives.build("stch", soft_worst, preferences, reference)
    if window > warm_up:
        raise ValueError(f"window: expected at most warm_up = {warm_up}, got {window}")
    if reference is not None:
        raise ValueError("reference: expected None with a warm_up, got a reference")
    uniform = preferences is None

    def init(names: Sequence[str], params: PyTree = None) -> StchState:
        del params
        names = _types.Names(names, "stch")
        return StchState(
            names,
            _named.row("preferences", preferences, names, 1.0 / len(names)),
            jnp.zeros(len(names), jnp.float32),
            jnp.zeros(len(names), jnp.float32),
            jnp.zeros(len(names), jnp.int32),
            jnp.zeros((), jnp.int32),
        )

    def update(
        signals: _types.Signals, state: StchState
    ) -> tuple[_types.Decision, StchState]:
        values, here = _signals.read("stch", state, signals)
        present = here & (values > 0)
        values = _masked.positive(jnp.where(present, values, 1.0))
        warming = state.updates < warm_up
        in_window = warming & (state.updates >= warm_up - window)
        late = ~warming & (state.nadir_count == 0)
        counted = present & (in_window | late)
        nadir_sum = state.nadir_sum + _masked.zero_absent(values, counted)
        nadir_count = _masked.counted_on(state.nadir_count, counted)
        nadir = nadir_sum / jnp.maximum(nadir_count, 1).astype(jnp.float32)
        ratio = jnp.log(values) - jnp.log(_masked.positive(nadir))
        wanted = _derivatives.effective(state.preferences, present, uniform)
        many = _masked.count(present)
        wanted = many * _masked.normalized(wanted, present)
        soft = many * wanted * _masked.softmax(wanted * ratio / smoothness, present)
        weights = jnp.where(warming, 1.0, soft) / jnp.maximum(values, _masked.LEAST)
        weights = jnp.where(present, weights, here.astype(weights.dtype))
        new = state._replace(
            nadir_sum=nadir_sum, nadir_count=nadir_count, updates=state.updates + 1
        )
        return _types.Decision(weights), new

    return _types.Balancer(init, update)
