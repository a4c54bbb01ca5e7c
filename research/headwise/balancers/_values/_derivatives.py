"""What scalarisations have in common: their derivatives are the weights."""

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


class ScalarizationState(NamedTuple):
    """What the user wants. It is data: a sweep varies it without a recompile."""

    preferences: Array
    """[H]"""
    reference: Array
    """[H] the values that count as 0; zeros where a method has no reference."""


def build(
    label: str,
    function: Callable[[Array, Array, Array, Array], Array],
    preferences: _named.Given = None,
    reference: _named.Given = None,
) -> _types.Balancer:
    """A balancer from `function(values, preferences, reference, present)`."""
    _named.check("preferences", preferences, _checks.number)
    _named.check("reference", reference, _checks.number)
    uniform = preferences is None

    def init(names: Sequence[str], params: PyTree = None) -> ScalarizationState:
        del params
        names = _checks.head_names(f"{label}: names", names)
        return ScalarizationState(
            _named.row("preferences", preferences, names, 1.0 / len(names)),
            _named.row("reference", reference, names),
        )

    def update(
        signals: _types.Signals, state: ScalarizationState
    ) -> tuple[_types.Decision, ScalarizationState]:
        heads = state.preferences.shape[0]
        values, present = _signals.read(label, heads, signals)
        wanted = effective(state.preferences, present, uniform)
        weights = jax.grad(function)(values, wanted, state.reference, present)
        weights = jax.lax.stop_gradient(weights)
        return _types.Decision(_masked.zero_absent(weights, present)), state

    return _types.Balancer(init, update)


def effective(preferences: Array, present: Array, uniform: bool) -> Array:
    """The preferences; uniform ones are shared by the heads that are there."""
    if not uniform:
        return preferences
    heads = preferences.shape[0]
    return preferences * (heads / jnp.maximum(_masked.count(present), 1.0))
