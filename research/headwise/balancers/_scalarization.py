"""Scalarisations: a function of all values whose derivatives are the weights."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.balancers import _masked
from headwise.balancers import _types
from headwise.typing import Array
from headwise.typing import PyTree

Given = Mapping[str, float | Array] | None


class ScalarizationState(NamedTuple):
    """What the user wants. It is data: a sweep varies it without a recompile."""

    preferences: Array
    """[H]"""
    reference: Array
    """[H] the values that count as 0; zeros where a method has no reference."""


def scalarization(
    function: Callable[[Array, Array, Array], Array], preferences: Given = None
) -> _types.Balancer:
    """Weights of a scalarised objective: its derivatives with respect to the values.

    ::

        total = f(values),   weight_h = ∂f / ∂value_h

    so that Σ weight · gradient is the gradient of f, at the cost of one backward
    pass. The scale is that of f. The weights are data: no second derivative flows.

    Args:
        function: `(values [H], preferences [H], present [H] of bool) -> scalar`, in
            float32 and sorted order of names. It must leave out heads that are not
            present; their value is shown as 1.
        preferences: {name: scalar}, one for every head; may be traced, and is taken as
            it is. None means 1 / H each, H being the number of heads present.

    Returns:
        A balancer that needs the values.

    Raises:
        ValueError: `init` gets other names than `preferences`.

    Example:
        >>> def squares(values, preferences, present):
        ...     return jnp.sum(jnp.where(present, preferences * values**2, 0.0))
        >>> balancer = hw.balancers.scalarization(squares, {"a": 0.5, "b": 1.0})
        >>> signals = hw.Signals(values=jnp.array([3.0, 2.0]))
        >>> decision, _ = balancer.update(signals, balancer.init(["a", "b"]))
        >>> print(decision.weights)  # 2 * preference * value
        [3. 4.]
    """
    if not callable(function):
        raise TypeError(f"function: expected a callable, got {type(function).__name__}")

    def with_reference(
        values: Array, preferences: Array, reference: Array, present: Array
    ) -> Array:
        del reference
        return function(values, preferences, present)

    return build("scalarization", with_reference, preferences)


def build(
    label: str,
    function: Callable[[Array, Array, Array, Array], Array],
    preferences: Given = None,
    reference: Given = None,
) -> _types.Balancer:
    """A balancer from `function(values, preferences, reference, present)`."""
    for argument, given in (("preferences", preferences), ("reference", reference)):
        if given is not None:
            _checks.mapping(argument, given)
    uniform = preferences is None

    def init(names: Sequence[str], params: PyTree = None) -> ScalarizationState:
        del params
        names = _types.sorted_names(label, names)
        return ScalarizationState(
            preferences_row(preferences, names), reference_row(reference, names)
        )

    def update(
        signals: _types.Signals, state: ScalarizationState
    ) -> tuple[_types.Decision, ScalarizationState]:
        heads = state.preferences.shape[0]
        values, present = _masked.read(label, heads, signals)
        wanted = effective(state.preferences, present, uniform)
        weights = jax.grad(function)(values, wanted, state.reference, present)
        weights = jax.lax.stop_gradient(weights)
        return _types.Decision(_masked.zero_absent(weights, present)), state

    return _types.Balancer(init, update)


def preferences_row(given: Given, names: Sequence[str]) -> Array:
    """[H] the given preferences, or 1 / H each."""
    if given is None:
        return jnp.full(len(names), 1.0 / len(names), jnp.float32)
    return _types.row("preferences", given, names)


def reference_row(given: Given, names: Sequence[str]) -> Array:
    """[H] the given reference, or zeros."""
    if given is None:
        return jnp.zeros(len(names), jnp.float32)
    return _types.row("reference", given, names)


def effective(preferences: Array, present: Array, uniform: bool) -> Array:
    """The preferences; uniform ones are shared by the heads that are there."""
    if not uniform:
        return preferences
    heads = preferences.shape[0]
    return preferences * (heads / jnp.maximum(_masked.count(present), 1.0))
