"""Convex quadratic programs with bounds, by an active set."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from headwise.solvers import _active_set
from headwise.solvers import _linear_system
from headwise.solvers import _scaling
from headwise.typing import Array


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
    matrix, linear = _scaling.as_problem(matrix, linear)
    lower, upper = (
        _scaling.bound(name, bound, linear)
        for name, bound in (("lower", lower), ("upper", upper))
    )
    return _solved(matrix, linear, lower, upper)


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


# Traced once for all problems of one size.
@functools.partial(jax.jit, inline=True)
def _solved(matrix: Array, linear: Array, lower: Array, upper: Array) -> Array:
    unit, lengths, active = _scaling.unit_diagonal(matrix)
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


def solve_unit(
    unit: Array, linear: Array, lower: Array, upper: Array, active: Array
) -> Array:
    """`box_qp` for a matrix with unit diagonal; inactive variables are 0."""
    problem = (unit, linear, lower, upper)
    x = _active_set.solution(_at, _broken, jnp.zeros_like(linear), active, *problem)
    # Only the sum of equal variables is known: rounding shares it out at random.
    held = lax.stop_gradient(problem)
    x = _scaling.share_equally(x, held[0], jnp.stack(held[1:], axis=1))
    return jnp.where(active, jnp.clip(x, lower, upper), 0.0)


def _at(
    status: Array,
    ridged: Array | bool,
    active: Array,
    unit: Array,
    linear: Array,
    lower: Array,
    upper: Array,
) -> Array:
    """The minimum, with the variables that are not free at their bounds."""
    fixed = jnp.where(
        status == _active_set.AT_LOWER, lower, jnp.where(status > 0, upper, 0.0)
    )
    free = active & (status == _active_set.FREE)
    fixed = jnp.where(active & ~free, fixed, 0.0)
    return fixed + _linear_system.solve_free(
        unit, linear - _linear_system.product(unit, fixed), free, ridged
    )


def _broken(
    x: Array,
    status: Array,
    ridged: Array,
    active: Array,
    unit: Array,
    linear: Array,
    lower: Array,
    upper: Array,
) -> tuple[Array, Array]:
    """Which bounds and signs of multipliers are broken; what mends them."""
    slope = _linear_system.product(unit, x) - linear
    slope = slope + jnp.where(ridged, _linear_system.ridge(unit) * x, 0.0)
    noise = _linear_system.product(jnp.abs(unit), jnp.abs(x)) + jnp.abs(linear)
    margin = 16 * jnp.finfo(unit.dtype).eps * noise
    free = status == _active_set.FREE
    low = free & (x < lower)
    high = free & (x > upper)
    leaves_low = (status == _active_set.AT_LOWER) & (slope < -margin) & (lower < upper)
    leaves_high = (status == _active_set.AT_UPPER) & (slope > margin) & (lower < upper)
    mended = jnp.where(
        low,
        _active_set.AT_LOWER,
        jnp.where(high, _active_set.AT_UPPER, _active_set.FREE),
    )
    return active & (low | high | leaves_low | leaves_high), mended
