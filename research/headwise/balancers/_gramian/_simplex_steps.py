"""Weights on the simplex that move a little in every step, for MoDo and SDMGrad."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from headwise import _checks
from headwise import solvers
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


class SimplexState(NamedTuple):
    """Weights that move a little in every step."""

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
        heads = len(_checks.head_names(f"{name}: names", names))
        return SimplexState(jnp.full(heads, 1.0 / heads, jnp.float32))

    def update(
        signals: _types.Signals, state: SimplexState
    ) -> tuple[_types.Decision, SimplexState]:
        _signals.require(name, signals, "gram")
        _signals.check_heads(name, state.weights.shape[0], signals)
        present = _signals.presence(signals)
        gram = _signals.present_gram(signals, present)
        start = solvers.project_simplex(state.weights.astype(gram.dtype), present)
        w, shown = move(gram, start, present)
        w = jnp.where(jnp.any(present), w, state.weights.astype(gram.dtype))
        decision = _types.Decision(jnp.where(present, shown, 0.0))
        return decision, SimplexState(w.astype(jnp.float32))

    return _types.Balancer(init, update, "gramian", batches=batches)
