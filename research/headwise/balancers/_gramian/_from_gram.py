"""What the balancers that look at the gramian alone have in common."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise.balancers._core import _named
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("preferences")
class GramState(NamedTuple):
    """The preferences, and the weights of the last step for the log."""

    names: _types.Names
    weights: Array
    """[H]"""
    preferences: Array
    """[H], as given, or equal ones. Data, if given: a sweep may vary them."""


def from_gram(
    name: str,
    solve: Callable[[Array, Array, Array, _types.Signals], Array],
    preferences: _named.Given = None,
    signals: Sequence[str] = (),
) -> _types.Balancer:
    """A balancer without memory.

    Args:
        name: of the factory, for errors.
        solve: (gram [H, H] with zeros for absent heads, present [H], preferences [H],
            signals) -> weights [H], whatever for absent heads.
        preferences: {name: scalar}, checked by the factory; None: 1 / number of present
            heads. If given they are the weights of heads that share nothing.
        signals: other fields that must be there.
    """

    def init(names: Sequence[str], params: PyTree = None) -> GramState:
        del params
        names = _types.Names(names, name)
        given = _named.row("preferences", preferences, names, 1.0 / len(names))
        return GramState(names, jnp.zeros(len(names), jnp.float32), given)

    def update(
        shown: _types.Signals, state: GramState
    ) -> tuple[_types.Decision, GramState]:
        _signals.require(name, shown, "gram", *signals)
        _signals.check_heads(name, state, shown)
        present = _signals.presence(shown)
        gram = _signals.present_gram(shown, present)
        count = jnp.maximum(jnp.sum(present), 1).astype(gram.dtype)
        wanted = state.preferences.astype(gram.dtype)
        if preferences is None:
            wanted = jnp.broadcast_to(1.0 / count, wanted.shape)
        wanted = jnp.where(present, wanted, 0.0)
        weights = jnp.where(present, solve(gram, present, wanted, shown), 0.0)
        kept = weights.astype(state.weights.dtype)
        return _types.Decision(weights), state._replace(weights=kept)

    def alone(state: GramState) -> Array:
        return state.preferences

    given = preferences is not None
    return _types.Balancer(init, update, "gramian", alone=alone if given else None)


def unit_rows(gram: Array) -> tuple[Array, Array, Array]:
    """Gramian of unit rows, 0 for zero rows; lengths, 1 for these; which are not 0."""
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0.0))
    active = lengths > 0
    lengths = jnp.where(active, lengths, 1.0)
    # Two divisions: a product of lengths would leave the range of float32.
    unit = (gram / lengths[:, None]) / lengths[None, :]
    return jnp.where(active[:, None] & active[None, :], unit, 0.0), lengths, active


def spectrum(gram: Array) -> tuple[Array, Array, Array]:
    """Eigenvalues, eigenvectors, and which values are not rounding of 0."""
    values, vectors = jnp.linalg.eigh(gram)
    least = 4 * gram.shape[0] * jnp.finfo(gram.dtype).eps * jnp.max(values)
    return values, vectors, (values > least) & (values > 0)
