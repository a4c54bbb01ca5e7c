"""Convex quadratic programs with bounds, by an active set."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _numerics
from headwise.typing import Array

FREE, AT_LOWER, AT_UPPER = 0, -1, 1

SWEPT_HEADS = 16
"""Up to so many heads systems are solved without LAPACK."""

dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
"""Accelerators would round the factors to fewer bits than the answers need."""


def box_qp(
    matrix: Array, linear: Array, lower: Array | float, upper: Array | float
) -> Array:
    """Minimises a convex quadratic function between bounds.

    ::

        argmin_x  1/2 xᵀ matrix x - linearᵀ x   subject to  lower <= x <= upper

    Bounds that are broken and multipliers of the wrong sign change sides together while
    that makes them fewer, one at a time otherwise, which ends (Júdice and Pires). Every
    set of free variables is solved exactly; the one that satisfies all conditions is
    the answer, with its derivatives (the set itself is held fixed). Runs inside `jit`
    and `vmap`, without a host solver; answers the same in every unit of each variable.

    Args:
        matrix: [H, H], symmetric, positive semi-definite; float32 or float64, H up to
            64. Solved in float64 if it is float64.
        linear: [H].
        lower: [H] or scalar, may be -inf.
        upper: [H] or scalar, may be inf; at least `lower`.

    Returns:
        [H]. Where the answer is not unique, one of them; equal variables get equal
        values. Where there is none (no bound stops the descent) a point far out. A
        variable whose row is zero goes to the bound that its linear term asks for, or
        to the point nearest to 0 if that is infinite.

    Raises:
        ValueError: `matrix` is not [H, H]; `linear` is not [H].

    Example:
        >>> q = jnp.array([[2.0, 0.0], [0.0, 4.0]])
        >>> print(hw.solvers.box_qp(q, jnp.array([2.0, 8.0]), 0.0, 1.5))  # free: 1, 2
        [1.  1.5]

    References:
        Júdice and Pires, "A block principal pivoting algorithm for large-scale
        strictly monotone linear complementarity problems", Comput. Oper. Res. 1994.
    """
    matrix, linear = as_problem(matrix, linear)
    lower = jnp.broadcast_to(jnp.asarray(lower, matrix.dtype), linear.shape)
    upper = jnp.broadcast_to(jnp.asarray(upper, matrix.dtype), linear.shape)
    unit, lengths, active = unit_diagonal(matrix)
    nearest = jnp.clip(0.0, lower, upper)
    idle = jnp.where(linear > 0, upper, jnp.where(linear < 0, lower, nearest))
    idle = jnp.where(jnp.isfinite(idle), idle, nearest)
    x = solve_unit(
        unit,
        jnp.where(active, linear / lengths, 0.0),
        jnp.where(active, lower * lengths, 0.0),
        jnp.where(active, upper * lengths, 0.0),
        active,
    )
    return jnp.where(active, jnp.clip(x / lengths, lower, upper), idle)


def nonnegative_qp(matrix: Array, linear: Array) -> Array:
    """Minimises a convex quadratic function over x >= 0.

    ::

        argmin_x  1/2 xᵀ matrix x - linearᵀ x   subject to  x >= 0

    `box_qp` without upper bounds.

    Args:
        matrix: [H, H], symmetric, positive semi-definite.
        linear: [H].

    Returns:
        [H], >= 0.

    Raises:
        ValueError: `matrix` is not [H, H]; `linear` is not [H].

    Example:
        >>> q = jnp.array([[2.0, 1.0], [1.0, 2.0]])
        >>> print(hw.solvers.nonnegative_qp(q, jnp.array([2.0, -1.0])))
        [1. 0.]
    """
    return box_qp(matrix, linear, 0.0, jnp.inf)


def as_problem(
    matrix: Array, linear: Array, names: tuple[str, str] = ("matrix", "linear")
) -> tuple[Array, Array]:
    """Both in the dtype to solve in; raises ValueError for wrong shapes."""
    matrix, linear = jnp.asarray(matrix), jnp.asarray(linear)
    first, second = names
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{first}: expected [H, H], got shape {matrix.shape}")
    if linear.shape != matrix.shape[:1]:
        raise ValueError(
            f"{second}: expected shape {matrix.shape[:1]}, got {linear.shape}"
        )
    dtype = _numerics.accumulator(matrix)
    return matrix.astype(dtype), linear.astype(dtype)


def unit_diagonal(matrix: Array) -> tuple[Array, Array, Array]:
    """The matrix in units of its diagonal: (unit, lengths, rows that are not zero)."""
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), 0.0))
    active = lengths > 0
    lengths = jnp.where(active, lengths, jnp.ones_like(lengths))
    # Two divisions: a product of lengths would leave the range of float32.
    unit = (matrix / lengths[:, None]) / lengths[None, :]
    squared = jnp.diagonal(matrix)
    equal = (matrix == squared[:, None]) & (matrix == squared[None, :])
    unit = jnp.where(equal, 1.0, unit)  # so that equal variables have equal rows
    both = active[:, None] & active[None, :]
    identity = jnp.eye(len(lengths), dtype=matrix.dtype)
    unit = jnp.where(both, unit, 0.0) * (1 - identity) + identity
    return unit, lengths, active


def solve_free(unit: Array, right: Array, free: Array) -> Array:
    """Solves for the free variables, the others being 0; also where it is singular.

    A ridge keeps singular matrices solvable; one step of refinement takes its effect
    out again where they are not. `right` is [H] or [H, K].
    """
    identity = jnp.eye(unit.shape[0], dtype=unit.dtype)
    both = free[:, None] & free[None, :]
    inner = jnp.where(both, unit, identity)
    ridged = inner + 25 * jnp.finfo(unit.dtype).eps * identity
    right = jnp.where(free if right.ndim == 1 else free[:, None], right, 0.0)
    solve = solver(ridged)
    x = solve(right)
    return x + solve(right - _product(inner, x))


def _product(matrix: Array, x: Array) -> Array:
    """The matrix times x; of few heads as a sum of products.

    XLA on CPU fuses a `dot` of that size with what stands around it; with jax 0.12 some
    programs then solved wrongly by a percent (`min_norm` of 16 conflicting heads).
    """
    if x.shape[0] > SWEPT_HEADS:
        return dot(matrix, x)
    factors = matrix if x.ndim == 1 else matrix[:, :, None]
    return jnp.sum(factors * x[None], axis=1)


def solver(matrix: Array) -> Callable[[Array], Array]:
    """matrix⁻¹ @, for a symmetric, positive definite matrix.

    Few heads: by the inverse of the Cholesky factor from one elimination, which stays
    in one fused loop, free of LAPACK, whose batched calls can wait for each other for
    ever when several are under way on few cores (XLA on CPU, jax 0.10). More: LU.
    """
    heads = matrix.shape[0]
    if heads > SWEPT_HEADS:
        factors = jax.scipy.linalg.lu_factor(matrix)
        return functools.partial(jax.scipy.linalg.lu_solve, factors)
    index = jnp.arange(heads)
    least = jnp.finfo(matrix.dtype).eps

    def eliminate(k: Array, rows: Array) -> Array:
        row = rows[k] / jnp.sqrt(jnp.maximum(rows[k, k], least))
        column = jnp.where(index > k, row[:heads], 0.0)  # symmetric, so also rows below
        return jnp.where(
            (index == k)[:, None], row[None, :], rows - column[:, None] * row[None, :]
        )

    start = jnp.concatenate([matrix, jnp.eye(heads, dtype=matrix.dtype)], axis=1)
    inverse = lax.fori_loop(0, heads, eliminate, start)[:, heads:]
    return lambda right: _product(inverse.T, _product(inverse, right))


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


def active_set(broken: Callable[[Array], tuple[Array, Array]], start: Array) -> Array:
    """The status of every variable at the solution.

    Args:
        broken: status -> ([H] bool, conditions that are broken; [H], the status that
            would mend them).
        start: [H] status.
    """
    heads = start.shape[0]
    cap = 30 + 4 * heads

    def step(state: Pivots) -> Pivots:
        wrong, mended = broken(state.status)
        count = jnp.sum(wrong)
        fewer = count < state.fewest
        patience = jnp.where(fewer, 3, state.patience - 1)
        # The last one alone changes sides when exchanging all does not help.
        last = jnp.arange(heads) == heads - 1 - jnp.argmax(wrong[::-1])
        chosen = wrong & (last | (patience > 0))
        return Pivots(
            jnp.where(chosen, mended, state.status),
            jnp.minimum(count, state.fewest),
            patience,
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
    first = _numerics.alike(first, jax.eval_shape(broken, first.status))
    return lax.while_loop(lambda s: ~s.done & (s.rounds < cap), step, first).status


def solve_unit(
    unit: Array, linear: Array, lower: Array, upper: Array, active: Array
) -> Array:
    """`box_qp` for a matrix with unit diagonal; inactive variables are 0."""

    def at(status: Array, unit: Array, linear: Array) -> Array:
        fixed = jnp.where(status == AT_LOWER, lower, jnp.where(status > 0, upper, 0.0))
        free = active & (status == FREE)
        fixed = jnp.where(active & ~free, fixed, 0.0)
        return fixed + solve_free(unit, linear - dot(unit, fixed), free)

    held_unit, held_linear = lax.stop_gradient((unit, linear))
    tolerance = 16 * jnp.finfo(unit.dtype).eps

    def broken(status: Array) -> tuple[Array, Array]:
        x = at(status, held_unit, held_linear)
        slope = dot(held_unit, x) - held_linear
        noise = dot(jnp.abs(held_unit), jnp.abs(x)) + jnp.abs(held_linear)
        free = status == FREE
        margin = tolerance * noise
        low = free & (x < lower)
        high = free & (x > upper)
        leaves_low = (status == AT_LOWER) & (slope < -margin) & (lower < upper)
        leaves_high = (status == AT_UPPER) & (slope > margin) & (lower < upper)
        mended = jnp.where(low, AT_LOWER, jnp.where(high, AT_UPPER, FREE))
        return active & (low | high | leaves_low | leaves_high), mended

    status = active_set(broken, jnp.where(active, FREE, AT_LOWER))
    x = at(lax.stop_gradient(status), unit, linear)
    # Only the sum of equal variables is known: rounding shares it out at random.
    terms = jnp.stack([held_linear, lower, upper], axis=1)
    x = share_equally(x, lax.stop_gradient(jnp.concatenate([unit, terms], axis=1)))
    return jnp.where(active, jnp.clip(x, lower, upper), 0.0)


def share_equally(x: Array, rows: Array) -> Array:
    """[H] with the mean of x over those variables whose rows [H, K] are equal."""
    equal = jnp.all(rows[:, None, :] == rows[None, :, :], axis=2).astype(x.dtype)
    return dot(equal, x) / jnp.sum(equal, axis=1)
