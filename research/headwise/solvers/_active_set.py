"""The search for the constraints that are active at a solution."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _numerics
from headwise.typing import Array

FREE, AT_LOWER, AT_UPPER = 0, -1, 1


class Pivots(NamedTuple):
    """Where the search for the active set stands."""

    status: Array
    """[H] FREE, AT_LOWER or AT_UPPER."""
    fewest: Array
    """The least number of broken conditions so far."""
    patience: Array
    """Exchanges of all that may still fail to make them fewer."""
    rounds: Array
    done: Array


def active_set(
    broken: Callable[[Array, Array], tuple[Array, Array]], start: Array
) -> Array:
    """The status of every variable at the solution.

    Where the program is singular, rounding can lead the search in circles. It then
    starts anew on the program with a ridge, which has one answer, well apart from
    rounding.

    Args:
        broken: (status, whether to look at the program with a ridge) -> ([H] bool,
            conditions that are broken; [H], the status that would mend them).
        start: [H] status.
    """
    heads = start.shape[0]
    cap = 30 + 4 * heads

    def step(state: Pivots) -> Pivots:
        wrong, mended = broken(state.status, state.rounds >= cap)
        count = jnp.sum(wrong)
        fewer = count < state.fewest
        patience = jnp.where(fewer, 3, state.patience - 1)
        # The last one alone changes sides when exchanging all does not help.
        last = jnp.arange(heads) == heads - 1 - jnp.argmax(wrong[::-1])
        chosen = wrong & (last | (patience > 0))
        status = jnp.where(chosen, mended, state.status)
        fewest = jnp.minimum(count, state.fewest)
        anew = (state.rounds == cap - 1) & (count > 0)
        return Pivots(
            jnp.where(anew, first.status, status),
            jnp.where(anew, first.fewest, fewest),
            jnp.where(anew, first.patience, patience),
            state.rounds + 1,
            count == 0,
        )

    first = Pivots(
        start.astype(jnp.int32),
        jnp.asarray(heads + 1),
        jnp.asarray(3),
        jnp.asarray(0),
        jnp.asarray(False),
    )
    first = _numerics.alike(first, jax.eval_shape(broken, first.status, first.done))
    return lax.while_loop(lambda s: ~s.done & (s.rounds < 2 * cap), step, first).status
