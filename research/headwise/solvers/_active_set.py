"""The search for the constraints that are active at a solution."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _numerics
from headwise.typing import Array
from headwise.typing import PyTree

FREE, AT_LOWER, AT_UPPER = 0, -1, 1


class _Pivots(NamedTuple):
    """Where the search for the active set stands."""

    status: Array
    """[H] FREE, AT_LOWER or AT_UPPER."""
    point: PyTree
    """The solution at the status before; if that is the last one, at this."""
    fewest: Array
    """The least number of broken conditions so far."""
    patience: Array
    """Exchanges of all that may still fail to make them fewer."""
    rounds: Array
    ridged: Array
    """Whether the point is that of the program with a ridge."""
    done: Array


def solution(
    solve: Callable[..., PyTree],
    broken: Callable[..., tuple[Array, Array]],
    first: PyTree,
    active: Array,
    *problem: Array,
) -> PyTree:
    """`solve` at the status of every variable at which no condition is broken.

    Where the program is singular, rounding can lead the search in circles. It then
    starts anew on the program with a ridge, which has one answer, well apart from
    rounding, and takes that. (Without the ridge the same variables may have none.)

    Derivatives are those of `solve`, the status held fixed. Only who asks for them
    solves again, outside of the search.

    Args:
        solve: (status [H], whether to solve with a ridge, active, *problem) -> the
            point that satisfies all equations.
        broken: (point, status, whether to look at the program with a ridge, active,
            *problem) -> ([H] bool, conditions that are broken; [H], the status that
            would mend them).
        first: what has the types of a point.
        active: [H] bool; the other variables begin at their lower bounds.
        *problem: arrays.
    """
    found = jax.custom_jvp(lambda *given: _search(solve, broken, *given).point)

    def jvp(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
        end = _search(solve, broken, *lax.stop_gradient(primals))

        def at(_: PyTree, *given: Array) -> PyTree:
            return solve(end.status, end.ridged, *given)

        return jax.jvp(at, primals, tangents)

    found.defjvp(jvp)
    return found(first, active, *problem)


def _search(
    solve: Callable[..., PyTree],
    broken: Callable[..., tuple[Array, Array]],
    first: PyTree,
    active: Array,
    *problem: Array,
) -> _Pivots:
    heads = active.shape[0]
    cap = 30 + 4 * heads

    def step(state: _Pivots) -> _Pivots:
        ridged = state.rounds >= cap
        point = solve(state.status, ridged, active, *problem)
        wrong, mended = broken(point, state.status, ridged, active, *problem)
        count = jnp.sum(wrong, dtype=jnp.int32)
        fewer = count < state.fewest
        patience = jnp.where(fewer, 3, state.patience - 1)
        # The last one alone changes sides when exchanging all does not help.
        last = jnp.arange(heads) == heads - 1 - jnp.argmax(wrong[::-1])
        chosen = wrong & (last | (patience > 0))
        status = jnp.where(chosen, mended, state.status)
        fewest = jnp.minimum(count, state.fewest)
        solved = count == 0
        anew = (state.rounds == cap - 1) & ~solved
        return _Pivots(
            jnp.where(anew, begin.status, status),
            point,
            jnp.where(anew, begin.fewest, fewest),
            jnp.where(anew, begin.patience, patience),
            state.rounds + 1,
            ridged,
            solved | (state.rounds == 2 * cap - 1),
        )

    # Of a definite dtype: JAX would trace the step once more for numbers that are weak.
    begin = _Pivots(
        jnp.where(active, FREE, AT_LOWER).astype(jnp.int32),
        first,
        jnp.full((), heads + 1, jnp.int32),
        jnp.full((), 3, jnp.int32),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
        jnp.zeros((), bool),
    )
    begin = _numerics.alike(begin, active, problem)
    return lax.while_loop(lambda state: ~state.done, step, begin)
