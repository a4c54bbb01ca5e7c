"""What scalarisations have in common: their derivatives are the weights."""

import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("preferences", "reference")
class ScalarizationState(NamedTuple):
    """What the user wants. It is data: a sweep varies it without a recompile."""

    names: _types.Names
    preferences: Array
    """[H]"""
    reference: Array
    """[H] the values that count as 0; zeros where a method has no reference."""


def build(
    label: str,
    function: Callable[[Array, Array, Array, Array], Array],
    preferences: _named.Given = None,
    reference: _named.Given = None,
    limit: float = math.inf,
) -> _types.Balancer:
    """A balancer from `function(values, preferences, reference, present)`.

    Args:
        label: name of the factory.
        function: a scalar, whose derivatives are the weights.
        preferences, reference: {name: scalar}, or None.
        limit: the weights are kept within it.
    """
    _named.check("preferences", preferences, _checks.number)
    _named.check("reference", reference, _checks.number)
    uniform = preferences is None

    def init(names: Sequence[str], params: PyTree = None) -> ScalarizationState:
        del params
        names = _types.Names(names, label)
        return ScalarizationState(
            names,
            _named.row("preferences", preferences, names, 1.0 / len(names)),
            _named.row("reference", reference, names),
        )

    def update(
        signals: _types.Signals, state: ScalarizationState
    ) -> tuple[_types.Decision, ScalarizationState]:
        values, present = _signals.read(label, state, signals)
        wanted = effective(state.preferences, present, uniform)
        weights = jax.grad(function)(values, wanted, state.reference, present)
        weights = jax.lax.stop_gradient(weights)
        if limit < math.inf:
            weights = jnp.clip(weights, -limit, limit)
        return _types.Decision(_masked.zero_absent(weights, present)), state

    return _types.Balancer(init, update)


def effective(preferences: Array, present: Array, uniform: bool) -> Array:
    """The preferences; uniform ones are shared by the heads that are there."""
    if not uniform:
        return preferences
    heads = preferences.shape[0]
    return preferences * (heads / jnp.maximum(_masked.count(present), 1.0))
