"""Tchebycheff scalarisations: the worst head counts, sharply or smoothly."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.balancers import _masked
from headwise.balancers import _scalarization
from headwise.balancers import _types
from headwise.typing import Array
from headwise.typing import PyTree


def tchebycheff(
    preferences: _scalarization.Given = None,
    reference: _scalarization.Given = None,
    modified: bool = False,
) -> _types.Balancer:
    """The worst head alone: largest preferred distance from a reference.

    ::

        total = max_h p_h (value_h - z_h)

    The weight of the worst head is its p, all others are 0; heads that tie share it
    equally (the mean of their subgradients).

    Args:
        preferences: {name: scalar > 0}, one for every head; None means 1 / H each.
        reference: {name: scalar}, one for every head: z, the values that count as
            ideal; None means 0.
        modified: divide by p in place of multiplying: the solution then lies on the ray
            from z along p. A preference of 0 leaves its head out.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: `init` gets other names.

    Example:
        >>> balancer = hw.balancers.tchebycheff({"a": 1.0, "b": 3.0})
        >>> signals = hw.Signals(values=jnp.array([2.0, 1.0]))  # 1 * 2 < 3 * 1
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)
        [0. 3.]

    References:
        Miettinen, "Nonlinear multiobjective optimization", 1999, section 3.4. LibMOON's
        `tche` returns value_h of the worst head without its preference.
    """

    def worst(values: Array, wanted: Array, z: Array, present: Array) -> Array:
        counted = present
        if modified:
            counted = present & (wanted > 0)
            wanted = _numerics.safe_divide(jnp.ones_like(wanted), wanted, 0.0)
        return _masked.highest(wanted * (values - z), counted)

    return _scalarization.build("tchebycheff", worst, preferences, reference)


class StchState(NamedTuple):
    """What the user wants, and the values at the end of the warm-up."""

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
    preferences: _scalarization.Given = None,
    reference: _scalarization.Given = None,
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
    in which it was present (else its next value). Values must be positive here; others
    count as the least normal float32. In LibMTL "4 epochs" of warm-up are 5: that is
    `warm_up` = 5 * steps per epoch, `window` = steps per epoch.

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
    _masked.check_positive("smoothness", smoothness)
    if not isinstance(warm_up, int) or warm_up < 0:
        raise ValueError(f"warm_up: expected an int >= 0, got {warm_up!r}")

    def soft_worst(values: Array, wanted: Array, z: Array, present: Array) -> Array:
        x = wanted * (values - z) / smoothness
        return smoothness * _masked.log_sum_exp(x, present)

    if not warm_up:
        return _scalarization.build("stch", soft_worst, preferences, reference)
    _masked.check_count("window", window)
    if window > warm_up:
        raise ValueError(f"window: expected at most warm_up = {warm_up}, got {window}")
    if reference is not None:
        raise ValueError("reference: expected None with a warm_up, got a reference")
    if preferences is not None:
        _checks.mapping("preferences", preferences)
    uniform = preferences is None

    def init(names: Sequence[str], params: PyTree = None) -> StchState:
        del params
        names = _types.sorted_names("stch", names)
        return StchState(
            _scalarization.preferences_row(preferences, names),
            _scalarization.reference_row(None, names),
            jnp.zeros(len(names), jnp.float32),
            jnp.zeros(len(names), jnp.int32),
            jnp.zeros((), jnp.int32),
        )

    def update(
        signals: _types.Signals, state: StchState
    ) -> tuple[_types.Decision, StchState]:
        heads = state.preferences.shape[0]
        values, present = _masked.read("stch", heads, signals)
        values = _types.positive(values)
        warming = state.updates < warm_up
        in_window = warming & (state.updates >= warm_up - window)
        late = ~warming & (state.nadir_count == 0)
        counted = present & (in_window | late)
        nadir_sum = state.nadir_sum + _masked.zero_absent(values, counted)
        nadir_count = state.nadir_count + counted
        nadir = nadir_sum / jnp.maximum(nadir_count, 1)
        ratio = jnp.log(values) - jnp.log(_types.positive(nadir))
        wanted = _scalarization.effective(state.preferences, present, uniform)
        many = _masked.count(present)
        wanted = many * _masked.normalized(wanted, present)
        soft = many * wanted * _masked.softmax(wanted * ratio / smoothness, present)
        weights = jnp.where(warming, 1.0, soft) / values
        new = StchState(
            state.preferences,
            state.reference,
            nadir_sum,
            nadir_count,
            state.updates + 1,
        )
        return _types.Decision(_masked.zero_absent(weights, present)), new

    return _types.Balancer(init, update)
