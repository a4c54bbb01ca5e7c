"""Weights on the simplex that move a little in every step, for MoDo and SDMGrad."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import solvers
from headwise.balancers._core import _masked
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class SimplexState(NamedTuple):
    """Weights that move a little in every step."""

    names: _types.Names
    weights: Array
    """[H], on the simplex."""


def of_batches(
    name: str,
    batches: int,
    move: Callable[[Array, Array, Array], tuple[Array, Array]],
) -> _types.Balancer:
    """A balancer with weights on the simplex and a gramian of several batches."""
    _checks.choice("batches", [1, 2, 3], batches)

    def init(names: Sequence[str], params: PyTree = None) -> SimplexState:
        del params
        names = _types.Names(names, name)
        heads = len(names)
        return SimplexState(names, jnp.full(heads, 1.0 / heads, jnp.float32))

    def update(
        signals: _types.Signals, state: SimplexState
    ) -> tuple[_types.Decision, SimplexState]:
        _signals.require(name, signals, "gram")
        _signals.check_heads(name, state, signals)
        present = _signals.presence(signals)
        gram = _signals.present_gram(signals, present)
        # The heads that are there share what they have of the weights.
        mass = _masked.total(state.weights, present)
        start = _masked.normalized(state.weights, present).astype(gram.dtype)
        start = solvers.project_simplex(start, present)
        w, shown = move(gram, start, present)
        w = jnp.where(present, w.astype(jnp.float32) * mass, state.weights)
        decision = _types.Decision(jnp.where(present, shown, 0.0))
        return decision, state._replace(weights=w)

    return _types.Balancer(init, update, "gramian", batches=batches)
